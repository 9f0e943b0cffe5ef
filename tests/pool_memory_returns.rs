//! Memory of pools goes back to the system when asked for. In a process of its own: what went back may be another's the next
//! moment.

use millpond::{BlockPool, Heap};

use self::pages::present_pages;

#[path = "common/pages.rs"]
mod pages;

#[test]
#[expect(unsafe_code, reason = "reads what it wrote")]
fn free_blocks_among_those_in_use_go_back_when_asked_for() {
    // Long runs, and a pool that has a reserve.
    let large = BlockPool::new(1 << 20, 16);
    let reserved = BlockPool::builder().block_size(16 * 1024).reserve(1).build().unwrap();
    for (pool, count) in [(&large, 64), (&reserved, 1_024)] {
        let mut blocks: Vec<_> = (0..count).map(|_| pool.take().unwrap()).collect();
        let mut places = Vec::new();
        for block in &mut blocks {
            block.fill(core::mem::MaybeUninit::new(7));
            places.push(block.as_ptr().cast::<u8>());
        }
        let mut index = 0;
        blocks.retain(|_| {
            index += 1;
            index % 16 == 0
        });
        pool.purge();
        // What got empty is with the reserve now.
        Heap::purge();
        let size = pool.block_size();
        let kept: Vec<_> = blocks.iter().map(|block| block.as_ptr().cast::<u8>()).collect();
        let (used, free): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| kept.contains(place));
        let present = |places: &[*mut u8]| places.iter().map(|place| present_pages(*place, size)).sum::<usize>() * 4096;
        assert_eq!(present(&used), blocks.len() * size, "blocks of {size}");
        // The run that is reserved, and what pages share with blocks in use.
        let left = present(&free);
        assert!(left <= (16 + 2 * blocks.len()) * 64 * 1024 / 4, "{left} bytes of free blocks of {size} stay");
        // SAFETY: all of it was written above.
        let whole = blocks.iter().all(|block| block.iter().all(|byte| unsafe { byte.assume_init() } == 7));
        assert!(whole, "blocks of {size} changed");
    }
}
