//! Single blocks in one thread: the loops that every allocator is first judged by.

use std::hint::black_box;
use std::mem::MaybeUninit;

use crate::random::Random;
use crate::{Sample, timed};

/// Bytes that nobody has written yet.
pub(crate) type Bytes = Box<[MaybeUninit<u8>]>;

/// A block of `size` bytes with its first byte written, as a program that uses it would.
#[inline]
pub(crate) fn block(size: usize) -> Bytes {
    let mut block = Box::new_uninit_slice(size);
    block[0] = MaybeUninit::new(1);
    block
}

/// Eight words that need not all be written.
pub(crate) type Words = Box<[MaybeUninit<u64>; 8]>;

/// A block of 64 bytes with one word written.
#[inline]
pub(crate) fn block_64(word: u64) -> Words {
    let mut block = Box::new([const { MaybeUninit::uninit() }; 8]);
    block[0] = MaybeUninit::new(word);
    block
}

/// One block of 64 bytes, freed at once.
pub(crate) fn one_64() -> Sample {
    const BLOCKS: u64 = 20_000_000;
    timed(BLOCKS, || {
        for word in 0..BLOCKS {
            drop(black_box(block_64(word)));
        }
    })
}

/// A thousand blocks of 64 bytes, then all freed in the order in which they were made.
pub(crate) fn thousand_64() -> Sample {
    const ROUNDS: u64 = 10_000;
    const BLOCKS: u64 = 1_000;
    let mut blocks = Vec::with_capacity(BLOCKS as usize);
    timed(ROUNDS * BLOCKS, || {
        for _ in 0..ROUNDS {
            blocks.extend((0..BLOCKS).map(block_64));
            black_box(&mut blocks).clear();
        }
    })
}

/// 100,000 live blocks of 16 to 1,024 bytes; again and again a random one is replaced by one of a random size.
pub(crate) fn random_100k() -> Sample {
    const LIVE: usize = 100_000;
    const REPLACEMENTS: u64 = 2_000_000;
    let mut random = Random::new(1);
    let mut live: Vec<Bytes> = (0..LIVE).map(|_| block(random.between(16, 1024))).collect();
    timed(REPLACEMENTS, || {
        for _ in 0..REPLACEMENTS {
            let slot = random.below(LIVE);
            live[slot] = block(random.between(16, 1024));
        }
    })
}

/// 48 live blocks of 4 KiB to 1 MiB, their logarithms equally distributed; a random one is replaced, and one byte in
/// each 4 KiB of the new one is written.
pub(crate) fn large() -> Sample {
    const LIVE: usize = 48;
    const REPLACEMENTS: u64 = 20_000;
    let mut random = Random::new(2);
    let mut make = move || {
        let mut block: Bytes = Box::new_uninit_slice(random.log_between(4 << 10, 1 << 20));
        block.iter_mut().step_by(4096).for_each(|byte| *byte = MaybeUninit::new(1));
        (random.below(LIVE), block)
    };
    let mut live: Vec<Bytes> = (0..LIVE).map(|_| make().1).collect();
    timed(REPLACEMENTS, || {
        for _ in 0..REPLACEMENTS {
            let (slot, block) = make();
            live[slot] = block;
        }
    })
}
