//! Loom explores who is the last owner of a shared block, and what it sees.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::Owners;
use crate::primitive::model::explore;

/// What owners read, and the last of them writes: loom reports two at once, or without an order between them.
struct Shared {
    owners: Owners,
    value: UnsafeCell<()>,
}

impl Shared {
    /// Of two owners.
    fn new() -> Arc<Self> {
        let shared = Self { owners: Owners::one(), value: UnsafeCell::new(()) };
        shared.owners.more();
        Arc::new(shared)
    }

    fn write(&self) {
        self.value.with_mut(|_| ());
    }

    /// An owner looks, and leaves; the last writes, and counts as one.
    fn look_and_leave(&self) -> u32 {
        self.value.with(|_| ());
        let last = self.owners.leave();
        if last {
            self.write();
        }
        u32::from(last)
    }
}

#[test]
fn one_of_three_owners_is_the_last_and_has_the_value_to_itself() {
    explore(3, 5, || {
        let shared = Shared::new();
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || {
            other.owners.more();
            other.look_and_leave() + other.look_and_leave()
        });
        assert_eq!(shared.look_and_leave() + other.join().unwrap(), 1);
    });
}

#[test]
fn the_only_owner_that_is_left_has_the_value_to_itself() {
    explore(3, 1, || {
        let shared = Shared::new();
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || other.look_and_leave());
        if shared.owners.is_one() {
            shared.write();
            assert_eq!(other.join().unwrap(), 0);
        }
    });
}
