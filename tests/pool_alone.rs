//! What a purge by another thread would disturb, which has blocks in its hands meanwhile: reserves that stay present, and blocks
//! without fragmentation. One test at a time, in a process of their own.

use std::collections::HashSet;

use millpond::{BlockPool, Heap};
use proptest::prelude::*;

use self::alone::alone;
use self::pages::present_pages;

#[path = "common/alone.rs"]
mod alone;
#[path = "common/pages.rs"]
mod pages;

#[test]
fn a_reserve_of_a_pool_in_use_is_present_too() {
    let _alone = alone();
    let taken = |pool: &BlockPool, count| {
        let blocks: Vec<_> = (0..count).map(|_| pool.take().unwrap()).collect();
        blocks.iter().map(|block| present_pages(block.as_ptr(), block.len())).sum::<usize>()
    };
    // Of the run that one block comes from nobody has touched the others.
    let pool = BlockPool::new(64 * 1024, 16);
    let one = pool.take().unwrap();
    pool.reserve(7).unwrap();
    assert_eq!(taken(&pool, 7), 7 * 16, "pages of 7 blocks that nobody wrote to");
    drop(one);
    // Pages that went back come again.
    let pool = BlockPool::new(16 * 1024, 16);
    let mut blocks: Vec<_> = (0..160).map(|_| pool.take().unwrap()).collect();
    let mut index = 0;
    blocks.retain(|_| {
        index += 1;
        index % 16 == 0
    });
    pool.purge();
    pool.reserve(100).unwrap();
    assert_eq!(taken(&pool, 100), 400, "pages of 100 blocks that went back");
}

#[test]
fn a_reserve_is_kept_through_purges_and_idle_times() {
    let _alone = alone();
    let pool = BlockPool::builder().block_size(1024).reserve(500).build().unwrap();
    let blocks: Vec<_> = (0..2_000).map(|_| pool.take().unwrap()).collect();
    drop(blocks);
    pool.purge();
    Heap::purge();
    let stats = pool.stats();
    assert!(stats.blocks >= 500, "{stats}");
    assert!(stats.blocks < 1_000, "what is beyond the reserve went back: {stats}");
    assert_eq!(stats.free, stats.blocks, "{stats}");
}

#[derive(Debug, Clone)]
enum Step {
    Take(usize),
    Free { which: usize, count: usize },
    Purge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => (1_usize..200).prop_map(Step::Take),
            4 => (any::<usize>(), 1_usize..200).prop_map(|(which, count)| Step::Free { which, count }),
            1 => Just(Step::Purge),
        ],
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Equal sizes don't fragment: after any history, each free block that this thread can reach serves a request,
    /// before a single byte more is asked of the system.
    #[test]
    fn after_any_history_every_free_block_serves_any_request(
        size in prop_oneof![1_usize..300, 300_usize..9_000, 20_000_usize..60_000],
        magazine in 1_usize..=127,
        exact in any::<bool>(),
        history in steps(),
    ) {
        let _alone = alone();
        let mut builder = BlockPool::builder().block_size(size).magazine_size(magazine);
        if exact {
            builder = builder.exact_limit(true);
        }
        let pool = builder.build().unwrap();
        let mut live = Vec::new();
        for step in history {
            match step {
                Step::Take(count) => live.extend((0..count).map(|_| pool.take().unwrap())),
                Step::Free { which, count } => {
                    for index in 0..count.min(live.len()) {
                        drop(live.swap_remove((which.wrapping_mul(index + 1)) % live.len()));
                    }
                }
                Step::Purge => pool.purge(),
            }
            let stats = pool.stats();
            prop_assert_eq!(stats.live, live.len());
            prop_assert_eq!(stats.live + stats.cached + stats.stored + stats.free, stats.blocks, "{}", stats);
        }
        let before = pool.stats();
        let addresses: HashSet<_> = live.iter().map(|block| block.as_ptr()).collect();
        prop_assert_eq!(addresses.len(), live.len(), "no block is handed out twice");
        let rest: Vec<_> = (live.len()..before.blocks).map(|_| pool.take().unwrap()).collect();
        let after = pool.stats();
        prop_assert_eq!((after.blocks, after.committed), (before.blocks, before.committed), "{}", after);
        prop_assert_eq!((after.live, after.cached + after.stored + after.free), (before.blocks, 0), "{}", after);
        prop_assert!(rest.iter().all(|block| !addresses.contains(&block.as_ptr())));
    }
}
