//! Loom explores who is the last owner of a shared block, and what it sees.

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
