//! What can go wrong with shared memory.

use core::fmt;
use std::io;

/// Why there is no shared memory for something, or no way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShmError {
    /// The system refused.
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// How many bytes of it.
        bytes: usize,
        /// Its error number.
        errno: i32,
    },
    /// So much doesn't fit into any block of the segment.
    TooLarge {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// All blocks of this size are in use.
    NoBlocks {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// More processes than can be members at once.
    TooManyMembers,
    /// More handles are on their way than can be at once.
    TooManyInTransit,
    /// This process is not a member: it was made by `fork`, not started by Millpond.
    NotAMember,
    /// This process is a member of another segment already.
    AlreadyAMember,
    /// What was handed over as a segment is none, or one of another version.
    NotASegment,
    /// Somebody wrote over what the object is made of.
    Damaged,
    /// What the handle stands for is gone, or is no such thing: another type was asked for, or somebody wrote over it.
    Stale,
}

impl ShmError {
    pub(crate) fn refused(what: &'static str, bytes: usize, error: &io::Error) -> Self {
        Self::Refused { what, bytes, errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl fmt::Display for ShmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { what, bytes, errno } => {
                let reason = io::Error::from_raw_os_error(*errno);
                write!(f, "the system refused {what} of {bytes} bytes: {reason}")
            }
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes are more than a block of shared memory can have"),
            Self::NoBlocks { bytes } => {
                write!(f, "no shared memory is left for {bytes} bytes: all blocks of this size are in use")
            }
            Self::TooManyMembers => {
                write!(f, "{} processes share the memory already, and that is the most", super::layout::MEMBERS)
            }
            Self::TooManyInTransit => {
                write!(f, "{} handles are on their way already, and that is the most", super::layout::TOKENS)
            }
            Self::NotAMember => f.write_str(
                "this process was made by fork and is no member: what processes share is for those that Millpond starts",
            ),
            Self::AlreadyAMember => f.write_str("this process is a member of another segment already"),
            Self::NotASegment => f.write_str("what was handed over is not a segment of this version of Millpond"),
            Self::Damaged => f.write_str("another process wrote over the shared memory that this is made of"),
            Self::Stale => f.write_str("what this handle stands for is gone, or is no such thing"),
        }
    }
}

impl std::error::Error for ShmError {}
