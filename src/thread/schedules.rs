//! Storms of closing and terminating in long random schedules, with the real queue, sleep and room; a worker's loop is
//! restated, as in the models. Loom tries every order of a few steps; this tries few orders of many.
//!
//! `RUSTFLAGS="--cfg millpond_loom --cfg millpond_shuttle" cargo test --release --no-default-features --features thread --lib
//! schedules`; `MILLPOND_SCHEDULES` says how many. Every step is in one order here: what a weaker ordering does, only loom and
//! ThreadSanitizer see.

use std::ptr::NonNull;

use loom::rand::{Rng, thread_rng};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::queue::{Queue, Refusal};
use super::room::Room;
use super::sleep::Sleep;
use crate::primitive::schedules;

const WORKERS: usize = 3;
const SUBMITTERS: usize = 3;
const TASKS: usize = 4;

struct Mill {
    queue: Queue<u8>,
    bound: usize,
    sleep: Sleep,
    room: Room,
    closed: AtomicUsize,
    /// By number: how often a task ran, and how often it was discarded.
    runs: [AtomicUsize; SUBMITTERS * TASKS],
    discards: [AtomicUsize; SUBMITTERS * TASKS],
}

impl Mill {
    fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(bound),
            bound,
            sleep: Sleep::new(WORKERS),
            room: Room::new(),
            closed: AtomicUsize::new(0),
            runs: Default::default(),
            discards: Default::default(),
        })
    }

    /// Whether the task was accepted. Waits for room.
    fn submit(&self, number: usize) -> bool {
        let entry = NonNull::new(std::ptr::without_provenance_mut(number + 1)).unwrap();
        let mut outcome = self.queue.push(entry);
        if outcome == Err(Refusal::Full) {
            self.room.wait(|| {
                outcome = self.queue.push(entry);
                outcome != Err(Refusal::Full)
            });
        }
        if outcome.is_ok() {
            self.sleep.work_was_added();
        }
        outcome.is_ok()
    }

    fn take(&self) -> Option<usize> {
        let mut taken = None;
        let count = self.queue.take(1, WORKERS, |entry| taken = Some(entry.addr().get() - 1));
        if count > 0 && self.bound != usize::MAX {
            self.room.made();
        }
        taken
    }

    fn work(&self, me: usize) {
        loop {
            if let Some(number) = self.take() {
                if self.sleep.found() && !self.queue.is_empty() {
                    self.sleep.work_was_added();
                }
                let mut next = Some(number);
                while let Some(number) = next {
                    let to = if self.closed.load(Ordering::SeqCst) == 2 { &self.discards } else { &self.runs };
                    to[number].fetch_add(1, Ordering::SeqCst);
                    next = self.take();
                }
                self.sleep.search();
            } else if self.queue.is_closed() && self.queue.is_empty() {
                let _ = self.sleep.found();
                return;
            } else if !self.sleep.sleep(me, || !self.queue.is_empty() || self.closed.load(Ordering::SeqCst) > 0) {
                thread::yield_now();
            }
        }
    }

    fn close(&self) {
        self.closed.fetch_max(1, Ordering::SeqCst);
        self.queue.close();
        self.sleep.wake_all();
        self.room.open_for_all();
    }

    fn terminate(&self) {
        self.close();
        self.closed.fetch_max(2, Ordering::SeqCst);
        while self.queue.take(4, 1, |entry| _ = self.discards[entry.addr().get() - 1].fetch_add(1, Ordering::SeqCst))
            > 0
        {}
    }
}

/// Everybody at once: workers, submitters, and two who close or terminate. A lost wake-up is a deadlock, which shuttle reports.
fn storm(bound: usize, terminates: bool) {
    let mill = Mill::new(bound);
    let workers: Vec<_> = (0..WORKERS)
        .map(|me| {
            let mill = Arc::clone(&mill);
            thread::spawn(move || mill.work(me))
        })
        .collect();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|who| {
            let mill = Arc::clone(&mill);
            thread::spawn(move || [0, 1, 2, 3].map(|n| mill.submit(who * TASKS + n)))
        })
        .collect();
    let ends: Vec<_> = (0..2)
        .map(|who| {
            let mill = Arc::clone(&mill);
            thread::spawn(move || {
                (0..thread_rng().gen_range(0..12)).for_each(|_| thread::yield_now());
                if terminates && who == 0 { mill.terminate() } else { mill.close() }
            })
        })
        .collect();
    let accepted: Vec<_> = submitters.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    ends.into_iter().chain(workers).for_each(|thread| thread.join().unwrap());
    for (number, accepted) in accepted.into_iter().enumerate() {
        let [ran, discarded] = [&mill.runs, &mill.discards].map(|counts| counts[number].load(Ordering::SeqCst));
        assert_eq!(ran + discarded, usize::from(accepted), "task {number}: ran {ran}, discarded {discarded}");
        assert!(discarded == 0 || terminates, "task {number} was discarded by nobody");
    }
    assert!(mill.queue.is_empty());
}

#[test]
fn a_pool_closes_among_submitters_that_never_wait() {
    schedules(|| storm(usize::MAX, false));
}

#[test]
fn a_pool_closes_among_submitters_that_wait_for_room() {
    schedules(|| storm(2, false));
}

#[test]
fn a_pool_terminates_and_closes_at_once() {
    schedules(|| storm(2, true));
}
