//! What can go wrong, one enum for each kind of thing.

use core::fmt;

use crate::shm::ShmError;
use crate::shm::lane::LaneError;
use crate::shm::message::CodecError;

/// What all of them have in common: the error behind the error, and that without shared memory there is nothing.
macro_rules! errors_over_memory {
    ($($error:ident $(($($cause:ident),+))?),+) => {$(
        impl std::error::Error for $error {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    $($(Self::$cause(error) => Some(error),)+)?
                    Self::Memory(error) => Some(error),
                    _ => None,
                }
            }
        }

        impl From<ShmError> for $error {
            fn from(error: ShmError) -> Self {
                Self::Memory(error)
            }
        }
    )+};
}
errors_over_memory!(QueueError(Encode, Decode), PipeError(Encode, Decode), LockError, SemaphoreError, BarrierError);

/// For something that can't be made for so many of what it is made for.
fn impossible(f: &mut fmt::Formatter<'_>, what: &str, asked: usize, of: &str, most: usize) -> fmt::Result {
    write!(f, "{what} can't be made for {asked} {of}: from 1 to {most} are possible")
}

/// Why a value was not put into a queue, or not got out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// Every place is taken at this moment.
    Full,
    /// No value waits at this moment.
    Empty,
    /// The time was over before there was a place, or a value.
    TimedOut,
    /// The queue was closed: nothing can be put any more; nothing is left to get.
    Closed,
    /// A queue for so many values can't be made.
    Capacity {
        /// The values that were asked for.
        values: usize,
        /// The most that a queue can be made for.
        most: usize,
    },
    /// The value can't be encoded, or something in it that moves has another holder.
    Encode(CodecError),
    /// What came is no such value. It is gone; the queue works on.
    Decode(CodecError),
    /// There is no shared memory, or no way to it.
    Memory(ShmError),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Empty => f.write_str("the queue is empty"),
            Self::TimedOut => f.write_str("the queue did not serve in time"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::Capacity { values, most } => impossible(f, "a queue", *values, "values", *most),
            Self::Encode(error) => write!(f, "the value can't be encoded: {error}"),
            Self::Decode(error) => write!(f, "what came out of the queue is no such value: {error}"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

/// Why a message was not sent over a pipe, or not received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeError {
    /// The other end was dropped, or its process has ended.
    Disconnected,
    /// The other end has not received what was sent before: there is no room at this moment.
    Full,
    /// No message waits at this moment.
    Empty,
    /// The time was over first.
    TimedOut,
    /// A pipe for so many messages can't be made.
    Capacity {
        /// The messages that were asked for.
        values: usize,
        /// The most that a pipe can be made for.
        most: usize,
    },
    /// The message can't be encoded, or something in it that moves has another holder or is an end of the pipe itself.
    Encode(CodecError),
    /// What came is no such message. It is gone; the pipe works on.
    Decode(CodecError),
    /// There is no shared memory, or no way to it.
    Memory(ShmError),
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the pipe's other end is gone"),
            Self::Full => f.write_str("the pipe is full"),
            Self::Empty => f.write_str("no message waits in the pipe"),
            Self::TimedOut => f.write_str("the pipe's other end did not answer in time"),
            Self::Capacity { values, most } => impossible(f, "a pipe", *values, "messages", *most),
            Self::Encode(error) => write!(f, "the message can't be encoded: {error}"),
            Self::Decode(error) => write!(f, "what came out of the pipe is no such message: {error}"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

/// What the lanes of queues and pipes say, before it is known whether somebody sends or receives.
pub(super) trait FromLane: From<ShmError> {
    fn from_lane(error: LaneError, not_now: Self, closed: Self) -> Self
    where
        Self: Sized,
    {
        match error {
            LaneError::NotNow => not_now,
            LaneError::Closed => closed,
            LaneError::Shm(error) => error.into(),
        }
    }
}

impl FromLane for QueueError {}
impl FromLane for PipeError {}

/// Why a lock was not had.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The process that held it died, and what it guards may be half changed. Said once, to the first who asks; take it
    /// by `lock_recovering` and repair what it guards.
    OwnerDied,
    /// A holder died or panicked, and nobody has repaired what the lock guards: `lock_recovering` does.
    Poisoned,
    /// The time was over first.
    TimedOut,
    /// Somebody else holds it at this moment.
    Held,
    /// There is no shared memory, or no way to it.
    Memory(ShmError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied => f.write_str(
                "the process that held the lock died: what it guards may be half changed (lock_recovering repairs it)",
            ),
            Self::Poisoned => f.write_str(
                "a holder of the lock died or panicked, and what it guards was not repaired (lock_recovering does)",
            ),
            Self::TimedOut => f.write_str("the lock was not free in time"),
            Self::Held => f.write_str("somebody else holds the lock"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

/// Why a permit was not had, or not given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// No permit is left at this moment.
    NoPermits,
    /// The time was over before a permit came back.
    TimedOut,
    /// A semaphore can't have so many permits.
    TooMany {
        /// The permits that there would be.
        permits: usize,
        /// The most that there can be.
        most: usize,
    },
    /// There is no shared memory, or no way to it.
    Memory(ShmError),
}

impl fmt::Display for SemaphoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPermits => f.write_str("no permit of the semaphore is left"),
            Self::TimedOut => f.write_str("no permit of the semaphore came back in time"),
            Self::TooMany { permits, most } => {
                write!(f, "a semaphore can't have {permits} permits: at most {most} are possible")
            }
            Self::Memory(error) => error.fmt(f),
        }
    }
}

/// Why a barrier did not let anybody through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party died, its time was over, or somebody broke it: for all, until it is reset.
    Broken,
    /// The time was over: the barrier is broken now.
    TimedOut,
    /// A barrier can't be made for so many parties.
    Parties {
        /// The parties that were asked for.
        parties: usize,
        /// The most that there can be.
        most: usize,
    },
    /// There is no shared memory, or no way to it.
    Memory(ShmError),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the barrier is broken: a party died, was late, or gave up"),
            Self::TimedOut => f.write_str("the other parties did not come to the barrier in time, which is broken now"),
            Self::Parties { parties, most } => impossible(f, "a barrier", *parties, "parties", *most),
            Self::Memory(error) => error.fmt(f),
        }
    }
}
