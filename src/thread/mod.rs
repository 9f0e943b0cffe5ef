//! Threads, named and joined with their value, and [`ThreadPool`].
//!
//! How tasks wait, are found and are waited for, what was measured, and which dispatch to choose: `README.md` beside this
//! file.

#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "gives back a lock that was taken before a fork")]
mod bounded;
#[cfg(not(millpond_loom))]
mod builder;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "owns a closure in a block")]
mod callback;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "counts pointers to a group")]
mod crew;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "points to what is queued")]
mod entry;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lends frames of one stack to other threads")]
mod fork_join;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "gives back a lock that was taken before a fork")]
mod forked;
#[expect(unsafe_code, reason = "holds a closure, then what it came to")]
mod frame;
#[expect(unsafe_code, reason = "links tasks that lie elsewhere")]
mod group;
#[cfg(not(millpond_loom))]
mod here;
#[cfg(not(millpond_loom))]
mod imap;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "moves closures and results through blocks")]
mod job;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "moves items and results between threads")]
mod map;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "takes and gives raw blocks")]
mod memory;
#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
mod models;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "submits what borrows and waits for it")]
mod pool;
#[expect(unsafe_code, reason = "holds raw pointers in segments")]
mod queue;
#[cfg_attr(millpond_loom, allow(dead_code, reason = "modelled as far as it is used"))]
mod room;
#[cfg(all(test, millpond_shuttle))]
mod schedules;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "keeps tasks' borrows alive")]
mod scope;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "finds its seat by a thread-local pointer")]
mod seat;
#[expect(unsafe_code, reason = "links segments by raw pointers")]
mod segments;
#[cfg(not(millpond_loom))]
mod shared;
#[cfg(not(millpond_loom))]
mod single;
mod sleep;
#[cfg(not(millpond_loom))]
mod stats;
#[cfg(not(millpond_loom))]
mod submit;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lends its figures to its seat")]
mod worker;
#[cfg(not(millpond_loom))]
mod yields;

#[cfg(not(millpond_loom))]
pub use crate::task::MapOptions;
#[cfg(not(millpond_loom))]
pub use builder::ThreadPoolBuilder;
#[cfg(not(millpond_loom))]
pub use imap::{Imap, ImapUnordered};
#[cfg(not(millpond_loom))]
pub use pool::ThreadPool;
#[cfg(not(millpond_loom))]
pub use scope::Scope;
#[cfg(not(millpond_loom))]
pub use single::{Current, Thread, ThreadBuilder, ThreadError, ThreadId, current, current_name};
#[cfg(not(millpond_loom))]
pub use stats::{Progress, WorkerStats};
