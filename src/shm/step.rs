//! The numbered steps of the protocol. A test kills a process at each; elsewhere they are nothing.

/// Passes a step. The numbers are those of `README.md`.
#[inline(always)]
pub(crate) fn reach(step: u32) {
    #[cfg(all(test, not(millpond_loom)))]
    plan::reach(step);
    #[cfg(not(all(test, not(millpond_loom))))]
    let _ = step;
}

#[cfg(all(test, not(millpond_loom)))]
pub(crate) mod plan {
    use std::cell::RefCell;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use crate::primitive::{AtomicU32, Ordering};

    static STEP: AtomicU32 = AtomicU32::new(0);
    static PASSES: AtomicU32 = AtomicU32::new(0);

    std::thread_local! {
        /// Where this thread stops, what says that it did, and what lets it go on.
        static GATE: RefCell<Option<(u32, Sender<()>, Receiver<()>)>> = const { RefCell::new(None) };
    }

    /// This process kills itself when it reaches a step for the `pass`th time.
    pub(crate) fn die_at(step: u32, pass: u32) {
        PASSES.store(pass, Ordering::Relaxed);
        STEP.store(step, Ordering::Relaxed);
    }

    /// A thread that has stopped at a step.
    pub(crate) struct Stopped<R> {
        go_on: Sender<()>,
        thread: std::thread::JoinHandle<R>,
    }

    /// Runs `work` in a thread of its own, until it comes to a step.
    pub(crate) fn stopped_at<R: Send + 'static>(step: u32, work: impl FnOnce() -> R + Send + 'static) -> Stopped<R> {
        let (there, come) = channel();
        let (go_on, gone_on) = channel();
        let thread = std::thread::spawn(move || {
            GATE.set(Some((step, there, gone_on)));
            work()
        });
        come.recv_timeout(Duration::from_secs(60)).expect("it never came to the step");
        Stopped { go_on, thread }
    }

    impl<R> Stopped<R> {
        /// Lets it go on, and waits for its end.
        pub(crate) fn finish(self) -> R {
            self.go_on.send(()).unwrap();
            self.thread.join().unwrap()
        }
    }

    pub(super) fn reach(step: u32) {
        if STEP.load(Ordering::Relaxed) == step && PASSES.fetch_sub(1, Ordering::Relaxed) == 1 {
            crate::os::shared::kill_self();
        }
        if let Some((_, there, gone_on)) = GATE.with_borrow_mut(|gate| gate.take_if(|(at, ..)| *at == step)) {
            there.send(()).unwrap();
            gone_on.recv().unwrap();
        }
    }
}
