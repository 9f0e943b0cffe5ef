//! Figures of the memory that processes share.

use core::fmt;

use crate::shm::{self, ShmError, audit};

/// What is in the memory that this tree of processes shares, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpcStats {
    /// Processes that share it.
    pub members: usize,
    /// Queues, pipes, locks and their like.
    pub objects: usize,
    /// Blocks that a process owns: slices, and values that are being sent or received.
    pub owned: usize,
    /// Blocks on their way: slices and large values that nobody has received.
    pub queued: usize,
    /// References to queues, locks and their like that are on their way.
    pub tokens: usize,
    /// Bytes of the blocks in use.
    pub used: u64,
    /// Bytes that the system gave for it.
    pub committed: u64,
    /// Bytes of address space that it takes.
    pub reserved: u64,
}

impl fmt::Display for IpcStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} processes share {} objects", self.members, self.objects)?;
        writeln!(f, "{} blocks owned, {} on their way, {} handles on their way", self.owned, self.queued, self.tokens)?;
        write!(f, "{} bytes in use, {} committed, {} reserved", self.used, self.committed, self.reserved)
    }
}

/// Looks at all of it; takes a time that grows with the number of blocks that ever were. Exact while nobody is at it.
///
/// # Errors
/// This process is no member.
pub fn stats() -> Result<IpcStats, ShmError> {
    let here = shm::here()?;
    let audit = audit::audit(here.segment)?;
    Ok(IpcStats {
        members: audit.members,
        objects: audit.objects,
        owned: audit.owned,
        queued: audit.queued,
        tokens: audit.tokens,
        used: audit.used,
        committed: audit.committed,
        reserved: here.segment.layout().len() as u64,
    })
}

/// Gives the memory of all large free blocks back to the system. How many bytes that were.
///
/// # Errors
/// This process is no member.
pub fn purge() -> Result<u64, ShmError> {
    let here = shm::here()?;
    Ok(shm::store::purge(here.segment, here.me()))
}
