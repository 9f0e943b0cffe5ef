//! Something that is done once, and is done when anybody goes on.
//!
//! - N1: it is done once in a process, and whoever goes on sees all of it, but for the thread that is at it.
//! - N2: a child of a fork does it anew where a thread of its parent was at it, once too.

#[cfg(not(millpond_loom))]
use super::linux::who;
use crate::primitive::{AtomicU64, Ordering};
#[cfg(millpond_loom)]
use models::who;

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
    #[cfg(not(millpond_loom))]
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
        let me = who();
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
                    #[cfg(not(millpond_loom))]
                    std::thread::yield_now();
                    #[cfg(millpond_loom)]
                    crate::primitive::spin_loop();
                    seen = NOT_YET;
                }
            }
        }
    }
}

#[cfg(millpond_loom)]
mod models {
    //! Loom explores who does it, with threads that say who they are.

    use core::cell::Cell;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::{DONE, NOT_YET, Once};
    use crate::primitive::model::explore;
    use crate::primitive::{AtomicU64, Ordering};

    loom::thread_local! {
        static ME: Cell<u64> = Cell::new(0);
    }

    /// A thread's number: tens are its process.
    pub(super) struct Who(u64);

    impl Who {
        pub(super) fn bits(&self) -> u64 {
            self.0
        }

        pub(super) fn is_of_same_process(&self, other: u64) -> bool {
            self.0 / 10 == other / 10
        }
    }

    pub(super) fn who() -> Who {
        Who(ME.with(Cell::get))
    }

    struct Thing {
        once: Once,
        times: UnsafeCell<u32>,
    }

    // SAFETY: loom watches every access to the count.
    unsafe impl Sync for Thing {}

    /// Two threads of a process want it done, in a state that the process found.
    fn two_want_it(found: u64) {
        explore(2, 20, move || {
            let thing = Arc::new(Thing { once: Once { state: AtomicU64::new(found) }, times: UnsafeCell::new(0) });
            let want = |thing: &Thing, me: u64| {
                ME.with(|own| own.set(me));
                let work = || {
                    // Whoever is at it goes on.
                    thing.once.call(|| panic!("N1: done while it is being done"));
                    // SAFETY: loom reports it if anybody else is at it.
                    thing.times.with_mut(|times| unsafe { *times += 1 });
                };
                thing.once.call(work);
                // SAFETY: loom reports it if somebody is still at it.
                assert_eq!(
                    thing.times.with(|times| unsafe { *times }),
                    1,
                    "N1, N2: done before anybody goes on, and once"
                );
            };
            let other = {
                let thing = Arc::clone(&thing);
                thread::spawn(move || want(&thing, 12))
            };
            want(&thing, 11);
            other.join().unwrap();
            assert_eq!(thing.once.state.load(Ordering::Relaxed), DONE);
        });
    }

    #[test]
    fn it_is_done_once_and_seen_by_whoever_goes_on() {
        two_want_it(NOT_YET);
    }

    #[test]
    fn a_copy_does_what_a_thread_of_its_original_was_at() {
        two_want_it(21);
    }
}

#[cfg(all(test, not(millpond_loom)))]
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
