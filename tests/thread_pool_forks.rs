//! Thread pools in a process that was forked from the one that made them, without becoming another program. An alarm turns
//! a copy that hangs into a failure.
#![expect(unsafe_code, reason = "forks")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millpond::thread::{MapOptions, ThreadPool};
use millpond::{Dispatch, PoolError, TaskError};

const SECONDS: u32 = 20;
const FORKED: PoolError = PoolError::Forked;
const FORKED_TASK: TaskError = TaskError::Pool(PoolError::Forked);

/// Forks. In the copy: a timer runs that ends it.
fn fork() -> i32 {
    // SAFETY: the copy makes no use of what other threads may hold, but for what is tested here.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: sets a timer.
        unsafe { libc::alarm(SECONDS) };
    }
    pid
}

/// Ends a copy at once.
fn end(good: bool) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(i32::from(!good)) }
}

/// Waits for a copy.
fn expect_good(pid: i32) {
    let mut status = 0;
    // SAFETY: waits for a child of ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "14: it hangs; 256: something is not as it must be (see above)");
}

/// In a copy: whether it is so; if not, says what is not.
fn must(what: &str, holds: bool) -> bool {
    if !holds {
        eprintln!("in the copy: {what}");
    }
    holds
}

/// Does it in a copy, which must say that all is well.
fn in_copy(work: impl FnOnce() -> bool) {
    let pid = fork();
    if pid == 0 {
        end(catch_unwind(AssertUnwindSafe(work)).unwrap_or(false));
    }
    expect_good(pid);
}

fn fib(pool: &ThreadPool, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = pool.fork_join(|| fib(pool, n - 1), || fib(pool, n - 2));
    a + b
}

/// All that a copy may ask of its parent's pool, and then drops it.
fn asks_for_everything(pool: ThreadPool) -> bool {
    let mut ran = [false; 2];
    let [one, other] = &mut ran;
    pool.scope(|s| {
        s.spawn(|| *one = true);
        s.spawn(|| *other = true);
    });
    let good = [
        must("scope", ran == [true; 2]),
        must("fork_join", fib(&pool, 18) == 2584),
        must("is_closed", pool.is_closed()),
        must("spawn", pool.spawn(|| ()) == Err(FORKED)),
        must("apply", pool.apply(|| 1) == Err(FORKED_TASK)),
        must("apply_async", pool.apply_async(|| 1).err() == Some(FORKED)),
        must("apply_async_then", pool.apply_async_then(|| 1, |_| ()) == Err(FORKED)),
        must("map", pool.map(0..9, |n| n) == Err(FORKED_TASK)),
        must("imap", pool.imap(0..9, |n| n).err() == Some(FORKED)),
        must("imap_unordered", pool.imap_unordered(0..9, |n| n).err() == Some(FORKED)),
        must("join", pool.join() == Err(FORKED)),
        must("terminate_timeout", pool.terminate_timeout(Duration::MAX) == Err(FORKED)),
        must("current_worker", pool.current_worker().is_none()),
    ];
    pool.terminate();
    pool.close();
    drop(pool);
    good == [true; 13]
}

#[test]
fn what_submits_or_waits_in_a_copy_says_so_and_dropping_does_nothing() {
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        for bound in [None, Some(2)] {
            let mut builder = ThreadPool::builder().workers(2).dispatch(dispatch);
            if let Some(bound) = bound {
                builder = builder.queue_bound(bound);
            }
            let mut pool = Some(builder.build().unwrap());
            pool.as_ref().unwrap().map(0..100, |n| n).unwrap();
            in_copy(|| asks_for_everything(pool.take().unwrap()));
            let pool = pool.unwrap();
            assert_eq!(pool.apply(|| 1), Ok(1));
        }
    }
}

#[test]
fn a_copy_makes_pools_of_its_own() {
    let theirs = ThreadPool::builder().workers(2).build().unwrap();
    theirs.apply(|| ()).unwrap();
    in_copy(|| {
        let own = ThreadPool::builder().workers(2).queue_bound(4).build().unwrap();
        let good = must("a pool of its own", own.map(0..3, |n| n) == Ok(vec![0, 1, 2]) && own.apply(|| 1) == Ok(1));
        let mut own = Some(own);
        in_copy(|| asks_for_everything(own.take().unwrap()));
        drop(own);
        good && must("its parent's pool", theirs.apply(|| 1) == Err(FORKED_TASK))
    });
}

/// A pool whose only worker is at a task until the sender is dropped.
fn busy() -> (ThreadPool, Sender<()>) {
    let pool = ThreadPool::builder().workers(1).build().unwrap();
    let (over, end) = channel::<()>();
    let (begin, begun) = channel();
    pool.spawn(move || {
        begin.send(()).unwrap();
        let _ = end.recv();
    })
    .unwrap();
    begun.recv().unwrap();
    (pool, over)
}

#[test]
fn a_copy_waits_for_no_task_that_was_submitted_before() {
    let (pool, over) = busy();
    let mut waiting: Vec<_> = (0..4).map(|n| pool.apply_async(move || n).unwrap()).collect();
    let mut in_order = pool.imap(0..3, |n| n).unwrap();
    let mut as_they_come = pool.imap_unordered(0..3, |n| n).unwrap();
    in_copy(|| {
        let polled = Pin::new(&mut waiting[0]).poll(&mut Context::from_waker(Waker::noop()));
        let good = [
            must("poll", polled == Poll::Ready(Err(FORKED_TASK))),
            must("join", waiting[1].join() == Err(FORKED_TASK)),
            must("join_timeout", waiting[2].join_timeout(Duration::MAX) == Err(FORKED_TASK)),
            must("cancel", waiting[3].cancel() && waiting[3].join() == Err(TaskError::Cancelled)),
            must("imap", in_order.by_ref().take(20).all(|result| result == Err(FORKED_TASK))),
            must("the end of imap", in_order.next().is_none()),
            must("imap_unordered", as_they_come.next() == Some(Err(FORKED_TASK)) && as_they_come.next().is_none()),
        ];
        good == [true; 7]
    });
    drop(over);
    assert!(waiting.iter().map(|handle| handle.join().unwrap()).eq(0..4));
    let done = pool.apply_async(|| 5).unwrap();
    while !done.is_finished() {
        std::thread::yield_now();
    }
    in_copy(|| must("a task that had ended", done.join() == Ok(5)));
    assert_eq!((in_order.count(), as_they_come.count()), (3, 3));
}

/// Whether it panicked and said that this is a copy.
fn says_so(result: std::thread::Result<()>) -> bool {
    result.is_err_and(|said| said.downcast_ref::<String>().is_some_and(|said| said.contains("forked copy")))
}

/// A task of the pool that is at work until the sender is dropped, and says that it has begun.
fn long_task() -> (impl FnOnce() + Send, Receiver<()>, Sender<()>) {
    let (over, end) = channel::<()>();
    let (begin, begun) = channel();
    let task = move || {
        begin.send(()).unwrap();
        let _ = end.recv();
    };
    (task, begun, over)
}

#[test]
fn a_copy_forked_in_a_scope_does_not_wait_for_its_tasks() {
    let pool = ThreadPool::builder().workers(1).build().unwrap();
    let (task, begun, over) = long_task();
    let (mut pid, mut ran) = (0, false);
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|s| {
            s.spawn(task);
            begun.recv().unwrap();
            pid = fork();
            if pid == 0 {
                s.spawn(|| ran = true);
            }
            drop(over);
        });
    }));
    if pid == 0 {
        end(must("the scope's end", says_so(result)) & must("a task of the copy's own", ran));
    }
    assert!(result.is_ok());
    expect_good(pid);
}

#[test]
fn a_copy_forked_in_a_half_does_not_wait_for_the_other() {
    let pool = ThreadPool::builder().workers(1).build().unwrap();
    let (task, begun, over) = long_task();
    let mut pid = 0;
    let forked = &mut pid;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let first = move || {
            begun.recv().unwrap();
            *forked = fork();
            drop(over);
        };
        pool.fork_join(first, task);
    }));
    if pid == 0 {
        end(must("fork_join", says_so(result)));
    }
    assert!(result.is_ok());
    expect_good(pid);
}

#[test]
fn a_copy_forked_by_a_task_is_no_worker() {
    let pool = ThreadPool::builder().workers(2).build().unwrap();
    let pid = pool.apply(|| {
        let pid = fork();
        if pid == 0 {
            let good = must("current_worker", pool.current_worker().is_none());
            end(must("apply", pool.apply(|| 1) == Err(FORKED_TASK)) & good);
        }
        pid
    });
    expect_good(pid.unwrap());
    // Each part of a map may be the copy, whoever runs it.
    let pool = &pool;
    let pids = pool.apply(|| {
        pool.map_with(MapOptions::new().chunk_size(1), 0..8, |_| {
            let pid = fork();
            if pid == 0 {
                end(must("map", pool.map(0..3, |n| n) == Err(FORKED_TASK)));
            }
            pid
        })
    });
    pids.unwrap().unwrap().into_iter().for_each(expect_good);
}

/// Has the other threads end, also by a panic: whoever waits for them would wait for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_copy_asks_for_no_lock_that_another_thread_has() {
    let stop = AtomicBool::new(false);
    let mut pool = Some(ThreadPool::builder().workers(2).build().unwrap());
    let shared = ThreadPool::builder().workers(2).queue_bound(2).build().unwrap();
    std::thread::scope(|scope| {
        let until = Stop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    shared.apply(|| ()).unwrap();
                    let handle = shared.apply_async(|| ()).unwrap();
                    let _ = handle.cancel();
                }
            });
        }
        for _ in 0..100 {
            in_copy(|| {
                shared.close();
                shared.terminate();
                let good =
                    must("join", shared.join() == Err(FORKED)) & must("apply", shared.apply(|| 1) == Err(FORKED_TASK));
                asks_for_everything(pool.take().unwrap()) & good
            });
        }
        drop(until);
    });
}
