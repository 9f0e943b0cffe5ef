//! Drives the benchmarks: builds a worker program for each allocator, runs them in interleaved rounds, each run a fresh
//! process, and turns what they print into ratios and tables.

mod options;
mod peers;
mod rounds;
mod table;
mod verdict;
mod workers;

pub use options::Options;
pub use peers::{ALLOCATORS, Allocator, MILLPOND};
pub use rounds::{Figures, Rounds};
pub use table::Table;
pub use verdict::{Ratio, geometric_mean, median};
pub use workers::{Profile, Worker, Workshop};
