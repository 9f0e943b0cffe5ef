//! What is counted: who is woken, what an iterator takes, how many workers there are; and who can be looked at from outside.
#![cfg(feature = "process")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use millpond::Dispatch;
use millpond::process::{self, ProcessPool, WorkerState, WorkerStats};

#[path = "common/audit.rs"]
mod audit;
use audit::{HANG, alone};

millpond::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn nap(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

millpond::tasks![square, nap];

fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < HANG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Q3: idle workers sleep, a new task wakes one of them, and the others stay asleep.
#[test]
fn a_task_wakes_one_of_the_workers_that_sleep() {
    let _alone = alone();
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ProcessPool::builder().workers(4).dispatch(dispatch).build().unwrap();
        pool.wait_ready(HANG).unwrap();
        until("all lie down", || pool.sleeping() == 4);
        let before = pool.wake_ups();
        for n in 0..40 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
            until("all lie down again", || pool.sleeping() == 4);
        }
        let woken = pool.wake_ups() - before;
        // One each; one or the other more where a task waited so long that somebody was called again.
        assert!((40..60).contains(&woken), "{dispatch:?}: {woken} for 40 tasks");
    }
}

/// Whoever sleeps has slept once more than it was woken, however often it was called while it was awake.
#[test]
fn who_is_called_while_awake_is_not_counted_as_woken() {
    let _alone = alone();
    let pool = ProcessPool::builder().workers(2).dispatch(Dispatch::RoundRobin).build().unwrap();
    let tasks: Vec<_> = (0..2000).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
    // Longer than the time after which a pool calls everybody, since a task still waits.
    let naps: Vec<_> = (0..4).map(|_| pool.apply_async(nap, (700,)).unwrap()).collect();
    assert!((0..).zip(&tasks).all(|(n, task)| task.join() == Ok(n * n)));
    naps.iter().for_each(|nap| nap.join().unwrap());
    let lies = |worker: &WorkerStats| worker.slept == worker.woken + 1;
    until("all lie down", || pool.sleeping() == 2 && pool.worker_stats().iter().all(lies));
}

/// Many tasks share a wake-up: nobody is called for a task while whoever could be is at work.
#[test]
fn tasks_that_come_together_share_a_wake_up() {
    let _alone = alone();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let busy = pool.apply_async(nap, (500,)).unwrap();
    until("it is at work", || pool.queued() == 0);
    let before = pool.wake_ups();
    let all: Vec<_> = (0..5000).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
    busy.join().unwrap();
    assert!((0..).zip(&all).all(|(n, task)| task.join() == Ok(n * n)));
    assert!(pool.wake_ups() - before < 500, "{} for 5000 tasks", pool.wake_ups() - before);
}

/// An iterator of any length is taken from as results are asked for.
#[test]
fn imap_takes_no_more_items_than_it_needs() {
    let _alone = alone();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    let taken = Cell::new(0_u64);
    let items = || (0..u64::from(u32::MAX)).inspect(|_| taken.set(taken.get() + 1));
    let mut results = pool.imap(square, items()).unwrap();
    assert!(taken.get() < 100, "{} before the first", taken.get());
    for n in 0..1000 {
        assert_eq!(results.next().unwrap().unwrap(), n * n);
    }
    assert!((1000..1100).contains(&taken.get()), "{} for 1000", taken.get());
    drop(results);
    taken.set(0);
    let mut results = pool.imap_unordered(square, items()).unwrap();
    assert_eq!(results.by_ref().take(1000).filter(Result::is_ok).count(), 1000);
    assert!((1000..1100).contains(&taken.get()), "{} for 1000", taken.get());
}

/// Q2.
#[test]
fn there_are_as_many_workers_as_the_machine_runs_at_once() {
    let _alone = alone();
    let pool = ProcessPool::new().unwrap();
    let parallel = std::thread::available_parallelism().unwrap().get();
    assert_eq!((pool.workers(), pool.threads_per_worker(), pool.worker_ids().len()), (parallel, 1, parallel));
}

#[test]
fn a_pool_is_seen_from_outside() {
    let _alone = alone();
    let pool = ProcessPool::builder().workers(2).threads_per_worker(2).name("seen").build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let naps: Vec<_> = (0..10).map(|_| pool.apply_async(nap, (300,)).unwrap()).collect();
    until("four are at work", || pool.queued() == 6);
    let pools = process::look(process::id()).unwrap();
    let view = pools.iter().find(|view| view.name == "seen").unwrap();
    let serving: Vec<_> = view.workers.iter().filter(|worker| pool.worker_ids().contains(&worker.pid)).collect();
    assert_eq!((serving.len(), view.workers.len()), (2, 2), "{view}");
    assert!(serving.iter().all(|worker| worker.state == WorkerState::Ready), "{view}");
    assert!(view.to_string().contains("seen"), "{view}");
    naps.iter().for_each(|nap| nap.join().unwrap());
    assert!(process::look(u32::MAX).is_err());
}
