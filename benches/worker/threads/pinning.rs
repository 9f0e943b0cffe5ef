//! Threads on chosen cores: whoever compares latencies has to know whether two threads share one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::pool::Pool;

/// Lets the calling thread run on one core only.
pub fn pin(core: usize) {
    // SAFETY: a set is plain bits; no bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is far below the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the set.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(done, 0, "core {core} can be had");
}

/// A pool all of whose threads run on this core, whenever they are made: a thread may run where its maker may.
///
/// (Tasks that wait for each other, one for each worker, would never meet where the pool picks the worker by lot.)
pub fn start_on<P: Pool>(core: usize, workers: usize) -> P {
    pin(core);
    let pool = P::start(workers);
    // Some make a thread when there is a task for it and nobody to take it.
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..workers {
        let ended = Arc::clone(&ended);
        pool.spawn(move || {
            thread::sleep(Duration::from_millis(2));
            ended.fetch_add(1, Ordering::Release);
        });
    }
    while ended.load(Ordering::Acquire) < workers {
        thread::sleep(Duration::from_millis(1));
    }
    pool
}
