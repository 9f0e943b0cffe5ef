//! Pools with settings, made at run time.

use super::BlockPool;
use crate::block::{BlockLayout, MemoryError};
use crate::cache::CAPACITY;

/// What a pool is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    pub(super) layout: BlockLayout,
    pub(super) limit: usize,
    /// No caches: every free block can be reached from every thread.
    pub(super) exact: bool,
    pub(super) zeroed: bool,
    pub(super) magazine: usize,
}

impl Config {
    /// The settings of a pool of which only the layout is known.
    pub(super) const fn new(layout: BlockLayout) -> Self {
        Self { layout, limit: usize::MAX, exact: false, zeroed: false, magazine: default_magazine(&layout) }
    }
}

/// Bytes of a magazine whose size nobody chose.
const MAGAZINE_BYTES: usize = 16 * 1024;
/// Up to this limit a pool has no caches unless asked: blocks in them would be missed.
const SMALL_LIMIT: usize = 1024;

const fn default_magazine(layout: &BlockLayout) -> usize {
    let blocks = MAGAZINE_BYTES / layout.size();
    if blocks < 1 {
        1
    } else if blocks > CAPACITY {
        CAPACITY
    } else {
        blocks
    }
}

/// Sets up a [`BlockPool`]: see [`BlockPool::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder makes a pool with `build`"]
pub struct BlockPoolBuilder {
    size: usize,
    align: usize,
    reserve: usize,
    limit: usize,
    exact: Option<bool>,
    zeroed: bool,
    magazine: Option<usize>,
    name: Option<String>,
}

impl BlockPoolBuilder {
    pub(super) const fn new() -> Self {
        Self {
            size: 64,
            align: 1,
            reserve: 0,
            limit: usize::MAX,
            exact: None,
            zeroed: false,
            magazine: None,
            name: None,
        }
    }

    /// Bytes of a block (64 if not said); rounded up to 16 and to the alignment.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// The alignment of every block in bytes, a power of two (16 at least).
    pub fn block_align(mut self, bytes: usize) -> Self {
        self.align = bytes;
        self
    }

    /// Makes this many blocks ready when the pool is built, their memory present, and keeps them ready.
    pub fn reserve(mut self, blocks: usize) -> Self {
        self.reserve = blocks;
        self
    }

    /// The most blocks that may be taken at once. Past it, taking is an error and nothing is lost.
    ///
    /// Free blocks in other threads' caches count as taken: at most two magazines a thread. See
    /// [`exact_limit`](Self::exact_limit).
    pub fn limit(mut self, blocks: usize) -> Self {
        self.limit = blocks;
        self
    }

    /// Whether every free block can be reached from every thread: then no thread keeps any, and each block taken or
    /// given back takes a lock. On by itself for limits of up to 1,024 blocks.
    pub fn exact_limit(mut self, exact: bool) -> Self {
        self.exact = Some(exact);
        self
    }

    /// Whether blocks are handed out filled with zeros.
    pub fn zeroed(mut self, zeroed: bool) -> Self {
        self.zeroed = zeroed;
        self
    }

    /// Blocks that move between a thread and the depot at once; a thread keeps at most twice as many. 1 to 127; by
    /// itself as many as 16 KiB hold.
    pub fn magazine_size(mut self, blocks: usize) -> Self {
        self.magazine = Some(blocks);
        self
    }

    /// A name for statistics and `Debug`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    /// A size of 0 or too large, an alignment that is no power of two, a magazine size out of range, a reserve above
    /// the limit, a name with a NUL, or no memory for the reserve: each a [`MemoryError`] with the numbers.
    pub fn build(self) -> Result<BlockPool, MemoryError> {
        let layout = BlockLayout::new(self.size, self.align)?;
        if self.reserve > self.limit {
            return Err(MemoryError::ReserveAboveLimit { reserve: self.reserve, limit: self.limit });
        }
        let magazine = self.magazine.unwrap_or_else(|| default_magazine(&layout));
        if magazine == 0 || magazine > CAPACITY {
            return Err(MemoryError::BadMagazine { blocks: magazine, max: CAPACITY });
        }
        if let Some(at) = self.name.as_deref().and_then(|name| name.find('\0')) {
            return Err(MemoryError::NameWithNul { at });
        }
        let exact = self.exact.unwrap_or(self.limit <= SMALL_LIMIT);
        let config = Config { layout, limit: self.limit, exact, zeroed: self.zeroed, magazine };
        let pool = BlockPool::with_config(config, self.name.map(String::into_boxed_str));
        pool.reserve(self.reserve)?;
        Ok(pool)
    }
}
