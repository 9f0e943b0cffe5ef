//! How many own a shared block.
//!
//! O1. Whoever learns that it is the last, or the only one, comes after all that those who left did with the value.
//! O2. One of those who leave is the last.

use crate::primitive::{AtomicUsize, Ordering};

/// The count of owners: at least one, until the last has left.
pub(super) struct Owners(AtomicUsize);

impl Owners {
    pub(super) fn one() -> Self {
        Self(AtomicUsize::new(1))
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether the caller, who is an owner, is the only one.
    pub(super) fn is_one(&self) -> bool {
        // Acquire: pairs with the Release of those who left (O1).
        self.0.load(Ordering::Acquire) == 1
    }

    /// An owner has made another.
    pub(super) fn more(&self) {
        // Relaxed: whoever makes one is one.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // Owners are being forgotten in a loop: the count would wrap.
            std::process::abort();
        }
    }

    /// An owner leaves. True: it was the last, and what is left is its own.
    #[must_use]
    pub(super) fn leave(&self) -> bool {
        // Release: this owner's use is over; pairs with the Acquire below and in `is_one` (O1).
        if self.0.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // Acquire: so is every other owner's.
        self.0.load(Ordering::Acquire);
        true
    }
}

#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
#[path = "models.rs"]
mod models;
