//! Who sweeps.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use crate::primitive::{AtomicU32, Ordering};
use crate::shm::sweeper::{Last, Sweeper};

const ALIVE: u32 = 0;
const DEAD: u32 = 1;
const SWEPT: u32 = 2;
/// It took the word and died.
const GONE: u64 = 9;

/// Two members, each of whom dies and is reported by another process, and who sweeps.
struct Tree {
    sweeper: Sweeper,
    members: [AtomicU32; 2],
    /// What a sweep works on: loom reports two at once.
    sweeping: UnsafeCell<()>,
}

impl Tree {
    fn leaving(&self) -> impl Iterator<Item = &AtomicU32> {
        self.members.iter().filter(|member| member.load(Ordering::Acquire) == DEAD)
    }

    /// As `member_died`, of a reporter that does not wait for a sweep by another. Whether it took over from a dead one.
    fn report(&self, me: u64, dead: usize) -> bool {
        self.members[dead].swap(DEAD, Ordering::AcqRel);
        let mut took_over = false;
        while let Some(last) = self.sweeper.begin(me, |other| other != GONE) {
            took_over |= last == Last::Died;
            self.sweeping.with_mut(|_| self.leaving().for_each(|member| member.store(SWEPT, Ordering::Release)));
            self.sweeper.end();
            if self.leaving().next().is_none() {
                break;
            }
        }
        took_over
    }
}

/// Everybody who dies is swept, by one at a time, also where who reports a death finds another sweeping and leaves it to that
/// one; and a dead sweeper's place is taken once.
#[test]
fn whoever_dies_is_swept_though_nobody_waits_for_a_sweeper() {
    for before in [None, Some(GONE)] {
        model(20, move || {
            let members = [AtomicU32::new(ALIVE), AtomicU32::new(ALIVE)];
            let tree = Arc::new(Tree { sweeper: Sweeper::new(), members, sweeping: UnsafeCell::new(()) });
            if let Some(gone) = before {
                assert_eq!(tree.sweeper.begin(gone, |_| true), Some(Last::Done));
            }
            let other = {
                let tree = Arc::clone(&tree);
                thread::spawn(move || tree.report(2, 1))
            };
            let took_over = tree.report(1, 0);
            let took_over = [took_over, other.join().unwrap()];
            assert!(tree.members.iter().all(|member| member.load(Ordering::Acquire) == SWEPT), "B1: somebody is left");
            let times = took_over.into_iter().filter(|took_over| *took_over).count();
            assert_eq!(times, usize::from(before.is_some()), "its pins are taken off once");
        });
    }
}
