//! What can be set of a reserve, what it can be asked, and who else may have free memory.

use core::time::Duration;

/// What to do about the system's huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HugePages {
    /// Tell the system never to use them for Millpond's memory.
    Off,
    /// Tell the system nothing: its own setting decides.
    Neutral,
    /// Small heaps on small pages; a heap of more than a few MiB grows by whole huge pages (the default).
    #[default]
    Growing,
}

/// What can be set of the reserve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) huge: HugePages,
    /// Used bytes from which on new memory lies on huge pages.
    pub(crate) huge_after: usize,
    /// Bytes that may be in use at once, mappings of their own included.
    pub(crate) limit: usize,
    /// Free bytes that may wait for the tick at least.
    pub(crate) surplus: usize,
    /// What stays free for one tick goes back at the next; zero stops it.
    pub(crate) tick: Duration,
}

/// Figures of the reserve, in bytes where not said otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Address space.
    pub(crate) reserved: usize,
    /// In use or free but not given back.
    pub(crate) committed: usize,
    pub(crate) used: usize,
    /// Free, in pieces, and not given back.
    pub(crate) waiting: usize,
    /// Free, in runs among blocks in use, and not given back.
    pub(crate) scattered: usize,
    pub(crate) direct: usize,
    pub(crate) peak: usize,
    /// Given back to the system, ever.
    pub(crate) returned: u64,
    pub(crate) regions: usize,
    /// Calls that gave memory back, ever.
    pub(crate) purges: u64,
    pub(crate) refusals: u64,
}

/// Somebody who has free memory that could come back to the reserve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    /// Gives back all that is free.
    pub(crate) purge: fn(),
    /// Gives back what lay idle since the last tick; all that is free, if the heap shrank.
    pub(crate) trim: fn(bool),
}
