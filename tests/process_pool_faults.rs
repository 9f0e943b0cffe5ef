//! No task is ever lost, whoever dies: workers that are killed, stopped, exit, abort, overflow their stack or run out of
//! memory at any moment. After each, nothing is left, and the pool works on.
//!
//! The long form: `MILLPOND_SOAK=1 cargo test --release --test process_pool_faults -- --nocapture`.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "sends signals, sets limits")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond::ipc::{Lock, Queue, Shared, SharedSlice};
use millpond::process::{self, ProcessPool, ProcessPoolBuilder};
use millpond::{Dispatch, TaskError};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, Random, alone, is_long, times};

millpond::test_support!();

fn work(n: u64, microseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(microseconds));
    3 * n + 1
}

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Takes a slice, and gives another one of the same bytes, each one more.
fn add_one(slice: SharedSlice<u8>) -> SharedSlice<u8> {
    let bytes: Vec<u8> = slice.iter().map(|byte| byte.wrapping_add(1)).collect();
    SharedSlice::from_slice(&bytes).unwrap()
}

fn who_works() -> u32 {
    std::thread::sleep(Duration::from_millis(20));
    process::id()
}

/// Ends when it is told to.
fn after(told: Queue<u32>) -> u32 {
    told.get().unwrap()
}

/// Counts the calls, and ends its worker in all but the last; the value comes by a queue too. The other arguments are there to be read.
fn dies_before(last: u32, calls: Shared<AtomicU32>, queues: Vec<Queue<u64>>, n: u64, more: Vec<u8>) -> u64 {
    if calls.fetch_add(1, Ordering::SeqCst) + 1 < last {
        raise(libc::SIGKILL);
    }
    assert!(more.iter().all(|byte| *byte == low(n)), "what was sent");
    queues[1].put(n).unwrap();
    3 * n + 1
}

/// Holds a lock while it works.
fn work_locked(lock: Lock<u64>, n: u64, microseconds: u64, more: Vec<u8>) -> u64 {
    assert!(more.iter().all(|byte| *byte == low(n)), "what was sent");
    *lock.lock_recovering(|_| ()) = n;
    work(n, microseconds)
}

fn pid() -> u32 {
    process::id()
}

fn raise(signal: i32) -> i32 {
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(signal) };
    signal
}

fn exit(code: i32) {
    std::process::exit(code);
}

fn abort() {
    std::process::abort();
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(n: u64) -> u64 {
    let room = std::hint::black_box([n; 100]);
    overflow(n + 1) + room[3]
}

fn out_of_memory() -> usize {
    let limit = libc::rlimit { rlim_cur: 1 << 28, rlim_max: 1 << 28 };
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// The lowest byte.
fn low(n: u64) -> u8 {
    n.to_le_bytes()[0]
}

/// Stops all of this process.
fn stop() {
    let me = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(me, libc::SIGSTOP) };
    // Another thread may have taken the signal, and this one goes on for a moment.
    endless();
}

/// Stops all of this process, until somebody has it go on.
fn stop_for_once() {
    let me = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(me, libc::SIGSTOP) };
}

fn endless() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Says so by a file once it has begun, and never ends.
fn endless_once_begun(file: String) {
    std::fs::write(file, "begun").unwrap();
    endless();
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

millpond::tasks![
    work,
    echo,
    add_one,
    who_works,
    after,
    dies_before,
    work_locked,
    pid,
    raise,
    exit,
    abort,
    overflow,
    out_of_memory,
    stop,
    stop_for_once,
    endless,
    endless_once_begun,
    spin
];

fn signal(pid: u32, signal: i32) {
    // It may have ended just now; as the parent's child it is a zombie then, or reaped.
    // SAFETY: numbers only.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

/// Tells the killer to stop when the test ends, also by a panic: whoever waits for it would wait for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills a worker every so often until told to stop. How many were killed.
fn kill_workers(pool: &ProcessPool, seed: u64, every: Duration, stop: &AtomicBool, most: u64) -> u64 {
    let mut random = Random(seed);
    let (mut killed, mut in_a_row, mut finished) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) && killed < most {
        // Whoever kills twenty of them before any is of use has made a crash loop, which the pool gives up for. On a busy machine
        // a start takes longer than the next kill.
        let now = pool.progress().finished;
        in_a_row = if now == finished { in_a_row } else { 0 };
        finished = now;
        if in_a_row == 10 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        std::thread::sleep(every.mul_f64(random.below(1000) as f64 / 500.0));
        let workers = pool.worker_ids();
        if let Some(n) = usize::try_from(random.below(workers.len().max(1) as u64)).ok().filter(|n| *n < workers.len())
        {
            signal(workers[n], libc::SIGKILL);
            killed += 1;
            in_a_row += 1;
        }
    }
    killed
}

/// What came of many tasks.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    values: u64,
    died: u64,
}

/// Tasks of every kind while workers are killed: each ends once, in its value or in `WorkerDied`.
fn storm(name: &str, builder: ProcessPoolBuilder, tasks: u64, kills: u64, seed: u64, retried: bool) {
    let audit = Audit::now();
    let pool = builder.name(name).build().unwrap();
    let lock = Lock::new(0_u64).unwrap();
    let (submitted, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let calls: Arc<(AtomicU64, AtomicU64, AtomicU64)> = Arc::default();
    let (killed, sum) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_workers(&pool, seed, Duration::from_millis(3), &stop, u64::MAX));
        let until = Stop(&stop);
        let mut random = Random(seed ^ 0x5555);
        let mut sum = Sum::default();
        let started = Instant::now();
        let mut round = 0;
        // So many tasks; more where so many kills were asked for.
        while submitted.load(Ordering::Relaxed) < tasks || pool.progress().deaths < kills {
            assert!(started.elapsed() < HANG * 10, "{sum:?}");
            round += 1;
            let mut small = Vec::new();
            let mut large = Vec::new();
            let mut slices = Vec::new();
            for n in 0..500_u64 {
                submitted.fetch_add(1, Ordering::Relaxed);
                match random.below(20) {
                    0 => {
                        let bytes = vec![low(n); 300 + usize::try_from(random.below(20_000)).unwrap()];
                        large.push((pool.apply_async(echo, (bytes.clone(),)).unwrap(), bytes));
                    }
                    1 => {
                        let bytes = vec![low(n); 5000];
                        let slice = SharedSlice::from_slice(&bytes).unwrap();
                        slices.push((pool.apply_async(add_one, (slice,)).unwrap(), low(n).wrapping_add(1)));
                    }
                    2..6 => {
                        let calls = Arc::clone(&calls);
                        let then = move |result: Result<u64, TaskError>| match result {
                            Ok(value) if value == 3 * n + 1 => drop(calls.0.fetch_add(1, Ordering::Relaxed)),
                            Err(TaskError::WorkerDied { signal: Some(9), .. }) => {
                                calls.1.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => drop(calls.2.fetch_add(1, Ordering::Relaxed)),
                        };
                        pool.apply_async_then(work, (n, random.below(500)), then).unwrap();
                    }
                    6 => {
                        let more = vec![low(n); usize::try_from(random.below(1000)).unwrap()];
                        let task = pool.apply_async(work_locked, (lock.clone(), n, random.below(500), more));
                        small.push((task.unwrap(), 3 * n + 1));
                    }
                    _ => small.push((pool.apply_async(work, (n, random.below(500))).unwrap(), 3 * n + 1)),
                }
            }
            let mut count = |died: Option<&TaskError>, may_die: bool| match died {
                None => sum.values += 1,
                Some(TaskError::WorkerDied { signal: Some(9), .. }) if may_die => sum.died += 1,
                Some(other) => panic!("seed {seed}, round {round}: {other:?}"),
            };
            for (handle, value) in &small {
                let result = handle.join_timeout(HANG);
                assert!(result.as_ref().map_or(true, |result| result == value), "seed {seed}: {result:?}");
                count(result.as_ref().err(), !retried);
                assert_eq!(handle.join(), Err(TaskError::AlreadyJoined));
            }
            for (handle, bytes) in &large {
                let result = handle.join_timeout(HANG);
                assert!(result.as_ref().map_or(true, |result| result == bytes), "seed {seed}");
                count(result.as_ref().err(), !retried);
            }
            for (handle, byte) in &slices {
                let result = handle.join_timeout(HANG);
                let same = |slice: &SharedSlice<u8>| slice.len() == 5000 && slice.iter().all(|b| b == byte);
                assert!(result.as_ref().map_or(true, same), "seed {seed}");
                // What moves a slice is not run again.
                count(result.as_ref().err(), true);
            }
        }
        drop(until);
        (killer.join().unwrap(), sum)
    });
    // Peace: all is as if nothing had been.
    for n in 0..200 {
        assert_eq!(pool.apply(work, (n, 0)).unwrap(), 3 * n + 1);
    }
    pool.close();
    pool.join().unwrap();
    let progress = pool.progress();
    let [values, died, wrong] = [&calls.0, &calls.1, &calls.2].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(wrong, 0, "seed {seed}");
    assert!(!retried || died == 0);
    let submitted = submitted.load(Ordering::Relaxed);
    assert_eq!(sum.values + sum.died + values + died, submitted, "each ends once");
    assert_eq!((progress.submitted, progress.finished), (submitted + 200, submitted + 200), "{progress}");
    assert_eq!((progress.failed, progress.cancelled, progress.panicked), (sum.died + died, 0, 0), "{progress}");
    assert!(progress.deaths > 0 && killed > 0);
    drop((pool, lock));
    audit.expect_unchanged();
    println!(
        "{name}: {submitted} tasks, {killed} kills sent, {} workers died: {} values, {} WorkerDied, {} run again",
        progress.deaths,
        sum.values + values,
        sum.died + died,
        progress.retried
    );
}

#[test]
fn no_task_is_lost_while_workers_are_killed() {
    let _alone = alone();
    let builder = ProcessPool::builder().workers(4);
    storm("shared queue", builder, times(3000, 10_000), times(50, 2000), 1, false);
}

#[test]
fn retried_tasks_have_values_while_workers_are_killed() {
    let _alone = alone();
    let builder = ProcessPool::builder().workers(4).retries(1000).dispatch(Dispatch::RoundRobin);
    storm("round robin, retries", builder, times(2000, 10_000), times(30, 2000), 2, true);
}

#[test]
fn no_task_is_lost_while_workers_of_threads_are_killed() {
    let _alone = alone();
    let builder = ProcessPool::builder().workers(3).threads_per_worker(3).dispatch(Dispatch::Random);
    storm("workers of threads, random", builder, times(2000, 10_000), times(30, 2000), 3, false);
    let builder = ProcessPool::builder().workers(2).threads_per_worker(4).recycle_after(200);
    storm("workers of threads, recycled", builder, times(2000, 10_000), times(30, 1000), 4, false);
}

/// Handles that are references are passed on anew, as often as it takes.
#[test]
fn a_task_with_queues_and_locks_is_run_again() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).retries(2).build().unwrap();
    let all: Vec<_> = (0..12_u64)
        .map(|n| {
            let (calls, queue) = (Shared::new(AtomicU32::new(0)).unwrap(), Queue::unbounded().unwrap());
            // The last are more than a slot takes.
            let (last, more) = (u32::try_from(n % 4).unwrap() + 1, vec![low(n); usize::try_from(n * n * 10).unwrap()]);
            let queues = vec![queue.clone(), queue.clone()];
            let task = pool.apply_async(dies_before, (last, calls.clone(), queues, n, more)).unwrap();
            (task, n, last, calls, queue)
        })
        .collect();
    for (task, n, last, calls, queue) in &all {
        let result = task.join_timeout(HANG);
        if *last <= 3 {
            assert_eq!(result, Ok(3 * n + 1));
            assert_eq!(queue.try_get().unwrap(), *n);
        } else {
            assert!(matches!(result, Err(TaskError::WorkerDied { signal: Some(9), .. })), "{result:?}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), (*last).min(3), "calls");
        assert!(queue.is_empty());
    }
    assert_eq!(pool.progress().retried, 3 * (1 + 2 + 2));
    drop((all, pool));
    audit.expect_unchanged();
}

/// A pool of these, for tasks that end their worker in one way or another.
fn every_pool() -> Vec<(String, ProcessPool)> {
    let mut all = Vec::new();
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        for threads in [1, 3] {
            let builder = ProcessPool::builder().workers(2).threads_per_worker(threads).dispatch(dispatch);
            all.push((format!("{dispatch:?}, {threads} threads"), builder.capture_stderr(4096).build().unwrap()));
        }
    }
    all
}

#[test]
fn every_way_to_end_a_worker_is_its_own_tasks_error() {
    let _alone = alone();
    let audit = Audit::now();
    for (what, pool) in every_pool() {
        let others: Vec<_> = (0..40).map(|n| pool.apply_async(work, (n, 2000)).unwrap()).collect();
        let kill = pool.apply_async(raise, (libc::SIGKILL,)).unwrap();
        let term = pool.apply_async(raise, (libc::SIGTERM,)).unwrap();
        let ill = pool.apply_async(raise, (libc::SIGILL,)).unwrap();
        let exits = [0, 7].map(|code| pool.apply_async(exit, (code,)).unwrap());
        let aborts = pool.apply_async(abort, ()).unwrap();
        let overflows = pool.apply_async(overflow, (0,)).unwrap();
        let starves = pool.apply_async(out_of_memory, ()).unwrap();
        let died = |result: Result<(), TaskError>, wanted: Option<i32>| match result {
            Err(TaskError::WorkerDied { pid, signal }) => {
                let said: Vec<_> = (0..2).map(|worker| pool.captured_stderr(worker)).collect();
                assert!(
                    pid > 0 && signal == wanted,
                    "{what}: {signal:?} of {pid}, not {wanted:?}; {said:?}, {:?}",
                    pool.worker_stats()
                )
            }
            other => panic!("{what}: {other:?}"),
        };
        died(kill.join_timeout(HANG).map(drop), Some(libc::SIGKILL));
        died(term.join_timeout(HANG).map(drop), Some(libc::SIGTERM));
        died(ill.join_timeout(HANG).map(drop), Some(libc::SIGILL));
        exits.iter().for_each(|exit| died(exit.join_timeout(HANG), None));
        died(aborts.join_timeout(HANG), Some(libc::SIGABRT));
        died(overflows.join_timeout(HANG).map(drop), Some(libc::SIGABRT));
        died(starves.join_timeout(HANG).map(drop), Some(libc::SIGABRT));
        for (n, other) in others.iter().enumerate() {
            assert_eq!(other.join_timeout(HANG), Ok(3 * n as u64 + 1), "{what}");
        }
        assert_eq!(pool.progress().failed, 8);
        assert_eq!(pool.apply(work, (5, 0)), Ok(16));
    }
    audit.expect_unchanged();
}

/// A worker's threads take no task before all of them are there: a task that leaves the process no memory for more threads
/// would otherwise have it give up, and not be to blame.
#[test]
fn a_task_cannot_disturb_the_start_of_its_worker() {
    let _alone = alone();
    for _ in 0..times(10, 100) {
        let pool = ProcessPool::builder().workers(1).threads_per_worker(16).build().unwrap();
        let starves = pool.apply_async(out_of_memory, ()).unwrap();
        match starves.join_timeout(HANG) {
            Err(TaskError::WorkerDied { signal, .. }) => assert_eq!(signal, Some(libc::SIGABRT)),
            other => panic!("{other:?}"),
        }
    }
}

/// One kills its worker, the others in it are innocent: they are run again, alone, and the killer kills once more.
#[test]
fn of_tasks_in_one_worker_only_the_killer_is_blamed() {
    let _alone = alone();
    let audit = Audit::now();
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ProcessPool::builder().workers(2).threads_per_worker(4).dispatch(dispatch).build().unwrap();
        for round in 0..times(3, 50) {
            let innocent: Vec<_> = (0..12).map(|n| pool.apply_async(work, (n, 5000)).unwrap()).collect();
            let killer = pool.apply_async(raise, (libc::SIGKILL,)).unwrap();
            let more: Vec<_> = (0..12).map(|n| pool.apply_async(work, (n, 5000)).unwrap()).collect();
            let result = killer.join_timeout(HANG);
            assert!(matches!(result, Err(TaskError::WorkerDied { signal: Some(9), .. })), "{result:?}");
            for (n, task) in innocent.iter().enumerate().chain(more.iter().enumerate()) {
                assert_eq!(task.join_timeout(HANG), Ok(3 * n as u64 + 1), "round {round}");
            }
        }
        assert_eq!(pool.progress().retried, 0, "running again for another's fault is no retry");
    }
    audit.expect_unchanged();
}

/// Those that were taken last run again first: one that was at work for long, and may never end, keeps nobody waiting.
#[test]
fn an_endless_task_among_the_suspects_keeps_no_other_waiting() {
    let _alone = alone();
    let audit = Audit::now();
    let file = std::env::temp_dir().join(format!("millpond-suspects-{}", process::id()));
    // One of the same number may have left its own when it failed.
    let _ = std::fs::remove_file(&file);
    let pool = ProcessPool::builder().workers(1).threads_per_worker(3).build().unwrap();
    let first = pool.apply_async(endless_once_begun, (file.display().to_string(),)).unwrap();
    let started = Instant::now();
    while !file.exists() {
        assert!(started.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(1));
    }
    let innocent = pool.apply_async(work, (5, 200_000)).unwrap();
    while pool.queued() > 0 {
        assert!(started.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(1));
    }
    let killer = pool.apply_async(raise, (libc::SIGKILL,)).unwrap();
    let until = Instant::now() + HANG / 6;
    let left = || until.saturating_duration_since(Instant::now());
    let (died, value) = (killer.join_timeout(left()), innocent.join_timeout(left()));
    assert!(!first.is_finished());
    // Or it would be waited for.
    pool.terminate();
    assert!(matches!(died, Err(TaskError::WorkerDied { signal: Some(9), .. })), "{died:?}");
    assert_eq!(value, Ok(16));
    assert_eq!(first.join_timeout(HANG), Err(TaskError::Cancelled));
    drop((first, innocent, killer, pool));
    std::fs::remove_file(file).unwrap();
    audit.expect_unchanged();
}

#[test]
fn a_killer_is_run_again_as_often_as_was_said() {
    let _alone = alone();
    let audit = Audit::now();
    for threads in [1, 2] {
        let pool = ProcessPool::builder().workers(2).threads_per_worker(threads).retries(3).build().unwrap();
        let killer = pool.apply_async(raise, (libc::SIGKILL,)).unwrap();
        let result = killer.join_timeout(HANG);
        assert!(matches!(result, Err(TaskError::WorkerDied { .. })), "{result:?}");
        assert_eq!((pool.progress().retried, pool.progress().deaths), (3, 4));
    }
    audit.expect_unchanged();
}

#[test]
fn a_late_task_is_ended_with_its_worker_busy_asleep_or_stopped() {
    let _alone = alone();
    let audit = Audit::now();
    let limit = Duration::from_millis(150);
    for threads in [1, 3] {
        let pool = ProcessPool::builder().workers(2).threads_per_worker(threads).task_timeout(limit).build().unwrap();
        pool.wait_ready(HANG).unwrap();
        // From rest: the pool has had nothing to do, and nobody calls it any more.
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        let stopped = pool.apply_async(stop, ()).unwrap();
        assert_eq!(stopped.join_timeout(HANG), Err(TaskError::TimedOut));
        let took = started.elapsed();
        assert!(took >= limit, "{took:?}");
        let asleep = pool.apply_async(endless, ()).unwrap();
        let busy = pool.apply_async(spin, ()).unwrap();
        let fine: Vec<_> = (0..50).map(|n| pool.apply_async(work, (n, 1000)).unwrap()).collect();
        assert_eq!(asleep.join_timeout(HANG), Err(TaskError::TimedOut));
        assert_eq!(busy.join_timeout(HANG), Err(TaskError::TimedOut));
        for (n, task) in fine.iter().enumerate() {
            assert_eq!(task.join_timeout(HANG), Ok(3 * n as u64 + 1));
        }
        // With nobody who waits for it.
        let started = Instant::now();
        let (to, from) = std::sync::mpsc::channel();
        pool.apply_async_then(endless, (), move |result| to.send(result).unwrap()).unwrap();
        assert_eq!(from.recv_timeout(HANG).unwrap(), Err(TaskError::TimedOut));
        assert!(started.elapsed() < HANG / 4);
        if is_long() {
            println!("{threads} threads: the stopped worker's task ended {took:?} after its start, limit {limit:?}");
        }
    }
    audit.expect_unchanged();
}

/// A worker that is stopped before it takes its tasks holds up nobody but its own line.
#[test]
fn a_stopped_worker_holds_up_nobody_else() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    for round in 0..times(4, 40) {
        let workers = pool.worker_ids();
        let stopped = workers[usize::try_from(round).unwrap() % 2];
        signal(stopped, libc::SIGSTOP);
        let tasks: Vec<_> = (0..20).map(|n| pool.apply_async(work, (n, 100)).unwrap()).collect();
        // One of them may be where the worker stopped.
        let started = Instant::now();
        while tasks.iter().filter(|task| task.is_finished()).count() < 19 {
            let _ = pool.progress();
            assert!(started.elapsed() < HANG, "round {round}");
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(stopped, if round % 3 == 2 { libc::SIGKILL } else { libc::SIGCONT });
        for task in tasks {
            let result = task.join_timeout(HANG);
            assert!(matches!(result, Ok(_) | Err(TaskError::WorkerDied { .. })), "{result:?}");
        }
        pool.wait_ready(HANG).unwrap();
    }
    drop(pool);
    audit.expect_unchanged();
}

/// A worker that is stopped before it gets up for a task keeps nobody else asleep, also while another is at work.
#[test]
fn a_stopped_worker_keeps_nobody_else_asleep() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(4).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let started = Instant::now();
    let wait_until = |done: &dyn Fn() -> bool| {
        while !done() {
            assert!(started.elapsed() < HANG);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_until(&|| pool.sleeping() == 4);
    let workers = pool.worker_ids();
    let (to, from) = std::sync::mpsc::channel();
    let submit = || {
        let to = to.clone();
        pool.apply_async_then(who_works, (), move |result| to.send(result).unwrap()).unwrap();
    };
    // The first of them does this; the next one to be woken is the second.
    let told = Queue::bounded(1).unwrap();
    let first = pool.apply_async(after, (told.clone(),)).unwrap();
    wait_until(&|| pool.sleeping() == 3 && pool.queued() == 0);
    signal(workers[1], libc::SIGSTOP);
    let state = format!("/proc/{}/stat", workers[1]);
    wait_until(&|| std::fs::read_to_string(&state).unwrap().contains(") T"));
    // So many at a time that whoever is done finds another one.
    (0..20).for_each(|_| submit());
    told.put(1).unwrap();
    let (mut seen, asked) = (HashSet::new(), Instant::now());
    while seen.len() < 3 && asked.elapsed() < HANG / 4 {
        seen.insert(from.recv_timeout(HANG).unwrap().unwrap());
        submit();
    }
    signal(workers[1], libc::SIGCONT);
    assert_eq!(seen, HashSet::from([workers[0], workers[2], workers[3]]));
    assert_eq!(first.join_timeout(HANG), Ok(1));
    drop((first, told, pool));
    audit.expect_unchanged();
}

/// A worker that is stopped on its way out, after the order to leave, leaves all the same.
#[test]
fn a_worker_that_is_stopped_while_it_leaves_keeps_no_pool_from_ending() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).on_exit(stop_for_once, ()).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    pool.close();
    let ended = pool.join_timeout(HANG);
    // Or it would be waited for.
    pool.terminate();
    assert_eq!(ended, Ok(()));
    drop(pool);
    audit.expect_unchanged();
}

/// Whoever was woken for a task gets some time to take it: after a rest, too, when the pool's own thread looks at once.
#[test]
fn who_is_slow_to_get_up_is_not_woken_again_at_once() {
    let _alone = alone();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let asked = Instant::now();
    loop {
        while pool.sleeping() < 1 {
            assert!(asked.elapsed() < HANG);
            std::thread::sleep(Duration::from_millis(1));
        }
        // Longer than the time between two looks, so that the next task is looked at as soon as it comes.
        std::thread::sleep(Duration::from_millis(250));
        let worker = pool.worker_ids()[0];
        signal(worker, libc::SIGSTOP);
        let (before, put) = (pool.wake_ups(), Instant::now());
        let task = pool.apply_async(work, (7, 0)).unwrap();
        std::thread::sleep(Duration::from_millis(40));
        let (woken, took) = (pool.wake_ups() - before, put.elapsed());
        signal(worker, libc::SIGCONT);
        task.join_timeout(HANG).unwrap();
        if took < Duration::from_millis(90) {
            assert_eq!(woken, 1);
            break;
        }
        assert!(asked.elapsed() < HANG, "the machine is too busy to say");
    }
}

#[test]
fn terminate_with_thousands_queued_and_endless_tasks_ends_at_once() {
    let _alone = alone();
    let audit = Audit::now();
    for threads in [1, 2] {
        let pool = ProcessPool::builder().workers(4).threads_per_worker(threads).build().unwrap();
        let mut running = Vec::new();
        for _ in 0..2 {
            running.extend([pool.apply_async(endless, ()).unwrap(), pool.apply_async(spin, ()).unwrap()]);
        }
        let queued: Vec<_> = (0..10_000).map(|_| pool.apply_async(endless, ()).unwrap()).collect();
        pool.wait_ready(HANG).unwrap();
        let waiter = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queued[9000].join());
            std::thread::sleep(Duration::from_millis(20));
            let started = Instant::now();
            pool.terminate();
            let returned = started.elapsed();
            for handle in running.iter().chain(&queued) {
                assert!(handle.is_finished());
            }
            pool.join().unwrap();
            let ended = started.elapsed();
            println!("terminate with 10,004 tasks, 4 at work: back after {returned:?}, workers gone after {ended:?}");
            assert!(ended < Duration::from_secs(1), "{ended:?}");
            waiter.join().unwrap()
        });
        assert_eq!(waiter, Err(TaskError::Cancelled));
        for handle in running {
            assert_eq!(handle.join(), Err(TaskError::Cancelled));
        }
        let rest = queued.iter().filter(|handle| handle.join() == Err(TaskError::Cancelled)).count();
        assert_eq!(rest, 9999, "one was joined before");
        assert_eq!(pool.progress().unfinished(), 0);
    }
    audit.expect_unchanged();
}

/// Cancelling races with the task's start, its end, and the worker's next task, which must not be hit.
#[test]
fn cancel_never_hits_the_wrong_task() {
    let _alone = alone();
    let audit = Audit::now();
    for threads in [1, 2] {
        let pool = ProcessPool::builder().workers(2).threads_per_worker(threads).build().unwrap();
        let stop = AtomicBool::new(false);
        let bystanders = AtomicU32::new(0);
        let [mut cancelled, mut values] = [0_u64; 2];
        let cancels = times(1000, 50_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Others' tasks, which nobody cancels: each has its value.
                while !stop.load(Ordering::Relaxed) {
                    let all: Vec<_> = (0..20).map(|n| pool.apply_async(work, (n, n % 3)).unwrap()).collect();
                    for (n, task) in all.iter().enumerate() {
                        assert_eq!(task.join_timeout(HANG), Ok(3 * n as u64 + 1));
                        bystanders.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let mut random = Random(42);
            for n in 0..cancels {
                let task = pool.apply_async(work, (n, random.below(200))).unwrap();
                let until = Instant::now() + Duration::from_nanos(random.below(600_000));
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                let was = task.cancel();
                match task.join_timeout(HANG) {
                    Ok(value) if !was && value == 3 * n + 1 => values += 1,
                    Err(TaskError::Cancelled) if was => cancelled += 1,
                    other => panic!("{n}: cancel said {was}, then {other:?}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let deaths = pool.worker_stats().iter().map(|worker| worker.started - 1).sum::<u32>();
        println!(
            "{threads} threads: {cancels} cancels: {cancelled} in time, {values} too late, {deaths} workers killed for it, \
             {} bystanders unharmed",
            bystanders.load(Ordering::Relaxed)
        );
        assert!(cancelled > 0 && values > 0 && deaths > 0);
        assert_eq!(pool.progress().cancelled, cancelled);
        drop(pool);
    }
    audit.expect_unchanged();
}

/// Workers come from a thread that ends, and live on.
#[test]
fn a_pool_outlives_the_thread_that_made_it() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = std::thread::spawn(|| ProcessPool::builder().workers(2).build().unwrap()).join().unwrap();
    pool.wait_ready(HANG).unwrap();
    let before = pool.worker_ids();
    std::thread::sleep(Duration::from_millis(50));
    assert!((0..50).all(|_| before.contains(&pool.apply(pid, ()).unwrap())));
    assert_eq!(pool.progress().deaths, 0);
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn pools_made_and_dropped_leave_nothing() {
    let _alone = alone();
    let audit = Audit::now();
    let pools = times(25, 1000);
    for n in 0..pools {
        let builder = ProcessPool::builder().workers(1 + usize::try_from(n % 3).unwrap());
        let pool = builder.threads_per_worker(1 + usize::try_from(n % 2).unwrap()).build().unwrap();
        match n % 4 {
            // With tasks that are still to be done: they are.
            0 => (0..10).for_each(|n| pool.spawn(work, (n, 100)).unwrap()),
            1 => drop((0..10).map(|n| pool.apply_async(work, (n, 100)).unwrap()).collect::<Vec<_>>()),
            2 => {
                pool.spawn(endless, ()).unwrap();
                pool.terminate();
            }
            _ => {}
        }
    }
    audit.expect_unchanged();
    println!("{pools} pools made and dropped");
}
