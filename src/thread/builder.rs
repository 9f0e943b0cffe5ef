//! Pools with settings.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crossbeam_deque::Worker as Deque;

use super::ThreadPool;
use super::entry::Entry;
use super::shared::{Attributes, Plan, Shared};
use super::sleep::MOST_WORKERS;
use super::worker::{Begun, Worker};
use crate::task::{self, Dispatch, PoolError, WhenFull};

/// Sets up a [`ThreadPool`]: see [`ThreadPool::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder makes a pool with `build`"]
pub struct ThreadPoolBuilder {
    workers: Option<usize>,
    name: Option<String>,
    stack_size: Option<usize>,
    dispatch: Dispatch,
    bound: Option<usize>,
    when_full: WhenFull,
    attributes: Attributes,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            workers: None,
            name: None,
            stack_size: None,
            dispatch: Dispatch::default(),
            bound: None,
            when_full: WhenFull::default(),
            attributes: Attributes::default(),
        }
    }

    /// The number of workers: as many as the system can run at once, if not said.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// A name: the workers' threads are called by it and their numbers, `mill-0`, `mill-1` … (`worker-0` if not said). The
    /// system shows the first 15 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Bytes of each worker's stack; the standard library's 2 MiB if not said.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How tasks find workers: [`Dispatch::SharedQueue`] if not said.
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// The most tasks that wait in the queue (under round robin and random: in each worker's queue), not counting those
    /// that run; without a bound if not said. What happens to one more, [`when_full`](Self::when_full) says.
    pub fn queue_bound(mut self, tasks: usize) -> Self {
        self.bound = Some(tasks);
        self
    }

    /// What happens to a task when the queue is full: [`WhenFull::Block`] if not said.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Called in each worker, with its number from 0, before it takes tasks; `build` waits for all of them. If one panics,
    /// the pool is not made.
    pub fn on_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.attributes.on_start = Some(Arc::new(hook));
        self
    }

    /// Called in each worker, with its number from 0, when it ends. A panic in it is counted
    /// ([`WorkerStats::hook_panics`](super::WorkerStats::hook_panics)) and does no harm.
    pub fn on_exit(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.attributes.on_exit = Some(Arc::new(hook));
        self
    }

    /// The workers' nice value: from −20, the most urgent, to 19. Lowering it takes a privilege.
    pub fn nice(mut self, nice: i32) -> Self {
        self.attributes.nice = Some(nice);
        self
    }

    /// The cores that the workers may run on, by their numbers from 0: all of them on any of these.
    pub fn affinity(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.attributes.cores = Some(cores.into_iter().collect());
        self
    }

    fn check(&self, workers: usize) -> Result<(), PoolError> {
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        if workers > MOST_WORKERS {
            return Err(PoolError::TooManyWorkers { workers, most: MOST_WORKERS });
        }
        task::check_nice(self.attributes.nice)?;
        task::check(self.bound, self.name.as_deref(), self.attributes.cores.as_deref())
    }

    /// Makes the pool: all workers are started. With a start hook, a nice value or cores, all have them when this returns.
    ///
    /// # Errors
    /// No workers or too many, a bound of 0, a name with a NUL, a core or a nice value that isn't there, an attribute that
    /// the system refuses, a start hook that panics, a thread that the system does not give: each a [`PoolError`] that says
    /// which. No thread is left then.
    pub fn build(self) -> Result<ThreadPool, PoolError> {
        let by_itself = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let workers = self.workers.unwrap_or_else(by_itself);
        self.check(workers)?;
        let attributes = &self.attributes;
        let ask = attributes.nice.is_some() || attributes.cores.is_some() || attributes.on_start.is_some();
        let deques: Vec<Deque<Entry>> = (0..workers).map(|_| Deque::new_fifo()).collect();
        let stealers = deques.iter().map(Deque::stealer).collect();
        let plan = Plan {
            workers,
            name: self.name,
            dispatch: self.dispatch,
            when_full: self.when_full,
            bound: self.bound.unwrap_or(usize::MAX),
            attributes: self.attributes,
        };
        let shared = Shared::new(plan, stealers);
        let (tell, hear) = if ask { Some(mpsc::channel::<Begun>()) } else { None }.unzip();
        let mut threads = Vec::with_capacity(workers);
        let mut failed = None;
        for (index, deque) in deques.into_iter().enumerate() {
            match start(&shared, index, deque, self.stack_size, tell.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shared.never_started(workers - index);
                    failed = Some(PoolError::StartFailed { worker: index, workers, code: error.raw_os_error() });
                    break;
                }
            }
        }
        drop(tell);
        if failed.is_none() {
            failed = hear.iter().flatten().find_map(Result::err);
        }
        let pool = ThreadPool::from_parts(shared, threads);
        match failed {
            None => Ok(pool),
            // Dropping the pool ends the workers that there are.
            Some(error) => Err(error),
        }
    }
}

/// Starts a worker on a thread of its own.
fn start(
    shared: &Arc<Shared>,
    index: usize,
    deque: Deque<Entry>,
    stack_size: Option<usize>,
    tell: Option<mpsc::Sender<Begun>>,
) -> std::io::Result<JoinHandle<()>> {
    let name = shared.name.as_deref().unwrap_or("worker");
    let mut thread = std::thread::Builder::new().name(format!("{name}-{index}"));
    if let Some(bytes) = stack_size {
        thread = thread.stack_size(bytes);
    }
    let worker = Worker::new(Arc::clone(shared), index, deque);
    thread.spawn(move || {
        worker.main(|begun| {
            if let Some(tell) = tell {
                // Whoever built the pool may have heard of another failure already.
                let _ = tell.send(begun);
            }
        });
    })
}
