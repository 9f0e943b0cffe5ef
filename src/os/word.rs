//! The word of a lock: who holds it, and whether anybody sleeps.
//!
//! States: 0 free, 1 held, 2 held and somebody may sleep (Drepper, "Futexes are tricky", 2011).
//!
//! - W1: one holder at a time, and each sees all that the last one did.
//! - W2: whoever sleeps does so with the word at 2, and whoever gives back a word at 2 wakes one.

use core::fmt;

use crate::primitive::{AtomicU32, Ordering, spin_loop};

const FREE: u32 = 0;
const HELD: u32 = 1;
const SLEPT_ON: u32 = 2;
/// About as long as one exchange with a depot takes.
const SPINS: u32 = if cfg!(millpond_loom) { 1 } else { 100 };

pub(super) struct Word {
    word: AtomicU32,
    #[cfg(millpond_loom)]
    futex: models::Futex,
}

impl Word {
    #[cfg(not(millpond_loom))]
    pub(super) const fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    #[inline]
    pub(super) fn acquire(&self) {
        // Acquire: whoever holds the lock sees all that the last holder did; pairs with Release in `release`.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_contended();
        }
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            // Acquire: as above.
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            spin_loop();
        }
        // From here on the word says SLEPT_ON, also once we hold it: others may sleep behind us. Acquire: as above.
        while self.word.swap(SLEPT_ON, Ordering::Acquire) != FREE {
            self.sleep();
        }
    }

    /// To be called by the holder only.
    #[inline]
    pub(super) fn release(&self) {
        // Release: pairs with the Acquire of the next holder.
        if self.word.swap(FREE, Ordering::Release) == SLEPT_ON {
            self.wake_one();
        }
    }

    #[cfg(not(millpond_loom))]
    fn sleep(&self) {
        super::linux::futex_wait(&self.word, SLEPT_ON);
    }

    #[cfg(not(millpond_loom))]
    fn wake_one(&self) {
        super::linux::futex_wake_one(&self.word);
    }

    #[cfg(millpond_loom)]
    fn sleep(&self) {
        self.futex.wait(&self.word, SLEPT_ON);
    }

    #[cfg(millpond_loom)]
    fn wake_one(&self) {
        self.futex.wake_one();
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.word.load(Ordering::Relaxed) {
            FREE => "free",
            HELD => "held",
            _ => "held, slept on",
        })
    }
}

#[cfg(millpond_loom)]
mod models {
    //! Loom explores the word, with a futex that looks and falls asleep as one step, as the system's does.

    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::{FREE, Word};
    use crate::primitive::model::explore;
    use crate::primitive::{AtomicU32, Ordering};

    #[derive(Debug)]
    pub(super) struct Futex {
        queue: Mutex<()>,
        sleepers: Condvar,
    }

    impl Futex {
        pub(super) fn wait(&self, word: &AtomicU32, expected: u32) {
            let queue = self.queue.lock().unwrap();
            if word.load(Ordering::Relaxed) == expected {
                drop(self.sleepers.wait(queue).unwrap());
            }
        }

        pub(super) fn wake_one(&self) {
            let _queue = self.queue.lock().unwrap();
            self.sleepers.notify_one();
        }
    }

    impl Word {
        fn modelled() -> Self {
            Self { word: AtomicU32::new(FREE), futex: Futex { queue: Mutex::new(()), sleepers: Condvar::new() } }
        }
    }

    struct Locked {
        word: Word,
        count: UnsafeCell<usize>,
    }

    // SAFETY: loom watches every access to the count.
    unsafe impl Sync for Locked {}

    /// Each thread takes the lock so many times; three preemptions.
    fn contend(threads: usize, times: usize, least: usize) {
        explore(3, least, move || {
            let locked = Arc::new(Locked { word: Word::modelled(), count: UnsafeCell::new(0) });
            let work = move |locked: &Locked| {
                for _ in 0..times {
                    locked.word.acquire();
                    // SAFETY: loom reports it if anybody else is at it.
                    locked.count.with_mut(|count| unsafe { *count += 1 });
                    locked.word.release();
                }
            };
            let others: Vec<_> = (1..threads)
                .map(|_| {
                    let locked = Arc::clone(&locked);
                    thread::spawn(move || work(&locked))
                })
                .collect();
            work(&locked);
            others.into_iter().for_each(|other| other.join().unwrap());
            // SAFETY: all others have ended.
            assert_eq!(locked.count.with(|count| unsafe { *count }), threads * times);
            assert_eq!(locked.word.word.load(Ordering::Relaxed), FREE);
        });
    }

    #[test]
    fn two_threads_never_hold_it_at_once_and_none_sleeps_for_ever() {
        contend(2, 3, 100);
    }

    #[test]
    fn one_that_sleeps_behind_another_is_woken_too() {
        contend(3, 1, 500);
    }
}
