#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "nightly", feature(allocator_api))]
#![cfg_attr(
    millpond_loom,
    allow(dead_code, unused_imports, reason = "the models use the protocols, not all that stands on them")
)]

// The map, from the ground up. A floor uses only those below it; a test reads the `use` lines and says so.

// Long random schedules: shuttle stands where loom does, under loom's name. Both `cfg`s are set then.
#[cfg(millpond_shuttle)]
extern crate shuttle as loom;

mod primitive;

mod panics;

mod os;

#[cfg(feature = "thread")]
pub mod sync;

mod block;

mod cache;

#[cfg(not(millpond_loom))]
mod heap;
#[cfg(not(millpond_loom))]
mod pool;

#[cfg(feature = "process")]
mod shm;

#[cfg(all(feature = "process", not(millpond_loom)))]
pub mod ipc;

#[cfg(any(feature = "thread", feature = "process"))]
mod task;

#[cfg(feature = "thread")]
pub mod thread;

#[cfg(all(not(millpond_loom), any(feature = "allocator-api2", feature = "allocator-api2-04", feature = "nightly")))]
#[expect(unsafe_code, reason = "implements the allocator traits")]
mod allocator;

#[cfg(all(not(millpond_loom), feature = "process"))]
pub mod process;

#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
#[path = "pool/owners.rs"]
mod pool_owners;

#[cfg(all(test, millpond_loom, not(millpond_shuttle), feature = "process"))]
#[path = "process/pool/models.rs"]
mod process_pool_models;

#[cfg(all(test, millpond_shuttle))]
#[path = "process/pool/schedules.rs"]
mod process_pool_schedules;

pub use block::MemoryError;
#[cfg(not(millpond_loom))]
pub use block::settings::HugePages;
#[cfg(not(millpond_loom))]
pub use heap::{ClassStats, Heap, HeapConfig, HeapStats};
#[cfg(not(millpond_loom))]
pub use pool::{
    Block, BlockPool, BlockPoolBuilder, Created, OwnedBlock, OwnedPoolBox, Pool, PoolArc, PoolBox, PoolBuilder,
    PoolStats, Recycled, Recycler, RecyclerBuilder, RecyclerError, TryAllocError,
};
#[cfg(all(not(millpond_loom), any(feature = "thread", feature = "process")))]
pub use task::{Dispatch, Payload, PoolError, TaskError, TaskHandle, WhenFull};
