//! The workloads of the table and what is to be reached on each.

/// A workload and its target.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The worker's name for it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// The largest ratio to the best peer that is still good.
    pub target: f64,
}

const fn row(name: &'static str, title: &'static str, target: f64) -> Row {
    Row { name, title, target }
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    row("one-64", "one 64-byte block, freed at once", 0.7),
    row("thousand-64", "1,000 × 64 bytes, freed in order", 0.85),
    row("random-100k", "random sizes over 100k live", 0.9),
    row("large", "large, 4 KiB–1 MiB", 1.0),
    row("larson-2", "larson, 2 threads", 0.9),
    row("larson-8", "larson, 8 threads", 0.9),
    row("handover-1x1", "producer–consumer 1:1", 0.7),
    row("handover-4x4", "producer–consumer 4:4", 0.7),
    row("mstress", "mstress-like, dying threads", 1.0),
    row("grow-small", "realloc growth to 4 KiB", 1.0),
    row("grow-large", "realloc growth to 1 MiB", 1.0),
    row("thread-churn", "thread churn", 1.0),
    row("json", "JSON (serde_json)", 0.95),
    row("maps", "BTreeMap and HashMap", 0.95),
    row("syn", "parsing Rust (syn)", 0.95),
    row("strings", "building strings", 0.9),
    row("cache-scratch", "passive false sharing", 1.05),
    row("fragmentation", "fragmentation", 1.0),
    row("fill-512", "filling and freeing 512 MiB", 1.0),
];

/// The workload whose figures are a table of their own.
pub const RETURN: &str = "return-512";

/// Resident memory above the start, a second after freeing 512 MiB: at most this many MiB.
pub const RETURN_TARGET: f64 = 16.0;

/// The geometric mean over all rows: at most this.
pub const MEAN_TARGET: f64 = 0.8;

/// Peak memory: at most this ratio to the best of [`PEAK_PEERS`], or [`PEAK_ALLOWANCE`] more where that is larger.
pub const PEAK_TARGET: f64 = 1.1;

/// Bytes of peak memory that never count as a loss.
pub const PEAK_ALLOWANCE: f64 = (2 << 20) as f64;

/// The peers that peak memory is compared with.
pub const PEAK_PEERS: &[&str] = &["mimalloc3", "mimalloc2", "jemalloc"];
