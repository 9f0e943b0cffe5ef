//! Shuttle's schedules, as the lives beside the protocols call them. `loom` is shuttle here.

use loom::Runner;
use loom::scheduler::{PctScheduler, RandomScheduler};

/// Bytes of each thread's stack: magazines pass over it, and a panic prints from it.
const STACK: usize = 1 << 18;

/// Runs `life` in half as many random schedules, and in as many of few preemptions at bad places (PCT).
pub(crate) fn schedules(life: impl Fn() + Send + Sync + 'static) {
    let told = std::env::var("MILLPOND_SCHEDULES").ok();
    let count = told.map_or(10_000, |count| count.parse().expect("a number of schedules"));
    let life = std::sync::Arc::new(life);
    let same = std::sync::Arc::clone(&life);
    let mut config = loom::Config::new();
    config.stack_size = STACK;
    Runner::new(RandomScheduler::new(count / 2), config.clone()).run(move || same());
    Runner::new(PctScheduler::new(3, count - count / 2), config).run(move || life());
}
