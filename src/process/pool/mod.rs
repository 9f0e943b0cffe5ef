//! A pool of processes that run tasks: none is ever lost.
//!
//! How it works, its states and invariants: `README.md` beside this file.

mod backlog;
mod beds;
mod builder;
mod burial;
mod checks;
mod crew;
mod desk;
mod door;
mod foreman;
mod forked;
#[expect(unsafe_code, reason = "turns offsets into addresses")]
mod ground;
mod hand;
mod inbox;
mod line;
mod look;
mod map;
mod patience;
#[expect(unsafe_code, reason = "says of structures that any bytes are a value")]
mod plan;
mod process_pool;
mod slot;
mod slots;
mod spec;
mod stats;
mod submit;
#[expect(unsafe_code, reason = "shares a task's job with its handle")]
mod task;
mod terms;
mod trace;
mod views;
mod waits;

pub use builder::ProcessPoolBuilder;
pub(super) use hand::serve;
pub use hand::stop_requested;
pub use look::{PoolView, WorkerState, WorkerView, look};
pub use map::{Imap, ImapUnordered};
pub use process_pool::ProcessPool;
pub use stats::{Progress, WorkerStats};
