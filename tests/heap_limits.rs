//! A hard limit: past it there is null or an error, nothing is lost, and everything works again. In a process of its
//! own, since the limit is the process's.
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};
use std::time::Duration;

use millpond::{BlockPool, Heap, HeapConfig, HugePages, MemoryError, Pool};

/// Allocates until there is no more; how many bytes there were. Frees it all.
fn fill(size: usize) -> usize {
    let layout = Layout::from_size_align(size, 8).unwrap();
    let mut pieces = Vec::new();
    loop {
        // SAFETY: the heap takes any layout.
        let at = unsafe { Heap.alloc(layout) };
        if at.is_null() {
            break;
        }
        pieces.push(at);
        assert!(pieces.len() * size < 1 << 30, "the limit was passed");
    }
    let bytes = pieces.len() * size;
    for at in pieces {
        // SAFETY: allocated with this layout.
        unsafe { Heap.dealloc(at, layout) };
    }
    bytes
}

#[test]
fn past_the_hard_limit_is_null_or_an_error_and_then_it_works_again() {
    let limit = 32 << 20;
    HeapConfig::new().hard_limit(limit).apply();
    let refusals = Heap::stats().refusals;
    for size in [64, 5_000, 100_000, 3 << 20, 17 << 20, 16, 30_000, 64] {
        let got = fill(size);
        assert!(got <= limit, "{got} bytes in pieces of {size}");
        // Whole runs and pieces: what is left is less than one of them, and a few caches.
        let least = if size > 16 << 20 { size } else { limit - (size + limit / 8).min(limit) - (2 << 20) };
        let stats = Heap::stats();
        assert!(got >= least, "only {got} bytes in pieces of {size}: something was lost\n{stats}");
        assert_eq!(stats.live_bytes, 0, "{stats}");
    }
    assert!(Heap::stats().refusals > refusals);

    // Growing past it is null, and the piece stays as it was.
    let layout = Layout::from_size_align(10 << 20, 8).unwrap();
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(layout) };
    // SAFETY: so long.
    unsafe { at.write_bytes(7, layout.size()) };
    // SAFETY: allocated with this layout.
    assert!(unsafe { Heap.realloc(at, layout, 40 << 20) }.is_null());
    // SAFETY: the old piece is still ours.
    assert_eq!(unsafe { at.wrapping_add(layout.size() - 1).read() }, 7);
    // SAFETY: as above.
    unsafe { Heap.dealloc(at, layout) };

    // A pool beside it has its memory from the same reserve.
    let pool = BlockPool::new(64 * 1024, 64);
    let mut blocks = Vec::new();
    let error = loop {
        match pool.take() {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MemoryError::OutOfMemory { bytes } if bytes >= 64 * 1024), "{error:?}");
    assert!(error.to_string().contains("bytes for this process"), "{error}");
    assert!(blocks.len() * 64 * 1024 > limit / 2, "{}", blocks.len());
    assert_eq!(pool.stats().live, blocks.len());
    assert!(matches!(pool.reserve(1_000), Err(MemoryError::OutOfMemory { .. })));
    assert!(pool.take().is_err());
    let typed: Pool<[u8; 100_000]> = Pool::new();
    let failed = typed.try_alloc([5; 100_000]).unwrap_err();
    assert_eq!((failed.value[99_999], matches!(failed.error, MemoryError::OutOfMemory { .. })), (5, true));
    blocks.truncate(10);
    pool.purge();
    assert_eq!(typed.try_alloc([5; 100_000]).unwrap()[7], 5);
    drop(blocks);
    drop((typed, pool));
    // A reserve that can't be had is an error, and what it got is not lost.
    let error = BlockPool::builder().block_size(4096).reserve(100_000).build().unwrap_err();
    assert!(matches!(error, MemoryError::OutOfMemory { bytes: 409_600_000 }), "{error:?}");
    assert!(fill(3 << 20) >= 24 << 20, "what the reserve had got came back");

    // A limit below what is in use refuses what is new, and breaks nothing.
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(layout) };
    HeapConfig::new().hard_limit(8 << 20).apply();
    assert_eq!(fill(50_000), 0);
    // SAFETY: allocated with this layout.
    unsafe { Heap.dealloc(at, layout) };
    assert!(fill(50_000) > 0);

    // No limit.
    HeapConfig::new().hard_limit(usize::MAX).apply();
    // A mapping shrinks under a limit below what is in use: it needs nothing.
    let (layout, smaller) =
        (Layout::from_size_align(40 << 20, 8).unwrap(), Layout::from_size_align(20 << 20, 8).unwrap());
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(layout) };
    HeapConfig::new().hard_limit(8 << 20).apply();
    let refusals = Heap::stats().refusals;
    // SAFETY: allocated with this layout.
    let at = unsafe { Heap.realloc(at, layout, smaller.size()) };
    assert!(!at.is_null());
    assert_eq!(Heap::stats().refusals, refusals, "nothing new was asked for");
    // SAFETY: allocated with this layout, after the move.
    unsafe { Heap.dealloc(at, smaller) };
    HeapConfig::new().hard_limit(usize::MAX).apply();
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(Layout::from_size_align(100 << 20, 8).unwrap()) };
    assert!(!at.is_null());
    // SAFETY: allocated with this layout.
    unsafe { Heap.dealloc(at, Layout::from_size_align(100 << 20, 8).unwrap()) };

    // The other settings are kept by setting one.
    let tuned = HeapConfig::new()
        .tick(Duration::ZERO)
        .huge_pages(HugePages::Off)
        .cache_bytes(0)
        .surplus(0)
        .hard_limit(64 << 20);
    tuned.apply();
    HeapConfig::new().apply();
    let got = fill(100_000);
    assert!((50 << 20..64 << 20).contains(&got), "{got}");
    Heap::flush_thread();
    fill(64);
    let stats = Heap::stats();
    assert!(stats.cached_bytes <= 64 << 10, "with no cache bytes, next to nothing is kept: {stats}");
    assert!(stats.committed <= 8 << 20, "with no surplus, what is free goes at once: {stats}");
}
