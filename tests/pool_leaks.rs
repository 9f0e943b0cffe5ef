//! What is lost and what isn't: forgotten guards leak their pool's memory and are counted; a thousand pools that come
//! and go leave nothing behind. One test, in a process of its own: the figures are the process's.

use millpond::{BlockPool, Heap, Pool};

fn committed_after_purge() -> usize {
    Heap::purge();
    Heap::stats().committed
}

#[test]
fn a_forgotten_guard_is_counted_and_a_thousand_pools_leave_nothing() {
    // Bring up what stays: the first region, the table of pools, frames.
    let make = |round: usize| {
        let pool = BlockPool::builder().block_size(100 + round % 50 * 16).build().unwrap();
        let blocks: Vec<_> = (0..50 + round % 200).map(|_| pool.take().unwrap()).collect();
        drop(blocks);
        std::thread::scope(|scope| {
            if round.is_multiple_of(10) {
                scope.spawn(|| drop(pool.take().unwrap())).join().unwrap();
            }
        });
        let typed: Pool<[usize; 5]> = Pool::builder().reserve(round % 40).build().unwrap();
        assert_eq!(typed.alloc([round; 5])[4], round);
        assert_eq!(typed.alloc_arc([round; 5])[4], round);
        (pool, typed)
    };
    (0..50).for_each(|round| drop(make(round)));
    let before = committed_after_purge();
    for round in 0..1_000 {
        drop(make(round));
    }
    assert_eq!(BlockPool::leaked_bytes(), 0);
    let after = committed_after_purge();
    assert!(after <= before + 64 * 1024, "a thousand pools left {} bytes", after - before);

    // As many at once.
    let many: Vec<_> = (0..1_000).map(make).collect();
    assert!(Heap::stats().committed > before + 1_000 * 64 * 1024);
    drop(many);
    let after = committed_after_purge();
    // There are frames for the magazines of 3,000 pools now, and room for as many in the tables.
    assert!(after <= before + 3_000 * 4096, "a thousand pools at once left {} bytes", after - before);
    assert_eq!(BlockPool::leaked_bytes(), 0);

    // One forgotten block holds the memory of its pool, and no other's.
    let pool = BlockPool::new(64, 16);
    let blocks: Vec<_> = (0..5_000).map(|_| pool.take().unwrap()).collect();
    let bytes = pool.stats().committed;
    assert!(bytes >= 5_000 * 64);
    let mut blocks = blocks.into_iter();
    std::mem::forget(blocks.next());
    drop(blocks);
    assert_eq!(pool.stats().live, 1);
    pool.purge();
    let kept = pool.stats().committed;
    assert!(kept < bytes && kept >= 64, "a purge takes all but the run with the block: {kept}");
    drop(pool);
    assert_eq!(BlockPool::leaked_bytes(), kept);

    // So do a leaked box, a raw block and a forgotten shared value; the count is of all together.
    let typed: Pool<u128> = Pool::new();
    *millpond::PoolBox::leak(typed.alloc(1)) += 1;
    let bytes = typed.stats().committed;
    std::mem::forget(typed.alloc_arc(2));
    let shared_bytes = typed.arc_stats().committed;
    drop(typed);
    assert_eq!(BlockPool::leaked_bytes(), kept + bytes + shared_bytes);
    let exact = BlockPool::builder().block_size(64).limit(10).build().unwrap();
    let _ = exact.take_raw().unwrap();
    let exact_bytes = exact.stats().committed;
    drop(exact);
    assert_eq!(BlockPool::leaked_bytes(), kept + bytes + shared_bytes + exact_bytes);
    let left = committed_after_purge();
    assert!(left <= after + BlockPool::leaked_bytes() + 64 * 1024, "no more than what was counted");

    // What leaked stays as it is: new pools don't get it.
    let guard = BlockPool::new(64, 16);
    let lost = {
        let pool = BlockPool::new(64, 16);
        let mut block = pool.take().unwrap();
        block[0].write(42);
        let lost = block.as_ptr();
        std::mem::forget(block);
        lost
    };
    let mut others: Vec<_> = (0..5_000).map(|_| guard.take().unwrap()).collect();
    for other in &mut others {
        assert_ne!(other.as_ptr(), lost);
        other[0].write(7);
    }
    #[expect(unsafe_code, reason = "leaked memory is never unmapped")]
    // SAFETY: written above; nobody else has it.
    let value = unsafe { lost.read() };
    assert_eq!(value, 42);
}
