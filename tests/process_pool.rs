//! Q1–Q7 for processes.

#![expect(unsafe_code, reason = "sends signals to itself")]

use std::time::{Duration, Instant};

use millpond::ipc::Queue;
use millpond::process::{self, ProcessPool};
use millpond::thread::MapOptions;
use millpond::{Dispatch, PoolError, TaskError};

millpond::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn pid(_: u32) -> u32 {
    process::id()
}

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

fn panics(what: String) -> u32 {
    panic!("{what}")
}

fn dies(signal: i32) -> u32 {
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(signal) };
    0
}

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// The first is short, the second panics, and the third ends when it is told to.
fn one_of_three(n: u32, microseconds: u64, told: Queue<u32>) -> u32 {
    let started = Instant::now();
    match n {
        0 => while started.elapsed() < Duration::from_micros(microseconds) {},
        1 => {
            std::thread::sleep(Duration::from_millis(3));
            panic!("the second");
        }
        _ => drop(told.get_timeout(Duration::from_secs(20))),
    }
    n
}

millpond::tasks![one_of_three, square, add, pid, nap, panics, dies, echo];

fn pool(workers: usize) -> ProcessPool {
    ProcessPool::builder().workers(workers).name("mill").build().unwrap()
}

#[test]
fn every_word_of_a_pool_works() {
    let pool = pool(2);
    assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
    assert_eq!(pool.apply(add, (7, 8)).unwrap(), 15);
    let handles: Vec<_> = (0..5000).map(|n| pool.apply_async(square, (n,)).unwrap()).collect();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(handle.join().unwrap(), (n * n) as u64);
    }
    let all: Vec<u64> = pool.map(square, 0..10_000).unwrap();
    assert!(all.iter().enumerate().all(|(n, square)| *square == (n * n) as u64));
    assert_eq!(pool.starmap(add, (0..100).map(|n| (n, 1))).unwrap(), (1..101).collect::<Vec<_>>());
    let one: Vec<u64> = pool.imap(square, 0..1000).unwrap().map(Result::unwrap).collect();
    assert!(one.iter().enumerate().all(|(n, square)| *square == (n * n) as u64));
    let mut any: Vec<u64> = pool.imap_unordered(square, 0..1000).unwrap().map(Result::unwrap).collect();
    any.sort_unstable();
    assert_eq!(any, one);
    let (to, from) = std::sync::mpsc::channel();
    pool.apply_async_then(square, (9,), move |result| to.send(result.unwrap()).unwrap()).unwrap();
    assert_eq!(from.recv_timeout(Duration::from_secs(60)).unwrap(), 81);
    assert!(matches!(pool.join(), Err(PoolError::NotClosed)));
    pool.close();
    assert!(matches!(pool.apply_async(square, (1,)), Err(PoolError::Closed)));
    pool.join().unwrap();
    assert_eq!(pool.progress().unfinished(), 0);
}

#[test]
fn large_values_go_there_and_back() {
    let pool = pool(2);
    for size in [0, 1, 200, 203, 204, 205, 4096, 100_000, 1 << 20, 5 << 20] {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        assert_eq!(pool.apply(echo, (bytes.clone(),)).unwrap(), bytes, "{size} bytes");
    }
}

#[test]
fn a_worker_that_dies_harms_its_own_task_alone() {
    let pool = pool(2);
    let naps: Vec<_> = (0..20).map(|_| pool.apply_async(nap, (5,)).unwrap()).collect();
    match pool.apply(dies, (libc::SIGKILL,)) {
        Err(TaskError::WorkerDied { pid, signal }) => assert!(pid > 0 && signal == Some(9)),
        other => panic!("{other:?}"),
    }
    assert!(naps.iter().all(|nap| nap.join().unwrap() == 5));
    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    assert!(
        matches!(pool.apply(panics, ("oh".to_owned(),)), Err(TaskError::Panicked { message, .. }) if message == "oh")
    );
}

/// Whether a map waits for a later task than the next one hangs on how long the first took: so there are many rounds.
#[test]
fn a_maps_first_error_waits_for_no_later_task() {
    let pool = pool(4);
    pool.wait_ready(Duration::from_secs(60)).unwrap();
    for round in 0..60 {
        let told = Queue::bounded(1).unwrap();
        let items = (0..3).map(|n| (n, 20 * round, told.clone()));
        let started = Instant::now();
        let result = pool.starmap_with(MapOptions::new().chunk_size(1), one_of_three, items);
        let took = started.elapsed();
        assert!(matches!(result, Err(TaskError::Panicked { message, .. }) if message == "the second"));
        assert!(took < Duration::from_secs(15), "{took:?} in round {round}");
        told.put(1).unwrap();
    }
}

#[test]
fn terminate_ends_all_at_once() {
    let pool = pool(2);
    let handles: Vec<_> = (0..10_000).map(|_| pool.apply_async(nap, (100_000,)).unwrap()).collect();
    let started = Instant::now();
    pool.terminate();
    assert!(handles.iter().all(|handle| handle.join() == Err(TaskError::Cancelled)));
    pool.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn dispatch_is_as_chosen() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ProcessPool::builder().workers(3).dispatch(dispatch).build().unwrap();
        let pids: Vec<u32> =
            (0..300).map(|n| pool.apply_async(pid, (n,)).unwrap()).map(|h| h.join().unwrap()).collect();
        let ids = pool.worker_ids();
        assert!(pids.iter().all(|pid| ids.contains(pid)));
        if dispatch == Dispatch::RoundRobin {
            assert!(ids.iter().all(|id| pids.iter().filter(|pid| *pid == id).count() == 100));
        }
    }
}
