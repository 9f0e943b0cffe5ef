//! What an allocator does with memory that a program no longer needs.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use crate::blocks::{Bytes, block};
use crate::measure::resident_bytes;
use crate::random::Random;
use crate::{Sample, timed};

/// Many blocks of 16 to 256 bytes, a random four fifths of them freed, and the same number of bytes taken again in
/// blocks of 256 to 1,024. Notes resident memory beside the bytes that are live at the end.
pub(crate) fn fragmentation() -> Sample {
    const BLOCKS: usize = 800_000;
    let mut random = Random::new(3);
    let mut blocks: Vec<Option<Bytes>> = Vec::with_capacity(BLOCKS);
    let mut live = 0;
    let sample = timed(BLOCKS as u64, || {
        blocks.extend((0..BLOCKS).map(|_| Some(block(random.between(16, 256)))));
        let mut freed = 0;
        for slot in &mut blocks {
            if random.chance(80) {
                freed += slot.take().map_or(0, |block| block.len());
            }
        }
        let mut empty = blocks.iter_mut().filter(|slot| slot.is_none());
        while freed > 1024 {
            let block = block(random.between(256, 1024));
            freed -= block.len();
            *empty.next().expect("larger blocks are fewer") = Some(block);
        }
        live = blocks.iter().flatten().map(|block| block.len() as u64).sum();
    });
    let resident = resident_bytes();
    black_box(blocks);
    sample.note("live", live).note("resident", resident)
}

/// 512 MiB of blocks of 16 to 1,024 bytes, taken and given back in the same order.
pub(crate) fn fill_512() -> Sample {
    let mut random = Random::new(4);
    timed(1, || black_box(fill(&mut random)))
}

/// 512 MiB of small blocks, freed in random order; notes resident memory at the start, when full, right after the
/// last free and after one second of light work. Nobody asks the allocator to give anything back.
pub(crate) fn return_512() -> Sample {
    let (mut random, mut light) = (Random::new(5), Random::new(6));
    light_work(&mut light, Duration::from_millis(20));
    let start = resident_bytes();
    let mut blocks = fill(&mut random);
    let full = resident_bytes();
    random.shuffle(&mut blocks);
    let sample = timed(blocks.len() as u64, || drop(blocks));
    let after = resident_bytes();
    light_work(&mut light, Duration::from_secs(1));
    let later = resident_bytes();
    sample.note("start", start).note("full", full).note("after", after).note("later", later)
}

/// Blocks of 16 to 1,024 bytes, 512 MiB in all, every 4 KiB of them touched.
fn fill(random: &mut Random) -> Vec<Bytes> {
    let mut left = 512usize << 20;
    let mut blocks = Vec::new();
    while left > 1024 {
        let block = block(random.between(16, 1024));
        left -= block.len();
        blocks.push(block);
    }
    blocks
}

/// A program that is almost idle: a hundred small blocks each millisecond.
fn light_work(random: &mut Random, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let blocks: Vec<Bytes> = (0..100).map(|_| block(random.between(16, 1024))).collect();
        black_box(blocks);
        thread::sleep(Duration::from_millis(1));
    }
}
