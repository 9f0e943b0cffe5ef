//! What a thread pool promises: tasks are run once, results come back, and close, join and terminate end it.
#![cfg(feature = "thread")]

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use millpond::thread::{MapOptions, ThreadPool};
use millpond::{Dispatch, PoolError, TaskError, WhenFull};

#[path = "common/pools.rs"]
mod pools;

use pools::{LONG, bump, occupy, pool};

const ALL: [Dispatch; 3] = [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random];

/// A panic of the function is an error in its place, and the pool counts it, whoever runs the piece.
#[test]
fn a_panic_in_an_imap_is_counted() {
    fn bad(n: u64) -> u64 {
        assert!(n != 3, "three");
        n
    }
    for dispatch in ALL {
        let pool = ThreadPool::builder().workers(2).dispatch(dispatch).build().unwrap();
        let panicked = |expected: u64| {
            let started = Instant::now();
            while pool.progress().unfinished() > 0 {
                assert!(started.elapsed() < LONG);
                thread::yield_now();
            }
            assert_eq!(pool.progress().panicked, expected, "panicked, of {}", pool.progress());
            assert_eq!(pool.worker_stats().iter().map(|worker| worker.panicked).sum::<u64>(), expected);
        };
        assert_eq!(pool.imap(0..10, bad).unwrap().filter(Result::is_err).count(), 1);
        panicked(1);
        assert_eq!(pool.imap_unordered(0..10, bad).unwrap().filter(Result::is_err).count(), 1);
        panicked(2);
        // A worker that waits runs pieces itself.
        assert_eq!(pool.apply(|| pool.imap(0..10, bad).unwrap().filter(Result::is_err).count()), Ok(1));
        panicked(3);
        pool.close();
        pool.join().unwrap();
        assert_eq!(pool.progress().submitted, pool.progress().finished);
    }
    // Nor does it matter that it is none of the workers: a full queue has the submitter run it.
    let pool = ThreadPool::builder().workers(1).queue_bound(1).when_full(WhenFull::CallerRuns).build().unwrap();
    let release = occupy(&pool);
    pool.spawn(|| ()).unwrap();
    assert_eq!(pool.imap(0..10, bad).unwrap().filter(Result::is_err).count(), 1);
    assert_eq!(pool.progress().panicked, 1);
    drop(release);
}

#[test]
fn every_task_runs_once_under_each_dispatch() {
    for dispatch in ALL {
        for workers in [1, 2, 4] {
            let pool = ThreadPool::builder().workers(workers).dispatch(dispatch).build().unwrap();
            let runs: Arc<Vec<AtomicUsize>> = Arc::new((0..20_000).map(|_| AtomicUsize::new(0)).collect());
            thread::scope(|scope| {
                for half in 0..2 {
                    let (pool, runs) = (&pool, &runs);
                    scope.spawn(move || {
                        for number in (0..20_000).filter(|number| number % 2 == half) {
                            let runs = Arc::clone(runs);
                            pool.spawn(move || bump(&runs[number])).unwrap();
                        }
                    });
                }
            });
            pool.close();
            pool.join().unwrap();
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{dispatch:?}, {workers} workers");
            let progress = pool.progress();
            assert_eq!((progress.submitted, progress.finished, progress.cancelled), (20_000, 20_000, 0));
            let stats = pool.worker_stats();
            assert_eq!(stats.iter().map(|worker| worker.run).sum::<u64>(), 20_000);
        }
    }
}

#[test]
fn tasks_submitted_by_tasks_run_too() {
    for dispatch in ALL {
        let pool = Arc::new(ThreadPool::builder().workers(3).dispatch(dispatch).build().unwrap());
        let ended = Arc::new(AtomicUsize::new(0));
        fn grow(pool: &Arc<ThreadPool>, ended: &Arc<AtomicUsize>, depth: usize) {
            for _ in 0..if depth == 0 { 0 } else { 4 } {
                let (pool_, ended_) = (Arc::clone(pool), Arc::clone(ended));
                pool.spawn(move || grow(&pool_, &ended_, depth - 1)).unwrap();
            }
            ended.fetch_add(1, Ordering::Relaxed);
        }
        grow(&pool, &ended, 6);
        let all = (0..=6).map(|level| 4_usize.pow(level)).sum::<usize>();
        let start = Instant::now();
        while ended.load(Ordering::Relaxed) < all && start.elapsed() < LONG {
            thread::yield_now();
        }
        assert_eq!(ended.load(Ordering::Relaxed), all, "{dispatch:?}");
        while Arc::strong_count(&pool) > 1 {
            thread::yield_now();
        }
    }
}

#[test]
fn results_come_back() {
    for dispatch in ALL {
        let pool = ThreadPool::builder().workers(2).dispatch(dispatch).build().unwrap();
        assert_eq!(pool.apply(|| 6 * 7).unwrap(), 42);
        let text = String::from("borrowed");
        assert_eq!(pool.apply(|| text.len()).unwrap(), 8);
        let handles: Vec<_> = (0..1000_u64).map(|n| pool.apply_async(move || vec![n; 3]).unwrap()).collect();
        for (n, handle) in handles.iter().enumerate() {
            assert_eq!(handle.join().unwrap(), vec![n as u64; 3]);
            assert!(handle.is_finished());
        }
    }
}

#[test]
fn closures_and_results_of_every_size_come_through() {
    let pool = pool(2);
    macro_rules! sizes {
        ($($size:literal)*) => {$(
            let bytes = [7_u8; $size];
            let handle = pool.apply_async(move || bytes).unwrap();
            assert_eq!(handle.join().unwrap(), [7; $size]);
            let (tell, hear) = mpsc::channel();
            pool.spawn(move || tell.send(bytes).unwrap()).unwrap();
            assert_eq!(hear.recv_timeout(LONG).unwrap(), [7; $size]);
            assert_eq!(pool.apply(move || bytes).unwrap(), [7; $size]);
        )*};
    }
    sizes!(0 1 24 32 33 48 88 96 97 112 200 224 256 300 5000);
    #[repr(align(256))]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Aligned(u8);
    let value = Aligned(3);
    let handle = pool.apply_async(move || (value, (&raw const value).addr() % 256)).unwrap();
    assert_eq!(handle.join().unwrap(), (Aligned(3), 0));
}

#[test]
fn a_panic_is_its_callers_error_and_the_worker_lives_on() {
    let pool = pool(1);
    let worker = pool.apply(|| thread::current().id()).unwrap();
    let panicked = |error| match error {
        TaskError::Panicked { message, .. } => message,
        other => panic!("{other}"),
    };
    assert_eq!(panicked(pool.apply::<_, ()>(|| panic!("one {}", 1)).unwrap_err()), "one 1");
    assert_eq!(panicked(pool.apply_async::<_, ()>(|| panic!("two")).unwrap().join().unwrap_err()), "two");
    let odd = pool.apply::<_, ()>(|| std::panic::panic_any(17)).unwrap_err();
    assert_eq!(panicked(odd), "a value that is no text");
    pool.spawn(|| panic!("nobody hears this")).unwrap();
    assert_eq!(pool.apply(|| thread::current().id()).unwrap(), worker);
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.progress().panicked, 4);
}

/// Panics when it is dropped.
struct Grumpy;
impl Drop for Grumpy {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("dropped");
        }
    }
}

#[test]
fn what_panics_when_it_is_dropped_harms_nobody() {
    let pool = pool(1);
    // A closure that is dropped by its run, a result that nobody takes, a cancelled closure, a payload.
    let grumpy = Grumpy;
    pool.spawn(move || drop(grumpy)).unwrap();
    drop(pool.apply_async(|| Grumpy).unwrap());
    let go = occupy(&pool);
    let grumpy = Grumpy;
    let cancelled = pool.apply_async(move || drop(grumpy)).unwrap();
    assert!(cancelled.cancel());
    drop(go);
    pool.spawn(|| std::panic::panic_any(Grumpy)).unwrap();
    assert_eq!(pool.apply(|| 5).unwrap(), 5);
    let grumpy = Grumpy;
    let go = occupy(&pool);
    pool.spawn(move || drop(grumpy)).unwrap();
    pool.terminate();
    drop(go);
    pool.join().unwrap();
}

#[test]
fn callbacks_hear_results_and_panics() {
    let pool = pool(2);
    let (tell, hear) = mpsc::channel();
    let good = tell.clone();
    pool.apply_async_then(|| 6 * 7, move |result| good.send(result).unwrap()).unwrap();
    assert_eq!(hear.recv_timeout(LONG).unwrap(), Ok(42));
    let bad = tell.clone();
    pool.apply_async_then(|| panic!("no"), move |result: Result<i32, _>| bad.send(result).unwrap()).unwrap();
    assert!(matches!(hear.recv_timeout(LONG).unwrap(), Err(TaskError::Panicked { message, .. }) if message == "no"));
    pool.apply_async_then(|| 1, |_| panic!("the callback")).unwrap();
    assert_eq!(pool.apply(|| 2).unwrap(), 2);
    // Terminated before it ran: it hears that too.
    let pool = ThreadPool::builder().workers(1).build().unwrap();
    let go = occupy(&pool);
    pool.apply_async_then(|| 3, move |result| tell.send(result).unwrap()).unwrap();
    pool.terminate();
    assert_eq!(hear.recv_timeout(LONG).unwrap(), Err(TaskError::Cancelled));
    drop(go);
    // Refused: it is dropped, not called.
    let called = Arc::new(AtomicBool::new(false));
    let calls = Arc::clone(&called);
    assert_eq!(pool.apply_async_then(|| 1, move |_| calls.store(true, Ordering::Relaxed)), Err(PoolError::Closed));
    assert!(!called.load(Ordering::Relaxed) && Arc::strong_count(&called) == 1);
}

#[test]
fn a_task_is_cancelled_only_before_it_starts() {
    let pool = pool(1);
    let go = occupy(&pool);
    let ran = Arc::new(AtomicBool::new(false));
    let runs = Arc::clone(&ran);
    let queued = pool.apply_async(move || runs.store(true, Ordering::Relaxed)).unwrap();
    assert!(!queued.is_finished());
    assert!(queued.cancel());
    assert!(queued.is_finished());
    assert_eq!(Arc::strong_count(&ran), 1, "its closure was dropped at once");
    assert!(!queued.cancel(), "once");
    assert_eq!(queued.join(), Err(TaskError::Cancelled));
    drop(go);
    let done = pool.apply_async(|| 1).unwrap();
    while !done.is_finished() {
        thread::yield_now();
    }
    assert!(!done.cancel());
    assert_eq!(done.join(), Ok(1));
    assert_eq!(pool.apply(|| 2), Ok(2));
    assert!(!ran.load(Ordering::Relaxed));
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.progress().cancelled, 1);
}

#[test]
fn a_handle_is_joined_once_and_may_be_dropped() {
    let pool = pool(1);
    let handle = pool.apply_async(|| String::from("mine")).unwrap();
    assert_eq!(handle.join().unwrap(), "mine");
    assert_eq!(handle.join(), Err(TaskError::AlreadyJoined));
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = Arc::clone(&ran);
        drop(pool.apply_async(move || ran.fetch_add(1, Ordering::Relaxed)).unwrap());
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 100, "dropping a handle detaches its task");
    // A handle outlives its pool.
    let handle = {
        let pool = ThreadPool::builder().workers(1).build().unwrap();
        pool.apply_async(|| 9).unwrap()
    };
    assert_eq!(handle.join(), Ok(9));
}

#[test]
fn a_join_with_a_time_limit_can_be_repeated() {
    let pool = pool(1);
    let go = occupy(&pool);
    let handle = pool.apply_async(|| 3).unwrap();
    assert_eq!(handle.join_timeout(Duration::from_millis(5)), Err(TaskError::TimedOut));
    assert_eq!(handle.join_timeout(Duration::ZERO), Err(TaskError::TimedOut));
    drop(go);
    assert_eq!(handle.join_timeout(Duration::MAX), Ok(3));
    assert_eq!(handle.join_timeout(Duration::MAX), Err(TaskError::AlreadyJoined));
}

struct Unpark(thread::Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

#[test]
fn a_handle_is_a_future() {
    let pool = Arc::new(pool(1));
    for n in 0..500 {
        let handle = pool.apply_async(move || n).unwrap();
        assert_eq!(block_on(handle), Ok(n));
    }
    // Polled with one waker and then another: the last is woken.
    let go = occupy(&pool);
    let mut handle = pool.apply_async(|| 1).unwrap();
    let noop = Waker::noop();
    assert!(pin!(&mut handle).poll(&mut Context::from_waker(noop)).is_pending());
    drop(go);
    assert_eq!(block_on(&mut handle), Ok(1));
    assert_eq!(block_on(&mut handle), Err(TaskError::AlreadyJoined));
    // Dropped while its waker waits.
    let go = occupy(&pool);
    let mut handle = pool.apply_async(|| 1).unwrap();
    let count = Arc::new(Unpark(thread::current()));
    let waker = Waker::from(Arc::clone(&count));
    assert!(pin!(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    drop((handle, waker, go));
    pool.apply(|| ()).unwrap();
    assert_eq!(Arc::strong_count(&count), 1, "the waker was dropped");
    // Awaited inside its own pool of one worker: it is run there.
    let inner = Arc::clone(&pool);
    assert_eq!(pool.apply(move || block_on(inner.apply_async(|| 8).unwrap())).unwrap(), Ok(8));
}

#[test]
fn waiting_inside_a_task_of_the_same_pool_helps() {
    for dispatch in ALL {
        let pool = ThreadPool::builder().workers(1).dispatch(dispatch).build().unwrap();
        let sum = pool.apply(|| {
            let inner = pool.apply(|| 1).unwrap();
            let handles: Vec<_> = (0..10).map(|n| pool.apply_async(move || n).unwrap()).collect();
            let handles = handles.iter().map(|handle| handle.join().unwrap()).sum::<i32>();
            let map = pool.map(0..100, |n| n).unwrap().iter().sum::<i32>();
            let imap = pool.imap(0..100, |n| n).unwrap().map(Result::unwrap).sum::<i32>();
            let any = pool.imap_unordered(0..100, |n| n).unwrap().map(Result::unwrap).sum::<i32>();
            let mut scoped = [0; 10];
            pool.scope(|s| scoped.iter_mut().for_each(|place| s.spawn(|| *place = 1)));
            let (a, b) = pool.fork_join(|| 1, || 2);
            inner + handles + map + imap + any + scoped.iter().sum::<i32>() + a + b
        });
        assert_eq!(sum.unwrap(), 1 + 45 + 3 * 4950 + 10 + 3, "{dispatch:?}");
    }
}

#[test]
fn a_waiting_worker_never_runs_a_strangers_task() {
    // Each task holds a lock while it waits for a task of its own: if it ran another one meanwhile, that one would want
    // the same lock on the same thread.
    let pool = pool(2);
    let lock = Mutex::new(0);
    let nested = || {
        let mut guard = lock.lock().unwrap();
        let handle = pool.apply_async(|| 1).unwrap();
        *guard += handle.join().unwrap();
        pool.scope(|s| s.spawn(thread::yield_now));
        *guard += pool.map(0..4, |_| 1).unwrap().len();
    };
    pool.scope(|s| (0..200).for_each(|_| s.spawn(nested)));
    assert_eq!(*lock.lock().unwrap(), 1000);
}

#[test]
fn the_fifth_task_waits_for_one_of_four_workers() {
    let pool = pool(4);
    let gate = Arc::new(Barrier::new(5));
    let ids: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
    for _ in 0..4 {
        let (gate, ids) = (Arc::clone(&gate), Arc::clone(&ids));
        pool.spawn(move || {
            ids.lock().unwrap().insert(thread::current().id());
            gate.wait();
            gate.wait();
        })
        .unwrap();
    }
    gate.wait();
    assert_eq!(ids.lock().unwrap().len(), 4, "four at once, each on its own");
    let fifth = pool.apply_async(|| thread::current().id()).unwrap();
    assert_eq!(fifth.join_timeout(Duration::from_millis(20)), Err(TaskError::TimedOut));
    assert_eq!(pool.queued(), 1);
    gate.wait();
    assert!(ids.lock().unwrap().contains(&fifth.join().unwrap()));
}

#[test]
fn maps_keep_the_order_and_borrow() {
    let pool = pool(3);
    let factor = 3_u64;
    for count in [0, 1, 2, 7, 1000, 100_000] {
        for chunk in [0, 1, 3, 1 << 20] {
            let mapped = pool.map_with(MapOptions::new().chunk_size(chunk), 0..count, |n| n * factor).unwrap();
            assert!(mapped.iter().copied().eq((0..count).map(|n| n * 3)), "{count} items by {chunk}");
        }
    }
    let words = ["a", "bc", "def"].map(String::from);
    assert_eq!(pool.map(&words, |word| word.len()).unwrap(), [1, 2, 3]);
    assert_eq!(pool.map(vec![(1, 2), (3, 4)], |(a, b)| a * b).unwrap(), [2, 12], "several arguments");
    assert_eq!(pool.map(vec![(); 5], |()| ()).unwrap().len(), 5);
    let imap: Vec<_> = pool.imap(0..1000, move |n| n * factor).unwrap().map(Result::unwrap).collect();
    assert!(imap.iter().copied().eq((0..1000).map(|n| n * 3)));
    for chunk in [1, 7] {
        let options = MapOptions::new().chunk_size(chunk);
        let mut any: Vec<_> = pool.imap_unordered_with(options, 0..1000, |n| n).unwrap().map(Result::unwrap).collect();
        any.sort();
        assert!(any.into_iter().eq(0..1000));
        let imap: Vec<_> = pool.imap_with(options, 0..1000, |n| n).unwrap().map(Result::unwrap).collect();
        assert!(imap.into_iter().eq(0..1000));
    }
    // Lazily: an endless iterator is fine.
    assert_eq!(pool.imap(0_u64.., |n| n * 2).unwrap().nth(1000).unwrap(), Ok(2000));
    assert_eq!(pool.imap_unordered(std::iter::repeat(1), |n| n).unwrap().nth(1000).unwrap(), Ok(1));
}

/// Counts how many of it live.
#[derive(Debug)]
struct Counted<'a>(&'a AtomicUsize);
impl<'a> Counted<'a> {
    fn new(live: &'a AtomicUsize) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(live)
    }
}
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_map_that_panics_ends_early_and_drops_everything_once() {
    let pool = pool(3);
    let live = AtomicUsize::new(0);
    for bad in [0, 1, 500, 998, 999] {
        for chunk in [0, 1, 10, 5000] {
            let items: Vec<_> = (0..1000).map(|n| (n, Counted::new(&live))).collect();
            let result = pool.map_with(MapOptions::new().chunk_size(chunk), items, |(n, item)| {
                assert!(n != bad, "item {n}");
                (item, Counted::new(&live))
            });
            assert!(matches!(result, Err(TaskError::Panicked { message, .. }) if message == format!("item {bad}")));
            assert_eq!(live.load(Ordering::Relaxed), 0, "bad {bad}, chunk {chunk}");
        }
    }
    // All panic.
    let items: Vec<_> = (0..1000).map(|_| Counted::new(&live)).collect();
    assert!(pool.map(items, |_| panic!("all")).map(|all: Vec<()>| all).is_err());
    assert_eq!(live.load(Ordering::Relaxed), 0);
    // In imap the others go on.
    let results: Vec<_> = pool.imap(0..10, |n| assert!(n != 4, "four")).unwrap().collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 9);
    assert!(matches!(&results[4], Err(TaskError::Panicked { message, .. }) if message == "four"));
    let errors = pool.imap_unordered(0..10, |n| assert!(n != 4)).unwrap().filter(Result::is_err).count();
    assert_eq!(errors, 1);
    // A panicking iterator is the caller's own panic.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.map((0..10).inspect(|n| assert!(*n < 5, "the iterator")), |n| n)
    }));
    assert!(caught.is_err());
    assert_eq!(pool.apply(|| 1), Ok(1));
}

#[test]
fn a_map_does_not_wait_for_workers_that_are_busy() {
    let pool = pool(2);
    let go = occupy(&pool);
    assert_eq!(pool.map(0..1000, |n| n + 1).unwrap()[999], 1000);
    drop(go);
}

#[test]
fn scopes_borrow_and_nest() {
    let pool = pool(3);
    let mut sums = vec![0_u64; 100];
    let result = pool.scope(|s| {
        for (n, sum) in sums.iter_mut().enumerate() {
            s.spawn(move || {
                *sum = n as u64;
            });
        }
        "result"
    });
    assert_eq!((result, sums.iter().sum()), ("result", 4950_u64));
    let count = AtomicUsize::new(0);
    pool.scope(|s| {
        for _ in 0..50 {
            s.spawn(|| {
                for _ in 0..50 {
                    s.spawn(|| bump(&count));
                }
                pool.scope(|inner| (0..50).for_each(|_| inner.spawn(|| bump(&count))));
            });
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 5000);
}

#[test]
fn a_panic_in_a_scope_goes_on_in_its_caller_after_all_has_ended() {
    let pool = pool(2);
    let ended = AtomicUsize::new(0);
    let text = |payload: Box<dyn std::any::Any + Send>| *payload.downcast_ref::<&str>().unwrap();
    let scope = |body: bool, task: bool| {
        ended.store(0, Ordering::Relaxed);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.scope(|s| {
                for n in 0..100 {
                    let ended = &ended;
                    s.spawn(move || {
                        ended.fetch_add(1, Ordering::Relaxed);
                        if task && n == 50 {
                            panic!("task");
                        }
                    });
                }
                if body {
                    panic!("body");
                }
            });
        }));
        assert_eq!(ended.load(Ordering::Relaxed), 100);
        caught
    };
    assert_eq!(text(scope(true, true).unwrap_err()), "body");
    assert_eq!(text(scope(true, false).unwrap_err()), "body");
    assert_eq!(text(scope(false, true).unwrap_err()), "task");
    scope(false, false).unwrap();
}

fn fib(pool: &ThreadPool, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = pool.fork_join(|| fib(pool, n - 1), || fib(pool, n - 2));
    a + b
}

#[test]
fn forks_join() {
    for dispatch in ALL {
        for workers in [1, 2, 4] {
            let pool = ThreadPool::builder().workers(workers).dispatch(dispatch).build().unwrap();
            assert_eq!(fib(&pool, 24), 46_368);
            assert_eq!(pool.apply(|| fib(&pool, 20)).unwrap(), 6765);
            pool.close();
            assert_eq!(fib(&pool, 15), 610, "on a closed pool the caller does it");
        }
    }
}

#[test]
fn both_halves_of_a_fork_run_at_once_when_a_worker_is_idle() {
    let pool = pool(2);
    // Neither ends before both have begun.
    let meet = Barrier::new(2);
    let (a, b) = pool.fork_join(
        || {
            meet.wait();
            thread::current().id()
        },
        || {
            meet.wait();
            thread::current().id()
        },
    );
    assert_eq!(a, thread::current().id());
    assert_ne!(a, b);
    // A tree of four.
    let pool = ThreadPool::builder().workers(4).build().unwrap();
    let meet = Barrier::new(4);
    let leaf = || {
        meet.wait();
    };
    let pair = || pool.fork_join(leaf, leaf);
    pool.fork_join(pair, pair);
}

#[test]
fn deep_forks_are_done() {
    fn down(pool: &ThreadPool, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let (rest, one) = pool.fork_join(|| down(pool, depth - 1), || 1);
        rest + one
    }
    let pool = pool(2);
    assert_eq!(down(&pool, 1000), 1000);
}

#[test]
fn a_panic_in_a_fork_goes_on_in_its_caller_after_both_have_ended() {
    let pool = pool(2);
    let caught = |a: bool, b: bool| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let both = || {
                pool.fork_join(
                    || {
                        thread::sleep(Duration::from_millis(2));
                        if a {
                            panic!("a");
                        }
                    },
                    || {
                        if b {
                            panic!("b");
                        }
                    },
                )
            };
            pool.fork_join(both, || thread::sleep(Duration::from_millis(1)))
        }));
        result.map(drop).map_err(|payload| *payload.downcast_ref::<&str>().unwrap())
    };
    for _ in 0..20 {
        assert_eq!(caught(true, false), Err("a"));
        assert_eq!(caught(false, true), Err("b"));
        assert_eq!(caught(true, true), Err("a"));
        assert_eq!(caught(false, false), Ok(()));
    }
    assert_eq!(fib(&pool, 15), 610);
}

#[test]
fn many_threads_fork_in_one_pool() {
    let pool = pool(2);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(fib(&pool, 16), 987)));
        }
    });
    let other = ThreadPool::builder().workers(2).build().unwrap();
    let (a, b) = pool.fork_join(|| fib(&other, 18), || pool.fork_join(|| fib(&other, 17), || fib(&pool, 16)));
    assert_eq!((a, b), (2584, (1597, 987)));
}

#[test]
fn a_bounded_queue_fails_when_full() {
    for dispatch in ALL {
        let pool = ThreadPool::builder()
            .workers(1)
            .dispatch(dispatch)
            .queue_bound(3)
            .when_full(WhenFull::Fail)
            .build()
            .unwrap();
        let go = occupy(&pool);
        let handles: Vec<_> = (0..3).map(|n| pool.apply_async(move || n).unwrap()).collect();
        assert_eq!(pool.spawn(|| ()), Err(PoolError::Full { bound: 3 }));
        assert_eq!(pool.apply(|| ()), Err(TaskError::Pool(PoolError::Full { bound: 3 })));
        drop(go);
        assert!(handles.iter().map(|handle| handle.join().unwrap()).eq(0..3));
        assert_eq!(pool.progress().submitted, 4, "what was refused is not counted");
    }
}

#[test]
fn a_bounded_queue_makes_submitters_wait() {
    let pool = ThreadPool::builder().workers(2).queue_bound(2).build().unwrap();
    let most = AtomicUsize::new(0);
    let ran = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let ran = Arc::clone(&ran);
                    pool.spawn(move || bump(&ran)).unwrap();
                    most.fetch_max(pool.queued(), Ordering::Relaxed);
                }
            });
        }
    });
    // A worker does not wait for its own pool's room.
    pool.apply(|| (0..100).for_each(|_| pool.spawn(|| ()).unwrap())).unwrap();
    // Waiting submitters hear that the pool has closed.
    let go = (occupy(&pool), occupy(&pool));
    (0..2).for_each(|_| pool.spawn(|| ()).unwrap());
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.spawn(|| ()));
        thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished());
        pool.close();
        assert_eq!(waits.join().unwrap(), Err(PoolError::Closed));
    });
    drop(go);
    pool.join().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 6000);
    assert!(most.load(Ordering::Relaxed) <= 2, "{most:?} were queued");
}

#[test]
fn a_bounded_queue_has_the_caller_run_what_does_not_fit() {
    let pool = ThreadPool::builder().workers(1).queue_bound(1).when_full(WhenFull::CallerRuns).build().unwrap();
    let go = occupy(&pool);
    let queued = pool.apply_async(|| thread::current().id()).unwrap();
    let here = pool.apply_async(|| thread::current().id()).unwrap();
    assert!(here.is_finished());
    assert_eq!(here.join().unwrap(), thread::current().id());
    assert!(matches!(pool.apply_async(|| panic!("here")).unwrap().join(), Err::<(), _>(TaskError::Panicked { .. })));
    drop(go);
    assert_ne!(queued.join().unwrap(), thread::current().id());
    pool.close();
    pool.join().unwrap();
    let progress = pool.progress();
    assert_eq!((progress.submitted, progress.finished, progress.panicked), (4, 4, 1));
}

#[test]
fn a_million_tasks_wait_in_a_queue() {
    let pool = pool(1);
    let go = occupy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..1_000_000 {
        let ran = Arc::clone(&ran);
        pool.spawn(move || bump(&ran)).unwrap();
    }
    assert_eq!(pool.queued(), 1_000_000);
    drop(go);
    pool.close();
    pool.join().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 1_000_000);
}
