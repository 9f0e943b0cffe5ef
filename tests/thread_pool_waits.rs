//! Programs in which somebody waits: for room, for results, for the pool's end. Each runs in a thread of its own, so that a
//! wait without end fails its test.
#![cfg(feature = "thread")]

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use millpond::thread::{ImapUnordered, MapOptions, ThreadPool};
use millpond::{Dispatch, PoolError, TaskError, WhenFull};

#[path = "common/pools.rs"]
mod pools;

use pools::{LONG, bump, occupy, pool};

/// Runs a program to its end, or fails.
fn ends(program: impl FnOnce() + Send + 'static) {
    let (tell, hear) = mpsc::channel();
    let thread = thread::spawn(move || {
        program();
        tell.send(()).unwrap();
    });
    match hear.recv_timeout(LONG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it waits for ever"),
        _ => thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)),
    }
}

#[test]
fn a_callback_of_a_discarded_task_may_terminate_and_join_its_pool() {
    ends(|| {
        let pool = Arc::new(pool(1));
        let go = occupy(&pool);
        let (tell, hear) = mpsc::channel();
        for joins in [false, true] {
            let (inner, tell) = (Arc::clone(&pool), tell.clone());
            let mut go = joins.then(|| go.clone());
            let then = move |result: Result<(), TaskError>| {
                inner.terminate();
                if joins {
                    // Nobody else holds the worker any more: it ends, though this thread still discards.
                    drop(go.take());
                    inner.join().unwrap();
                }
                tell.send(result).unwrap();
            };
            pool.apply_async_then(|| (), then).unwrap();
        }
        drop(go);
        pool.terminate();
        assert_eq!([(); 2].map(|()| hear.recv().unwrap()), [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
    });
}

#[test]
fn what_a_discarded_task_had_may_terminate_its_pool_when_it_is_dropped() {
    struct Last(Arc<ThreadPool>, Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.terminate();
            bump(&self.1);
        }
    }
    ends(|| {
        let pool = Arc::new(pool(1));
        let go = occupy(&pool);
        let dropped = Arc::new(AtomicUsize::new(0));
        let last = Last(Arc::clone(&pool), Arc::clone(&dropped));
        pool.spawn(move || drop(last)).unwrap();
        pool.terminate();
        drop(go);
        pool.join().unwrap();
        assert_eq!((dropped.load(Ordering::Relaxed), pool.progress().cancelled), (1, 1));
    });
}

#[test]
fn a_submitter_gets_the_room_of_the_worker_that_was_picked() {
    ends(|| {
        let pool = ThreadPool::builder().workers(3).dispatch(Dispatch::RoundRobin).queue_bound(1).build().unwrap();
        let pool = Arc::new(pool);
        let mut goes: Vec<_> = (0..3).map(|_| occupy(&pool)).collect();
        (0..3).for_each(|_| pool.spawn(|| ()).unwrap());
        let inner = Arc::clone(&pool);
        let (tell, hear) = mpsc::channel();
        let submitter = thread::spawn(move || tell.send(inner.spawn(|| ())).unwrap());
        // It waits for room in the first worker's queue by then, most likely.
        thread::sleep(Duration::from_millis(50));
        drop(goes.remove(0));
        assert_eq!(hear.recv_timeout(LONG), Ok(Ok(())), "while the others are still busy");
        submitter.join().unwrap();
        drop(goes);
    });
}

#[test]
fn a_full_queue_keeps_no_worker_from_a_scope_or_a_map() {
    ends(|| {
        let pool = ThreadPool::builder().workers(2).queue_bound(1).build().unwrap();
        let goes = [occupy(&pool), occupy(&pool)];
        pool.spawn(|| ()).unwrap();
        // Both have to run at once, so both workers have to come.
        let both = Barrier::new(2);
        pool.scope(|s| {
            s.spawn(|| _ = both.wait());
            s.spawn(|| _ = both.wait());
            drop(goes);
        });
    });
    ends(|| {
        let pool = ThreadPool::builder().workers(4).queue_bound(1).build().unwrap();
        let goes = [(); 4].map(|()| occupy(&pool));
        pool.spawn(|| ()).unwrap();
        let all = Barrier::new(4);
        thread::scope(|scope| {
            let map = scope.spawn(|| pool.map_with(MapOptions::new().chunk_size(1), 0..4, |_| _ = all.wait()));
            // It has begun by then, most likely: whenever it does, all workers have to come.
            thread::sleep(Duration::from_millis(20));
            drop(goes);
            map.join().unwrap().unwrap();
        });
    });
}

#[test]
fn what_makes_workers_come_to_a_scope_fills_no_queue() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin] {
        let builder = ThreadPool::builder().workers(1).dispatch(dispatch);
        let pool = builder.queue_bound(2).when_full(WhenFull::Fail).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let submit = || {
            let ran = Arc::clone(&ran);
            pool.apply_async(move || bump(&ran))
        };
        for round in 1..=3 {
            let go = occupy(&pool);
            pool.scope(|s| {
                let first = submit().unwrap();
                s.spawn(|| ());
                drop(submit().unwrap());
                assert_eq!(submit().map(drop), Err(PoolError::Full { bound: 2 }));
                // It stands before the ticket, which moves up.
                assert!(first.cancel());
                drop(submit().unwrap());
                assert_eq!(submit().map(drop), Err(PoolError::Full { bound: 2 }));
                drop(go);
            });
            // Behind the other two.
            while pool.apply(|| ()).is_err() {}
            assert_eq!(ran.load(Ordering::Relaxed), 2 * round);
        }
    }
}

#[test]
fn a_cancelled_task_fills_no_queue() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin] {
        let builder = ThreadPool::builder().workers(1).dispatch(dispatch);
        let pool = builder.queue_bound(3).when_full(WhenFull::Fail).build().unwrap();
        let go = occupy(&pool);
        let ran = Arc::new(AtomicUsize::new(0));
        let submit = || {
            let ran = Arc::clone(&ran);
            pool.apply_async(move || bump(&ran))
        };
        let full = PoolError::Full { bound: 3 };
        // The first, the second, the last of three; then all of them.
        let mut handles: Vec<_> = (0..3).map(|_| submit().unwrap()).collect();
        for place in 0..3 {
            assert_eq!(submit().map(drop), Err(full.clone()));
            assert!(handles.remove(place.min(handles.len() - 1)).cancel());
            handles.push(submit().unwrap());
        }
        assert!(handles.drain(..).all(|handle| handle.cancel()));
        handles.extend((0..3).map(|_| submit().unwrap()));
        assert_eq!(submit().map(drop), Err(full));
        drop(go);
        pool.close();
        pool.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 3);
        assert_eq!(pool.progress().to_string(), "4 of 10 tasks finished (0 panicked), 6 cancelled");
    }
}

#[test]
fn a_submitter_gets_the_room_of_a_task_that_is_cancelled() {
    ends(|| {
        let pool = Arc::new(ThreadPool::builder().workers(1).queue_bound(1).build().unwrap());
        let go = occupy(&pool);
        let handle = pool.apply_async(|| ()).unwrap();
        let inner = Arc::clone(&pool);
        let (tell, hear) = mpsc::channel();
        let submitter = thread::spawn(move || tell.send(inner.spawn(|| ())).unwrap());
        // It waits for room by then, most likely.
        thread::sleep(Duration::from_millis(50));
        assert!(handle.cancel());
        assert_eq!(hear.recv_timeout(LONG), Ok(Ok(())), "while the worker is still busy");
        submitter.join().unwrap();
        drop(go);
    });
}

#[test]
fn a_task_that_is_done_by_who_waits_for_it_fills_no_queue() {
    let pool = ThreadPool::builder().workers(1).queue_bound(2).when_full(WhenFull::Fail).build().unwrap();
    let by_handle =
        pool.apply(|| (0..9).map(|n| pool.apply_async(move || n).unwrap().join()).sum::<Result<usize, _>>());
    assert_eq!(by_handle, Ok(Ok(36)));
    let by_imap = pool.apply(|| pool.imap(0..9, |n| n).unwrap().sum::<Result<usize, _>>());
    assert_eq!(by_imap, Ok(Ok(36)));
    let as_they_come = pool.apply(|| pool.imap_unordered(0..9, |n| n).unwrap().sum::<Result<usize, _>>());
    assert_eq!(as_they_come, Ok(Ok(36)));
}

/// Tells that it was called, and wants the lock.
struct WantsTheLock(Arc<Mutex<()>>, mpsc::Sender<()>);

impl Wake for WantsTheLock {
    fn wake(self: Arc<Self>) {
        self.1.send(()).unwrap();
        let _lock = self.0.lock().unwrap();
    }
}

#[test]
fn a_waker_may_want_the_lock_that_is_held_by_who_joins() {
    ends(|| {
        let pool = pool(1);
        let (lock, (told, hear)) = (Arc::new(Mutex::new(())), mpsc::channel());
        let go = occupy(&pool);
        let mut handle = pool.apply_async(|| 7).unwrap();
        let waker = Waker::from(Arc::new(WantsTheLock(Arc::clone(&lock), told)));
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
        let held = lock.lock().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !format!("{handle:?}").contains("slept") {
                    thread::sleep(Duration::from_millis(1));
                }
                // The joiner is about to sleep, and soon does.
                thread::sleep(Duration::from_millis(50));
                drop(go);
            });
            assert_eq!(handle.join(), Ok(7));
        });
        hear.recv().unwrap();
        drop(held);
        pool.close();
        pool.join().unwrap();
    });
}

type Numbers<'pool> = ImapUnordered<'pool, Range<usize>, fn(usize) -> usize, usize>;

#[test]
fn results_as_they_come_may_be_waited_for_by_the_only_worker() {
    for taken_before in [0, 1, 3] {
        ends(move || {
            let pool = &*Box::leak(Box::new(pool(1)));
            let make = || pool.imap_unordered(0..10, (|n| n) as fn(usize) -> usize).unwrap();
            let (tell, hear) = mpsc::channel();
            let (give, given) = mpsc::channel::<Numbers<'_>>();
            let mut results = (taken_before > 0).then(make);
            let before: usize = results.iter_mut().flatten().take(taken_before).map(Result::unwrap).sum();
            let task = thread::spawn(move || {
                pool.apply(move || {
                    tell.send(()).unwrap();
                    given.recv().unwrap().map(Result::unwrap).sum::<usize>()
                })
            });
            hear.recv().unwrap();
            give.send(results.unwrap_or_else(make)).unwrap();
            assert_eq!(before + task.join().unwrap().unwrap(), 45);
        });
    }
}
