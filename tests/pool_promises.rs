//! What a pool of blocks promises: a reserve made before first use, the freed block handed out next, and a limit that
//! loses nothing.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond::{BlockPool, MemoryError};

use self::pages::present_pages;

#[path = "common/pages.rs"]
mod pages;

#[test]
fn reserved_blocks_are_ready_before_first_use() {
    let pool = BlockPool::builder().block_size(512).reserve(10_000).build().unwrap();
    let built = pool.stats();
    assert!(built.blocks >= 10_000, "{built}");
    assert_eq!((built.live, built.cached), (0, 0), "{built}");
    assert!(built.committed >= 10_000 * 512, "{built}");
    let blocks: Vec<_> = (0..10_000).map(|_| pool.take().unwrap()).collect();
    let used = pool.stats();
    assert_eq!((used.blocks, used.committed), (built.blocks, built.committed), "taking them asked for no more");
    assert_eq!(used.live, 10_000);
    drop(blocks);
}

#[test]
fn reserved_memory_is_present_before_it_is_touched() {
    let pool = BlockPool::builder().block_size(64 * 1024).reserve(32).build().unwrap();
    let blocks: Vec<_> = (0..32).map(|_| pool.take().unwrap()).collect();
    let present: usize = blocks.iter().map(|block| present_pages(block.as_ptr(), block.len())).sum();
    assert_eq!(present, 32 * 16, "pages of 32 blocks of 64 KiB that nobody wrote to");
    let later = pool.take().unwrap();
    drop((blocks, later));
}

#[test]
fn reserving_later_adds_what_is_missing() {
    let pool = BlockPool::new(128, 16);
    pool.reserve(0).unwrap();
    assert_eq!(pool.stats().blocks, 0);
    pool.reserve(3_000).unwrap();
    let reserved = pool.stats().blocks;
    assert!(reserved >= 3_000);
    pool.reserve(3_000).unwrap();
    assert_eq!(pool.stats().blocks, reserved, "they are there already");
}

#[test]
fn a_smaller_reserve_does_not_take_a_larger_one_back() {
    let pool = BlockPool::new(1024, 16);
    pool.reserve(2_000).unwrap();
    pool.reserve(10).unwrap();
    pool.purge();
    assert!(pool.stats().blocks >= 2_000, "{}", pool.stats());
}

#[test]
fn nothing_is_asked_of_the_system_before_first_use() {
    static UNUSED: BlockPool = BlockPool::new(4096, 4096);
    let stats = UNUSED.stats();
    assert_eq!((stats.blocks, stats.committed, stats.live), (0, 0, 0));
    UNUSED.purge();
    assert_eq!(UNUSED.stats().committed, 0);
}

/// Frees each of `live` in turn; the next block taken must be just that one.
fn freed_is_next(pool: &BlockPool, live: usize) {
    let mut blocks: Vec<_> = (0..live).map(|_| pool.take().unwrap()).collect();
    for index in (0..live).rev().chain((0..live).step_by(7)) {
        let block = blocks.swap_remove(index);
        let address = block.as_ptr();
        drop(block);
        let next = pool.take().unwrap();
        assert_eq!(next.as_ptr(), address, "block {index} of {live} in {pool:?}");
        blocks.push(next);
    }
}

#[test]
fn a_freed_block_is_the_next_handed_out() {
    for size in [16, 64, 1000, 4096, 100_000] {
        let pool = BlockPool::new(size, 16);
        for live in [1, 2, 8, 64, 300] {
            freed_is_next(&pool, live);
        }
    }
}

#[test]
fn a_few_freed_blocks_are_handed_out_last_in_first_out() {
    let pool = BlockPool::new(256, 16);
    let blocks: Vec<_> = (0..8).map(|_| pool.take().unwrap()).collect();
    let freed: Vec<_> = blocks.into_iter().map(|block| block.as_ptr()).collect();
    let again: Vec<_> = (0..8).map(|_| pool.take().unwrap()).collect();
    let again: Vec<_> = again.iter().rev().map(|block| block.as_ptr()).collect();
    assert_eq!(again, freed);
}

#[test]
fn a_freed_block_is_the_next_handed_out_by_a_pool_without_caches() {
    for limit in [1, 8, 300, 1_000] {
        let pool = BlockPool::builder().block_size(64).limit(limit).build().unwrap();
        freed_is_next(&pool, limit.div_ceil(2));
        freed_is_next(&pool, limit);
    }
}

#[test]
fn without_caches_the_freed_block_is_the_next_one_however_many_are_free() {
    for (size, live) in [(64, 1_000), (4096, 1_000), (128 << 10, 100), (1 << 20, 20)] {
        let pool = BlockPool::builder().block_size(size).limit(live).build().unwrap();
        let mut blocks: Vec<_> = (0..live).map(|_| pool.take().unwrap()).collect();
        while let Some(block) = blocks.pop() {
            let address = block.as_ptr();
            drop(block);
            assert_eq!(pool.take().unwrap().as_ptr(), address, "{} blocks of {size} are in use", blocks.len());
        }
        assert_eq!(pool.stats().live, 0);
        blocks.extend((0..live).map(|_| pool.take().unwrap()));
        assert!(pool.take().is_err());
    }
}

#[test]
fn a_limit_is_an_error_with_its_numbers_and_loses_nothing() {
    for (limit, exact) in [(1, true), (10, true), (10, false), (1_000, true), (3_000, false), (3_000, true)] {
        let pool = BlockPool::builder().block_size(96).limit(limit).exact_limit(exact).build().unwrap();
        for _ in 0..3 {
            let mut blocks: Vec<_> = (0..limit).map(|_| pool.take().unwrap()).collect();
            for _ in 0..3 {
                let error = pool.take().unwrap_err();
                assert_eq!(error, MemoryError::LimitReached { limit, block_size: 96 });
                let text = error.to_string();
                assert!(text.contains(&limit.to_string()) && text.contains("96"), "{text}");
            }
            assert_eq!(pool.stats().live, limit);
            let address = blocks.pop().unwrap().as_ptr();
            blocks.push(pool.take().unwrap());
            assert_eq!(blocks.last().unwrap().as_ptr(), address, "the one that was given back");
            assert!(pool.take().is_err());
            drop(blocks);
            assert_eq!(pool.stats().live, 0, "{}", pool.stats());
        }
    }
}

#[test]
fn a_limit_of_zero_is_a_pool_without_blocks() {
    let pool = BlockPool::builder().limit(0).build().unwrap();
    assert_eq!(pool.take().unwrap_err(), MemoryError::LimitReached { limit: 0, block_size: 64 });
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn with_an_exact_limit_every_free_block_can_be_had_from_every_thread() {
    for (limit, said) in [(100, None), (1_024, None), (5_000, Some(true))] {
        let mut builder = BlockPool::builder().block_size(64).limit(limit);
        if let Some(exact) = said {
            builder = builder.exact_limit(exact);
        }
        let pool = &builder.build().unwrap();
        for _ in 0..3 {
            // One thread takes and frees them all, and lives on while another one takes them all.
            let (freed, taken) = (&Barrier::new(2), &Barrier::new(2));
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let blocks: Vec<_> = (0..limit).map(|_| pool.take().unwrap()).collect();
                    drop(blocks);
                    freed.wait();
                    taken.wait();
                });
                freed.wait();
                let blocks: Vec<_> = (0..limit).map_while(|_| pool.take().ok()).collect();
                taken.wait();
                assert_eq!(blocks.len(), limit, "{pool:?}");
                assert!(pool.take().is_err());
            });
        }
    }
}

#[test]
fn a_limited_pool_with_caches_keeps_at_most_two_magazines_a_thread_out_of_reach() {
    const LIMIT: usize = 4_000;
    const MAGAZINE: usize = 20;
    const THREADS: usize = 5;
    let pool = &BlockPool::builder().block_size(64).limit(LIMIT).magazine_size(MAGAZINE).build().unwrap();
    let (freed, taken) = (&Barrier::new(THREADS + 1), &Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        let work = move || {
            let blocks: Vec<_> = (0..LIMIT / THREADS).map(|_| pool.take().unwrap()).collect();
            drop(blocks);
            freed.wait();
            taken.wait();
        };
        let threads = [(); THREADS].map(|()| scope.spawn(work));
        freed.wait();
        let cached = pool.stats().cached;
        assert!(cached <= THREADS * 2 * MAGAZINE, "{}", pool.stats());
        let blocks: Vec<_> = (0..LIMIT).map_while(|_| pool.take().ok()).collect();
        assert!(blocks.len() >= LIMIT - THREADS * 2 * MAGAZINE, "{} could be had", blocks.len());
        assert_eq!(blocks.len() + pool.stats().cached, LIMIT, "{}", pool.stats());
        taken.wait();
        drop(blocks);
        // Joined by handle: a scope alone does not wait for the threads' destructors.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    // The threads are gone, and what they kept is back.
    let blocks: Vec<_> = (0..LIMIT).map(|_| pool.take().unwrap()).collect();
    assert!(pool.take().is_err());
    drop(blocks);
}

#[test]
fn threads_at_the_limit_never_hold_more_than_it_and_always_hear_why() {
    const LIMIT: usize = 1;
    for exact in [true, false] {
        let pool = &BlockPool::builder().block_size(64).limit(LIMIT).exact_limit(exact).build().unwrap();
        let held = &AtomicUsize::new(0);
        let work = move || {
            for _ in 0..20_000 {
                match pool.take() {
                    Ok(block) => {
                        assert!(held.fetch_add(1, Ordering::SeqCst) < LIMIT);
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(block);
                    }
                    Err(error) => assert_eq!(error, MemoryError::LimitReached { limit: LIMIT, block_size: 64 }),
                }
            }
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(pool.stats().live, 0);
    }
}

#[test]
fn zeroed_blocks_are_zero_whatever_their_last_user_left() {
    for limit in [usize::MAX, 10] {
        let pool = BlockPool::builder().block_size(200).limit(limit).zeroed(true).build().unwrap();
        for round in 0..4 {
            let mut blocks: Vec<_> = (0..10).map(|_| pool.take().unwrap()).collect();
            for block in &mut blocks {
                assert_eq!(block.len(), 208);
                for byte in block.iter_mut() {
                    #[expect(unsafe_code, reason = "the pool promises zeros")]
                    // SAFETY: blocks of this pool are written before they are handed out.
                    let value = unsafe { byte.assume_init() };
                    assert_eq!(value, 0, "round {round}");
                    byte.write(0xA5);
                }
            }
        }
    }
}

#[test]
fn a_block_is_as_large_and_as_aligned_as_its_pool_says() {
    let sizes = [1, 15, 16, 17, 100, 1024, 4097, 40_000, 1 << 20, 5 << 20, 16 << 20];
    for size in sizes {
        for align in [1, 16, 64, 4096, 1 << 16, 2 << 20, 16 << 20] {
            let Ok(pool) = BlockPool::builder().block_size(size).block_align(align).build() else {
                assert!(size.next_multiple_of(align) > 16 << 20);
                continue;
            };
            assert!(pool.block_size() >= size && pool.block_align() >= align);
            let mut blocks: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
            for block in &mut blocks {
                assert_eq!(block.len(), pool.block_size());
                assert_eq!(block.as_ptr().addr() % align, 0, "{pool:?}");
                let last = block.len() - 1;
                block[0].write(1);
                block[last].write(2);
            }
            let mut starts: Vec<_> = blocks.iter().map(|block| block.as_ptr().addr()).collect();
            starts.sort_unstable();
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= size), "blocks of {pool:?} overlap");
        }
    }
}

#[test]
fn a_magazine_size_bounds_what_a_thread_keeps() {
    for magazine in [1, 2, 7, 127] {
        let pool = BlockPool::builder().block_size(32).magazine_size(magazine).build().unwrap();
        let blocks: Vec<_> = (0..1_000).map(|_| pool.take().unwrap()).collect();
        assert!(pool.stats().cached <= 2 * magazine, "{}", pool.stats());
        drop(blocks);
        let stats = pool.stats();
        assert!(stats.cached <= 2 * magazine, "{stats}");
        assert_eq!(stats.live, 0, "{stats}");
    }
}

#[test]
fn statistics_are_exact_at_rest_and_add_up() {
    let pool = &BlockPool::builder().block_size(64).name("ledger").build().unwrap();
    let check = |live: usize| {
        let stats = pool.stats();
        assert_eq!(stats.live, live, "{stats}");
        assert_eq!(stats.live + stats.cached + stats.stored + stats.free, stats.blocks, "{stats}");
        assert!(stats.peak >= live && stats.committed >= stats.blocks * 64, "{stats}");
        assert_eq!((stats.name.as_deref(), stats.block_size, stats.limit), (Some("ledger"), 64, None));
    };
    check(0);
    let mine: Vec<_> = (0..1_234).map(|_| pool.take().unwrap()).collect();
    check(1_234);
    let (ready, done) = (&Barrier::new(4), &Barrier::new(4));
    std::thread::scope(|scope| {
        let threads = [0, 1, 2].map(|thread| {
            scope.spawn(move || {
                let blocks: Vec<_> = (0..100 + thread).map(|_| pool.take().unwrap()).collect();
                drop(pool.take().unwrap());
                ready.wait();
                done.wait();
                drop(blocks);
            })
        });
        ready.wait();
        check(1_234 + 100 + 101 + 102);
        done.wait();
        // Joined by handle: a scope alone does not wait for the threads' destructors.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    check(1_234);
    drop(mine);
    check(0);
    pool.purge();
    let stats = pool.stats();
    assert_eq!((stats.blocks, stats.committed, stats.cached, stats.stored), (0, 0, 0, 0), "{stats}");
    assert!(stats.peak >= 1_234 + 303);
}

#[test]
fn statistics_and_handles_describe_themselves() {
    let pool = BlockPool::builder().block_size(256).limit(5_000).name("frames").build().unwrap();
    let block = pool.take().unwrap();
    let line = pool.stats().to_string();
    for part in ["frames", "1 live", "256 bytes", "limit 5000"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    assert!(!line.contains('\n'), "one line");
    let debug = format!("{pool:?}");
    for part in ["frames", "256", "5000"] {
        assert!(debug.contains(part), "{part} is not in: {debug}");
    }
    assert!(format!("{block:?}").contains("256 bytes"), "{block:?}");
    assert_eq!(pool.name(), Some("frames"));
    let nameless = BlockPool::new(16, 16);
    assert_eq!(nameless.name(), None);
    assert!(nameless.stats().to_string().starts_with("pool: 0 live"), "{}", nameless.stats());
}

#[test]
fn nonsense_is_refused_in_words_with_the_numbers() {
    let builder = BlockPool::builder;
    let large = (16 << 20) + 1;
    let cases = [
        (builder().block_size(0), MemoryError::ZeroSize, "0 bytes"),
        (builder().block_align(0), MemoryError::BadAlignment { align: 0 }, "alignment of 0"),
        (builder().block_align(48), MemoryError::BadAlignment { align: 48 }, "alignment of 48 is not a power of two"),
        (
            builder().block_size(large),
            MemoryError::TooLarge { size: large, align: 1, max: 16 << 20 },
            "16777217 bytes aligned to 1 does not fit",
        ),
        (
            builder().block_size(usize::MAX),
            MemoryError::TooLarge { size: usize::MAX, align: 1, max: 16 << 20 },
            "at most 16777216 bytes",
        ),
        (
            builder().block_size(64).block_align(1 << 40),
            MemoryError::TooLarge { size: 64, align: 1 << 40, max: 16 << 20 },
            "aligned to 1099511627776",
        ),
        (builder().reserve(11).limit(10), MemoryError::ReserveAboveLimit { reserve: 11, limit: 10 }, "11 blocks"),
        (
            builder().reserve(usize::MAX).limit(1_000),
            MemoryError::ReserveAboveLimit { reserve: usize::MAX, limit: 1_000 },
            "limited to 1000",
        ),
        (builder().name("a\0b"), MemoryError::NameWithNul { at: 1 }, "NUL at byte 1"),
        (builder().magazine_size(0), MemoryError::BadMagazine { blocks: 0, max: 127 }, "from 1 to 127"),
        (builder().magazine_size(128), MemoryError::BadMagazine { blocks: 128, max: 127 }, "magazine of 128 blocks"),
        (
            builder().magazine_size(usize::MAX),
            MemoryError::BadMagazine { blocks: usize::MAX, max: 127 },
            "cannot be made",
        ),
    ];
    for (builder, expected, part) in cases {
        let error = builder.clone().build().expect_err(part);
        assert_eq!(error, expected);
        let text = error.to_string();
        assert!(text.contains(part), "'{part}' is not in: {text}");
        let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        assert!(error.source().is_none());
    }
    let pool = BlockPool::builder().limit(7).build().unwrap();
    assert_eq!(pool.reserve(8), Err(MemoryError::ReserveAboveLimit { reserve: 8, limit: 7 }));
    pool.reserve(7).unwrap();
    let out = MemoryError::OutOfMemory { bytes: 65_536 }.to_string();
    assert!(out.contains("65536 bytes"), "{out}");
}

#[test]
fn raw_blocks_come_back_by_hand_or_by_guard() {
    let pool = BlockPool::new(48, 16);
    let raw = pool.take_raw().unwrap();
    assert_eq!(pool.stats().live, 1);
    #[expect(unsafe_code, reason = "the raw interface")]
    {
        // SAFETY: taken just above, given back once.
        unsafe { pool.give_back(raw) };
    }
    assert_eq!(pool.stats().live, 0);
    let raw = pool.take().unwrap().into_raw();
    assert_eq!(pool.stats().live, 1, "into_raw keeps it taken");
    #[expect(unsafe_code, reason = "the raw interface")]
    // SAFETY: taken out of its guard just above; this is its only owner.
    let block = unsafe { millpond::Block::from_raw(&pool, raw) };
    assert!(std::ptr::eq(block.pool(), &raw const pool));
    drop(block);
    assert_eq!(pool.stats().live, 0);
}
