//! One size: pools of equal blocks, and of objects in them.
//!
//! [`BlockPool`] hands out raw blocks, [`Pool`] typed ones, [`Recycler`] objects that stay constructed. What they
//! promise and what was measured: `README.md` beside this file.

#[expect(unsafe_code, reason = "counts references to a block")]
mod arc;
#[expect(unsafe_code, reason = "hands out raw memory")]
mod block_pool;
#[expect(unsafe_code, reason = "owns a value in a block")]
mod boxed;
mod builder;
#[expect(unsafe_code, reason = "owns a block")]
mod guard;
mod owners;
mod recycler;
mod stats;
#[expect(unsafe_code, reason = "threads, forks and pools hand blocks over")]
mod thread;
#[expect(unsafe_code, reason = "moves values into blocks")]
mod typed;

pub use arc::PoolArc;
pub use block_pool::BlockPool;
pub use boxed::{OwnedPoolBox, PoolBox};
pub use builder::BlockPoolBuilder;
pub use guard::{Block, OwnedBlock};
pub use recycler::{Created, Recycled, Recycler, RecyclerBuilder, RecyclerError};
pub use stats::PoolStats;
pub use typed::{Pool, PoolBuilder, TryAllocError};
