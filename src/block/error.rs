//! What can go wrong with memory, in words.

use core::fmt;

/// Why memory, or a pool of it, can't be had.
///
/// After any of these everything goes on working; nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// The block size was 0.
    ZeroSize,
    /// The alignment was 0 or no power of two.
    BadAlignment {
        /// What was asked for, in bytes.
        align: usize,
    },
    /// The size, rounded up to the alignment, or the alignment itself, is beyond what a pool can hold.
    TooLarge {
        /// The size asked for, in bytes.
        size: usize,
        /// The alignment asked for, in bytes.
        align: usize,
        /// The largest that fits, in bytes.
        max: usize,
    },
    /// More blocks were to be reserved than the limit allows.
    ReserveAboveLimit {
        /// Blocks to reserve.
        reserve: usize,
        /// The limit, in blocks.
        limit: usize,
    },
    /// A magazine cannot have this size.
    BadMagazine {
        /// What was asked for, in blocks.
        blocks: usize,
        /// The most that fits, in blocks.
        max: usize,
    },
    /// A name cannot hold a NUL byte.
    NameWithNul {
        /// The byte at which it is.
        at: usize,
    },
    /// All blocks that the limit allows are taken, or kept in other threads' caches.
    LimitReached {
        /// The limit, in blocks.
        limit: usize,
        /// Bytes of a block.
        block_size: usize,
    },
    /// The system, or a hard limit, refused memory.
    OutOfMemory {
        /// How many bytes were needed.
        bytes: usize,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroSize => write!(f, "a block of 0 bytes cannot be handed out: the smallest block size is 1 byte"),
            Self::BadAlignment { align } => {
                write!(f, "an alignment of {align} is not a power of two: use 1, 2, 4, 8 and so on")
            }
            Self::TooLarge { size, align, max } => write!(
                f,
                "a block of {size} bytes aligned to {align} does not fit a pool: the size (rounded up to the \
                 alignment) and the alignment may be at most {max} bytes; ask the heap for larger pieces"
            ),
            Self::ReserveAboveLimit { reserve, limit } => write!(
                f,
                "{reserve} blocks cannot be reserved in a pool limited to {limit}: raise the limit or reserve less"
            ),
            Self::BadMagazine { blocks, max } => {
                write!(f, "a magazine of {blocks} blocks cannot be made: it holds from 1 to {max}")
            }
            Self::NameWithNul { at } => write!(f, "the pool's name has a NUL at byte {at}: leave it out"),
            Self::LimitReached { limit, block_size } => write!(
                f,
                "all {limit} blocks of {block_size} bytes that the pool's limit allows are taken: give some back, or \
                 raise the limit"
            ),
            Self::OutOfMemory { bytes } => {
                write!(f, "the system has no {bytes} bytes for this process: free some memory, or raise its limits")
            }
        }
    }
}

impl std::error::Error for MemoryError {}
