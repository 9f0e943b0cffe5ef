//! Process pools with settings.

use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::crew::Crew;
use super::desk::Desk;
use super::foreman::{self, Foreman};
use super::ground::Ground;
use super::plan::Plan;
use super::spec::{Hook, Origin, PAYLOAD, hook};
use super::task::Limits;
use super::terms::{Callbacks, Terms};
use super::{ProcessPool, checks};
use crate::os;
use crate::process::registry::{self, Task, must_be_a_function};
use crate::task::{self, Dispatch, PoolError, WhenFull};

/// Slots of the shared queue, and of a worker's own.
const SHARED: usize = 1024;
const OWN: usize = 256;
/// Less than this much for a message is no pool.
const LEAST_PAYLOAD: usize = 64 << 10;
/// No address space has room for more: so that sums of it don't go over the edge of all numbers.
const MOST_PAYLOAD: usize = 1 << 40;
/// A limit that is longer is none: so that it can be added to any moment.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Sets up a [`ProcessPool`]: see [`ProcessPool::builder`].
#[must_use = "a builder makes a pool with `build`"]
pub struct ProcessPoolBuilder {
    workers: Option<usize>,
    threads: usize,
    name: Option<String>,
    dispatch: Dispatch,
    bound: Option<usize>,
    when_full: WhenFull,
    limits: Limits,
    retries: u32,
    payload: usize,
    handshake: Duration,
    nice: Option<i32>,
    cores: Option<Vec<usize>>,
    folder: Option<PathBuf>,
    variables: Vec<(OsString, Option<OsString>)>,
    capture: Option<usize>,
    recycle_after: Option<u64>,
    memory_limit: Option<u64>,
    initializer: Option<Result<Hook, PoolError>>,
    on_exit: Option<Result<Hook, PoolError>>,
}

impl core::fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("workers", &self.workers)
            .field("threads_per_worker", &self.threads)
            .field("name", &self.name)
            .field("dispatch", &self.dispatch)
            .finish_non_exhaustive()
    }
}

fn to_hook<F, A>(arguments: A) -> Result<Hook, PoolError>
where
    F: Task<A>,
    A: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let task = core::any::type_name::<F>();
    let function = registry::find::<F>().ok_or(PoolError::NotRegistered { task })?;
    Ok(hook(function, arguments))
}

impl ProcessPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            workers: None,
            threads: 1,
            name: None,
            dispatch: Dispatch::default(),
            bound: None,
            when_full: WhenFull::default(),
            limits: Limits::default(),
            retries: 0,
            payload: PAYLOAD,
            handshake: Duration::from_secs(30),
            nice: None,
            cores: None,
            folder: None,
            variables: Vec::new(),
            capture: None,
            recycle_after: None,
            memory_limit: None,
            initializer: None,
            on_exit: None,
        }
    }

    /// The number of worker processes: as many as the system can run at once, if not said.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Threads in each worker that run tasks: 1 if not said.
    ///
    /// When such a worker dies with several tasks in it, nobody knows which of them did it: each is run again, alone in a
    /// process, and only the one that kills that too has an error. So they may run twice. Those that moved a slice or a pipe's end
    /// can't, and are lost.
    /// That process runs one of them at a time, those that were started last first: one that does not end keeps the later ones
    /// waiting, until [`task_timeout`](Self::task_timeout) ends it or it is cancelled.
    pub fn threads_per_worker(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// A name: the workers are called by it and their numbers, `mill-0`, `mill-1` … (`worker-0` if not said), in the
    /// system's tools too.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How tasks find workers: [`Dispatch::SharedQueue`] if not said.
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// The most tasks that wait in the queue (under round robin and random: in each worker's), not counting those that
    /// run; without a bound if not said. What happens to one more, [`when_full`](Self::when_full) says.
    pub fn queue_bound(mut self, tasks: usize) -> Self {
        self.bound = Some(tasks);
        self
    }

    /// What happens to a task when the queue is full: [`WhenFull::Block`] if not said. Under [`WhenFull::CallerRuns`] it
    /// runs in the calling process. Maps always wait.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How long a task may run: then its worker is killed and replaced, and its error is
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). It is not run again. No limit if not said.
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.limits.hard = Some(limit).filter(|limit| *limit < LONGEST);
        self
    }

    /// How long a task may run until it is asked to stop: [`stop_requested`](crate::process::stop_requested) is true for
    /// it from then on. No limit if not said.
    pub fn task_soft_timeout(mut self, limit: Duration) -> Self {
        self.limits.soft = Some(limit).filter(|limit| *limit < LONGEST);
        self
    }

    /// How often a task is run again if its worker died: not at all if not said. Tasks that move a slice or a pipe's end are never
    /// run again, since these have gone with the worker; queues, locks and the like are passed on anew.
    pub fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// Each worker is replaced after so many tasks.
    ///
    /// One with several threads takes no more tasks then until those that it has have ended, so that it can leave. Where that takes
    /// longer than a second and tasks wait for it, it goes on, and tries again after as many tasks: each time it waits for twice
    /// as long, and tries half as often.
    pub fn recycle_after(mut self, tasks: u64) -> Self {
        self.recycle_after = Some(tasks);
        self
    }

    /// Each worker is replaced when it uses more than so many bytes of memory (resident, looked at every 16 tasks).
    pub fn recycle_above(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The most bytes that arguments or a result may have: 64 MiB if not said, and at least 64 KiB, whatever is said. It costs
    /// address space; where there is less of that, the limit is lower. The error says which it was. Memory it costs as far as it is
    /// used: each thread of a worker has two places for large results, which keep the memory of the largest that was in them until
    /// the pool ends, also when the worker is replaced.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// How long a worker may take from its start until it reaches [`init`](crate::process::init): 30 seconds if not said. The
    /// [`initializer`](Self::initializer) comes after that, and is not counted.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake = limit;
        self
    }

    /// Called in each worker, and in each that replaces one, before it takes tasks. The function is listed in
    /// [`tasks!`](crate::tasks). One that panics or exits is a worker that died, and so is one that ends its process just
    /// after: after 20 of them in a row in one worker's place, while none is at work in any, the pool gives up with
    /// [`PoolError::CrashLoop`](crate::PoolError::CrashLoop). One that was ready and is killed by others (`SIGKILL`, `SIGTERM`,
    /// `SIGINT`) does not count.
    ///
    /// Where a place has tasks of its own ([`Dispatch::RoundRobin`], [`Dispatch::Random`]) and its workers fail by themselves, or
    /// cannot be started, so often while others are at work, the tasks that wait there have that error, and new ones go to the
    /// others; the place is tried on. So it is with the process in which suspects are run again
    /// ([`threads_per_worker`](Self::threads_per_worker)).
    ///
    /// The pool keeps the arguments for the next worker: queues and locks in them are every worker's, but a slice or a pipe's end
    /// would have to move, and is an error.
    ///
    /// It may take as long as it likes: no time limit is for it, tasks wait for a worker that is ready, and so do
    /// [`join`](ProcessPool::join) and the pool's drop. Where it may never return, [`ProcessPool::wait_ready`] tells, and
    /// [`ProcessPool::terminate`] ends it.
    pub fn initializer<F, A>(mut self, function: F, arguments: A) -> Self
    where
        F: Task<A>,
        A: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        self.initializer = Some(to_hook::<F, A>(arguments));
        self
    }

    /// Called in each worker when it leaves: at the pool's end, or to be replaced. Not in one that is killed. It may take as
    /// long as it likes: [`join`](ProcessPool::join) and the pool's drop wait for it, and [`ProcessPool::terminate`] ends it. Nothing
    /// in the arguments can move, as with [`initializer`](Self::initializer).
    pub fn on_exit<F, A>(mut self, function: F, arguments: A) -> Self
    where
        F: Task<A>,
        A: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        self.on_exit = Some(to_hook::<F, A>(arguments));
        self
    }

    /// The workers' nice value: from −20, the most urgent, to 19. Lowering it takes a privilege, without which it is an error
    /// of [`build`](Self::build).
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// The cores that the workers may run on, by their numbers from 0: all of them on any of these.
    pub fn affinity(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// The workers' working directory: this process's, if not said. A relative one is taken from this process's at
    /// [`build`](Self::build), whatever that is later. One that isn't there is an error of
    /// [`build`](Self::build); if it goes later, new workers can't start.
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A variable of the workers' environment, besides those of this process. A name or value that no environment can hold is
    /// an error of [`build`](Self::build), and so is `MILLPOND_CHILD`, by which a worker knows that it is one.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((key.into(), Some(value.into())));
        self
    }

    /// A variable that the workers are not to find in their environment.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.variables.push((key.into(), None));
        self
    }

    /// Keeps the last `bytes` of what each worker writes to its standard error, instead of passing it on:
    /// [`ProcessPool::captured_stderr`] gives it.
    pub fn capture_stderr(mut self, bytes: usize) -> Self {
        self.capture = Some(bytes);
        self
    }

    fn check(&self, workers: usize) -> Result<(), PoolError> {
        checks::check_numbers(workers, self.threads)?;
        task::check_nice(self.nice)?;
        task::check(self.bound, self.name.as_deref(), self.cores.as_deref())?;
        checks::check_variables(&self.variables)?;
        super::forked::expect_not_forked()?;
        if super::hand::is_worker() {
            return Err(PoolError::InsideWorker);
        }
        if !crate::process::initialized() && registry::ENTRANCES.is_empty() {
            return Err(PoolError::NotInitialized);
        }
        if let Some(folder) = &self.folder {
            checks::check_folder(folder)?;
        }
        match self.nice {
            Some(nice) => checks::try_nice(nice, workers),
            None => Ok(()),
        }
    }

    /// Makes the pool: all workers are started, and get ready while this returns.
    ///
    /// # Errors
    /// No workers or too many, a bound of 0, a name with a NUL, a variable that no environment can hold, a core or working
    /// directory that isn't there, a nice value that is refused, an initializer that isn't registered, no
    /// [`init`](crate::process::init), a worker's process, memory or processes that the system does not give: each a
    /// [`PoolError`] that says which. No process is left then. What goes wrong while workers get ready is the error of the
    /// pool's tasks.
    pub fn build(self) -> Result<ProcessPool, PoolError> {
        let by_itself = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let workers = self.workers.unwrap_or_else(by_itself);
        self.check(workers)?;
        let suspects = self.threads > 1;
        let shared = self.dispatch == Dispatch::SharedQueue;
        let plan = Plan {
            workers: workers + usize::from(suspects),
            threads: self.threads,
            lines: if shared { 1 } else { workers } + usize::from(suspects),
            per_line: if shared { SHARED } else { OWN },
            most: self.payload.clamp(LEAST_PAYLOAD, MOST_PAYLOAD),
        };
        let ground = make(plan)?;
        let plan = ground.plan;
        let name = self.name.unwrap_or_else(|| "worker".to_owned());
        let terms = Terms {
            name: name.clone(),
            workers,
            suspects,
            dispatch: self.dispatch,
            bound: self.bound.unwrap_or(usize::MAX),
            when_full: self.when_full,
            retries: self.retries,
            limits: self.limits,
            since: Instant::now(),
            callbacks: Callbacks::default(),
        };
        let origin = Origin {
            name,
            plan,
            workers,
            lines: (0..plan.workers)
                .map(|worker| terms.line_of_worker(worker))
                .map(|line| (line, terms.hands_of_line(plan, line)))
                .collect(),
            handshake: self.handshake,
            nice: self.nice,
            cores: self.cores,
            folder: self.folder.map(|folder| std::path::absolute(&folder).unwrap_or(folder)),
            variables: self.variables,
            capture: self.capture,
            recycle_after: self.recycle_after,
            memory_limit: self.memory_limit,
            initializer: self.initializer.transpose()?,
            on_exit: self.on_exit.transpose()?,
        };
        ground.introduce(&origin.name);
        let desk = Arc::new(Desk::new(ground, terms, Crew::new(plan.workers)));
        for worker in 0..workers {
            desk.lock().crew.workers[worker].starting = true;
            if let Err(error) = foreman::start(&desk, &origin, worker) {
                return Err(give_up(&desk, PoolError::WorkerNotStarted { worker, reason: error.to_string() }));
            }
        }
        let thread = std::thread::Builder::new().name("millpond-foreman".to_owned());
        let blocked = os::launch::BlockedSignals::all();
        let foreman = Foreman::new(Arc::clone(&desk), origin);
        let thread = thread.spawn(move || foreman.run());
        drop(blocked);
        match thread {
            Ok(thread) => Ok(ProcessPool::made(desk, thread)),
            Err(error) => {
                Err(give_up(&desk, PoolError::StartFailed { worker: 0, workers, code: error.raw_os_error() }))
            }
        }
    }
}

/// Kills the workers that were started, and waits for their ends.
fn give_up(desk: &Arc<Desk>, error: PoolError) -> PoolError {
    let mut inner = desk.lock();
    inner.crew.kill_all();
    let records: Vec<_> = inner.crew.workers.iter().filter_map(|worker| worker.record.clone()).collect();
    drop(inner);
    records.iter().for_each(|record| drop(record.wait_ended(None)));
    // The desk hears of their ends, so each holds the other.
    desk.lock().crew.workers.clear();
    error
}

/// A segment; where the address space has no room for large messages, one for smaller ones.
fn make(mut plan: Plan) -> Result<Ground, PoolError> {
    loop {
        match Ground::create(plan) {
            Ok(ground) => return Ok(ground),
            Err(error) if plan.most <= LEAST_PAYLOAD => {
                return Err(PoolError::NoSharedMemory { reason: error.to_string() });
            }
            Err(_) => plan.most = (plan.most / 4).max(LEAST_PAYLOAD),
        }
    }
}
