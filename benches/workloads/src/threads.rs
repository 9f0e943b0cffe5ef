//! Blocks that move between threads, threads that come and go, and threads that share cache lines.

use std::hint::black_box;
use std::thread::{self, Scope};

use crate::blocks::{Bytes, block, block_64};
use crate::channel::Channel;
use crate::random::Random;
use crate::{Sample, timed};

/// A server's life after Larson and Krishnan (1998): each thread owns an array of blocks and replaces random ones;
/// after a while it hands the array to a successor thread and dies.
pub(crate) fn larson(threads: u64) -> Sample {
    const BLOCKS: usize = 5_000;
    const REPLACEMENTS: u64 = 8_000_000;
    const GENERATIONS: u64 = 8;
    let each = REPLACEMENTS / (threads * GENERATIONS);
    let arrays: Vec<Server> = (0..threads)
        .map(|thread| {
            let mut random = Random::new(thread);
            let blocks = (0..BLOCKS).map(|_| block(random.between(8, 1000))).collect();
            Server { blocks, random, each, generations: GENERATIONS }
        })
        .collect();
    timed(REPLACEMENTS, || {
        thread::scope(|scope| {
            for server in arrays {
                scope.spawn(|| server.serve(scope));
            }
        })
    })
}

/// A thread's array of blocks and what is still to be done with it.
struct Server {
    blocks: Vec<Bytes>,
    random: Random,
    each: u64,
    generations: u64,
}

impl Server {
    /// One generation's replacements; then the next generation, in a thread of its own.
    fn serve<'scope>(mut self, scope: &'scope Scope<'scope, '_>) {
        for _ in 0..self.each {
            let victim = self.random.below(self.blocks.len());
            self.blocks[victim] = block(self.random.between(8, 1000));
        }
        self.generations -= 1;
        if self.generations > 0 {
            scope.spawn(|| self.serve(scope));
        }
    }
}

/// So many producers make blocks of 64 bytes, as many consumers free them; batches of 1,000 go through one channel.
pub(crate) fn handover(pairs: u64) -> Sample {
    const BLOCKS: u64 = 6_000_000;
    const BATCH: u64 = 1_000;
    let batches = BLOCKS / BATCH / pairs;
    let channel = Channel::new(pairs as usize);
    timed(BLOCKS, || {
        thread::scope(|scope| {
            for _ in 0..pairs {
                scope.spawn(|| {
                    for _ in 0..batches {
                        channel.send((0..BATCH).map(block_64).collect::<Vec<_>>());
                    }
                    channel.finish();
                });
                scope.spawn(|| while channel.receive().is_some() {});
            }
        })
    })
}

/// Pairs of threads that live for a few hundred blocks each.
pub(crate) fn churn() -> Sample {
    const PAIRS: u64 = 1_000;
    const BLOCKS: usize = 300;
    let work = |seed| {
        let mut random = Random::new(seed);
        let blocks: Vec<Bytes> = (0..BLOCKS).map(|_| block(random.between(16, 512))).collect();
        black_box(blocks);
    };
    timed(2 * PAIRS, || {
        for pair in 0..PAIRS {
            thread::scope(|scope| {
                scope.spawn(|| work(2 * pair));
                scope.spawn(|| work(2 * pair + 1));
            });
        }
    })
}

/// Hoard's cache-scratch: the main thread makes small objects and gives one to each thread; the thread frees it, then
/// makes, writes and frees objects of the same size. An allocator that hands the neighbours of one cache line to
/// different threads makes them wait for each other (passive false sharing).
pub(crate) fn cache_scratch() -> Sample {
    const THREADS: u64 = 2;
    const OBJECTS: u64 = 60_000;
    const WRITES: u64 = 2_500;
    let given: Vec<Box<u64>> = (0..THREADS).map(Box::new).collect();
    timed(THREADS * OBJECTS, || {
        thread::scope(|scope| {
            for object in given {
                scope.spawn(move || {
                    drop(object);
                    for number in 0..OBJECTS {
                        let mut object = Box::new(number);
                        for _ in 0..WRITES {
                            *black_box(&mut *object) += 1;
                        }
                    }
                });
            }
        })
    })
}
