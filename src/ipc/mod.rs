//! What processes share: queues, pipes, locks, memory.
//!
//! Everything here is a handle. It works between the threads of one process as it does between processes, and it
//! travels: as an argument of a process, and through queues and pipes. A queue, a lock and their like can be cloned, and
//! live until the last handle anywhere is gone. A [`PipeEnd`] and a [`SharedSlice`] have one owner, and move.
//!
//! Values travel in postcard's format, which does not describe itself: what is read must be what was written, field by field. So
//! serde's untagged and internally tagged enums, `flatten` and `skip_serializing_if` cannot travel.
//!
//! Nothing has a name in the file system: all of it lies in one piece of memory that the processes of one tree have in
//! common, and which goes with the last of them. It needs no `/dev/shm`, nor does the size of one matter, as small ones in
//! containers do elsewhere: it counts as memory of the processes. A process that was killed holds nothing afterwards: its locks tell the
//! next one, its permits and its memory come back, the other end of its pipe is told.
//!
//! In a program that starts processes, nothing here is made before [`process::init`](crate::process::init): a child that had memory
//! of its own by then could not join its parent's.
//!
//! A process made by a bare `fork` is not one of them. There whatever can fail here is an error, and dropping a handle, or
//! the guard of a lock that was held, does nothing. A slice is empty there. What cannot fail otherwise, such as [`Event::set`],
//! is done to what the parent has.

#[expect(unsafe_code, reason = "lays its body over a block's bytes")]
mod barrier;
#[expect(unsafe_code, reason = "byte vectors travel as they are")]
mod codec;
#[expect(unsafe_code, reason = "lays its body over a block's bytes")]
mod condition;
mod error;
#[expect(unsafe_code, reason = "lays its body over a block's bytes")]
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
#[expect(unsafe_code, reason = "hands out access to what it guards")]
mod lock;
#[expect(unsafe_code, reason = "lays lanes over a block's bytes")]
mod pipe;
#[expect(unsafe_code, reason = "lays a lane over a block's bytes")]
mod queue;
#[expect(unsafe_code, reason = "lays its body over a block's bytes")]
mod semaphore;
#[expect(unsafe_code, reason = "hands out access to a block's bytes")]
mod shared;
#[expect(unsafe_code, reason = "hands out access to a block's bytes")]
mod slice;
mod stats;
#[cfg(test)]
mod tests;
mod wait;

pub use barrier::{Barrier, Passed};
pub use codec::{Plain, Raw};
pub use condition::Condition;
pub use error::{BarrierError, LockError, PipeError, QueueError, SemaphoreError};
pub use event::Event;
pub use lock::{Guard, Lock};
pub use pipe::{Ends, Nothing, PipeEnd, Receiver, Sender, one_way, pipe, pipe_with_capacity};
pub use queue::Queue;
pub use semaphore::{Permit, Semaphore};
pub use shared::Shared;
pub use slice::SharedSlice;
pub use stats::{IpcStats, purge, stats};
pub use wait::Wait;

pub use crate::shm::ShmError;
pub use crate::shm::message::CodecError;
