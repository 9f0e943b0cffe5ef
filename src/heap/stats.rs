//! Figures of the heap.

use core::fmt;

use super::class::{self, CLASSES};
use super::depots::DEPOTS;
use super::large;
use super::thread;
use crate::block::RESERVE;
use crate::primitive::Ordering;

/// Figures of one block size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a block.
    pub block_size: usize,
    /// Blocks in use.
    pub live: usize,
    /// Free blocks that threads keep.
    pub cached: usize,
    /// Free blocks in the depot's magazines.
    pub stored: usize,
    /// Free blocks in runs.
    pub free: usize,
    /// Magazines filled from runs, ever.
    pub refills: u64,
    /// Magazines drained to runs, ever.
    pub drains: u64,
    /// Magazines that changed hands whole, ever.
    pub exchanges: u64,
}

/// Figures of the process's heap and of the reserve behind it: bytes, where not said otherwise. Exact when no thread
/// allocates meanwhile; close while they run, since the fast path counts nothing.
///
/// Its `Display` is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// In use, by what the blocks hold (a request of 20 bytes counts 32).
    pub live_bytes: usize,
    /// Blocks in use, large pieces included.
    pub live_blocks: usize,
    /// In free blocks that threads keep.
    pub cached_bytes: usize,
    /// In free blocks of the depots' magazines.
    pub stored_bytes: usize,
    /// Of what is in use, pieces and mappings too large for a class.
    pub large_bytes: usize,
    /// Pieces and mappings too large for a class.
    pub large_blocks: usize,
    /// Got from the system and not given back (an upper bound: what was never touched takes no memory).
    pub committed: usize,
    /// Free pieces that were not given back yet.
    pub waiting: usize,
    /// Free blocks in runs, among blocks in use, whose pages were not given back yet; pools' too.
    pub scattered: usize,
    /// Address space.
    pub reserved: usize,
    /// The most that runs, pieces and mappings ever took at once.
    pub peak: usize,
    /// Given back to the system, ever.
    pub returned: u64,
    /// Times that memory was given back, ever.
    pub purges: u64,
    /// Times that there was no memory, or a limit was reached, ever.
    pub refusals: u64,
    /// By block size, ascending; all sizes that were ever used.
    pub classes: Vec<ClassStats>,
}

impl HeapStats {
    pub(super) fn gather() -> Self {
        thread::register();
        // Room first: it may come from the very heap that is described.
        let mut classes = Vec::with_capacity(CLASSES);
        let cached = thread::cached();
        for (class, depot) in DEPOTS.iter().enumerate() {
            let figures = depot.figures();
            let free = depot.with_source(|runs| runs.free_blocks());
            let held = cached[class] + figures.stored;
            classes.push(ClassStats {
                block_size: class::block_size(class),
                live: figures.out.saturating_sub(held),
                cached: cached[class],
                stored: figures.stored,
                free,
                refills: figures.refills,
                drains: figures.drains,
                exchanges: figures.exchanges,
            });
        }
        // The size of 0 has no blocks.
        classes.remove(0);
        classes.retain(|class| class.refills > 0 || class.free > 0 || class.live > 0);
        classes.sort_unstable_by_key(|class| class.block_size);
        let sum =
            |of: fn(&ClassStats) -> usize| classes.iter().map(|class| of(class) * class.block_size).sum::<usize>();
        let (large_blocks, large_bytes) =
            (large::LIVE.load(Ordering::Relaxed), large::LIVE_BYTES.load(Ordering::Relaxed));
        let reserve = RESERVE.figures();
        Self {
            live_bytes: sum(|class| class.live) + large_bytes,
            live_blocks: classes.iter().map(|class| class.live).sum::<usize>() + large_blocks,
            cached_bytes: sum(|class| class.cached),
            stored_bytes: sum(|class| class.stored),
            large_bytes,
            large_blocks,
            committed: reserve.committed,
            waiting: reserve.waiting,
            scattered: reserve.scattered,
            reserved: reserve.reserved,
            peak: reserve.peak,
            returned: reserve.returned,
            purges: reserve.purges,
            refusals: reserve.refusals,
            classes,
        }
    }
}

/// Bytes in the unit that a person would choose.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "for reading")]
        let value = self.0 as f64;
        let text = match self.0 {
            0..1024 => format!("{} B", self.0),
            1024..0x10_0000 => format!("{:.1} KiB", value / 1024.0),
            _ => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
        };
        f.pad(&text)
    }
}

impl fmt::Display for HeapStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |value: usize| Bytes(value as u64);
        writeln!(f, "live       {:>12} in {} blocks", bytes(self.live_bytes), self.live_blocks)?;
        writeln!(f, "  large    {:>12} in {} pieces", bytes(self.large_bytes), self.large_blocks)?;
        writeln!(f, "cached     {:>12} by threads", bytes(self.cached_bytes))?;
        writeln!(f, "stored     {:>12} in depots", bytes(self.stored_bytes))?;
        writeln!(f, "committed  {:>12} of {} reserved", bytes(self.committed), bytes(self.reserved))?;
        writeln!(f, "waiting    {:>12}, and {} scattered", bytes(self.waiting), bytes(self.scattered))?;
        writeln!(f, "peak       {:>12}", bytes(self.peak))?;
        writeln!(f, "returned   {:>12} in {} purges; {} refusals", Bytes(self.returned), self.purges, self.refusals)?;
        writeln!(
            f,
            "{:>8} {:>10} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "block", "live", "cached", "stored", "free", "refills", "drains", "exchanges"
        )?;
        for class in &self.classes {
            writeln!(
                f,
                "{:>8} {:>10} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
                class.block_size,
                class.live,
                class.cached,
                class.stored,
                class.free,
                class.refills,
                class.drains,
                class.exchanges
            )?;
        }
        Ok(())
    }
}
