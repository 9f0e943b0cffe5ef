//! How thread pools begin and end, what they refuse, and what they cost.
#![cfg(feature = "thread")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use millpond::thread::ThreadPool;
use millpond::{Dispatch, PoolError, TaskError, WhenFull};

#[path = "common/pools.rs"]
mod pools;

use pools::{LONG, bump, occupy, pool};

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let refused = |builder: millpond::thread::ThreadPoolBuilder| builder.build().map(drop).unwrap_err();
    assert_eq!(refused(ThreadPool::builder().workers(0)), PoolError::NoWorkers);
    let many = refused(ThreadPool::builder().workers(usize::MAX));
    assert!(matches!(many, PoolError::TooManyWorkers { workers: usize::MAX, .. }));
    assert_eq!(refused(ThreadPool::builder().name("mi\0ll")), PoolError::NameWithNul { at: 2 });
    assert_eq!(refused(ThreadPool::builder().queue_bound(0)), PoolError::ZeroBound);
    assert_eq!(refused(ThreadPool::builder().affinity([100_000])), PoolError::NoSuchCore { core: 100_000 });
    assert_eq!(refused(ThreadPool::builder().affinity([])), PoolError::NoCores);
    assert_eq!(refused(ThreadPool::builder().nice(20)), PoolError::NoSuchNice { nice: 20 });
    assert_eq!(refused(ThreadPool::builder().nice(-21)), PoolError::NoSuchNice { nice: -21 });
    for error in [
        PoolError::NoWorkers,
        many,
        PoolError::NameWithNul { at: 2 },
        PoolError::NoSuchCore { core: 7 },
        PoolError::NoSuchNice { nice: 20 },
        PoolError::Full { bound: 9 },
        PoolError::StartFailed { worker: 3, workers: 4, code: Some(11) },
    ] {
        let text = error.to_string();
        assert!(text.len() > 20 && !text.contains('{') && !text.contains("PoolError"), "{text}");
    }
}

#[test]
fn a_start_hook_that_panics_makes_no_pool() {
    let ended = Arc::new(AtomicUsize::new(0));
    let ends = Arc::clone(&ended);
    let error = ThreadPool::builder()
        .workers(3)
        .on_start(|worker| assert!(worker != 1, "not me"))
        .on_exit(move |_| bump(&ends))
        .build()
        .map(drop)
        .unwrap_err();
    assert_eq!(error, PoolError::StartHookPanicked { worker: 1, message: "not me".into() });
    assert_eq!(ended.load(Ordering::Relaxed), 2, "those that had started have ended");
}

#[test]
fn workers_have_equal_attributes_before_the_pool_is_there() {
    let started = Arc::new(Mutex::new(Vec::new()));
    let ended = Arc::new(Mutex::new(Vec::new()));
    let (starts, ends) = (Arc::clone(&started), Arc::clone(&ended));
    let pool = ThreadPool::builder()
        .workers(3)
        .name("mill")
        .stack_size(1 << 20)
        .nice(7)
        .affinity([0])
        .on_start(move |worker| starts.lock().unwrap().push(worker))
        .on_exit(move |worker| ends.lock().unwrap().push(worker))
        .build()
        .unwrap();
    let mut all = started.lock().unwrap().clone();
    all.sort();
    assert_eq!(all, [0, 1, 2], "before the first task");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (name, line) = pool
            .apply(|| {
                let name = thread::current().name().unwrap().to_owned();
                let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned();
                let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
                (name, format!("{nice} {cores}"))
            })
            .unwrap();
        assert_eq!(line, "7 0", "nice value and cores of {name}");
        assert!(["mill-0", "mill-1", "mill-2"].contains(&name.as_str()));
        seen.push(name);
    }
    assert_eq!((pool.name(), pool.workers()), (Some("mill"), 3));
    assert_eq!(pool.current_worker(), None);
    assert!(pool.apply(|| pool.current_worker()).unwrap().is_some_and(|worker| worker < 3));
    drop(pool);
    ended.lock().unwrap().sort();
    assert_eq!(*ended.lock().unwrap(), [0, 1, 2]);
}

#[test]
fn an_exit_hook_that_panics_harms_nobody() {
    let pool = ThreadPool::builder().workers(2).on_exit(|_| panic!("bye")).build().unwrap();
    assert_eq!(pool.apply(|| 1), Ok(1));
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.worker_stats().iter().map(|worker| worker.hook_panics).sum::<u64>(), 2);
}

#[test]
fn submitting_after_close_is_an_error() {
    let pool = pool(2);
    assert_eq!(pool.join(), Err(PoolError::NotClosed));
    assert_eq!(pool.join_timeout(Duration::ZERO), Err(PoolError::NotClosed));
    pool.close();
    pool.close();
    assert!(pool.is_closed());
    assert_eq!(pool.spawn(|| ()), Err(PoolError::Closed));
    assert_eq!(pool.apply(|| ()), Err(TaskError::Pool(PoolError::Closed)));
    assert_eq!(pool.apply_async(|| ()).map(drop), Err(PoolError::Closed));
    assert_eq!(pool.map(0..3, |n| n), Err(TaskError::Pool(PoolError::Closed)));
    assert_eq!(pool.imap(0..3, |n| n).map(drop), Err(PoolError::Closed));
    assert_eq!(pool.imap_unordered(0..3, |n| n).map(drop), Err(PoolError::Closed));
    // A scope has to end: its tasks run here.
    let mut ran = thread::current().id();
    pool.scope(|s| s.spawn(|| ran = thread::current().id()));
    assert_eq!(ran, thread::current().id());
    pool.join().unwrap();
    pool.join().unwrap();
}

#[test]
fn close_lets_what_was_accepted_run() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ThreadPool::builder().workers(2).dispatch(dispatch).build().unwrap();
        let go = (occupy(&pool), 0);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let ran = Arc::clone(&ran);
            pool.spawn(move || bump(&ran)).unwrap();
        }
        pool.close();
        let late = pool.join_timeout(Duration::from_millis(10));
        assert!(matches!(late, Err(PoolError::StillRunning { workers: 1.., .. })), "{late:?}");
        drop(go);
        pool.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1000);
    }
}

#[test]
fn dropping_a_pool_closes_and_joins_it() {
    let ran = Arc::new(AtomicUsize::new(0));
    {
        let pool = pool(2);
        for _ in 0..1000 {
            let ran = Arc::clone(&ran);
            pool.spawn(move || bump(&ran)).unwrap();
        }
    }
    assert_eq!(ran.load(Ordering::Relaxed), 1000);
    assert_eq!(Arc::strong_count(&ran), 1);
}

#[test]
fn terminate_discards_what_has_not_started() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ThreadPool::builder().workers(2).dispatch(dispatch).build().unwrap();
        let go = (0..2).map(|_| occupy(&pool));
        let go: Vec<_> = if dispatch == Dispatch::Random { go.take(1).collect() } else { go.collect() };
        let handles: Vec<_> = (0..500).map(|n| pool.apply_async(move || n).unwrap()).collect();
        pool.terminate();
        let cancelled = handles.iter().filter(|handle| handle.join() == Err(TaskError::Cancelled)).count();
        if dispatch == Dispatch::SharedQueue {
            // Under random dispatch one of the workers may have run some.
            assert_eq!(cancelled, 500, "also while every worker is busy");
        }
        assert_eq!(pool.apply(|| ()), Err(TaskError::Pool(PoolError::Closed)));
        let progress = pool.progress();
        assert_eq!((progress.cancelled, progress.submitted), (cancelled as u64, 500 + go.len() as u64));
        drop(go);
        pool.join().unwrap();
        assert_eq!(pool.progress().unfinished(), 0);
    }
}

#[test]
fn a_task_that_never_ends_does_not_hold_terminate_up() {
    let pool = pool(2);
    let go = occupy(&pool);
    let start = Instant::now();
    let late = pool.terminate_timeout(Duration::from_millis(30));
    // The idle worker may need some time to end.
    let waited = Duration::from_millis(30);
    assert!((1..=2).any(|workers| late == Err(PoolError::StillRunning { workers, waited })), "{late:?}");
    assert!(late.unwrap_err().to_string().contains("still at "));
    drop(pool);
    assert!(start.elapsed() < LONG, "dropping it does not wait either");
    drop(go);
}

#[test]
fn terminate_does_not_break_scopes_maps_and_forks_that_are_under_way() {
    for round in 0..50 {
        let pool = ThreadPool::builder().workers(2).build().unwrap();
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..round {
                    thread::yield_now();
                }
                pool.terminate();
            });
            pool.scope(|s| {
                for _ in 0..300 {
                    s.spawn(|| bump(&count));
                }
            });
            match pool.map(0..300, |n| n) {
                Ok(all) => assert_eq!(all.len(), 300),
                Err(error) => assert_eq!(error, TaskError::Pool(PoolError::Closed)),
            }
            assert_eq!(pool.fork_join(|| 1, || 2), (1, 2));
        });
        assert_eq!(count.load(Ordering::Relaxed), 300);
    }
}

#[test]
fn a_pool_dropped_by_its_own_task_ends_by_itself() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin] {
        let ended = Arc::new(AtomicUsize::new(0));
        let ends = Arc::clone(&ended);
        let pool = ThreadPool::builder().workers(2).dispatch(dispatch).on_exit(move |_| bump(&ends)).build().unwrap();
        let pool = Arc::new(pool);
        let (tell, hear) = mpsc::channel();
        let inner = Arc::clone(&pool);
        let (go, gone) = mpsc::channel::<()>();
        pool.spawn(move || {
            let _ = gone.recv();
            assert_eq!(inner.join(), Err(PoolError::NotClosed));
            inner.close();
            assert_eq!(inner.join(), Err(PoolError::OwnWorker));
            drop(inner);
            tell.send(()).unwrap();
        })
        .unwrap();
        drop((pool, go));
        hear.recv_timeout(LONG).unwrap();
        eventually("both workers end", || ended.load(Ordering::Relaxed) == 2);
    }
}

#[test]
fn handles_may_be_joined_and_dropped_inside_their_own_pool() {
    let pool = Arc::new(pool(1));
    let inner = Arc::clone(&pool);
    let result = pool.apply(move || {
        let handle = inner.apply_async(|| 5).unwrap();
        drop(inner.apply_async(|| String::from("detached")).unwrap());
        let late = inner.apply_async(|| 6).unwrap();
        assert!(late.cancel());
        (handle.join(), handle.join(), late.join())
    });
    assert_eq!(result.unwrap(), (Ok(5), Err(TaskError::AlreadyJoined), Err(TaskError::Cancelled)));
}

#[test]
fn one_task_wakes_one_worker() {
    let pool = ThreadPool::builder().workers(4).build().unwrap();
    for round in 1..=200 {
        eventually("all sleep", || pool.sleeping() == 4);
        // Fewer where one that was about to sleep found the task itself, at its last look.
        assert!(pool.wake_ups() < round, "{} of {round}", pool.wake_ups());
        assert_eq!(pool.apply(|| 1), Ok(1));
    }
    eventually("all sleep", || pool.sleeping() == 4);
    assert!((1..=200).contains(&pool.wake_ups()), "one for each task, and the others stayed asleep");
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.worker_stats().iter().map(|worker| worker.run).sum::<u64>(), 200);
}

#[test]
fn a_picked_worker_is_the_one_that_wakes() {
    let pool = ThreadPool::builder().workers(3).dispatch(Dispatch::RoundRobin).build().unwrap();
    for round in 0..30 {
        eventually("all sleep", || pool.sleeping() == 3);
        assert_eq!(pool.apply(|| pool.current_worker()).unwrap(), Some(round % 3));
    }
    assert!((1..=30).contains(&pool.wake_ups()), "as above");
    pool.close();
    pool.join().unwrap();
    assert!(pool.worker_stats().iter().all(|worker| worker.run == 10 && worker.stolen == 0));
}

#[test]
fn random_dispatch_reaches_all_workers() {
    let pool = ThreadPool::builder().workers(3).dispatch(Dispatch::Random).build().unwrap();
    for _ in 0..3000 {
        pool.spawn(|| ()).unwrap();
    }
    pool.close();
    pool.join().unwrap();
    let runs: Vec<u64> = pool.worker_stats().iter().map(|worker| worker.run).collect();
    assert!(runs.iter().all(|run| (700..1300).contains(run)), "{runs:?}");
}

#[test]
fn free_workers_steal_what_a_busy_one_holds() {
    let pool = Arc::new(pool(2));
    let inner = Arc::clone(&pool);
    let (tell, hear) = mpsc::channel();
    // One worker submits to itself and then waits until the other has done it.
    pool.apply(move || {
        for n in 0..100 {
            let tell = tell.clone();
            inner.spawn(move || tell.send(n).unwrap()).unwrap();
        }
        for _ in 0..100 {
            hear.recv_timeout(LONG).unwrap();
        }
    })
    .unwrap();
    assert!(pool.worker_stats().iter().any(|worker| worker.stolen > 0));
}

#[test]
fn idle_workers_use_no_processor_time() {
    /// Nanoseconds that the pool's threads have run: other tests of this process don't count.
    fn running_time(pool: &ThreadPool) -> u64 {
        let mut sum = 0;
        for entry in std::fs::read_dir("/proc/self/task").unwrap() {
            let path = entry.unwrap().path();
            let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
            if name.starts_with(pool.name().unwrap()) {
                let text = std::fs::read_to_string(path.join("schedstat")).unwrap();
                sum += text.split_whitespace().next().unwrap().parse::<u64>().unwrap();
            }
        }
        sum
    }
    let pool = ThreadPool::builder().workers(4).name("idlers").build().unwrap();
    (0..1000).for_each(|_| pool.spawn(|| ()).unwrap());
    eventually("all sleep", || pool.sleeping() == 4);
    thread::sleep(Duration::from_millis(50));
    let before = running_time(&pool);
    assert!(before > 0, "their time can be read");
    // Forks leave workers that look for more of them for a moment.
    assert_eq!(pool.fork_join(|| 1, || 2), (1, 2));
    thread::sleep(Duration::from_millis(50));
    let before = running_time(&pool).max(before);
    thread::sleep(Duration::from_secs(10));
    let used = running_time(&pool) - before;
    assert!(used < 10_000_000, "{used} ns of the workers' own time in 10 s of idleness: 0.1 % of a core or more");
}

#[test]
fn figures_are_text() {
    let pool = ThreadPool::builder().workers(1).name("mill").when_full(WhenFull::Fail).queue_bound(5).build().unwrap();
    pool.apply(|| ()).unwrap();
    let _ = catch_unwind(AssertUnwindSafe(|| pool.scope(|s| s.spawn(|| panic!("counted")))));
    let handle = pool.apply_async(|| ()).unwrap();
    handle.join().unwrap();
    eventually("all is counted", || pool.progress().finished == 3);
    assert_eq!(pool.progress().to_string(), "3 of 3 tasks finished (1 panicked), 0 cancelled");
    assert!(pool.worker_stats()[0].to_string().starts_with("worker 0: 3 tasks run (1 panicked)"));
    assert!(format!("{pool:?}").contains("mill"));
    assert!(format!("{handle:?}").starts_with("TaskHandle { state: done, handle"));
}

/// Threads are refused to a process that may not have more: in a child, which may not have one more.
#[test]
fn a_worker_that_cannot_start_is_an_error_and_leaves_no_thread() {
    const VARIABLE: &str = "MILLPOND_TEST_FEW_THREADS";
    if std::env::var_os(VARIABLE).is_some() {
        // Stacks that no address space holds: the system refuses the thread.
        let error = ThreadPool::builder().workers(3).stack_size(1 << 46).build().map(drop).unwrap_err();
        assert!(matches!(error, PoolError::StartFailed { worker: 0, workers: 3, code: Some(_) }), "{error}");
        // Room for some: those that started are ended.
        let limit = libc::rlimit { rlim_cur: 12 << 30, rlim_max: 12 << 30 };
        // SAFETY: the system reads the limit.
        #[expect(unsafe_code, reason = "sets a limit")]
        let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        assert_eq!(set, 0);
        let error = ThreadPool::builder().workers(20).stack_size(1 << 30).build().map(drop).unwrap_err();
        assert!(matches!(error, PoolError::StartFailed { worker: 1.., workers: 20, code: Some(_) }), "{error}");
        let pool = ThreadPool::builder().workers(2).build().unwrap();
        assert_eq!(pool.apply(|| 1), Ok(1));
        return;
    }
    let name = "a_worker_that_cannot_start_is_an_error_and_leaves_no_thread";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
