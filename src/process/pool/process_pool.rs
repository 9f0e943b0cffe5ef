//! The pool as its owner sees it.

use core::fmt;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::registry::{Task, must_be_a_function};
use super::builder::ProcessPoolBuilder;
use super::desk::{Desk, Ended, Stage};
use super::forked::{self, expect_not_forked};
use super::map::{self, Imap, ImapUnordered};
use super::stats::{Progress, WorkerStats};
use super::submit;
use crate::primitive::plain::Mutex;
use crate::task::{MapOptions, PoolError, TaskError, TaskHandle};

/// A fixed number of processes that run functions: the words of [`ThreadPool`](crate::thread::ThreadPool), and no task is
/// lost whoever dies.
///
/// Workers are made when the pool is, and replaced when they die. A task whose worker dies ends in
/// [`TaskError::WorkerDied`] or is [run again](ProcessPoolBuilder::retries); all others are unharmed. Functions are listed in
/// [`tasks!`](crate::tasks); arguments are tuples, which travel with the results by serde, and queues, locks and slices of
/// [`ipc`](crate::ipc) with them.
///
/// Dropping a pool closes it and waits for its tasks and workers, however long a task, an initializer or an exit hook takes:
/// [`terminate`](Self::terminate) first, where one may never return. In a callback of the pool, and in a waker that its
/// own thread calls, it is closed and ends by itself. When this process ends, whatever way, its workers end with it.
///
/// ```
/// use millpond::process::{self, ProcessPool};
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
/// millpond::tasks![square];
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     process::init(); // first line of main
///     let pool = ProcessPool::builder().workers(2).name("mill").build()?;
///     assert_eq!(pool.apply(square, (7,))?, 49); // waits for the result
///     let handle = pool.apply_async(square, (8,))?; // does not; join, join_timeout, cancel, await
///     let all: Vec<u64> = pool.map(square, 0..100)?;
///     assert_eq!((handle.join()?, all[99]), (64, 9801));
///     pool.close();
///     pool.join()?;
///     Ok(())
/// }
/// ```
pub struct ProcessPool {
    pub(super) desk: Arc<Desk>,
    foreman: Mutex<Option<JoinHandle<()>>>,
}

impl ProcessPool {
    /// Starts with all settings at their defaults.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::new()
    }

    /// A pool of as many workers as the system can run at once, one thread each, with a shared queue.
    ///
    /// # Errors
    /// Those of [`ProcessPoolBuilder::build`].
    pub fn new() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    pub(super) fn made(desk: Arc<Desk>, foreman: JoinHandle<()>) -> Self {
        forked::follow();
        Self { desk, foreman: Mutex::new(Some(foreman)) }
    }

    /// Runs `function(arguments)` in a worker and waits for its result.
    ///
    /// # Errors
    /// The pool did not take it ([`TaskError::Pool`]), it panicked, its worker died, it was late, or its result can't travel.
    pub fn apply<F, A>(&self, function: F, arguments: A) -> Result<F::Output, TaskError>
    where
        F: Task<A>,
        A: Serialize,
    {
        self.apply_async(function, arguments)?.join()
    }

    /// Has `function(arguments)` run in a worker, and returns at once. Arguments with something in them that moves are dropped
    /// before that, as by [`Queue::put`](crate::ipc::Queue::put).
    ///
    /// # Errors
    /// The pool is closed or was given up, its queue is full and set to fail, the function isn't registered, or the arguments
    /// can't be encoded or are too large: nothing runs then.
    pub fn apply_async<F, A>(&self, function: F, arguments: A) -> Result<TaskHandle<F::Output>, PoolError>
    where
        F: Task<A>,
        A: Serialize,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        submit::with_handle::<F, A>(&self.desk, arguments)
    }

    /// The same without a handle: nobody hears of the result.
    ///
    /// # Errors
    /// Those of [`apply_async`](Self::apply_async).
    pub fn spawn<F, A>(&self, function: F, arguments: A) -> Result<(), PoolError>
    where
        F: Task<A>,
        A: Serialize,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        submit::without_handle::<F, A>(&self.desk, arguments)
    }

    /// Has `function(arguments)` run in a worker, and then `then` called with what came of it, on a thread of the pool in
    /// this process. Callbacks are called one after the other; one that panics harms nobody.
    ///
    /// # Errors
    /// Those of [`apply_async`](Self::apply_async); `then` is not called then.
    pub fn apply_async_then<F, A, C>(&self, function: F, arguments: A, then: C) -> Result<(), PoolError>
    where
        F: Task<A>,
        A: Serialize,
        C: FnOnce(Result<F::Output, TaskError>) + Send + 'static,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        submit::with_callback::<F, A, C>(&self.desk, arguments, then)
    }

    /// Calls `function` for each item, by all workers, and gives the values in the items' order.
    ///
    /// Items travel in chunks, 16 for each thread of a worker; [`map_with`](Self::map_with) sets how many items are in one.
    ///
    /// # Errors
    /// The first error of any call, in the items' order; before that, of an item that can't be encoded or is too large. What has
    /// not started is cancelled then.
    pub fn map<I, F>(&self, function: F, items: I) -> Result<Vec<F::Output>, TaskError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        self.map_with(MapOptions::new(), function, items)
    }

    /// As [`map`](Self::map), with the size of chunks chosen: `map_with(MapOptions::new().chunk_size(64), f, items)`.
    ///
    /// # Errors
    /// Those of [`map`](Self::map).
    pub fn map_with<I, F>(&self, options: MapOptions, function: F, items: I) -> Result<Vec<F::Output>, TaskError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        self.starmap_with(options, function, items.into_iter().map(|item| (item,)))
    }

    /// As [`map`](Self::map), for functions of several arguments: each item is a tuple of them.
    ///
    /// # Errors
    /// Those of [`map`](Self::map).
    pub fn starmap<I, F>(&self, function: F, items: I) -> Result<Vec<F::Output>, TaskError>
    where
        I: IntoIterator<Item: Serialize>,
        F: Task<I::Item>,
    {
        self.starmap_with(MapOptions::new(), function, items)
    }

    /// As [`starmap`](Self::starmap), with the size of chunks chosen.
    ///
    /// # Errors
    /// Those of [`map`](Self::map).
    pub fn starmap_with<I, F>(&self, options: MapOptions, function: F, items: I) -> Result<Vec<F::Output>, TaskError>
    where
        I: IntoIterator<Item: Serialize>,
        F: Task<I::Item>,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        map::starmap::<F, I::Item>(&self.desk, options, items.into_iter().collect())
    }

    /// Calls `function` for each item, and gives results one by one in the items' order. Items are taken as results are
    /// asked for: four for each hand are under way.
    ///
    /// # Errors
    /// Of the first items: that the pool is closed or was given up, that the function isn't registered, or that an item can't be
    /// encoded or is too large. Of later ones it is the iterator's.
    pub fn imap<I, F>(&self, function: F, items: I) -> Result<Imap<'_, I::IntoIter, F>, PoolError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        self.imap_with(MapOptions::new(), function, items)
    }

    /// As [`imap`](Self::imap), with so many items in a chunk; one if not said.
    ///
    /// # Errors
    /// Those of [`imap`](Self::imap).
    pub fn imap_with<I, F>(
        &self,
        options: MapOptions,
        function: F,
        items: I,
    ) -> Result<Imap<'_, I::IntoIter, F>, PoolError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        Imap::new(self, options, items.into_iter())
    }

    /// As [`imap`](Self::imap), results as they come.
    ///
    /// # Errors
    /// Those of [`imap`](Self::imap).
    pub fn imap_unordered<I, F>(&self, function: F, items: I) -> Result<ImapUnordered<'_, I::IntoIter, F>, PoolError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        self.imap_unordered_with(MapOptions::new(), function, items)
    }

    /// As [`imap_unordered`](Self::imap_unordered), with so many items in a chunk; one if not said.
    ///
    /// # Errors
    /// Those of [`imap`](Self::imap).
    pub fn imap_unordered_with<I, F>(
        &self,
        options: MapOptions,
        function: F,
        items: I,
    ) -> Result<ImapUnordered<'_, I::IntoIter, F>, PoolError>
    where
        I: IntoIterator,
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        ImapUnordered::new(self, options, items.into_iter())
    }

    /// Takes no more tasks from now on; those that it has are done.
    pub fn close(&self) {
        let Some(mut inner) = self.desk.lock_here() else { return };
        if inner.stage == Stage::Open {
            inner.stage = Stage::Closed;
        }
        drop(inner);
        self.desk.changed.notify_all();
        self.desk.ground.ring_for_sure();
    }

    /// Waits until all tasks of a closed pool have ended, and its workers with them.
    ///
    /// # Errors
    /// [`PoolError::NotClosed`] before [`close`](Self::close) or [`terminate`](Self::terminate); [`PoolError::OwnWorker`] in a
    /// callback of the pool, in a task with one that its submitter runs, and in a waker that the pool's own thread
    /// calls, as of a future that awaits one of its tasks; why the pool was given up, if it was.
    pub fn join(&self) -> Result<(), PoolError> {
        self.wait_for_end(None, Duration::MAX)
    }

    /// As [`join`](Self::join), but not for longer than this.
    ///
    /// # Errors
    /// Those of [`join`](Self::join), and [`PoolError::StillRunning`], after which one can wait again.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.wait_for_end(Instant::now().checked_add(timeout), timeout)
    }

    /// Ends all tasks, those that run too, each with [`TaskError::Cancelled`], and kills the workers, wherever they are: in an
    /// initializer or an exit hook too. Returns at once.
    pub fn terminate(&self) {
        let mut ended = Ended::new();
        let Some(mut inner) = self.desk.lock_here() else { return };
        if matches!(inner.stage, Stage::Open | Stage::Closed) {
            inner.stage = Stage::Terminated;
            self.desk.end_all(&mut inner, &TaskError::Cancelled, &mut ended);
            inner.crew.kill_all();
        }
        drop(inner);
        self.desk.tell(ended);
        self.desk.changed.notify_all();
        self.desk.ground.ring_for_sure();
    }

    fn wait_for_end(&self, until: Option<Instant>, timeout: Duration) -> Result<(), PoolError> {
        expect_not_forked()?;
        let mut inner = self.desk.lock();
        if inner.stage == Stage::Open {
            return Err(PoolError::NotClosed);
        }
        if self.desk.terms.callbacks.is_here() {
            return Err(PoolError::OwnWorker);
        }
        while !inner.ended {
            let changed = &self.desk.changed;
            inner = match until {
                None => changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        let workers = inner.crew.workers.iter().filter(|worker| worker.record.is_some()).count();
                        return Err(PoolError::StillRunning { workers, waited: timeout });
                    }
                    changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let stage = inner.stage.clone();
        drop(inner);
        let thread = self.foreman.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It does not panic, and nothing of it is left that anybody could wait for.
        thread.into_iter().for_each(|thread| drop(thread.join()));
        match stage {
            Stage::Broken(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether it takes no more tasks. In a forked copy it takes none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.desk.expect_open().is_err()
    }

    /// The number of worker processes.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.desk.terms.workers
    }

    /// Threads in each worker that run tasks.
    #[must_use]
    pub fn threads_per_worker(&self) -> usize {
        self.desk.ground.plan.threads
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.desk.terms.name
    }

    /// The processes that there are now, in the workers' order. In a forked copy there are none.
    #[must_use]
    pub fn worker_ids(&self) -> Vec<u32> {
        let Some(inner) = self.desk.lock_here() else { return Vec::new() };
        inner.crew.workers.iter().filter(|worker| worker.record.is_some()).map(|worker| worker.pid).collect()
    }

    /// How far its tasks are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.take_in();
        self.desk.counts.progress()
    }

    /// What each worker has done. In a forked copy there are none.
    #[must_use]
    pub fn worker_stats(&self) -> Vec<WorkerStats> {
        self.desk.worker_stats()
    }

    /// Tasks that wait for a worker. In a forked copy, which has no workers, there are none.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.take_in();
        let Some(inner) = self.desk.lock_here() else { return 0 };
        (0..inner.lines.len()).map(|line| self.desk.waiting_in(&inner, line)).sum()
    }

    /// How often a worker's thread was woken, since the pool was made.
    #[must_use]
    pub fn wake_ups(&self) -> u64 {
        self.worker_stats().iter().fold(0, |sum, worker| sum.wrapping_add(worker.woken))
    }

    /// Threads of workers that sleep since there is nothing to do.
    #[must_use]
    pub fn sleeping(&self) -> usize {
        self.desk.ground.head().beds.asleep.count() as usize
    }

    /// The last that the worker at this place has written to its standard error, where that is
    /// [captured](ProcessPoolBuilder::capture_stderr); nothing for a place that isn't there. It is read within moments.
    #[must_use]
    pub fn captured_stderr(&self, worker: usize) -> String {
        self.desk.captured(worker)
    }

    /// Waits until all workers are ready, but not for longer than this. Nobody has to: tasks wait by themselves.
    ///
    /// # Errors
    /// Why the pool was given up, if it was; [`PoolError::Closed`] where it has ended; [`PoolError::StillRunning`] with the number
    /// of workers that are not ready; [`PoolError::Forked`] in a forked copy.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), PoolError> {
        self.desk.wait_ready(timeout)
    }

    /// Takes in results that nobody asked for yet. In a forked copy they are the other's.
    fn take_in(&self) {
        let mut ended = Ended::new();
        let Some(mut inner) = self.desk.lock_here() else { return };
        for line in 0..inner.lines.len() {
            self.desk.harvest(&mut inner, line, &mut ended);
        }
        drop(inner);
        self.desk.tell(ended);
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        if expect_not_forked().is_err() {
            return;
        }
        self.close();
        // In a callback or a waker there is nothing to wait for: the workers end by themselves.
        let _ = self.join();
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool")
            .field("name", &self.name())
            .field("workers", &self.workers())
            .field("dispatch", &self.desk.terms.dispatch)
            .field("stage", &self.desk.lock_here().map_or(Stage::Closed, |inner| inner.stage.clone()))
            .field("progress", &self.desk.counts.progress())
            .finish()
    }
}
