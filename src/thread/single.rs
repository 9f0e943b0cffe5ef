//! One thread: named, joined with its value.

use core::fmt;
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::panics::{drop_quietly, guarded, message};
use crate::primitive::{AtomicU64, Ordering};
use crate::sync::{Event, Lock};

/// The number of a thread: never used twice in a process.
///
/// Threads get one when they are spawned here, or else when somebody first asks for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(u64);

impl ThreadId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: numbers differ, and nothing hangs on their order.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

std::thread_local! {
    /// 0 if this thread has no number yet. Without a destructor: it can be asked for until the thread's very end.
    static ID: Cell<u64> = const { Cell::new(0) };
}

/// The thread that asks: its name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    name: String,
    id: ThreadId,
}

impl Current {
    /// Its name: see [`current_name`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> ThreadId {
        self.id
    }
}

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The thread that asks, whoever made it.
#[must_use]
pub fn current() -> Current {
    let id = current_id();
    Current { name: name_of_current(id), id }
}

/// The name of the thread that asks.
///
/// The main thread is called `main`, as it is in panic messages. A thread that nobody named is called after its number:
/// `Thread-7`.
///
/// ```
/// let nobody_named_it = std::thread::spawn(millpond::thread::current_name).join().unwrap();
/// assert!(nobody_named_it.starts_with("Thread-"));
/// ```
#[must_use]
pub fn current_name() -> String {
    name_of_current(current_id())
}

fn current_id() -> ThreadId {
    match ID.get() {
        0 => {
            let id = ThreadId::next();
            ID.set(id.get());
            id
        }
        known => ThreadId(known),
    }
}

fn name_of_current(id: ThreadId) -> String {
    thread::current().name().map_or_else(|| format!("Thread-{id}"), str::to_owned)
}

/// Why a thread was not started, or gave no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum ThreadError {
    /// The name contains a NUL, which the system's names can't.
    BadName {
        /// The name.
        name: String,
        /// The byte at which the NUL is.
        at: usize,
    },
    /// The stack size is beyond any address space.
    StackTooLarge {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The system started no thread.
    Refused {
        /// The thread's name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// The thread panicked.
    Panicked {
        /// The thread's name.
        name: String,
        /// What the panic said.
        message: String,
    },
    /// The thread did not end in time. It goes on, and can be joined later.
    TimedOut {
        /// The thread's name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody has the thread's value already: it was joined before.
    AlreadyJoined {
        /// The thread's name.
        name: String,
    },
    /// A thread wanted to wait for its own end.
    JoinsItself {
        /// The thread's name.
        name: String,
    },
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { name, at } => {
                write!(f, "a thread cannot be named {name:?}: leave out the NUL at byte {at}")
            }
            Self::StackTooLarge { bytes } => {
                write!(f, "a stack of {bytes} bytes fits no address space: ask for less, or leave it at 2 MiB")
            }
            Self::Refused { name, error } => write!(
                f,
                "the system started no thread '{name}' ({error}): end some threads, use a pool, or raise the limit of \
                 threads or memory"
            ),
            Self::Panicked { name, message } => write!(f, "the thread '{name}' panicked: {message}"),
            Self::TimedOut { name, waited } => {
                write!(f, "the thread '{name}' did not end within {waited:?}: it goes on; join it later")
            }
            Self::AlreadyJoined { name } => {
                write!(f, "the thread '{name}' was joined before: its value is handed out once")
            }
            Self::JoinsItself { name } => {
                write!(f, "the thread '{name}' cannot wait for its own end: join it from another thread")
            }
        }
    }
}

impl Error for ThreadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Settings of a thread: see [`Thread::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder starts a thread with `spawn`"]
pub struct ThreadBuilder {
    name: Option<String>,
    stack_size: Option<usize>,
}

/// No stack is as large as this; the standard library rounds the size up, and would overflow.
const LARGEST_STACK: usize = isize::MAX as usize;

impl ThreadBuilder {
    /// The thread's name, without NULs; if there is none it is called after its number, `Thread-7`. The system's own
    /// tools show its first 15 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Bytes of the thread's stack; 2 MiB, or `RUST_MIN_STACK`, if not said. A size that is too small is made larger.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts a thread that runs `work`.
    ///
    /// # Errors
    /// [`BadName`](ThreadError::BadName), [`StackTooLarge`](ThreadError::StackTooLarge), or
    /// [`Refused`](ThreadError::Refused) by the system: too many threads, or no memory for the stack.
    pub fn spawn<T, F>(self, work: F) -> Result<Thread<T>, ThreadError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let id = ThreadId::next();
        let name = self.name.unwrap_or_else(|| format!("Thread-{id}"));
        if let Some(at) = name.bytes().position(|byte| byte == 0) {
            return Err(ThreadError::BadName { name, at });
        }
        let mut builder = thread::Builder::new().name(name.clone());
        if let Some(bytes) = self.stack_size {
            if bytes > LARGEST_STACK {
                return Err(ThreadError::StackTooLarge { bytes });
            }
            builder = builder.stack_size(bytes);
        }
        let end = Arc::new(End { done: Event::new(), outcome: Lock::new(None) });
        let reached = Arc::clone(&end);
        let spawned = builder.spawn(move || {
            ID.set(id.get());
            let outcome = guarded(work);
            *reached.outcome.lock() = Some(outcome.map_err(message));
            reached.done.set();
            // The last one has the value, if the `Thread` is gone.
            drop_quietly(reached);
        });
        match spawned {
            Ok(handle) => Ok(Thread { handle, end, name, id }),
            Err(error) => Err(ThreadError::Refused { name, error }),
        }
    }
}

/// How a thread ended. Without a value once somebody has it.
struct End<T> {
    done: Event,
    outcome: Lock<Option<Result<T, String>>>,
}

/// A thread with a name, and the value that it will have.
///
/// ```
/// use millpond::thread::{self, Thread};
///
/// let t = Thread::spawn("LoopThread", || (thread::current_name(), 42))?;
/// assert_eq!(t.name(), "LoopThread");
/// assert_eq!(t.join()?, ("LoopThread".to_owned(), 42));
/// # Ok::<(), millpond::thread::ThreadError>(())
/// ```
///
/// A panic in the thread is the joiner's [`ThreadError::Panicked`]. A thread whose `Thread` is dropped goes on by itself
/// until the program ends; its value is dropped when it ends.
///
/// The operating system decides which threads run when, and in which order.
pub struct Thread<T> {
    handle: JoinHandle<()>,
    end: Arc<End<T>>,
    name: String,
    id: ThreadId,
}

impl Thread<()> {
    /// Settings to start a thread with: a name, a stack size.
    ///
    /// ```
    /// use millpond::thread::Thread;
    ///
    /// let deep = Thread::builder().name("deep").stack_size(64 << 20).spawn(|| "done")?;
    /// assert_eq!(deep.join()?, "done");
    /// # Ok::<(), millpond::thread::ThreadError>(())
    /// ```
    pub fn builder() -> ThreadBuilder {
        ThreadBuilder::default()
    }
}

impl<T: Send + 'static> Thread<T> {
    /// Starts a thread of this name that runs `work`.
    ///
    /// # Errors
    /// Those of [`ThreadBuilder::spawn`].
    pub fn spawn<F>(name: impl Into<String>, work: F) -> Result<Self, ThreadError>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        Thread::builder().name(name).spawn(work)
    }

    /// Waits until the thread is over, its thread-locals dropped too, and gives its value.
    ///
    /// # Errors
    /// [`Panicked`](ThreadError::Panicked), [`AlreadyJoined`](ThreadError::AlreadyJoined) by
    /// [`join_timeout`](Self::join_timeout), or [`JoinsItself`](ThreadError::JoinsItself).
    pub fn join(self) -> Result<T, ThreadError> {
        self.not_from_within()?;
        self.end.done.wait();
        let outcome = self.outcome();
        // The thread has nothing left to do but to end. That thread-locals panic on the way is not its work's outcome.
        let _ = self.handle.join();
        outcome
    }

    /// Waits until the thread's work is done, but not longer than this, and gives its value. The value is handed out
    /// once.
    ///
    /// # Errors
    /// [`TimedOut`](ThreadError::TimedOut), after which the thread can be joined again, and those of
    /// [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, ThreadError> {
        self.not_from_within()?;
        if !self.end.done.wait_timeout(timeout) {
            return Err(ThreadError::TimedOut { name: self.name.clone(), waited: timeout });
        }
        self.outcome()
    }

    fn not_from_within(&self) -> Result<(), ThreadError> {
        if current_id() == self.id {
            return Err(ThreadError::JoinsItself { name: self.name.clone() });
        }
        Ok(())
    }

    fn outcome(&self) -> Result<T, ThreadError> {
        match self.end.outcome.lock().take() {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(ThreadError::Panicked { name: self.name.clone(), message }),
            None => Err(ThreadError::AlreadyJoined { name: self.name.clone() }),
        }
    }
}

impl<T> Thread<T> {
    /// Whether the thread's work is done: then joining does not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.end.done.is_set()
    }

    /// The thread's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thread's number.
    #[must_use]
    pub const fn id(&self) -> ThreadId {
        self.id
    }
}

impl<T> fmt::Debug for Thread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Thread");
        shown.field("name", &self.name).field("id", &self.id).field("finished", &self.is_finished());
        shown.finish_non_exhaustive()
    }
}
