//! What can go wrong on the tour, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use crate::switch::Contestant;

/// Why the tour ends early.
#[derive(Debug)]
pub(crate) enum TourError {
    /// A path from the command line cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// It is neither a file nor a directory.
    NoText { path: PathBuf },
    /// There is nothing to index.
    NothingToRead { skipped: String },
    /// A text that could be read a moment ago cannot be read any more.
    Vanished { path: PathBuf, error: io::Error },
    /// No block for a buffer.
    Memory(millpond::MemoryError),
    /// The thread pool could not be made.
    Pool(millpond::PoolError),
    /// A task of it failed.
    Task(millpond::TaskError),
    /// A child process could not be started or talked to.
    Child { contestant: Contestant, error: io::Error },
    /// A child process failed.
    Failed { contestant: Contestant, status: ExitStatus },
    /// A child process said what nobody understands.
    Garbled { contestant: Contestant, why: String },
    /// A piece of the work came to nothing in its process.
    Piece { why: String },
    /// The answers of two runs differ.
    Differ { one: String, other: String },
    /// The result could not be written, or the list of texts not be read.
    Io(io::Error),
    /// The switch was set by hand to what it doesn't know.
    NoSuchContestant { name: String },
}

impl TourError {
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Differ { .. } => ExitCode::from(3),
            Self::NoSuchContestant { .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for TourError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::NoText { path } => write!(f, "{} is neither a file nor a directory", path.display()),
            Self::NothingToRead { skipped } => {
                write!(f, "there is no text to index{skipped}; name files or directories on the command line")
            }
            Self::Vanished { path, error } => write!(f, "{} changed during the tour: {error}", path.display()),
            Self::Memory(error) => write!(f, "no buffer to read into: {error}"),
            Self::Pool(error) => write!(f, "no threads to work on: {error}"),
            Self::Task(error) => write!(f, "the index could not be built: {error}"),
            Self::Child { contestant, error } => write!(f, "cannot run the tour on {contestant}: {error}"),
            Self::Failed { contestant, status } => write!(f, "the run on {contestant} failed: {status}"),
            Self::Garbled { contestant, why } => write!(f, "the run on {contestant} gave no usable report: {why}"),
            Self::Differ { one, other } => {
                write!(f, "two runs gave different answers:\n{one}and\n{other}")
            }
            Self::Piece { why } => write!(f, "a piece of the index could not be made: {why}"),
            Self::Io(error) => error.fmt(f),
            Self::NoSuchContestant { name } => {
                write!(f, "there is no allocator called {name:?}: millpond and system are known")
            }
        }
    }
}

impl std::error::Error for TourError {}

impl From<io::Error> for TourError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<millpond::MemoryError> for TourError {
    fn from(error: millpond::MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<millpond::PoolError> for TourError {
    fn from(error: millpond::PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<millpond::TaskError> for TourError {
    fn from(error: millpond::TaskError) -> Self {
        Self::Task(error)
    }
}
