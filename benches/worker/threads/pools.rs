//! What a pool has to be able to do, and which workloads need no more.

use workloads::Sample;

use crate::{latency, rows};

/// A thread pool.
pub trait Pool: Sync {
    /// With so many workers.
    fn start(workers: usize) -> Self;
    /// Runs a closure some time.
    fn spawn(&self, f: impl FnOnce() + Send + 'static);
    /// Runs a closure and waits for what it returns, in the way that the pool is meant to be used.
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64;
}

/// Runs a workload that any pool can do.
pub fn run<P: Pool>(workload: &str, workers: usize) -> Option<Sample> {
    let pool = P::start(workers);
    match workload {
        "empty" => Some(rows::empty(&pool)),
        "short" => Some(rows::short(&pool, 1)),
        "short-two" => Some(rows::short(&pool, 2)),
        "uneven" => Some(rows::uneven(&pool)),
        "latency-two" => Some(latency::asleep(&pool, workers, true)),
        "latency-one" => Some(latency::asleep(&pool, workers, false)),
        _ => None,
    }
}
