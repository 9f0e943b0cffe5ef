//! The heap's figures, and what they show: bounds on what is cached, runs that change hands, threads that leave nothing
//! behind. The heap is called directly and is not this process's allocator, so that the test itself doesn't count.
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::sync::mpsc::sync_channel;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Duration;

use millpond::{Heap, HeapConfig, HeapStats};

/// One test at a time, each on a thread of its own that has ended when this returns: the figures are the process's, and
/// a thread keeps blocks until it ends.
fn alone(test: impl FnOnce() + Send) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = std::thread::scope(|scope| scope.spawn(test).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn take(size: usize) -> Piece {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the heap takes any layout.
    let at = unsafe { Heap.alloc(layout) };
    assert!(!at.is_null());
    Piece(at.expose_provenance(), layout)
}

/// Live memory, freed on drop, on whichever thread.
struct Piece(usize, Layout);

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, gone with `self`.
        unsafe { Heap.dealloc(std::ptr::with_exposed_provenance_mut(self.0), self.1) };
    }
}

fn consistent(stats: &HeapStats) {
    let sum = |of: fn(&millpond::ClassStats) -> usize| -> usize {
        stats.classes.iter().map(|class| of(class) * class.block_size).sum()
    };
    assert_eq!(stats.live_bytes, sum(|class| class.live) + stats.large_bytes, "{stats}");
    assert_eq!(stats.cached_bytes, sum(|class| class.cached), "{stats}");
    assert_eq!(stats.stored_bytes, sum(|class| class.stored), "{stats}");
    let blocks: usize = stats.classes.iter().map(|class| class.live).sum();
    assert_eq!(stats.live_blocks, blocks + stats.large_blocks, "{stats}");
    let all = stats.live_bytes + stats.cached_bytes + stats.stored_bytes;
    assert!(all <= stats.committed && stats.committed <= stats.reserved, "{stats}");
    assert!(stats.peak >= stats.live_bytes, "{stats}");
    assert!(stats.classes.is_sorted_by(|a, b| a.block_size < b.block_size), "{stats}");
}

fn settled() -> HeapStats {
    Heap::purge();
    let stats = Heap::stats();
    consistent(&stats);
    stats
}

#[test]
fn statistics_count_every_block_and_byte() {
    alone(|| {
        let before = settled();
        let pieces: Vec<_> = (0..1_000).map(|_| take(100)).collect();
        let large = (take(100_000), take(20 << 20));
        let stats = Heap::stats();
        consistent(&stats);
        let (bytes, blocks) = (stats.live_bytes - before.live_bytes, stats.live_blocks - before.live_blocks);
        let rounded = 100_000_usize.next_multiple_of(4096) + (20 << 20);
        assert_eq!((bytes, blocks), (1_000 * 112 + rounded, 1_002), "{stats}");
        assert_eq!((stats.large_blocks, stats.large_bytes), (2, rounded), "{stats}");
        let class = stats.classes.iter().find(|class| class.block_size == 112).unwrap();
        assert_eq!(class.live, 1_000);
        assert!(class.refills > 0);
        drop((pieces, large));
        let after = Heap::stats();
        consistent(&after);
        assert_eq!((after.live_bytes, after.live_blocks), (before.live_bytes, before.live_blocks), "{after}");
        assert!(after.peak >= stats.live_bytes);
        let end = settled();
        assert_eq!((end.cached_bytes, end.stored_bytes), (0, 0), "{end}");
        assert!(end.returned > before.returned && end.purges > before.purges, "{end}");
    });
}

#[test]
fn statistics_print_as_a_table() {
    alone(|| {
        let piece = take(96);
        let text = Heap::stats().to_string();
        for part in ["live", "cached", "stored", "committed", "peak", "returned", "refusals", "block", "\n      96 "] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        drop(piece);
    });
}

#[test]
fn reallocation_keeps_the_figures_right() {
    alone(|| {
        let before = settled();
        let mut piece = take(10);
        for size in [100, 40_000, 39_000, 500_000, 17 << 20, 30 << 20, 18 << 20, 1 << 20, 50_000, 5, 20 << 20, 3] {
            let at = std::ptr::with_exposed_provenance_mut(piece.0);
            // SAFETY: allocated with this layout.
            let at = unsafe { Heap.realloc(at, piece.1, size) };
            (piece.0, piece.1) = (at.expose_provenance(), Layout::from_size_align(size, 8).unwrap());
            let stats = Heap::stats();
            consistent(&stats);
            assert_eq!(stats.live_blocks, before.live_blocks + 1, "{stats}");
            let live = stats.live_bytes - before.live_bytes;
            assert!((size..size + size / 4 + 4096).contains(&live), "{live} for {size}");
        }
        drop(piece);
        assert_eq!(Heap::stats().live_bytes, before.live_bytes);
    });
}

#[test]
fn flushing_a_thread_hands_its_blocks_to_the_others() {
    alone(|| {
        let pieces: Vec<_> = (16..2_000).step_by(16).map(take).collect();
        drop(pieces);
        assert!(Heap::stats().cached_bytes > 0);
        Heap::flush_thread();
        let stats = Heap::stats();
        assert_eq!(stats.cached_bytes, 0, "{stats}");
        Heap::flush_thread();
        drop(take(50));
    });
}

#[test]
fn purging_gives_back_all_that_is_free() {
    alone(|| {
        drop(take(1));
        let start = settled().committed;
        let mut pieces: Vec<_> = (0..60_000).map(|n| take(16 + n * 37 % 2_000)).collect();
        pieces.extend((0..50).map(|n| take(40_000 + n * 10_000)));
        let full = Heap::stats().committed;
        assert!(full > start + (60 << 20));
        drop(pieces);
        let returned = Heap::purge();
        assert!(returned > 0);
        let after = settled().committed;
        assert!(after <= start + (256 << 10), "{start} before, {after} after");
        assert_eq!(Heap::purge(), 0, "there is nothing left to give");
    });
}

#[test]
fn what_is_free_beyond_the_surplus_goes_back_at_once() {
    alone(|| {
        drop(take(1));
        let start = settled();
        // No ticks: what goes, goes by the free that crosses the bound. The default, and half of it.
        for surplus in [16 << 20, 8 << 20] {
            HeapConfig::new().tick(Duration::ZERO).surplus(surplus).apply();
            for size in [64, 3_000, 1 << 20] {
                let pieces: Vec<_> = (0..(64 << 20) / size).map(|_| take(size)).collect();
                drop(pieces);
                let stats = Heap::stats();
                // The surplus, what the depots store, and a little for caches and frames.
                let bound = start.committed + surplus + 2 * stats.stored_bytes + (3 << 20);
                assert!(stats.committed <= bound, "size {size}, {} at the start: {stats}", start.committed);
                assert!(stats.returned > start.returned);
            }
        }
        HeapConfig::new().tick(Duration::from_millis(100)).surplus(16 << 20).apply();
        settled();
    });
}

#[test]
fn what_stays_free_goes_back_with_the_ticks_of_ordinary_work() {
    alone(|| {
        drop(take(1));
        let start = settled();
        HeapConfig::new().tick(Duration::from_millis(1)).apply();
        drop((0..500_000).map(|n| take(16 + n % 8 * 16)).collect::<Vec<_>>());
        // As many ticks as it takes, within reason: each time a millisecond, and some work that isn't all fast path.
        let stored = |stats: &HeapStats| -> usize {
            let idle = stats.classes.iter().filter(|class| class.block_size <= 128);
            idle.map(|class| class.stored).sum()
        };
        assert!(stored(&Heap::stats()) > 0, "or this shows less");
        let mut done = false;
        for _ in 0..3_000 {
            std::thread::sleep(Duration::from_millis(1));
            // More than a thread keeps: ticks are noticed on slow paths.
            drop((0..300).map(|_| take(5_000)).collect::<Vec<_>>());
            let stats = Heap::stats();
            done = stats.committed <= start.committed + (6 << 20) && stored(&stats) == 0;
            if done {
                break;
            }
        }
        let stats = Heap::stats();
        HeapConfig::new().tick(Duration::from_millis(100)).apply();
        assert!(done, "{} at the start: {stats}", start.committed);
        settled();
    });
}

#[test]
fn empty_runs_serve_other_classes() {
    alone(|| {
        let bytes: usize = 32 << 20;
        let mut peak = 0;
        for (round, size) in [64, 1_000, 200, 5_000, 16, 30_000, 3_000, 100_000, 48].into_iter().enumerate() {
            let pieces: Vec<_> = (0..bytes / size).map(|_| take(size)).collect();
            let stats = Heap::stats();
            // What other classes' depots still keep lies in runs that are not empty.
            let committed = stats.committed - stats.stored_bytes;
            if round == 0 {
                peak = committed;
            }
            // A size of 5,000 wastes up to an eighth of its run, and each class and the surplus keep something.
            assert!(committed <= peak + bytes / 4 + (8 << 20), "round {round}: {committed}, first {peak}");
            drop(pieces);
        }
        settled();
    });
}

#[test]
fn depots_hold_no_more_than_their_bound() {
    alone(|| {
        settled();
        for size in [64, 1_008, 4_096] {
            let pieces: Vec<_> = (0..(32 << 20) / size).map(|_| take(size)).collect();
            drop(pieces);
            let stats = Heap::stats();
            // Blocks of some pages lie a cache line further apart.
            let size = if size > 1_024 { size + 64 } else { size };
            let class = stats.classes.iter().find(|class| class.block_size == size).unwrap();
            let (stored, all) = (class.stored * size, (class.stored + class.free + class.cached) * size);
            let bound = (256 << 10).max(all / 8) + 127 * size;
            assert!(stored <= bound, "{stored} bytes of {all} in magazines of {size}, bound {bound}");
        }
        settled();
    });
}

#[test]
fn a_thread_that_uses_one_size_much_has_room_for_others() {
    alone(|| {
        settled();
        Heap::flush_thread();
        drop((0..100_000).map(|_| take(64)).collect::<Vec<_>>());
        let refills = |stats: &HeapStats| -> u64 { stats.classes.iter().map(|class| class.refills).sum() };
        let before = refills(&Heap::stats());
        let pieces: Vec<_> = (0..8_000).map(|_| take(1_000)).collect();
        let needed = refills(&Heap::stats()) - before;
        assert!(needed <= 8_000 / 8, "{needed} refills for 8,000 blocks");
        drop(pieces);
        settled();
    });
}

/// What a thread may keep: its cache bytes, a block or two of each class, and a magazine that came from elsewhere.
const KEPT: usize = (512 + 512) << 10;

#[test]
fn a_thread_keeps_no_more_than_its_cache_bytes() {
    alone(|| {
        settled();
        for _ in 0..3 {
            let pieces: Vec<_> = (0..200_000_usize).map(|n| take(1 + n * 7_919 % 32_768)).take(20_000).collect();
            for (n, piece) in pieces.into_iter().enumerate() {
                drop(piece);
                // Often: on a busy machine a tick may have emptied the caches at the end.
                if n % 500 == 0 {
                    let stats = Heap::stats();
                    assert!(stats.cached_bytes <= KEPT, "{stats}");
                }
            }
        }
        settled();
    });
}

#[test]
fn a_producer_and_a_consumer_stay_within_the_bound() {
    alone(|| {
        drop(take(1));
        let start = settled();
        for size in [16, 64, 256, 1_024, 4_096] {
            let (send, receive) = sync_channel::<Vec<Piece>>(8);
            let consumer = std::thread::spawn(move || receive.into_iter().for_each(drop));
            let mut most = 0;
            for _ in 0..400 {
                send.send((0..200).map(|_| take(size)).collect()).unwrap();
                most = most.max(Heap::stats().committed);
            }
            drop(send);
            consumer.join().unwrap();
            // Live: ten batches at most are on their way. Two caches; the depot's bound; a run for each thread; what is
            // free and waits for the tick; the region's header and tail.
            let live = 10 * 200 * size;
            let bound = live + live / 8 + 2 * KEPT + (256 << 10) + (2 << 17) + (8 << 20);
            assert!(
                most <= start.committed + bound,
                "size {size}: {} above the start, bound {bound}",
                most - start.committed
            );
        }
        let end = settled();
        assert_eq!(end.live_bytes, start.live_bytes);
        assert!(end.committed <= start.committed + (2 << 20), "{} then {}", start.committed, end.committed);
    });
}

#[test]
fn threads_that_come_and_go_leave_nothing() {
    alone(|| {
        let churn = |threads: usize| {
            for round in 0..threads {
                std::thread::spawn(move || {
                    let pieces: Vec<_> = (0..60).map(|n| take(16 + (n * 67 + round) % 3_000)).collect();
                    drop(pieces);
                })
                .join()
                .unwrap();
            }
        };
        churn(200);
        let before = settled();
        churn(10_000);
        let stats = Heap::stats();
        assert_eq!(stats.cached_bytes, 0, "each gave back all that it kept: {stats}");
        // What waits for the tick, and what depots keep.
        assert!(stats.committed <= before.committed + (10 << 20), "{} before; {stats}", before.committed);
        let after = settled();
        assert_eq!(after.live_bytes, before.live_bytes);
        assert!(after.committed <= before.committed + (64 << 10), "{} then {}", before.committed, after.committed);
    });
}

#[test]
fn blocks_outlive_their_thread_and_are_freed_by_others() {
    alone(|| {
        let before = settled();
        let pieces: Vec<_> = (0..8)
            .map(|n| std::thread::spawn(move || (0..500).map(|m| take(1 + n * 500 + m)).collect::<Vec<_>>()))
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(Heap::stats().live_blocks, before.live_blocks + 4_000);
        let (mut even, mut odd): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for (n, piece) in pieces.into_iter().enumerate() {
            if n % 2 == 0 { even.push(piece) } else { odd.push(piece) }
        }
        let threads = [even, odd].map(|pieces| std::thread::spawn(move || drop(pieces)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let after = settled();
        assert_eq!((after.live_blocks, after.live_bytes), (before.live_blocks, before.live_bytes));
    });
}

#[test]
fn memory_is_had_in_thread_local_destructors_and_comes_back() {
    struct Late(Vec<Piece>, bool);
    impl Drop for Late {
        fn drop(&mut self) {
            let fresh: Vec<_> = (0..300).map(|n| take(1 + n * 100)).collect();
            self.0.clear();
            drop(fresh);
            if self.1 {
                SECOND.with_borrow_mut(|late| late.0.push(take(77)));
            }
        }
    }
    thread_local! {
        static FIRST: RefCell<Late> = const { RefCell::new(Late(Vec::new(), true)) };
        static SECOND: RefCell<Late> = const { RefCell::new(Late(Vec::new(), false)) };
    }
    alone(|| {
        let before = settled();
        for order in 0..3 {
            std::thread::spawn(move || {
                if order == 0 {
                    FIRST.with_borrow(|_| ());
                }
                if order < 2 {
                    drop(take(100));
                }
                FIRST.with_borrow_mut(|late| late.0.extend((0..100).map(|_| take(100)).take(order * 50)));
            })
            .join()
            .unwrap();
        }
        let after = Heap::stats();
        assert_eq!((after.live_blocks, after.cached_bytes), (before.live_blocks, 0), "{after}");
        settled();
    });
}

#[test]
fn reading_the_figures_disturbs_nobody() {
    alone(|| {
        let stop = &std::sync::atomic::AtomicBool::new(false);
        let ready = &Barrier::new(3);
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|thread| {
                scope.spawn(move || {
                    ready.wait();
                    let mut pieces = std::collections::VecDeque::new();
                    for n in 0..100_000 {
                        pieces.push_back(take(16 + (n * 13 + thread) % 800));
                        if pieces.len() > 500 {
                            pieces.pop_front();
                        }
                    }
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                })
            });
            ready.wait();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let stats = Heap::stats();
                assert!(stats.live_bytes < 100 << 20 && stats.cached_bytes < 100 << 20, "no nonsense: {stats}");
            }
            // The scope's end waits for the closures only; what follows wants the threads' caches to be back.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        settled();
    });
}
