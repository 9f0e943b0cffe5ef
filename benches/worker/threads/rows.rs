//! The workloads that need no results.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use workloads::{Sample, timed};

use crate::pool::Pool;

/// Counts what has ended, and lets the one that waits go on.
struct Countdown {
    left: AtomicUsize,
    waiter: Thread,
}

impl Countdown {
    fn new(tasks: usize) -> &'static Self {
        Box::leak(Box::new(Self { left: AtomicUsize::new(tasks), waiter: thread::current() }))
    }

    fn count(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.unpark();
        }
    }

    fn wait(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    }
}

/// A million tasks that count down, from one submitter.
pub fn empty<P: Pool>(pool: &P) -> Sample {
    const TASKS: usize = 1_000_000;
    let countdown = Countdown::new(TASKS);
    timed(TASKS as u64, || {
        for _ in 0..TASKS {
            pool.spawn(|| countdown.count());
        }
        countdown.wait();
    })
}

/// Steps of a calculation that take about a microsecond.
fn steps() -> u64 {
    const PROBE: u64 = 200_000;
    let once = || {
        let start = Instant::now();
        calculate(PROBE);
        start.elapsed()
    };
    let fastest = (0..20).map(|_| once()).min().unwrap_or(Duration::from_millis(1));
    PROBE * 1_000 / fastest.as_nanos().max(1) as u64
}

fn calculate(steps: u64) -> u64 {
    let mut value = black_box(1_u64);
    for step in 0..steps {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
    }
    black_box(value)
}

/// 100,000 tasks of a microsecond, from one submitter or two.
pub fn short<P: Pool>(pool: &P, submitters: usize) -> Sample {
    const TASKS: usize = 100_000;
    let steps = steps();
    let countdown = Countdown::new(TASKS);
    let submit = || {
        for _ in 0..TASKS / submitters {
            pool.spawn(move || {
                calculate(steps);
                countdown.count();
            });
        }
    };
    timed(TASKS as u64, || {
        thread::scope(|scope| {
            for _ in 1..submitters {
                scope.spawn(submit);
            }
            submit();
        });
        countdown.wait();
    })
}

/// 2,000 tasks of which every eighth takes a hundred times as long: what the choice of the worker is worth.
pub fn uneven<P: Pool>(pool: &P) -> Sample {
    const TASKS: usize = 2_000;
    let steps = steps();
    let sum: &AtomicU64 = Box::leak(Box::default());
    let countdown = Countdown::new(TASKS);
    timed(TASKS as u64, || {
        for task in 0..TASKS {
            let steps = if task % 8 == 0 { steps * 200 } else { steps * 2 };
            pool.spawn(move || {
                sum.fetch_add(calculate(steps) & 1, Ordering::Relaxed);
                countdown.count();
            });
        }
        countdown.wait();
    })
}
