//! The thread pool as people see it.

use core::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::builder::ThreadPoolBuilder;
use super::callback::Calling;
use super::imap::{Imap, ImapUnordered};
use super::job::{Spawned, StackTask, Task};
use super::map;
use super::scope::{self, Scope};
use super::shared::Shared;
use super::stats::{Progress, WorkerStats};
use super::{fork_join, forked, here, seat};
use crate::os::Lock;
use crate::panics::{guarded, message};
use crate::task::{MapOptions, PoolError, Ran, TaskError, TaskHandle};

/// Workers, made ready up front, that run tasks.
///
/// ```
/// use millpond::{Dispatch, thread::ThreadPool};
///
/// let pool = ThreadPool::builder().workers(4).name("mill").dispatch(Dispatch::SharedQueue).build()?;
/// assert_eq!(pool.apply(|| 6 * 7)?, 42);
///
/// let handle = pool.apply_async(|| "later")?;
/// let squares = pool.map(0..1_000_u64, |n| n * n)?;
/// assert_eq!((handle.join()?, squares[31]), ("later", 961));
///
/// let mut words = ["one", "two"].map(String::from);
/// pool.scope(|s| {
///     for word in &mut words {
///         s.spawn(|| word.make_ascii_uppercase());
///     }
/// });
/// assert_eq!(words, ["ONE", "TWO"]);
///
/// pool.close();
/// pool.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Order.** The operating system decides when a worker runs, and for how long: nothing promises in which order tasks
/// start or end.
///
/// **Cost.** Submitting a task takes one block of the memory pool and one place in a queue: for a closure of up to 96 bytes
/// no allocation, and at most 200 bytes. Somebody is woken only if somebody sleeps and nobody is looking for work.
///
/// **Waiting inside a task** of the same pool never deadlocks by itself: see [`TaskHandle`], [`scope`](Self::scope) and
/// [`fork_join`](Self::fork_join) for what a waiting worker may run meanwhile. It never runs a stranger's task.
///
/// **Panics.** A panic in a task is its caller's [`TaskError::Panicked`]; the worker lives on. Nobody hears of a panic in a
/// task without a handle, in a callback, or in the drop of a closure, a result or a callback, but the panic hook;
/// [`progress`](Self::progress) counts the tasks. A panic in `scope` or `fork_join` goes on in whoever called it, when
/// everything has ended.
///
/// **Dropping** a pool closes and joins it: all tasks run. After `terminate` it does not wait for tasks that still run,
/// and dropped by one of its own tasks, or from a worker's thread-local, it does not wait at all; the workers end by
/// themselves then.
///
/// **Forks.** A process forked from this one, without becoming another program, has none of the workers. In such a copy
/// what submits or waits says [`PoolError::Forked`]; [`scope`](Self::scope) and [`fork_join`](Self::fork_join) run all in
/// the calling thread; dropping the pool does nothing. Pools that the copy makes itself are like any other. A task that
/// forks must not return in the copy: it ends there, by `_exit`, or becomes another program.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Lock<Vec<JoinHandle<()>>>,
}

impl ThreadPool {
    /// A pool with settings.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    /// A pool with a worker for each thread that the system can run at once.
    ///
    /// # Errors
    /// [`PoolError::StartFailed`] if the system gives no threads.
    pub fn new() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    pub(super) fn from_parts(shared: Arc<Shared>, threads: Vec<JoinHandle<()>>) -> Self {
        Self { shared, threads: Lock::new(threads) }
    }

    /// Runs a closure in a worker, and forgets it: no handle, no result.
    ///
    /// # Errors
    /// [`PoolError::Closed`]; [`PoolError::Full`] if the pool's bounded queue says so; [`PoolError::OutOfMemory`];
    /// [`PoolError::Forked`] in a forked copy. The closure is dropped then.
    #[inline]
    pub fn spawn<F>(&self, f: F) -> Result<(), PoolError>
    where
        F: FnOnce() + Send + 'static,
    {
        // SAFETY: `Send` and `'static`.
        match unsafe { Spawned::entry(f) } {
            Ok(entry) => self.shared.submit(entry),
            Err(_) => Err(PoolError::OutOfMemory),
        }
    }

    /// Runs a closure in a worker and waits for its result. The closure may borrow.
    ///
    /// Called by a worker of this pool it runs the closure there and then.
    ///
    /// # Errors
    /// [`TaskError::Panicked`] if it did, [`TaskError::Cancelled`] if the pool terminated first, and [`TaskError::Pool`] as
    /// for [`spawn`](Self::spawn).
    pub fn apply<F, R>(&self, f: F) -> Result<R, TaskError>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        if self.is_own_worker() {
            self.shared.expect_open()?;
            let result = here::apart(|| guarded(f));
            self.shared.note_group_task(if result.is_ok() { Ran::Task } else { Ran::Panicked });
            return result.map_err(|payload| TaskError::Panicked { message: message(payload) });
        }
        let task = StackTask::new(f);
        // SAFETY: the task stays here until `wait` has returned, also if it was refused: then it was discarded.
        self.shared.submit(unsafe { task.entry() })?;
        task.wait();
        task.into_result()
    }

    /// Has a worker run a closure, and returns at once with a handle for its result.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    #[inline]
    pub fn apply_async<F, R>(&self, f: F) -> Result<TaskHandle<R>, PoolError>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        // SAFETY: both are `Send` and `'static`.
        match unsafe { Task::entry(f, self.shared.id) } {
            Ok((entry, handle)) => self.shared.submit(entry).map(|()| handle),
            Err(_) => Err(PoolError::OutOfMemory),
        }
    }

    /// Has a worker run a closure and then, in the same worker, a callback with the result, or with the reason why there is
    /// none ([`TaskError::Panicked`], or [`TaskError::Cancelled`] by whoever terminates the pool).
    ///
    /// The callback is called exactly once if this returns `Ok`. A panic in it harms nobody: it counts as the task's.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn); the callback is dropped then, not called.
    pub fn apply_async_then<F, R, C>(&self, f: F, then: C) -> Result<(), PoolError>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
        C: FnOnce(Result<R, TaskError>) + Send + 'static,
    {
        // SAFETY: all are `Send` and `'static`.
        match unsafe { Calling::entry(f, then) } {
            Some(entry) => self.shared.submit(entry),
            None => Err(PoolError::OutOfMemory),
        }
    }

    /// A function of many items, done by all workers; returns the results in the items' order. The function, the items and
    /// the results may borrow.
    ///
    /// Called by a worker of this pool it does its part. The iterator runs in the caller, before anything else does: a
    /// panic in it is the caller's.
    ///
    /// # Errors
    /// [`TaskError::Panicked`] with the first panic of the function: the map ends early then, and all results and items are
    /// dropped; [`TaskError::Pool`] if the pool is closed, there is no memory, or this is a forked copy.
    pub fn map<I, F, R>(&self, items: I, f: F) -> Result<Vec<R>, TaskError>
    where
        I: IntoIterator<Item: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        self.map_with(MapOptions::new(), items, f)
    }

    /// As [`map`](Self::map), with the size of pieces chosen: `map_with(MapOptions::new().chunk_size(64), items, f)`.
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    pub fn map_with<I, F, R>(&self, options: MapOptions, items: I, f: F) -> Result<Vec<R>, TaskError>
    where
        I: IntoIterator<Item: Send>,
        F: Fn(I::Item) -> R + Sync,
        R: Send,
    {
        self.shared.expect_open()?;
        map::map(&self.shared, options, items.into_iter().collect(), &f)
    }

    /// A function of many items: an iterator over the results in the items' order. Items are taken from their iterator, by
    /// the caller, as results are asked for; some (four for each worker) are under way ahead of that.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn). A panic of the function is an error in the result's place.
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Result<Imap<'_, I::IntoIter, F, R>, PoolError>
    where
        I: IntoIterator<Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        self.imap_with(MapOptions::new(), items, f)
    }

    /// As [`imap`](Self::imap), with so many items to a task.
    ///
    /// # Errors
    /// As for [`imap`](Self::imap).
    pub fn imap_with<I, F, R>(
        &self,
        options: MapOptions,
        items: I,
        f: F,
    ) -> Result<Imap<'_, I::IntoIter, F, R>, PoolError>
    where
        I: IntoIterator<Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        self.shared.expect_open()?;
        Imap::new(self, options, items.into_iter(), f)
    }

    /// As [`imap`](Self::imap), but the results come as they are ready.
    ///
    /// # Errors
    /// As for [`imap`](Self::imap).
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> Result<ImapUnordered<'_, I::IntoIter, F, R>, PoolError>
    where
        I: IntoIterator<Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        self.imap_unordered_with(MapOptions::new(), items, f)
    }

    /// As [`imap_unordered`](Self::imap_unordered), with so many items to a task.
    ///
    /// # Errors
    /// As for [`imap`](Self::imap).
    pub fn imap_unordered_with<I, F, R>(
        &self,
        options: MapOptions,
        items: I,
        f: F,
    ) -> Result<ImapUnordered<'_, I::IntoIter, F, R>, PoolError>
    where
        I: IntoIterator<Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        self.shared.expect_open()?;
        ImapUnordered::new(self, options, items.into_iter(), f)
    }

    /// Runs `f`, in the calling thread, which may spawn tasks that borrow; returns when all of them have ended.
    ///
    /// A worker that waits for a scope of its own pool runs tasks of this very scope meanwhile, and no others: a lock that
    /// it holds is never wanted by a stranger's task on top of it.
    ///
    /// On a closed pool, and in a forked copy, the tasks run in the calling thread.
    ///
    /// # Panics
    /// When all tasks have ended, with the panic of `f`, or else with the first panic of a task. In a copy that `f` forked,
    /// at once, if tasks spawned before had not ended: the copy has none of the threads that would run them.
    pub fn scope<'env, F, R>(&'env self, f: F) -> R
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    {
        scope::scope(&self.shared, f)
    }

    /// Runs both closures, perhaps at once, and returns both results.
    ///
    /// The first runs in the calling thread; the second too, afterwards, unless a worker was idle and took it. It may be
    /// called by either closure again, to any depth: the cost of a fork is a few instructions, and work is handed over,
    /// the oldest half first, at most every 30 µs or so for each thread. So it pays to fork down to small pieces.
    ///
    /// A pair of large closures that begins a tree of forks is started at once too, if somebody is idle. Inside a tree that
    /// has forked quickly before, the second of a pair may be offered as late as a thousand forks of its thread later; if the
    /// first does not fork it runs after it. So neither must wait for the other.
    ///
    /// A thread that waits for a half which a worker has taken runs other halves of the same tree of forks meanwhile, and no
    /// strangers: don't hold a lock across a fork that halves of the same tree take.
    ///
    /// On a closed pool, and in a forked copy, both run in the calling thread.
    ///
    /// # Panics
    /// With the panic of the first closure (the second is not run then, unless it has started), or with that of the second.
    /// In a copy that the first closure forked, if the second was handed over before.
    #[inline]
    pub fn fork_join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        fork_join::fork_join(&self.shared, a, b)
    }

    /// Takes no more tasks. What was accepted runs; then the workers end. Closing twice does nothing, nor does closing a
    /// forked copy.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Waits until all tasks have run and the workers have ended. The pool is closed before.
    ///
    /// # Errors
    /// [`PoolError::NotClosed`] if it is open; [`PoolError::OwnWorker`] if one of its own tasks asks, or what a task left in
    /// its worker's thread-locals; [`PoolError::Forked`] in a forked copy.
    pub fn join(&self) -> Result<(), PoolError> {
        self.wait_for_end(None, Duration::MAX)
    }

    /// As [`join`](Self::join), but not longer than this.
    ///
    /// # Errors
    /// As for [`join`](Self::join), and [`PoolError::StillRunning`] when the time is over; it can be called again.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.wait_for_end(Instant::now().checked_add(timeout), timeout)
    }

    /// Closes, and discards all tasks that have not started: their handles say [`TaskError::Cancelled`]. Does not wait for
    /// those that run: [`join`](Self::join), [`join_timeout`](Self::join_timeout) and
    /// [`terminate_timeout`](Self::terminate_timeout) do.
    ///
    /// Tasks of scopes, maps and forks that are under way are not discarded: whoever waits for them runs what is left. In a
    /// forked copy it does nothing.
    pub fn terminate(&self) {
        self.shared.halt();
    }

    /// Terminates, and waits for the tasks that run, but not longer than this: a thread can't be stopped from outside.
    ///
    /// # Errors
    /// [`PoolError::StillRunning`] if the time is over first. Their workers end when their tasks do.
    pub fn terminate_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.terminate();
        self.join_timeout(timeout)
    }

    fn wait_for_end(&self, deadline: Option<Instant>, timeout: Duration) -> Result<(), PoolError> {
        self.expect_own()?;
        if self.shared.is_open() {
            return Err(PoolError::NotClosed);
        }
        if seat::is_or_was_of(self.shared.id) {
            return Err(PoolError::OwnWorker);
        }
        if deadline.is_none() {
            // Joining them one after the other wakes this thread less often than their count does.
            self.reap();
        }
        if !self.shared.wait_for_workers(deadline) {
            return Err(PoolError::StillRunning { workers: self.shared.alive(), waited: timeout });
        }
        // All have ended but for their last steps.
        self.reap();
        Ok(())
    }

    /// Waits for the threads that nobody waits for yet.
    fn reap(&self) {
        let threads = core::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A worker does not panic; if a thread-local's destructor did, that is over too.
            let _ = thread.join();
        }
    }

    /// Whether the pool takes no more tasks. In a forked copy it takes none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.expect_open().is_err()
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.workers()
    }

    /// The number of the worker that runs the calling task, from 0; none outside of this pool's workers.
    #[must_use]
    pub fn current_worker(&self) -> Option<usize> {
        if self.is_own_worker() { seat::index() } else { None }
    }

    /// # Errors
    /// This process is a forked copy.
    pub(super) fn expect_own(&self) -> Result<(), PoolError> {
        forked::expect_own(self.shared.id)
    }

    pub(super) fn is_own_worker(&self) -> bool {
        self.shared.seat().is_some()
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn bound(&self) -> usize {
        self.shared.bound
    }

    /// The pool's name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// How far it has come: tasks submitted, finished, cancelled.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// What each worker has done.
    #[must_use]
    pub fn worker_stats(&self) -> Vec<WorkerStats> {
        self.shared.worker_stats()
    }

    /// Entries that wait in queues now: tasks, what makes workers come to a scope, a map or a fork, and tasks that were
    /// cancelled, or done by whoever waited for them, until their turn comes (or until a bounded queue seems full).
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queued()
    }

    /// Workers that sleep now, because there is nothing to do.
    #[must_use]
    pub fn sleeping(&self) -> usize {
        self.shared.sleep.asleep()
    }

    /// How many times a worker was woken for a task, ever.
    #[must_use]
    pub fn wake_ups(&self) -> usize {
        self.shared.sleep.wakes()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if self.shared.is_foreign() {
            // Nor are the threads here: what the standard library would do with one is an error.
            core::mem::forget(core::mem::take(self.threads.get_mut()));
            return;
        }
        self.shared.close();
        if seat::is_or_was_of(self.shared.id) || (self.shared.is_halted() && self.shared.alive() > 0) {
            // The workers end by themselves.
            return;
        }
        self.reap();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.shared.name)
            .field("workers", &self.workers())
            .field("dispatch", &self.shared.dispatch)
            .field("closed", &self.is_closed())
            .field("queued", &self.queued())
            .field("sleep", &self.shared.sleep)
            .finish()
    }
}
