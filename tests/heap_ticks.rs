//! Ticks in a program that uses large pieces only, or a pool without caches: in a process of its own, whose global
//! allocator is the system's, so that nothing else notices a tick.
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};
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

#[test]
fn what_is_free_goes_back_though_no_small_block_is_ever_used() {
    HeapConfig::new().tick(Duration::from_millis(1)).apply();
    assert!(goes_back(|| free(get(100_000))), "large pieces notice no tick");
    let pool = BlockPool::builder().block_size(100).limit(10).exact_limit(true).build().unwrap();
    assert!(goes_back(|| drop(pool.take().unwrap())), "a pool without caches notices no tick");
}
