//! Who sweeps.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use crate::primitive::{AtomicU32, Ordering};
use crate::shm::sweeper::{Last, Round, Sweeper};

const ALIVE: u32 = 0;
const DEAD: u32 = 1;
const SWEPT: u32 = 2;
/// It took the word and died.
const GONE: u64 = 9;

/// Members, each of whom dies and is reported by another thread, and who sweeps.
struct Tree<const N: usize> {
    sweeper: Sweeper,
    members: [AtomicU32; N],
    /// What one thread of a process has at a time: 1 while it has.
    processes: [AtomicU32; 2],
    /// What a sweep works on: loom reports two at once.
    sweeping: UnsafeCell<()>,
}

/// A lock whose end is a step too, which that of loom's own is not.
struct Held<'a>(&'a AtomicU32);

impl<'a> Held<'a> {
    fn of(lock: &'a AtomicU32) -> Option<Self> {
        lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| Self(lock))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

impl<const N: usize> Tree<N> {
    fn new() -> Arc<Self> {
        let members = std::array::from_fn(|_| AtomicU32::new(ALIVE));
        let processes = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { sweeper: Sweeper::new(), members, processes, sweeping: UnsafeCell::new(()) })
    }

    fn leaving(&self) -> Vec<usize> {
        (0..N).filter(|member| self.members[*member].load(Ordering::Acquire) == DEAD).collect()
    }

    fn sweep(&self) -> Vec<usize> {
        self.sweeping.with_mut(|_| {
            let all = self.leaving();
            all.iter().for_each(|member| self.members[*member].store(SWEPT, Ordering::Release));
            all
        })
    }

    /// As `member_died`, of a reporter that does not wait for a sweep by another. Whether it took over from a dead one.
    fn report(&self, process: usize, dead: usize) -> bool {
        self.members[dead].swap(DEAD, Ordering::AcqRel);
        let mut took_over = false;
        let hold = || Held::of(&self.processes[process]);
        let me = process as u64 + 1;
        while Round::Again
            == self.sweeper.round(
                me,
                hold,
                |other| other != GONE,
                || self.leaving(),
                |last| {
                    took_over |= *last == Last::Died;
                    self.sweep()
                },
            )
        {}
        took_over
    }
}

/// Each member's death is reported by a thread of a process. How many of them took over from a dead one.
fn run<const N: usize>(tree: &Arc<Tree<N>>, processes: [usize; N]) -> usize {
    let others: Vec<_> = (1..N)
        .map(|n| {
            let tree = Arc::clone(tree);
            thread::spawn(move || tree.report(processes[n], n))
        })
        .collect();
    let first = tree.report(processes[0], 0);
    let took_over = others.into_iter().map(|other| other.join().unwrap()).chain([first]);
    let times = took_over.filter(|took_over| *took_over).count();
    assert!(tree.members.iter().all(|member| member.load(Ordering::Acquire) == SWEPT), "B1: somebody is left");
    times
}

/// Everybody who dies is swept, by one at a time, also where who reports a death finds another sweeping and leaves it to that
/// one; and a dead sweeper's place is taken once.
#[test]
fn whoever_dies_is_swept_though_nobody_waits_for_a_sweeper() {
    for before in [None, Some(GONE)] {
        model(20, move || {
            let tree = Tree::new();
            if let Some(gone) = before {
                assert_eq!(tree.sweeper.begin(gone, |_| true), Some(Last::Done));
            }
            assert_eq!(run(&tree, [0, 1]), usize::from(before.is_some()), "its pins are taken off once");
        });
    }
}

/// Two threads of one process have one name in the word; and one that asked for it in vain, since another process sweeps,
/// looks for what the other left to it.
#[test]
fn two_threads_of_a_process_do_not_sweep_at_once() {
    model(20, || assert_eq!(run(&Tree::new(), [0, 0]), 0, "a live one was taken for dead"));
    model(20, || assert_eq!(run(&Tree::new(), [1, 0, 0]), 0, "a live one was taken for dead"));
}
