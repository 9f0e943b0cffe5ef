//! What can go wrong with a task, and with a pool.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{error, fmt, io};

/// Which way a value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// To the child.
    Arguments,
    /// Back from it.
    Result,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "arguments",
            Self::Result => "result",
        })
    }
}

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
    /// It was cancelled, or its pool terminated, before it started; in a process pool also while it ran.
    Cancelled,
    /// The time given for it was over. From [`TaskHandle::join_timeout`](crate::TaskHandle::join_timeout): the task goes
    /// on, and its handle can be joined again. From a process pool with a time limit: the task was ended with its worker.
    TimedOut,
    /// The process that ran it died, by whatever way, and it was not to be run again.
    WorkerDied {
        /// The process's id.
        pid: u32,
        /// The signal that killed it; none if it exited, or if nobody knows.
        signal: Option<i32>,
    },
    /// A value was put into bytes, but could not be read back on the other side.
    #[non_exhaustive]
    Decode {
        /// Which value.
        what: Payload,
        /// The function that was to take it, or returned it.
        task: &'static str,
        /// What was wrong. The words of a type's own code (`Error::custom`) are not kept, but for those of handles.
        reason: String,
    },
    /// A value could not be put into bytes.
    #[non_exhaustive]
    Encode {
        /// Which value.
        what: Payload,
        /// The function that was to take it, or returned it.
        task: &'static str,
        /// What was wrong. The words of a type's own code (`Error::custom`) are not kept, but for those of handles.
        reason: String,
    },
    /// Its result has more bytes than a message may have.
    #[non_exhaustive]
    TooLarge {
        /// The result's bytes.
        bytes: usize,
        /// The most that may be: `payload_limit` of the pool's builder.
        limit: usize,
    },
    /// Its result was taken before, by an earlier `join` or `await`.
    AlreadyJoined,
    /// The pool did not take it.
    Pool(PoolError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { message } => write!(f, "the task panicked: {message}"),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::WorkerDied { pid, signal: Some(signal) } => {
                write!(f, "the worker process {pid} that ran the task was killed by signal {signal}")
            }
            Self::WorkerDied { pid, signal: None } => {
                write!(f, "the worker process {pid} ended while it ran the task")
            }
            Self::Decode { what, task, reason } => write!(f, "the {what} of {task} could not be read back: {reason}"),
            Self::Encode { what, task, reason } => write!(f, "the {what} of {task} could not be encoded: {reason}"),
            Self::TooLarge { bytes, limit } => write!(
                f,
                "the result has {bytes} bytes, and a message of this pool at most {limit}: return a `SharedSlice`, or \
                 raise `payload_limit`"
            ),
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
    /// A task of the pool, a callback or a waker of one asked to wait for the pool's end, which can't come before its
    /// own.
    OwnWorker,
    /// Tasks still ran when the time given was over, or workers were not ready.
    StillRunning {
        /// How many workers were at it, or not ready.
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
    /// More threads in each worker were asked for than a process pool can have.
    TooManyThreads {
        /// The number asked for.
        threads: usize,
        /// The largest that works, with one worker.
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
    /// There is no such nice value: the system would take the nearest one and say nothing.
    NoSuchNice {
        /// The value asked for.
        nice: i32,
    },
    /// The system did not let a worker have its nice value.
    NiceRefused {
        /// The value asked for.
        nice: i32,
        /// The system's error number.
        code: Option<i32>,
    },
    /// A worker's environment can't hold this variable, or must not.
    BadVariable {
        /// The variable's name.
        name: OsString,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Workers can't have this working directory.
    BadFolder {
        /// The directory.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The system did not let a worker have its cores.
    AffinityRefused {
        /// The system's error number.
        code: Option<i32>,
    },
    /// There was no memory for a task or its place in a queue.
    OutOfMemory,
    /// The program doesn't call `millpond::process::init()`, so a worker would not know that it is one.
    NotInitialized,
    /// The function is in no [`tasks!`](crate::tasks) list, so a worker would not find it.
    #[cfg(feature = "process")]
    NotRegistered {
        /// The function, by its whole path.
        task: &'static str,
    },
    /// A task's arguments could not be put into bytes.
    Encode {
        /// The function that was to take them.
        task: &'static str,
        /// What was wrong. The words of a type's own code (`Error::custom`) are not kept, but for those of handles.
        reason: String,
    },
    /// A task's arguments have more bytes than a message may have.
    TooLarge {
        /// The arguments' bytes.
        bytes: usize,
        /// The most that may be: `payload_limit` of the pool's builder.
        limit: usize,
    },
    /// A worker of a process pool cannot make a process pool; a process that was started by itself can.
    InsideWorker,
    /// This process was forked, without becoming another program, from the one that made the pool.
    Forked,
    /// A worker process could not be started.
    WorkerNotStarted {
        /// The worker's number, from 0.
        worker: usize,
        /// What went wrong.
        reason: String,
    },
    /// The memory that the pool shares with its workers could not be had.
    NoSharedMemory {
        /// What the system says.
        reason: String,
    },
    /// In one place one worker after the other died before it was ready, or just after and before it had run a task, or
    /// could not be started, while none was at work in any: the pool has given up, and all its tasks have this error.
    CrashLoop {
        /// How many in a row.
        deaths: u32,
        /// What is known of the last one's end, and what it said.
        last_words: String,
    },
    /// A worker has written over the memory that the pool shares with it: the pool has given up.
    Damaged,
}

/// The last name of a path.
#[cfg(feature = "process")]
fn short(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(feature = "process")]
impl TaskError {
    /// A worker could not read a task's arguments. Of which task, [`of`](Self::of) says.
    pub(crate) fn undecodable_arguments(reason: String) -> Self {
        Self::Decode { what: Payload::Arguments, task: "", reason }
    }

    /// A worker could not put a result into bytes.
    pub(crate) fn unencodable_result(reason: String) -> Self {
        Self::Encode { what: Payload::Result, task: "", reason }
    }

    /// The same error, of this task.
    pub(crate) fn of(mut self, path: &'static str) -> Self {
        if let Self::Decode { task, .. } | Self::Encode { task, .. } = &mut self {
            *task = path;
        }
        self
    }
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
            Self::Full { bound: 1 } => f.write_str("the queue is full: it has room for 1 task that waits"),
            Self::Full { bound } => write!(f, "the queue is full: it has room for {bound} tasks that wait"),
            Self::OwnWorker => f.write_str("a task can't wait for the end of its own pool: it would wait for itself"),
            Self::StillRunning { workers: 1, waited } => {
                write!(f, "1 worker was still at its task after {waited:?}")
            }
            Self::StillRunning { workers, waited } => {
                write!(f, "{workers} workers were still at their tasks after {waited:?}")
            }
            Self::NoWorkers => f.write_str("a pool of 0 workers would never run a task: give it at least one"),
            Self::TooManyWorkers { workers, most } => {
                write!(f, "{workers} workers were asked for; a pool has at most {most}")
            }
            Self::TooManyThreads { threads, most } => {
                write!(f, "{threads} threads in each worker were asked for; one worker has at most {most}")
            }
            Self::ZeroBound => f.write_str("a queue with room for 0 tasks would never take one: give it at least one"),
            Self::NameWithNul { at } => {
                write!(f, "the name has a NUL at byte {at}: threads' names can't contain one")
            }
            Self::StartFailed { worker, workers, code } => {
                let reason = reason(*code);
                write!(
                    f,
                    "the system gave no thread for worker {worker} of {workers}: {reason}; ask for fewer, or raise the limit \
                     of threads or memory"
                )
            }
            Self::StartHookPanicked { worker, message } => {
                write!(f, "the start hook panicked in worker {worker}: {message}")
            }
            Self::NoSuchCore { core } => write!(f, "core {core} doesn't exist, or this process may not use it"),
            Self::NoCores => f.write_str("a list of no cores leaves workers nowhere to run: name at least one"),
            Self::NoSuchNice { nice } => {
                write!(f, "{nice} is no nice value: they go from -20, the most urgent, to 19")
            }
            Self::NiceRefused { nice, code } => {
                write!(f, "the system did not let a worker have nice value {nice}: {}", reason(*code))
            }
            Self::BadVariable { name, reason } => {
                write!(f, "workers can't have the environment variable {name:?}: {reason}")
            }
            Self::BadFolder { folder, reason } => {
                write!(f, "workers can't have the working directory {folder:?}: {reason}")
            }
            Self::AffinityRefused { code } => {
                write!(f, "the system did not let a worker have its cores: {}", reason(*code))
            }
            Self::NotInitialized => f.write_str(
                "workers are this program, started again, and would not know that they are: make \
                 `millpond::process::init();` the first line of `main` (in a test binary put `millpond::test_support!();` \
                 beside the tests)",
            ),
            #[cfg(feature = "process")]
            Self::NotRegistered { task } => {
                write!(f, "{task} is not registered: add `millpond::tasks![{}];` beside it", short(task))
            }
            Self::Encode { task, reason } => write!(f, "the arguments of {task} could not be encoded: {reason}"),
            Self::TooLarge { bytes, limit } => write!(
                f,
                "the arguments have {bytes} bytes, and a message of this pool at most {limit}: pass a `SharedSlice`, or \
                 raise `payload_limit`"
            ),
            Self::InsideWorker => f.write_str(
                "a worker of a process pool can't make a process pool: make it in the program itself, or in a `Process`",
            ),
            Self::Forked => f.write_str("this process is a forked copy of the one that has the pool: use it there"),
            Self::WorkerNotStarted { worker, reason } => write!(f, "worker {worker} could not be started: {reason}"),
            Self::NoSharedMemory { reason } => {
                write!(f, "the memory that the pool shares with its workers could not be had: {reason}")
            }
            Self::CrashLoop { deaths, last_words } => {
                write!(f, "{deaths} workers in a row, all in one place, died before they had run a task, or could not be started; of the last: {last_words}")
            }
            Self::Damaged => f.write_str(
                "a worker has written over the memory that the pool shares with it: the pool was given up, make a new one",
            ),
            Self::OutOfMemory => f.write_str("there was no memory for the task or its place in a queue"),
        }
    }
}

impl error::Error for PoolError {}
