//! How a map is cut.

use core::num::NonZeroUsize;

/// How a map is cut into pieces.
///
/// ```
/// use millpond::thread::{MapOptions, ThreadPool};
///
/// let pool = ThreadPool::builder().workers(2).build()?;
/// let squares = pool.map_with(MapOptions::new().chunk_size(100), 0..1_000_u64, |n| n * n)?;
/// assert_eq!(squares[999], 998_001);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "options are given to `map_with`, `imap_with` or `imap_unordered_with`"]
pub struct MapOptions {
    chunk: Option<NonZeroUsize>,
}

impl MapOptions {
    /// The pool chooses.
    pub const fn new() -> Self {
        Self { chunk: None }
    }

    /// Items that a worker takes at once; 0 leaves the choice to the pool. Large pieces cost less, small ones are shared
    /// more evenly.
    pub const fn chunk_size(mut self, items: usize) -> Self {
        self.chunk = NonZeroUsize::new(items);
        self
    }

    /// Items of a piece when there are so many in all.
    pub(crate) fn pick(self, items: usize, workers: usize) -> usize {
        /// Pieces for each worker: so uneven may the items be.
        const PIECES: usize = 16;
        self.chunk.map_or_else(|| items.div_ceil(workers * PIECES).max(1), NonZeroUsize::get)
    }

    /// Items of a piece when nobody knows how many there are in all.
    pub(crate) fn pick_lazily(self) -> usize {
        self.chunk.map_or(1, NonZeroUsize::get)
    }
}
