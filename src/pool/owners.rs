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
#[expect(unsafe_code, reason = "loom watches what owners share")]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::Owners;
    use crate::primitive::model::explore;

    /// What owners read, and the last of them writes. Its own count keeps it in place.
    struct Shared {
        owners: Owners,
        value: UnsafeCell<u32>,
    }

    // SAFETY: loom watches every access.
    unsafe impl Sync for Shared {}

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self { owners: Owners::one(), value: UnsafeCell::new(0) })
        }

        /// An owner looks, and leaves; the last writes.
        fn look_and_leave(&self) -> bool {
            // SAFETY: loom reports it if anybody writes meanwhile.
            self.value.with(|value| unsafe { assert_eq!(*value, 0) });
            let last = self.owners.leave();
            if last {
                self.write();
            }
            last
        }

        fn write(&self) {
            // SAFETY: loom reports it if anybody else is at it.
            self.value.with_mut(|value| unsafe { *value += 1 });
        }
    }

    #[test]
    fn one_of_three_owners_is_the_last_and_has_the_value_to_itself() {
        explore(3, 5, || {
            let shared = Shared::new();
            shared.owners.more();
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.owners.more();
                    u32::from(shared.look_and_leave()) + u32::from(shared.look_and_leave())
                })
            };
            let mine = u32::from(shared.look_and_leave());
            assert_eq!(mine + other.join().unwrap(), 1);
        });
    }

    #[test]
    fn the_only_owner_that_is_left_has_the_value_to_itself() {
        explore(3, 1, || {
            let shared = Shared::new();
            shared.owners.more();
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.look_and_leave())
            };
            if shared.owners.is_one() {
                shared.write();
                assert!(!other.join().unwrap());
            }
        });
    }
}
