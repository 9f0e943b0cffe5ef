//! What can be set of the heap, in code.

use core::time::Duration;

use super::thread::{self, CACHE_BYTES};
use crate::block::RESERVE;
use crate::block::settings::{HugePages, Settings};
use crate::primitive::Ordering;

/// Settings of the process's heap and reserve. Anything not set keeps its value.
///
/// ```
/// use std::time::Duration;
/// use millpond::{HeapConfig, HugePages};
///
/// HeapConfig::new()
///     .tick(Duration::from_millis(50))
///     .huge_pages(HugePages::Off)
///     .cache_bytes(256 * 1024)
///     .apply();
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings take effect with `apply`"]
pub struct HeapConfig {
    settings: Settings,
    cache_bytes: usize,
}

impl Default for HeapConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl HeapConfig {
    /// Starts from what is set now.
    pub fn new() -> Self {
        thread::register();
        Self { settings: RESERVE.settings(), cache_bytes: CACHE_BYTES.load(Ordering::Relaxed) }
    }

    /// Memory that stays free for one tick goes back to the system at the next (100 ms at first). Ticks are noticed on
    /// slow paths: a program that neither allocates nor frees gives nothing back. Zero: only the surplus goes back.
    ///
    /// What is free on a huge page of which more than half is in use waits until more of it is free, until the
    /// [hard limit](Self::hard_limit) needs it, or for [`Heap::purge`](crate::Heap::purge); so it does above the surplus.
    pub fn tick(mut self, every: Duration) -> Self {
        self.settings.tick = every;
        self
    }

    /// What to do about huge pages; for memory that is mapped from now on.
    pub fn huge_pages(mut self, huge: HugePages) -> Self {
        self.settings.huge = huge;
        self
    }

    /// Free bytes that may wait for the tick (16 MiB at first; an eighth of what is in use if that is more). Above it,
    /// the thread whose free crosses the bound gives memory back at once.
    pub fn surplus(mut self, bytes: usize) -> Self {
        self.settings.surplus = bytes;
        self
    }

    /// The most bytes that each thread keeps in its caches (1 MiB at first).
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// The most bytes that may be got from the system at once, caches, pools and bookkeeping included: beyond it
    /// allocation fails, by a null pointer or an error, after all that is free was given back. `usize::MAX` is no limit.
    /// What the system refuses to take back, as it does where memory is locked (`mlockall`), may come on top of it.
    pub fn hard_limit(mut self, bytes: usize) -> Self {
        self.settings.limit = bytes;
        self
    }

    /// Makes the settings the process's.
    pub fn apply(self) {
        RESERVE.configure(self.settings);
        CACHE_BYTES.store(self.cache_bytes, Ordering::Relaxed);
    }
}
