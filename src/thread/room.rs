//! Submitters that wait for room in a bounded queue.
//!
//! R1. Whoever takes an entry out makes room first and looks for waiting submitters then; a submitter says that it waits,
//! remembers the number of rings, tries once more and sleeps only on that number: one of the two sees the other.

use crate::os::Futex;
use crate::primitive::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Room {
    waiting: AtomicUsize,
    rings: Futex,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), rings: Futex::new(0) }
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

    /// An entry was taken out (by a `SeqCst` store).
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
