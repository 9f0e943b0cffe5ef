//! Where the hands of a worker that is to leave wait for each other. They go together, or back to work: what one of them is at may
//! take long, and wait for tasks that nobody else takes.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::primitive::plain::{Condvar, Mutex, MutexGuard};
use crate::primitive::{AtomicBool, Ordering};

/// How long hands wait for the others while tasks wait for them: twice as long each time.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often they look for tasks after that.
const MOMENT: Duration = Duration::from_millis(100);

/// Twice as long so many times at most.
const MOST: u32 = 16;

#[derive(Debug)]
pub(super) struct Door {
    /// Changed under the lock.
    leaving: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Hands that wait here, or have gone.
    here: usize,
    /// How often they went back.
    back: u32,
    /// Tasks that are to be run before the next try; and how many more than now, the first time.
    not_before: u64,
    step: u64,
}

impl Door {
    pub(super) fn new() -> Self {
        Self { leaving: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the worker is to leave because of its age.
    pub(super) fn is_leaving(&self) -> bool {
        // Relaxed: one that sees it late runs a task more.
        self.leaving.load(Ordering::Relaxed)
    }

    /// The worker has run so many tasks and is old; if it stays after all, it is old again after `step` more. `tell` says that it
    /// leaves.
    pub(super) fn open(&self, ran: u64, step: u64, tell: impl FnOnce()) {
        let mut state = self.lock();
        if ran >= state.not_before && !self.leaving.swap(true, Ordering::Relaxed) {
            state.step = step.max(1);
            tell();
        }
    }

    /// One of so many hands wants to go: whether it does. It doesn't wait for the others if it `is_told` to go. `stay` says that the
    /// worker stays, and gives how many tasks it has run.
    pub(super) fn pass(
        &self,
        hands: usize,
        is_told: impl Fn() -> bool,
        has_tasks: impl Fn() -> bool,
        stay: impl FnOnce() -> u64,
    ) -> bool {
        let mut state = self.lock();
        state.here += 1;
        let times = 1 << state.back.min(MOST);
        let until = Instant::now() + PATIENCE * times;
        while state.here < hands && !is_told() {
            if !self.is_leaving() {
                state.here -= 1;
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && has_tasks() {
                state.not_before = stay().saturating_add(state.step.saturating_mul(u64::from(times)));
                state.back += 1;
                state.here -= 1;
                self.leaving.store(false, Ordering::Relaxed);
                self.changed.notify_all();
                return false;
            }
            let left = if left.is_zero() { MOMENT } else { left };
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        self.changed.notify_all();
        true
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;

    #[test]
    fn hands_go_together_or_back_to_work() {
        let door = Door::new();
        let nobody_stays = || unreachable!();
        // One that is alone need not wait.
        assert!(Door::new().pass(1, || false, || true, nobody_stays));
        let mut told = 0;
        door.open(10, 10, || told += 1);
        door.open(11, 10, || told += 1);
        assert_eq!((told, door.is_leaving()), (1, true));
        // The other doesn't come, and a task waits.
        assert!(!door.pass(2, || false, || true, || 12));
        assert!(!door.is_leaving());
        for (ran, leaves) in [(12, false), (21, false), (22, true)] {
            door.open(ran, 10, || told += 1);
            assert_eq!(door.is_leaving(), leaves, "{ran}");
        }
        // None waits: both go, whenever the other comes.
        std::thread::scope(|scope| {
            let first = scope.spawn(|| door.pass(2, || false, || false, || unreachable!()));
            std::thread::sleep(PATIENCE * 2 + MOMENT * 2);
            assert!(!first.is_finished());
            assert!(door.pass(2, || false, || false, nobody_stays));
            assert!(first.join().unwrap());
        });
        // One that is old after each task stays for as many as others.
        let door = Door::new();
        door.open(1, 0, || {});
        assert!(!door.pass(2, || false, || true, || 1));
        door.open(1, 0, || unreachable!());
        door.open(2, 0, || {});
        assert!(door.is_leaving());
        // The parent's order.
        assert!(Door::new().pass(2, || true, || true, nobody_stays));
    }
}
