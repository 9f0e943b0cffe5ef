//! Every size: the process's heap.
//!
//! [`class`] says which size a layout has, [`depots`] serve them, [`thread`] is what each thread keeps, [`large`] serves what is too large
//! for a class, [`global`] is the handle. Which sizes, why, and what was measured: `README.md` beside this file.

mod class;
mod config;
mod depots;
#[expect(unsafe_code, reason = "implements the allocator traits")]
mod global;
#[expect(unsafe_code, reason = "hands out raw memory")]
mod large;
mod stats;
#[expect(unsafe_code, reason = "threads and forks hand blocks over")]
mod thread;

pub use config::HeapConfig;
pub use global::Heap;
pub use stats::{ClassStats, HeapStats};
