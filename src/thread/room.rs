//! Submitters that wait for room in a bounded queue.
//!
//! R1. Whoever takes an entry out makes room first and looks for waiting submitters then; a submitter says that it waits,
//! remembers the number of rings, tries once more and sleeps only on that number: one of the two sees the other.
//! R2. A task that was cancelled, or is done by whoever waits for it, needs its entry no more. It is counted first, and
//! makes room by that; a submitter that finds a queue full asks for the count, and has the queue weeded if it is another.

use crate::os::Futex;
use crate::primitive::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Room {
    waiting: AtomicUsize,
    rings: Futex,
    /// Tasks that ever got over while an entry of theirs lay in a queue.
    over: AtomicUsize,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), rings: Futex::new(0), over: AtomicUsize::new(0) }
    }

    /// A task is over whose entry lies in a queue.
    pub(super) fn task_over(&self) {
        // SeqCst: before the look for submitters that wait (R1), who ask for this count when they try. Release: whoever
        // weeds sees that the task is over; pairs with the load in `ever_over` (R2).
        self.over.fetch_add(1, Ordering::SeqCst);
        self.made();
    }

    /// How many tasks ever got over while an entry of theirs lay in a queue.
    pub(super) fn ever_over(&self) -> usize {
        // SeqCst: see `task_over`.
        self.over.load(Ordering::SeqCst)
    }

    /// Calls `attempt`, which says whether it is over, each time when there may be room.
    pub(super) fn wait(&self, mut attempt: impl FnMut() -> bool) {
        // SeqCst: before the attempt; pairs with the load in `made` (R1).
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            // Acquire: pairs with the Release in `ring`.
            let seen = self.rings.load(Ordering::Acquire);
            super::sleep::in_one_order();
            if attempt() {
                break;
            }
            self.rings.wait(seen);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// An entry was taken out, or is to be (by a `SeqCst` store or read-modify-write).
    #[inline]
    pub(super) fn made(&self) {
        super::sleep::in_one_order();
        // SeqCst: after the store; pairs with the addition in `wait` (R1).
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
    }

    /// All waiting submitters try again: the pool has closed.
    pub(super) fn open_for_all(&self) {
        self.ring();
    }

    #[cold]
    fn ring(&self) {
        // Release: pairs with the Acquire in `wait`.
        self.rings.fetch_add(1, Ordering::Release);
        self.rings.wake_all();
    }
}
