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
        static GATE: RefCell<Option<Gate>> = const { RefCell::new(None) };
    }

    /// Where a thread stops, what says that it did, and what lets it go on.
    struct Gate {
        step: u32,
        there: Sender<()>,
        gone_on: Receiver<()>,
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
        let work = move || {
            GATE.set(Some(Gate { step, there, gone_on }));
            work()
        };
        let thread = std::thread::Builder::new().spawn(work).unwrap();
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
        if let Some(gate) = GATE.with_borrow_mut(|gate| gate.take_if(|gate| gate.step == step)) {
            gate.there.send(()).unwrap();
            gate.gone_on.recv().unwrap();
        }
    }
}
