//! What is done to thread pools that nobody should do: each is a clear error, or somebody's own panic, and harms nobody.
#![cfg(feature = "thread")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Instant;

use millpond::thread::{MapOptions, ThreadPool};
use millpond::{PoolError, TaskError, WhenFull};

#[path = "common/pools.rs"]
mod pools;

use pools::{LONG, bump, occupy, pool};

/// Gives so many numbers, each with a pointer to the witness, and then panics.
fn giving_up<'a>(after: usize, witness: &'a Arc<()>) -> impl Iterator<Item = (usize, Arc<()>)> + 'a {
    let mut given = 0;
    std::iter::from_fn(move || {
        assert!(given < after, "no more than {after}");
        given += 1;
        Some((given - 1, Arc::clone(witness)))
    })
}

/// What a panic said.
fn said(work: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(work)).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_panic_of_an_iterator_is_its_callers_and_leaves_nothing_behind() {
    let pool = pool(2);
    let witness = Arc::new(());
    let ran = Arc::new(AtomicUsize::new(0));
    let before_anything_runs = said(|| {
        let _ = pool.map(giving_up(100, &witness), |_| bump(&ran));
    });
    assert_eq!(before_anything_runs, "no more than 100");
    assert_eq!(ran.load(Ordering::Relaxed), 0, "the iterator comes first");
    assert_eq!(Arc::strong_count(&witness), 1, "its items are dropped");

    // At once, since items are under way ahead; and later, when results have come already.
    for after in [3, 100] {
        let in_order = said(|| {
            let results = pool.imap(giving_up(after, &witness), |(n, _)| n).unwrap();
            results.enumerate().for_each(|(place, result)| assert_eq!(result, Ok(place)));
        });
        assert_eq!(in_order, format!("no more than {after}"));
        let as_they_come = said(|| {
            let results = pool.imap_unordered(giving_up(after, &witness), |(n, _)| n).unwrap();
            results.for_each(|result| assert!(result.is_ok_and(|n| n < after)));
        });
        assert_eq!(as_they_come, format!("no more than {after}"));
    }
    // What was under way ends by itself.
    pool.close();
    pool.join().unwrap();
    assert_eq!(Arc::strong_count(&witness), 1);
    assert_eq!(pool.progress().unfinished(), 0);
}

#[test]
fn two_threads_that_join_one_handle_get_one_result() {
    let pool = pool(1);
    for _ in 0..100 {
        let go = occupy(&pool);
        let handle = pool.apply_async(|| String::from("once")).unwrap();
        let gate = Barrier::new(3);
        let results = thread::scope(|scope| {
            let joined = [(); 2].map(|()| {
                scope.spawn(|| {
                    gate.wait();
                    handle.join()
                })
            });
            gate.wait();
            drop(go);
            joined.map(|thread| thread.join().unwrap())
        });
        assert_eq!(results.iter().filter(|result| matches!(result, Ok(text) if text == "once")).count(), 1);
        assert!(results.contains(&Err(TaskError::AlreadyJoined)), "{results:?}");
    }
}

/// Panics when it is dropped.
struct Grumpy(Arc<AtomicUsize>);
impl Drop for Grumpy {
    fn drop(&mut self) {
        bump(&self.0);
        if !thread::panicking() {
            panic!("dropped");
        }
    }
}

#[test]
fn callbacks_and_closures_that_panic_when_they_are_dropped_are_dropped_once() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let grumpy = || Grumpy(Arc::clone(&dropped));
    let pool = pool(1);
    // The callback's own value, the result that it is handed, and a closure beside it.
    let (closure, callback) = (grumpy(), grumpy());
    pool.apply_async_then(move || drop(closure), move |_| drop(callback)).unwrap();
    let result = grumpy();
    pool.apply_async_then(move || result, drop).unwrap();
    assert_eq!(pool.apply(|| 1), Ok(1));
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
    // Discarded: the callback is called, with what it has.
    let go = occupy(&pool);
    let (closure, callback) = (grumpy(), grumpy());
    pool.apply_async_then(move || drop(closure), move |_| drop(callback)).unwrap();
    pool.terminate();
    drop(go);
    pool.join().unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
    // Refused: dropped in the caller, whose panic it is not.
    let (closure, callback) = (grumpy(), grumpy());
    let refused = pool.apply_async_then(move || drop(closure), move |_| drop(callback));
    assert_eq!(refused, Err(PoolError::Closed));
    let closure = grumpy();
    assert_eq!(pool.spawn(move || drop(closure)), Err(PoolError::Closed));
    assert_eq!(dropped.load(Ordering::Relaxed), 8);
}

/// Panics when it is dropped, also by a panic: that ends the process.
struct Grumpier(Arc<AtomicUsize>);
impl Drop for Grumpier {
    fn drop(&mut self) {
        bump(&self.0);
        panic!("dropped");
    }
}

/// Runs a test's program in a child, since what it does wrong ends its process.
fn in_a_child(name: &str, program: impl FnOnce()) {
    const VARIABLE: &str = "MILLPOND_TEST_PROGRAM";
    if std::env::var_os(VARIABLE).is_some_and(|program| program == name) {
        return program();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(VARIABLE, name)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_a_scope_that_panics_leaves_may_panic_when_it_is_dropped() {
    in_a_child("what_a_scope_that_panics_leaves_may_panic_when_it_is_dropped", || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let grumpy = || Grumpier(Arc::clone(&dropped));
        let pool = pool(1);
        let said = |scope: &dyn Fn()| *catch_unwind(AssertUnwindSafe(scope)).unwrap_err().downcast::<&str>().unwrap();
        // The closure's value, which nobody gets.
        let by_a_task = said(&|| {
            pool.scope(|s| {
                s.spawn(|| panic!("task"));
                grumpy()
            });
        });
        assert_eq!((by_a_task, dropped.load(Ordering::Relaxed)), ("task", 1));
        // What a task panicked with, when the closure panicked too.
        let by_the_closure = said(&|| {
            let mine = grumpy();
            pool.scope(|s| {
                s.spawn(|| std::panic::panic_any(mine));
                panic!("closure");
            });
        });
        assert_eq!((by_the_closure, dropped.load(Ordering::Relaxed)), ("closure", 2));
    });
}

#[test]
fn what_a_piece_leaves_may_panic_when_it_is_dropped() {
    in_a_child("what_a_piece_leaves_may_panic_when_it_is_dropped", || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let items = || [None, Some(Grumpier(Arc::clone(&dropped))), Some(Grumpier(Arc::clone(&dropped)))];
        let pool = pool(1);
        let options = || MapOptions::new().chunk_size(3);
        let function = |_| -> () { panic!("function") };
        let panicked = |result: Result<(), _>| matches!(&result, Err(TaskError::Panicked { message, .. }) if message == "function");
        let mut in_order = pool.imap_with(options(), items(), function).unwrap();
        assert!(in_order.next().is_some_and(panicked) && in_order.next().is_none());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        let mut as_they_come = pool.imap_unordered_with(options(), items(), function).unwrap();
        assert!(as_they_come.next().is_some_and(panicked) && as_they_come.next().is_none());
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_pool_may_be_dropped_last_by_what_its_worker_keeps() {
    thread_local!(static KEPT: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) });
    in_a_child("a_pool_may_be_dropped_last_by_what_its_worker_keeps", || {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let pool = Arc::new(pool(1));
        let inner = Arc::clone(&pool);
        let (go, gone) = mpsc::channel::<()>();
        pool.spawn(move || {
            KEPT.set(Some(inner));
            let _ = gone.recv();
        })
        .unwrap();
        pool.close();
        drop((pool, go));
        let start = Instant::now();
        while threads() > before {
            assert!(start.elapsed() < LONG, "the worker never ends");
            thread::yield_now();
        }
    });
}

#[test]
fn a_task_of_a_closed_pool_can_submit_nothing_more() {
    for bound in [None, Some(1)] {
        let builder = ThreadPool::builder().workers(1).when_full(WhenFull::CallerRuns);
        let pool = bound.into_iter().fold(builder, |builder, bound| builder.queue_bound(bound)).build().unwrap();
        let pool = Arc::new(pool);
        let inner = Arc::clone(&pool);
        let go = occupy(&pool);
        let handle = pool
            .apply_async(move || {
                assert!(inner.is_closed());
                (inner.spawn(|| ()), inner.apply(|| 1), inner.apply_async(|| 2).map(drop), inner.map([3], |n| n))
            })
            .unwrap();
        pool.close();
        drop(go);
        let closed = TaskError::Pool(PoolError::Closed);
        let refused = (Err(PoolError::Closed), Err(closed.clone()), Err(PoolError::Closed), Err(closed));
        assert_eq!(handle.join().unwrap(), refused);
        pool.join().unwrap();
    }
}

/// As an ordinary user, who may have so many threads and not one more; in a child, which becomes one.
#[test]
fn a_users_limit_of_threads_is_an_error_and_no_thread_is_left() {
    const VARIABLE: &str = "MILLPOND_TEST_ORDINARY_USER";
    /// An ordinary user without threads, wherever the test is run by the root user.
    const SOMEBODY: u32 = 61_234;
    let name = "a_users_limit_of_threads_is_an_error_and_no_thread_is_left";
    if std::env::var_os(VARIABLE).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads", "1"])
            .env(VARIABLE, "1")
            .output()
            .unwrap();
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // SAFETY: asks who this process is.
    #[expect(unsafe_code, reason = "asks the system")]
    let root = unsafe { libc::geteuid() } == 0;
    // SAFETY: changes nothing but who this process is; the C library changes all its threads.
    #[expect(unsafe_code, reason = "becomes an ordinary user")]
    let ordinary = !root || unsafe { libc::setuid(SOMEBODY) } == 0;
    assert!(ordinary, "{}", std::io::Error::last_os_error());
    let limit = |threads| {
        let limit = libc::rlimit { rlim_cur: threads, rlim_max: threads };
        // SAFETY: the system reads the limit.
        #[expect(unsafe_code, reason = "sets a limit")]
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    limit(before as u64 + 2);
    let error = ThreadPool::builder().workers(4).build().map(drop).unwrap_err();
    let PoolError::StartFailed { worker, workers: 4, code: Some(libc::EAGAIN) } = error else { panic!("{error}") };
    assert!(worker <= 2, "worker {worker}");
    assert!(error.to_string().starts_with(&format!("the system gave no thread for worker {worker} of 4: ")), "{error}");
    // A thread is counted until the system has done with it, a little after it was joined.
    while threads() > before {
        thread::yield_now();
    }
    let error = ThreadPool::builder().workers(1).nice(-20).build().map(drop).unwrap_err();
    assert!(matches!(error, PoolError::NiceRefused { nice: -20, code: Some(_) } | PoolError::StartFailed { .. }));
}
