//! Something that is done once, and is done when anybody goes on.

use crate::primitive::{AtomicU64, Ordering};

const NOT_YET: u64 = 0;
const DONE: u64 = 1;

/// Like `std::sync::Once`, but a thread that comes back while it is doing the thing itself goes on instead of waiting,
/// and a child of a fork does not wait for a thread that only its parent has: it does the thing anew. What is done must
/// bear to be done again by such a child, from the start, over whatever part of it was done.
#[derive(Debug)]
pub(crate) struct Once {
    /// `NOT_YET`, then who is at work (see [`super::linux::who`]), then `DONE`.
    state: AtomicU64,
}

impl Once {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU64::new(NOT_YET) }
    }

    #[inline]
    pub(crate) fn call(&self, work: impl FnOnce()) {
        // Acquire: pairs with the Release in `call_slow`: who sees it done sees what was done.
        if self.state.load(Ordering::Acquire) != DONE {
            self.call_slow(work);
        }
    }

    #[cold]
    fn call_slow(&self, work: impl FnOnce()) {
        let me = super::linux::who();
        let mut seen = NOT_YET;
        loop {
            // Acquire: as above.
            match self.state.compare_exchange(seen, me.bits(), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    work();
                    // Release: pairs with the Acquires here and in `call`.
                    return self.state.store(DONE, Ordering::Release);
                }
                Err(DONE) => return,
                Err(at_work) if at_work == me.bits() => return,
                // A thread of the process that this one is a copy of: nobody here will ever finish.
                Err(at_work) if !me.is_of_same_process(at_work) => seen = at_work,
                Err(_) => {
                    std::thread::yield_now();
                    seen = NOT_YET;
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "forks")]
mod tests {
    use super::Once;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn nobody_goes_on_before_it_is_done_but_the_one_who_does_it() {
        let (once, done) = (Once::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    once.call(|| {
                        once.call(|| panic!("twice"));
                        // Long enough for the others to come, and to go on if they could.
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(done.load(Ordering::Relaxed), 1);
                });
            }
        });
    }

    #[test]
    fn a_child_does_not_wait_for_a_thread_of_its_parent() {
        let (once, begun, forked) = (Once::new(), Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                once.call(|| {
                    begun.wait();
                    forked.wait();
                });
            });
            begun.wait();
            // SAFETY: the child touches the word and ends.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: sets a timer, so that a child that hangs ends too.
                unsafe { libc::alarm(20) };
                let mut times = 0;
                once.call(|| times += 1);
                once.call(|| times += 1);
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(times) };
            }
            forked.wait();
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(ended, pid, "{}", std::io::Error::last_os_error());
            assert!(libc::WIFEXITED(status), "signal {} (14: it hung)", libc::WTERMSIG(status));
            assert_eq!(libc::WEXITSTATUS(status), 1, "done once in the child");
        });
        once.call(|| panic!("twice in the parent"));
    }
}
