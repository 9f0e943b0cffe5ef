//! Figures of a pool.

use core::fmt;

/// Figures of one pool: blocks, where not said otherwise. Exact when no thread uses the pool meanwhile; close while
/// they do, since the fast path counts nothing.
///
/// Its `Display` is one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The pool's name, if it has one.
    pub name: Option<String>,
    /// Bytes of a block.
    pub block_size: usize,
    /// Taken and not given back.
    pub live: usize,
    /// Free, kept by threads.
    pub cached: usize,
    /// Free, in the depot's magazines.
    pub stored: usize,
    /// Free, in runs.
    pub free: usize,
    /// All that there are.
    pub blocks: usize,
    /// Bytes got from the reserve.
    pub committed: usize,
    /// The most that may be taken; `None` without a limit.
    pub limit: Option<usize>,
    /// The most that were taken or kept by threads at once.
    pub peak: usize,
    /// Magazines filled from runs, ever.
    pub refills: u64,
    /// Magazines drained to runs, ever.
    pub drains: u64,
    /// Magazines that changed hands whole, ever.
    pub exchanges: u64,
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("pool");
        write!(f, "{name}: {} live of {} blocks of {} bytes", self.live, self.blocks, self.block_size)?;
        if let Some(limit) = self.limit {
            write!(f, " (limit {limit})")?;
        }
        write!(
            f,
            ", {} cached, {} stored, {} free; peak {}; {} refills, {} drains, {} exchanges",
            self.cached, self.stored, self.free, self.peak, self.refills, self.drains, self.exchanges
        )
    }
}
