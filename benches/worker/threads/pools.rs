//! Which workloads need no more than what any pool can do.

use workloads::Sample;

use crate::pool::Pool;
use crate::{latency, rows};

/// Runs a workload that any pool can do.
pub fn run<P: Pool>(workload: &str, workers: usize) -> Option<Sample> {
    let pool = || P::start(workers);
    match workload {
        "empty" => Some(rows::empty(&pool())),
        "short" => Some(rows::short(&pool(), 1)),
        "short-two" => Some(rows::short(&pool(), 2)),
        "uneven" => Some(rows::uneven(&pool())),
        "latency-two" => Some(latency::asleep::<P>(workers, true)),
        "latency-one" => Some(latency::asleep::<P>(workers, false)),
        _ => None,
    }
}
