//! wip
mod primitive;
mod os;
mod block;
mod cache;
#[cfg(not(millpond_loom))]
mod heap;
#[cfg(not(millpond_loom))]
pub use heap::{Heap, HeapConfig, HeapStats, ClassStats};
#[cfg(not(millpond_loom))]
pub use block::{reserve::HugePages, layout::LayoutError};
