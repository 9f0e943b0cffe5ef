//! Ticks in a program that uses large pieces only, or a pool without caches: in a process of its own, whose global
//! allocator is the system's, so that nothing else notices a tick.
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond::{BlockPool, Heap, HeapConfig};

fn get(size: usize) -> (*mut u8, Layout) {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(layout) };
    assert!(!at.is_null());
    (at, layout)
}

fn free((at, layout): (*mut u8, Layout)) {
    // SAFETY: from `get`, once.
    unsafe { Heap.dealloc(at, layout) };
}

/// Leaves 12 MiB free, and works until little of it waits. Whether that came about.
fn goes_back(mut work: impl FnMut()) -> bool {
    free(get(12 << 20));
    assert!(Heap::stats().waiting >= 11 << 20, "it would be too little to see");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
        work();
        if Heap::stats().waiting < 1 << 20 {
            return true;
        }
    }
    false
}

/// One test at a time: another thread's ticks would be noticed, too.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn what_is_free_goes_back_though_no_small_block_is_ever_used() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    HeapConfig::new().tick(Duration::from_millis(1)).apply();
    assert!(goes_back(|| free(get(100_000))), "large pieces notice no tick");
    let pool = BlockPool::builder().block_size(100).limit(10).exact_limit(true).build().unwrap();
    assert!(goes_back(|| drop(pool.take().unwrap())), "a pool without caches notices no tick");
}

#[test]
fn a_busy_pool_without_caches_keeps_its_free_blocks() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    HeapConfig::new().tick(Duration::from_millis(1)).apply();
    let pool = BlockPool::builder().block_size(64).limit(100).build().unwrap();
    let mut blocks: Vec<_> = (0..100).map(|_| pool.take().unwrap()).collect();
    blocks.truncate(90);
    // Whoever notices a tick here has used the pool since the last one.
    let tick = || std::thread::sleep(Duration::from_millis(2));
    let take_and_free = || {
        for _ in 0..10 {
            tick();
            (0..100).for_each(|_| drop(pool.take().unwrap()));
        }
    };
    // The first ticks may tell that the heap shrank before.
    take_and_free();
    let before = pool.stats();
    take_and_free();
    while !blocks.is_empty() {
        tick();
        blocks.truncate(blocks.len() - 10);
    }
    let stats = pool.stats();
    assert_eq!((stats.stored, stats.drains), (before.stored + 90, before.drains), "{stats}");
}
