//! Pools and threads: blocks freed on other threads, in thread-local destructors, after their thread, and pools that are
//! dropped while other threads still keep blocks of them.

use std::cell::RefCell;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier};

use millpond::{Block, BlockPool, MemoryError, OwnedBlock, OwnedPoolBox, Pool, PoolBox};

#[test]
fn a_box_freed_on_another_thread_goes_back_to_its_pool() {
    static POOL: Pool<[u64; 8]> = Pool::new();
    let boxes: Vec<_> = (0..1_000).map(|n| POOL.alloc([n; 8])).collect();
    assert_eq!(POOL.stats().live, 1_000);
    std::thread::spawn(move || {
        assert!((0..).zip(&boxes).all(|(n, boxed)| **boxed == [n; 8]));
        drop(boxes);
        assert_eq!(POOL.stats().live, 0, "at once, not when the thread ends");
    })
    .join()
    .unwrap();
    let blocks = POOL.stats().blocks;
    let again: Vec<_> = (0..1_000).map(|n| POOL.alloc([n; 8])).collect();
    assert_eq!(POOL.stats().blocks, blocks, "the same blocks serve again");
    drop(again);
}

#[test]
fn a_box_outlives_the_thread_that_made_it() {
    static POOL: Pool<String> = Pool::new();
    let boxes: Vec<PoolBox<'static, String>> =
        std::thread::spawn(|| (0..500).map(|n| POOL.alloc(n.to_string())).collect()).join().unwrap();
    assert_eq!(POOL.stats().live, 500);
    assert_eq!(POOL.stats().cached, 0, "the thread kept nothing for itself");
    assert!(boxes.iter().enumerate().all(|(n, text)| **text == n.to_string()));
    drop(boxes);
    assert_eq!(POOL.stats().live, 0);
}

#[test]
fn a_producer_and_a_consumer_use_the_same_blocks_over_and_over() {
    let pool = &BlockPool::new(64, 16);
    let (send, receive) = sync_channel::<Block<'_>>(100);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for mut block in receive {
                assert_eq!(block[0].write(1), &1);
            }
        });
        for _ in 0..100_000 {
            send.send(pool.take().unwrap()).unwrap();
        }
        drop(send);
    });
    let stats = pool.stats();
    assert_eq!(stats.live, 0, "{stats}");
    // At most 102 were on their way, two threads kept two magazines each, and the depot has its bound of 256 KiB.
    assert!(stats.peak * 64 <= 102 * 64 + 5 * 127 * 64 + 256 * 1024, "{stats}");
}

#[test]
fn a_threads_exit_gives_back_what_it_kept() {
    let pool = &BlockPool::builder().block_size(64).limit(5_000).build().unwrap();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| {
                let blocks: Vec<_> = (0..200).map(|_| pool.take().unwrap()).collect();
                drop(blocks);
                pool.stats().cached
            });
            assert!(kept.join().unwrap() > 0, "or this shows nothing");
        });
    }
    // Joined by handle, a thread's destructors have run.
    assert_eq!(pool.stats().cached, 0, "{}", pool.stats());
    let all: Vec<_> = (0..5_000).map(|_| pool.take().unwrap()).collect();
    drop(all);
}

/// What a thread-local destructor does.
type Job = Box<dyn FnOnce()>;

/// Runs its jobs when the thread ends.
struct AtExit(Vec<Job>);

impl Drop for AtExit {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|job| job());
    }
}

thread_local! {
    static FIRST: RefCell<AtExit> = const { RefCell::new(AtExit(Vec::new())) };
    static SECOND: RefCell<AtExit> = const { RefCell::new(AtExit(Vec::new())) };
}

fn at_exit(place: &'static std::thread::LocalKey<RefCell<AtExit>>, job: impl FnOnce() + 'static) {
    place.with_borrow_mut(|exit| exit.0.push(Box::new(job)));
}

/// Takes, fills and frees, and keeps one block for later.
fn use_pool(pool: &Arc<BlockPool>) -> OwnedBlock {
    let mut blocks: Vec<_> = (0..300).map(|_| pool.take_owned().unwrap()).collect();
    for block in &mut blocks {
        block[0].write(1);
    }
    blocks.swap_remove(77)
}

#[test]
fn blocks_are_taken_and_freed_in_thread_local_destructors_in_any_order() {
    // Destructors run in some order of registration: the pool's own farewell comes before one of these and after
    // another, or there is none yet because the thread never used a pool.
    for order in 0..6 {
        for limit in [usize::MAX, 4_000, 1_000] {
            let pool = Arc::new(BlockPool::builder().block_size(64).limit(limit).build().unwrap());
            let shared = Arc::clone(&pool);
            let job = move |place: &'static str| {
                let pool = Arc::clone(&shared);
                let kept = (order != 4).then(|| use_pool(&pool));
                move || {
                    drop(kept);
                    let late = use_pool(&pool);
                    assert!(pool.stats().live >= 1, "{place}");
                    drop(late);
                }
            };
            let thread = {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || match order {
                    0 => {
                        FIRST.with_borrow(|_| ());
                        drop(use_pool(&pool));
                        SECOND.with_borrow(|_| ());
                        at_exit(&FIRST, job("first"));
                        at_exit(&SECOND, job("second"));
                    }
                    1 => {
                        FIRST.with_borrow(|_| ());
                        SECOND.with_borrow(|_| ());
                        at_exit(&FIRST, job("first"));
                        at_exit(&SECOND, job("second"));
                    }
                    2 => {
                        drop(use_pool(&pool));
                        FIRST.with_borrow(|_| ());
                        at_exit(&FIRST, job("first"));
                    }
                    3 => {
                        // A destructor that makes another thread-local, whose destructor runs later still.
                        let inner = job("second");
                        let outer = job("first");
                        at_exit(&FIRST, move || {
                            outer();
                            at_exit(&SECOND, inner);
                        });
                    }
                    4 => {
                        // The thread uses no pool before its end.
                        at_exit(&FIRST, job("first"));
                        at_exit(&SECOND, job("second"));
                    }
                    _ => {
                        FIRST.with_borrow(|_| ());
                        drop(use_pool(&pool));
                        let last = Arc::clone(&pool);
                        // The pool itself may end here too.
                        at_exit(&FIRST, move || drop(last));
                    }
                })
            };
            thread.join().unwrap();
            let stats = pool.stats();
            assert_eq!((stats.live, stats.cached), (0, 0), "order {order}: {stats}");
        }
    }
}

#[test]
fn boxes_are_made_and_dropped_in_thread_local_destructors() {
    static NODES: Pool<Vec<u64>> = Pool::new();
    thread_local!(static HELD: RefCell<Vec<PoolBox<'static, Vec<u64>>>> = const { RefCell::new(Vec::new()) });
    for used_before in [false, true] {
        let early = (!used_before).then(|| NODES.alloc(vec![3; 3]));
        std::thread::spawn(move || {
            if used_before {
                // The pool's own farewell is armed before the destructor of `HELD` is.
                drop(NODES.alloc(vec![1]));
            }
            HELD.with_borrow_mut(|held| held.extend((0..100).map(|n| NODES.alloc(vec![n; 2]))));
            FIRST.with_borrow(|_| ());
            at_exit(&FIRST, move || {
                drop(early);
                let late: Vec<_> = (0..100).map(|n| NODES.alloc(vec![n; 4])).collect();
                assert!(late.iter().zip(0..).all(|(node, n)| **node == [n; 4]), "a box is whole in a destructor");
            });
        })
        .join()
        .unwrap();
        assert_eq!(NODES.stats().live, 0, "used before: {used_before}: {}", NODES.stats());
    }
}

#[test]
fn pools_are_made_and_dropped_in_thread_local_destructors() {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        FIRST.with_borrow(|_| ());
        drop(Pool::new().alloc(5_u64));
        at_exit(&FIRST, move || {
            let pool: Arc<Pool<u64>> = Arc::new(Pool::new());
            let kept: OwnedPoolBox<u64> = pool.alloc_owned(7);
            let many: Vec<_> = (0..1_000).map(|n| pool.alloc(n)).collect();
            drop(many);
            send.send(kept).unwrap();
        });
    })
    .join()
    .unwrap();
    let kept = receive.recv().unwrap();
    assert_eq!((*kept, kept.pool().stats().live), (7, 1));
}

#[test]
fn a_pool_may_be_dropped_while_other_threads_keep_its_blocks() {
    let (made, freed, dropped, checked) = (&Barrier::new(4), &Barrier::new(4), &Barrier::new(4), &Barrier::new(4));
    let slot: &std::sync::RwLock<Option<BlockPool>> = &std::sync::RwLock::new(None);
    let leaked = BlockPool::leaked_bytes();
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            scope.spawn(move || {
                let own = BlockPool::new(48, 16);
                for _ in 0..30 {
                    made.wait();
                    slot.read().unwrap().as_ref().inspect(|pool| {
                        let blocks: Vec<_> = (0..150).map(|_| pool.take().unwrap()).collect();
                        drop(blocks);
                    });
                    freed.wait();
                    dropped.wait();
                    // The next pool may have the old one's place: its blocks are its own.
                    let next = BlockPool::new(64, 16);
                    for pool in [&own, &next] {
                        let mut blocks: Vec<_> = (0..100).map(|_| pool.take().unwrap()).collect();
                        for block in &mut blocks {
                            block.fill(std::mem::MaybeUninit::new(thread));
                        }
                        #[expect(unsafe_code, reason = "every byte was written just above")]
                        // SAFETY: see the reason.
                        let intact = blocks.iter().flat_map(|b| b.iter()).all(|b| unsafe { b.assume_init() } == thread);
                        assert!(intact, "somebody else wrote to a block of this thread");
                    }
                    checked.wait();
                }
            });
        }
        for _ in 0..30 {
            *slot.write().unwrap() = Some(BlockPool::new(64, 16));
            made.wait();
            freed.wait();
            let pool = slot.write().unwrap().take().unwrap();
            assert!(pool.stats().cached > 0, "or this shows nothing");
            drop(pool);
            dropped.wait();
            checked.wait();
        }
    });
    assert_eq!(BlockPool::leaked_bytes(), leaked, "cached blocks are no leak");
}

#[test]
fn a_pool_dropped_while_threads_end_loses_nothing() {
    let leaked = BlockPool::leaked_bytes();
    for round in 0..200 {
        let pool = Arc::new(BlockPool::new(64, 16));
        let start = Arc::new(Barrier::new(3));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (pool, start) = (Arc::clone(&pool), Arc::clone(&start));
                std::thread::spawn(move || {
                    let blocks: Vec<_> = (0..40 + round % 3).map(|_| pool.take().unwrap()).collect();
                    drop(blocks);
                    // Whoever is last drops the pool, while the other threads end.
                    start.wait();
                    drop(pool);
                })
            })
            .collect();
        start.wait();
        drop(pool);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    assert_eq!(BlockPool::leaked_bytes(), leaked);
}

#[test]
fn threads_that_meet_a_new_pool_at_once_agree_on_it() {
    for _ in 0..200 {
        let pool = &BlockPool::new(64, 16);
        let start = &Barrier::new(4);
        std::thread::scope(|scope| {
            let meet = || {
                start.wait();
                let blocks: Vec<_> = (0..10).map(|_| pool.take().unwrap()).collect();
                start.wait();
                assert_eq!(pool.stats().live, 40);
                start.wait();
                drop(blocks);
            };
            let threads = [(); 4].map(|()| scope.spawn(meet));
            // Joined by handle: a scope alone does not wait for the threads' destructors.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        let stats = pool.stats();
        assert_eq!((stats.live, stats.cached), (0, 0), "{stats}");
    }
}

#[test]
fn a_thread_uses_hundreds_of_pools_at_once() {
    let pools: Vec<_> = (0..400_usize)
        .map(|n| BlockPool::builder().block_size(16 + n % 7 * 16).magazine_size(1 + n % 127).build().unwrap())
        .collect();
    let work = || {
        let mut held: Vec<Block<'_>> = Vec::new();
        for round in 0..20 {
            for pool in &pools {
                held.push(pool.take().unwrap());
            }
            if round % 3 == 2 {
                held.drain(..500).for_each(drop);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    for pool in &pools {
        assert_eq!(pool.stats().live, 0);
    }
}

#[test]
fn threads_see_what_was_written_before_a_block_changed_hands() {
    static POOL: Pool<[usize; 4]> = Pool::new();
    std::thread::scope(|scope| {
        let (there, back) = channel::<PoolBox<'static, [usize; 4]>>();
        scope.spawn(move || {
            for boxed in back {
                assert!(boxed.iter().all(|word| *word == boxed[0]));
            }
        });
        for n in 0..20_000 {
            there.send(POOL.alloc([n; 4])).unwrap();
            if n % 3 == 0 {
                drop(POOL.alloc([usize::MAX; 4]));
            }
        }
    });
    assert_eq!(POOL.stats().live, 0);
}

#[test]
fn an_error_on_one_thread_is_no_error_on_another() {
    let pool = &BlockPool::builder().block_size(64).limit(2).build().unwrap();
    let held = (pool.take().unwrap(), pool.take().unwrap());
    std::thread::scope(|scope| {
        let error = scope.spawn(|| pool.take().map(drop)).join().unwrap().unwrap_err();
        assert_eq!(error, MemoryError::LimitReached { limit: 2, block_size: 64 });
        drop(held);
        scope.spawn(|| pool.take().map(drop)).join().unwrap().unwrap();
    });
}
