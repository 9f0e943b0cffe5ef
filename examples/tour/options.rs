//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Parser;

const MIB: u64 = 1024 * 1024;

/// A word index of real text, built with Millpond and on the system's allocator, side by side.
#[derive(Debug, Parser)]
#[command(name = "tour", version)]
pub(crate) struct Options {
    /// Files and directories to index [default: sources here and in the cargo registry]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Threads that build the index [default: twice as many as run at once, at least 4]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Rounds, each of one run with Millpond and one without [default: 3]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,

    /// The most text to read, in MiB [default: 96]
    #[arg(long, value_name = "MIB")]
    limit: Option<NonZeroU64>,

    /// One round over at most 4 MiB
    #[arg(long)]
    quick: bool,

    /// Build the index by a pool of processes with two threads each, and compare with a thread pool
    #[arg(long)]
    pub(crate) processes: bool,

    /// Kill one of these processes half-way
    #[arg(long, requires = "processes")]
    pub(crate) kill: bool,
}

impl Options {
    pub(crate) fn threads(&self) -> usize {
        let by_itself = || std::thread::available_parallelism().map_or(4, |cores| (2 * cores.get()).max(4));
        self.threads.map_or_else(by_itself, NonZeroUsize::get)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { 3 }, NonZeroUsize::get)
    }

    pub(crate) fn most_bytes(&self) -> u64 {
        self.limit.map_or(if self.quick { 4 } else { 96 }, NonZeroU64::get).saturating_mul(MIB)
    }
}
