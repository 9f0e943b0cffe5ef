//! What the benchmarked programs do. Every function here allocates as a Rust program does, through `Box`, `Vec`,
//! `String` and the collections; none knows which allocator it runs on.

use std::path::PathBuf;

mod blocks;
pub mod channel;
mod grow;
mod measure;
mod memory;
mod mstress;
mod programs;
pub mod random;
mod threads;

pub use measure::{Sample, timed};

/// One workload: takes the folders with Rust sources (only the parser reads them), gives back what it cost.
pub type Workload = fn(&[PathBuf]) -> Sample;

/// Every workload by its name.
pub const ALL: &[(&str, Workload)] = &[
    ("one-64", |_| blocks::one_64()),
    ("thousand-64", |_| blocks::thousand_64()),
    ("random-100k", |_| blocks::random_100k()),
    ("large", |_| blocks::large()),
    ("larson-2", |_| threads::larson(2)),
    ("larson-8", |_| threads::larson(8)),
    ("handover-1x1", |_| threads::handover(1)),
    ("handover-4x4", |_| threads::handover(4)),
    ("mstress", |_| mstress::mstress()),
    ("grow-small", |_| grow::small()),
    ("grow-large", |_| grow::large()),
    ("thread-churn", |_| threads::churn()),
    ("json", |_| programs::json::parse()),
    ("maps", |_| programs::maps::build()),
    ("syn", programs::rust::parse),
    ("strings", |_| programs::strings::build()),
    ("cache-scratch", |_| threads::cache_scratch()),
    ("fragmentation", |_| memory::fragmentation()),
    ("fill-512", |_| memory::fill_512()),
    ("return-512", |_| memory::return_512()),
];

/// The workload of this name.
pub fn find(name: &str) -> Option<Workload> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, workload)| *workload)
}
