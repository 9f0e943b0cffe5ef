//! Others' code on a process pool's threads: callbacks, wakers and the end of their pool; what panics, and panics again
//! when that is dropped.
#![cfg(feature = "process")]

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use millpond::ipc::Queue;
use millpond::process::ProcessPool;
use millpond::{PoolError, TaskError, WhenFull};

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

/// What a task that runs in the process of its pool is told and says: it has begun; it may go on.
static BEGUN: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);
static POOL: Mutex<Weak<ProcessPool>> = Mutex::new(Weak::new());

/// Joins the pool from within a task that its submitter runs: whether that is refused.
fn held_here() -> bool {
    let pool = POOL.lock().unwrap().upgrade().unwrap();
    BEGUN.store(true, Ordering::SeqCst);
    while !GO_ON.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    pool.join() == Err(PoolError::OwnWorker)
}

/// What somebody panics with, and what panics again.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("again");
    }
}

fn throws() {
    std::panic::panic_any(Bomb);
}

/// Arguments that panic when they are encoded for the second time.
#[derive(serde::Deserialize)]
struct Moody(u64);

impl serde::Serialize for Moody {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static TIMES: AtomicU64 = AtomicU64::new(0);
        assert!(TIMES.fetch_add(1, Ordering::Relaxed) != 1, "not now");
        serializer.serialize_u64(self.0)
    }
}

fn takes(_: Moody) {}

fn dies() {
    std::process::abort();
}

/// Ends when it is told to.
fn after(told: Queue<u64>) -> u64 {
    told.get().unwrap()
}

/// What a task wakes when it has ended: an executor that goes on with its future at once, here.
struct RunsHere<F: FnOnce() + Send>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Wake for RunsHere<F> {
    fn wake(self: Arc<Self>) {
        let goes_on = self.0.lock().unwrap().take();
        goes_on.into_iter().for_each(|goes_on| goes_on());
    }
}

/// What a task wakes when it has ended: it panics.
struct Wakes;

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        throws();
    }
}

millpond::tasks![work, after, endless, held_here, throws, takes, dies];

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
    assert_eq!(from.recv_timeout(HANG / 8), Ok((own.clone(), own)));
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

/// A future that awaits a task, and then joins the pool of it.
#[test]
fn a_waker_may_join_its_pool() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = Arc::new(ProcessPool::builder().workers(1).build().unwrap());
    let told = Queue::bounded(1).unwrap();
    let mut handle = pool.apply_async(after, (told.clone(),)).unwrap();
    let (to, from) = channel();
    let same = Arc::clone(&pool);
    let goes_on = move || {
        same.close();
        to.send((same.join(), same.join_timeout(Duration::from_millis(1)))).unwrap();
    };
    let waker = Waker::from(Arc::new(RunsHere(Mutex::new(Some(goes_on)))));
    assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    told.put(7).unwrap();
    let own = Err(PoolError::OwnWorker);
    assert_eq!(from.recv_timeout(HANG / 8), Ok((own.clone(), own)));
    assert_eq!(pool.join_timeout(HANG), Ok(()));
    assert_eq!(handle.join(), Ok(7));
    drop((waker, handle, told, pool));
    audit.expect_unchanged();
}

/// The same that drops it.
#[test]
fn a_waker_may_drop_its_pool() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let told = Queue::bounded(1).unwrap();
    let (mut handle, other) =
        (pool.apply_async(after, (told.clone(),)).unwrap(), pool.apply_async(work, (1,)).unwrap());
    let (to, from) = channel();
    let goes_on = move || {
        drop(pool);
        to.send(()).unwrap();
    };
    let waker = Waker::from(Arc::new(RunsHere(Mutex::new(Some(goes_on)))));
    assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    told.put(7).unwrap();
    assert_eq!(from.recv_timeout(HANG / 8), Ok(()));
    assert_eq!((handle.join_timeout(HANG), other.join_timeout(HANG)), (Ok(7), Ok(4)));
    drop((waker, handle, other, told));
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

/// The same for a task that its submitter runs, since the queue is full: the pool's end waits for it.
#[test]
fn a_callback_of_a_task_that_its_submitter_runs_comes_before_the_end() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).queue_bound(1).when_full(WhenFull::CallerRuns).build().unwrap();
    let pool = Arc::new(pool);
    *POOL.lock().unwrap() = Arc::downgrade(&pool);
    pool.spawn(endless, ()).unwrap();
    while pool.queued() > 0 {
        std::thread::yield_now();
    }
    pool.spawn(work, (1,)).unwrap();
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let says = Arc::clone(&seen);
    let then = move |refused| {
        let thread = std::thread::current().name().map(str::to_owned);
        says.lock().unwrap().push((refused, thread));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pool.apply_async_then(held_here, (), then).unwrap());
        while !BEGUN.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        pool.terminate();
        let early = pool.join_timeout(Duration::from_secs(1));
        GO_ON.store(true, Ordering::SeqCst);
        assert!(matches!(early, Err(PoolError::StillRunning { .. })), "{early:?}");
        assert_eq!(pool.join_timeout(HANG), Ok(()));
        assert_eq!(*seen.lock().unwrap(), [(Ok(true), Some("millpond-calls".to_owned()))]);
    });
    drop(pool);
    audit.expect_unchanged();
}

/// What was panicked with panics again when it is dropped: callbacks go on, the pool's own thread too, and workers.
#[test]
fn what_is_panicked_with_may_panic_when_it_is_dropped() {
    let _alone = alone();
    let audit = Audit::now();
    for threads in [1, 2] {
        let pool = ProcessPool::builder().workers(1).threads_per_worker(threads).build().unwrap();
        // Where this fails the pool's drop would wait.
        let pool = ManuallyDrop::new(pool);
        let (to, from) = channel();
        for n in 0..4 {
            let to = to.clone();
            pool.apply_async_then(work, (n,), move |result| {
                to.send(result).unwrap();
                throws();
            })
            .unwrap();
        }
        let mut values: Vec<_> = (0..4).map(|_| from.recv_timeout(HANG).unwrap().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [1, 4, 7, 10]);
        let mut awaited = [1, 2, 3].map(|n| pool.apply_async(work, (n,)).unwrap());
        let waker = Waker::from(Arc::new(Wakes));
        for handle in &mut awaited {
            let _ = Pin::new(handle).poll(&mut Context::from_waker(&waker));
        }
        let thrown: Vec<_> = (0..20).map(|_| pool.apply_async(throws, ()).unwrap()).collect();
        for handle in thrown {
            let result = handle.join_timeout(HANG);
            assert!(matches!(result, Err(TaskError::Panicked { .. })), "{threads} threads: {result:?}");
        }
        pool.close();
        assert_eq!(pool.join_timeout(HANG), Ok(()));
        assert_eq!((pool.progress().panicked, pool.progress().deaths), (20, 0));
        drop(awaited);
        drop(ManuallyDrop::into_inner(pool));
    }
    audit.expect_unchanged();
}

/// Arguments for each worker that is started are encoded on the pool's own thread.
#[test]
fn an_initializers_arguments_may_panic_when_they_are_encoded() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ManuallyDrop::new(ProcessPool::builder().workers(1).initializer(takes, (Moody(1),)).build().unwrap());
    pool.wait_ready(HANG).unwrap();
    let died = pool.apply_async(dies, ()).unwrap().join_timeout(HANG);
    assert!(matches!(died, Err(TaskError::WorkerDied { .. })), "{died:?}");
    assert_eq!(pool.apply_async(work, (1,)).unwrap().join_timeout(HANG), Ok(4));
    drop(ManuallyDrop::into_inner(pool));
    audit.expect_unchanged();
}
