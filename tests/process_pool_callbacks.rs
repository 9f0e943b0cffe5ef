//! Callbacks of a process pool, and the end of their pool: that they cause, that comes while they run, that was before.
#![cfg(feature = "process")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millpond::process::ProcessPool;
use millpond::{PoolError, TaskError};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, alone};

millpond::test_support!();

fn work(n: u64) -> u64 {
    3 * n + 1
}

fn endless() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

millpond::tasks![work, endless];

/// Longer than workers take to leave: then the pool waits for its callbacks alone.
const LEFT: Duration = Duration::from_millis(300);

#[test]
fn a_callback_may_join_its_pool_when_the_workers_have_left() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = Arc::new(ProcessPool::builder().workers(1).build().unwrap());
    let (to, from) = channel();
    let same = Arc::clone(&pool);
    let joins = move |_| {
        same.close();
        std::thread::sleep(LEFT);
        let (at_once, in_time) = (same.join(), same.join_timeout(Duration::from_millis(1)));
        to.send((at_once, in_time)).unwrap();
    };
    pool.apply_async_then(work, (1,), joins).unwrap();
    let own = Err(PoolError::OwnWorker);
    assert_eq!(from.recv_timeout(HANG), Ok((own.clone(), own)));
    assert_eq!(pool.join_timeout(HANG), Ok(()));
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn a_callback_may_drop_its_pool_when_the_workers_have_left() {
    let _alone = alone();
    let audit = Audit::now();
    let place: Arc<OnceLock<ProcessPool>> = Arc::default();
    let (to, from) = channel();
    let last = Arc::clone(&place);
    let drops = move |_| {
        last.get().unwrap().close();
        std::thread::sleep(LEFT);
        // By now it is the only one.
        drop(last);
        to.send(()).unwrap();
    };
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let pool = place.get_or_init(|| pool);
    pool.apply_async_then(work, (1,), drops).unwrap();
    drop(place);
    assert_eq!(from.recv_timeout(HANG), Ok(()));
    audit.expect_unchanged();
}

/// Callbacks that an ended pool refuses start no thread for them: nobody would join it.
#[test]
fn an_ended_pool_starts_no_thread_for_callbacks() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.apply_async_then(work, (1,), |_| {}), Err(PoolError::Closed));
    // A thread takes a moment to have its name.
    std::thread::sleep(Duration::from_millis(50));
    assert!(!audit::threads().iter().any(|name| name.starts_with("millpond-calls")));
    drop(pool);
    audit.expect_unchanged();
}

/// They are called one after the other, on the pool's thread, before `join` returns: also those of tasks that are ended.
#[test]
fn callbacks_of_terminated_tasks_come_one_by_one_and_before_the_end() {
    const TASKS: u64 = 100_000;
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.spawn(endless, ()).unwrap();
    let seen: Arc<(AtomicBool, [AtomicU64; 3])> = Arc::default();
    for _ in 0..TASKS {
        let seen = Arc::clone(&seen);
        let then = move |result: Result<u64, TaskError>| {
            let (inside, [called, foreign, together]) = &*seen;
            let count = |what: &AtomicU64, so: bool| what.fetch_add(u64::from(so), Ordering::Relaxed);
            count(together, inside.swap(true, Ordering::SeqCst));
            count(foreign, std::thread::current().name() != Some("millpond-calls"));
            count(called, result == Err(TaskError::Cancelled));
            inside.store(false, Ordering::SeqCst);
        };
        pool.apply_async_then(work, (1,), then).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| pool.terminate());
        while !pool.is_closed() {
            std::thread::yield_now();
        }
        assert_eq!(pool.join_timeout(HANG), Ok(()));
        let [called, foreign, together] = seen.1.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!((called, foreign, together), (TASKS, 0, 0), "called; on another thread; two at a time");
    });
    drop(pool);
    audit.expect_unchanged();
}
