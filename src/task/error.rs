//! What can go wrong with a task, and with a pool.

use std::time::Duration;
use std::{error, fmt, io};

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The task panicked. The worker lives on.
    #[non_exhaustive]
    Panicked {
        /// What the panic said; a placeholder if it said nothing that is text.
        message: String,
    },
    /// It was cancelled, or its pool terminated, before it started.
    Cancelled,
    /// The time given for it was over. From [`TaskHandle::join_timeout`](crate::TaskHandle::join_timeout): the task goes
    /// on, and its handle can be joined again.
    TimedOut,
    /// Its result was taken before, by an earlier `join` or `await`.
    AlreadyJoined,
    /// The pool did not take it.
    Pool(PoolError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { message } => write!(f, "the task panicked: {message}"),
            Self::Cancelled => f.write_str("the task was cancelled before it started"),
            Self::TimedOut => f.write_str("the time given for the task was over before it ended"),
            Self::AlreadyJoined => f.write_str("the task's result was taken already: a task can be joined once"),
            Self::Pool(error) => write!(f, "the pool did not take the task: {error}"),
        }
    }
}

impl error::Error for TaskError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Pool(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PoolError> for TaskError {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

/// Why a pool did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool was closed or terminated: it takes no more tasks.
    Closed,
    /// The pool is still open, so waiting for its end would be waiting for ever: `close` it first.
    NotClosed,
    /// The queue holds as many tasks as it may.
    Full {
        /// The bound that was set.
        bound: usize,
    },
    /// A task of the pool asked to wait for the pool's end, which can't come before the task's own.
    OwnWorker,
    /// Tasks still ran when the time given was over.
    StillRunning {
        /// How many workers were at it.
        workers: usize,
        /// How long they were waited for.
        waited: Duration,
    },
    /// A pool without workers would never run anything.
    NoWorkers,
    /// More workers were asked for than a pool can have.
    TooManyWorkers {
        /// The number asked for.
        workers: usize,
        /// The largest that works.
        most: usize,
    },
    /// A queue for no task would never take one.
    ZeroBound,
    /// A name with a NUL in it can't be a thread's name.
    NameWithNul {
        /// The byte at which it is.
        at: usize,
    },
    /// The system gave no thread for a worker; those that had started were ended again.
    StartFailed {
        /// The worker's number, from 0.
        worker: usize,
        /// How many were asked for.
        workers: usize,
        /// The system's error number.
        code: Option<i32>,
    },
    /// The start hook panicked in a worker; all workers were ended again.
    StartHookPanicked {
        /// The worker's number, from 0.
        worker: usize,
        /// What the panic said.
        message: String,
    },
    /// There is no such core, or this process may not use it.
    NoSuchCore {
        /// The core's number, from 0.
        core: usize,
    },
    /// A list of cores without a core.
    NoCores,
    /// The system did not let a worker have its nice value.
    NiceRefused {
        /// The value asked for.
        nice: i32,
        /// The system's error number.
        code: Option<i32>,
    },
    /// The system did not let a worker have its cores.
    AffinityRefused {
        /// The system's error number.
        code: Option<i32>,
    },
    /// There was no memory for a task or its place in a queue.
    OutOfMemory,
}

/// The system's words for an error number.
fn reason(code: Option<i32>) -> String {
    code.map_or_else(|| "no reason given".to_owned(), |code| io::Error::from_raw_os_error(code).to_string())
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pool is closed: it takes no more tasks"),
            Self::NotClosed => f.write_str("the pool is open, so it would never end: close it before joining it"),
            Self::Full { bound } => write!(f, "the queue is full: it holds {bound} tasks, its bound"),
            Self::OwnWorker => f.write_str("a task can't wait for the end of its own pool: it would wait for itself"),
            Self::StillRunning { workers, waited } => {
                write!(f, "{workers} workers were still at their tasks after {waited:?}")
            }
            Self::NoWorkers => f.write_str("a pool of 0 workers would never run a task: give it at least one"),
            Self::TooManyWorkers { workers, most } => {
                write!(f, "{workers} workers were asked for; a pool has at most {most}")
            }
            Self::ZeroBound => f.write_str("a queue with room for 0 tasks would never take one: give it at least one"),
            Self::NameWithNul { at } => {
                write!(f, "the name has a NUL at byte {at}: threads' names can't contain one")
            }
            Self::StartFailed { worker, workers, code } => {
                write!(f, "the system gave no thread for worker {worker} of {workers}: {}", reason(*code))
            }
            Self::StartHookPanicked { worker, message } => {
                write!(f, "the start hook panicked in worker {worker}: {message}")
            }
            Self::NoSuchCore { core } => write!(f, "core {core} doesn't exist, or this process may not use it"),
            Self::NoCores => f.write_str("a list of no cores leaves workers nowhere to run: name at least one"),
            Self::NiceRefused { nice, code } => {
                write!(f, "the system did not let a worker have nice value {nice}: {}", reason(*code))
            }
            Self::AffinityRefused { code } => {
                write!(f, "the system did not let a worker have its cores: {}", reason(*code))
            }
            Self::OutOfMemory => f.write_str("there was no memory for the task or its place in a queue"),
        }
    }
}

impl error::Error for PoolError {}
