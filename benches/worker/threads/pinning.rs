//! Threads on chosen cores: whoever compares latencies has to know whether two threads share one.

use std::sync::{Arc, Barrier};

use crate::pools::Pool;

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

/// Puts each worker of a pool on this core: each runs one of so many tasks that wait for each other.
pub fn pin_workers<P: Pool>(pool: &P, workers: usize, core: usize) {
    let meet = Arc::new(Barrier::new(workers + 1));
    for _ in 0..workers {
        let meet = Arc::clone(&meet);
        pool.spawn(move || {
            pin(core);
            meet.wait();
        });
    }
    meet.wait();
}
