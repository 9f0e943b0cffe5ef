//! What can go wrong at a semaphore and at a barrier, in words.

use core::fmt;
use std::error::Error;
use std::time::Duration;

/// Why there are no permits, or why none can be given.
///
/// After any of these the semaphore is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// So many permits are not free now, or others wait for some.
    NoPermits {
        /// How many were asked for.
        wanted: usize,
        /// How many are free.
        available: usize,
        /// How many threads wait, and come first.
        waiting: usize,
    },
    /// So many permits were not free all the time.
    TimedOut {
        /// How many were asked for.
        wanted: usize,
        /// How long they were waited for.
        waited: Duration,
    },
    /// More permits were asked for than there can ever be.
    TooMany {
        /// How many were asked for.
        wanted: usize,
        /// The most there can be.
        limit: usize,
    },
    /// More permits would be given back than the semaphore has room for.
    AboveLimit {
        /// How many were to be given.
        released: usize,
        /// How many there are, free and taken.
        existing: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The semaphore is closed.
    Closed,
}

/// "1 permit", "2 permits".
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}

impl fmt::Display for SemaphoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPermits { wanted, available, waiting } => write!(
                f,
                "{} cannot be had now: {available} free, {} waiting for some already; wait with `acquire`, or drop \
                 some permits",
                Count(*wanted, "permit"),
                Count(*waiting, "thread")
            ),
            Self::TimedOut { wanted, waited } => {
                let wanted = Count(*wanted, "permit");
                write!(f, "{wanted} did not become free within {waited:?}: wait longer, or drop some earlier")
            }
            Self::TooMany { wanted, limit } => write!(
                f,
                "{} can never be free at once in a semaphore of at most {limit}: ask for fewer, or make it with more",
                Count(*wanted, "permit")
            ),
            Self::AboveLimit { released, existing, limit } => write!(
                f,
                "{} cannot be released: the semaphore has {existing} of at most {limit}; release only what was \
                 forgotten, as dropped permits come back by themselves",
                Count(*released, "permit")
            ),
            Self::Closed => write!(f, "the semaphore is closed: it gives no permits any more"),
        }
    }
}

impl Error for SemaphoreError {}

/// Why a thread was not let through a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// The barrier was made for 0 parties.
    NoParties,
    /// The barrier is broken: somebody gave up or called `abort` or `reset` while this thread waited, or before it came.
    Broken,
    /// The others did not come in time. The barrier is broken now.
    TimedOut {
        /// How long they were waited for.
        waited: Duration,
        /// How many had come, with this thread.
        arrived: usize,
        /// How many should have come.
        parties: usize,
    },
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParties => {
                write!(f, "a barrier of 0 parties lets nobody through: make it for 1 or more")
            }
            Self::Broken => write!(
                f,
                "the barrier is broken, as one of its parties gave up: once all know, `reset` makes it usable again"
            ),
            Self::TimedOut { waited, arrived, parties } => write!(
                f,
                "only {arrived} of {parties} parties came to the barrier within {waited:?}, so it is broken: `reset` \
                 makes it usable again"
            ),
        }
    }
}

impl Error for BarrierError {}
