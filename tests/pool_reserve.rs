//! The reserve of a pool that is in use is present. In a process of its own: who purges at the same moment has blocks in its hands
//! that come back to other places later.

use millpond::BlockPool;

use self::pages::present_pages;

#[path = "common/pages.rs"]
mod pages;

#[test]
fn a_reserve_of_a_pool_in_use_is_present_too() {
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
