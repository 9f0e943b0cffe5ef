//! Programs of settings, much of them nonsense: what can be, works; what can't, is refused with the number that is wrong.

use core::alloc::{GlobalAlloc, Layout};
use core::time::Duration;
use std::sync::Arc;

use arbitrary::Arbitrary;
use millpond::ipc::{self, BarrierError, PipeError, Queue, QueueError, SemaphoreError, SharedSlice};
use millpond::thread::{Thread, ThreadPool};
use millpond::{Dispatch, Heap, HeapConfig, HugePages, Pool, PoolError, WhenFull};

use super::{Operation, recycled};

/// Threads that a program starts at most for one pool.
const THREADS: usize = 6;
/// What a program may have of anything that takes memory: some 8 MB. More is asked for only where nobody has it.
const PLENTY: usize = 1 << 17;

/// A number as settings have them: few, around a power of two, or far too many.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Number {
    kind: u8,
    detail: u8,
}

impl Number {
    fn get(self) -> usize {
        let detail = usize::from(self.detail);
        match self.kind % 16 {
            0..8 => detail % 9,
            8..11 => (1_usize << (detail % 20)) + detail / 64 - 1,
            11 => (1 << 31) + detail - 128,
            12 => (1 << 32) + detail - 128,
            13 => usize::MAX / 2 + detail - 128,
            14 => usize::MAX >> (detail % 50),
            _ => usize::MAX - detail,
        }
    }

    /// As [`get`](Self::get), but what the machine may have and would take long to give, from [`PLENTY`] to `nobody`, is
    /// little instead.
    fn modest(self, nobody: usize) -> usize {
        let number = self.get();
        if (PLENTY..nobody).contains(&number) { number % PLENTY } else { number }
    }
}

/// One setting, or what is made with some.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Op {
    Tick(Number),
    Surplus(Number),
    CacheBytes(Number),
    HardLimit(Number),
    Huge(u8),
    /// Uses the heap as it is set.
    Use {
        size: Number,
        count: u8,
    },
    Threads {
        workers: Number,
        bound: Number,
        nul: bool,
        flags: u8,
    },
    Stack {
        bytes: Number,
    },
    Named {
        letters: u8,
        nul: bool,
    },
    Cores {
        first: Number,
        count: u8,
    },
    Values {
        reserve: Number,
        limit: Number,
        magazine: Number,
    },
    Recycled {
        limit: Number,
    },
    Queue {
        values: Number,
    },
    Pipe {
        messages: Number,
    },
    Permits {
        permits: Number,
        more: Number,
    },
    Parties {
        parties: Number,
    },
    Slice {
        len: Number,
    },
}

/// An error says the number that is wrong.
fn says(error: &impl ToString, number: usize) {
    let text = error.to_string();
    assert!(text.contains(&number.to_string()), "'{text}' does not say {number}");
}

fn use_heap(size: usize, count: usize) {
    let Ok(layout) = Layout::from_size_align(size.clamp(1, 1 << 22), 16) else { return };
    // SAFETY: the size isn't zero.
    let blocks: Vec<_> = (0..count % 16).map(|_| unsafe { Heap.alloc(layout) }).collect();
    for at in blocks.into_iter().filter(|at| !at.is_null()) {
        // SAFETY: at least one byte, just allocated.
        unsafe { at.write(7) };
        // SAFETY: allocated with this layout.
        unsafe { Heap.dealloc(at, layout) };
    }
}

fn threads(workers: usize, bound: usize, nul: bool, flags: u8) {
    const MOST: usize = 1 << 15;
    // Not thousands of threads for each program.
    let workers = if workers > MOST { workers } else { workers.min(THREADS) };
    let dispatch = [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random][usize::from(flags) % 3];
    let full = [WhenFull::Block, WhenFull::Fail, WhenFull::CallerRuns][usize::from(flags / 4) % 3];
    let builder = ThreadPool::builder().workers(workers).queue_bound(bound).dispatch(dispatch).when_full(full);
    match builder.name(if nul { "a\0b" } else { "mill" }).build() {
        Ok(pool) => {
            assert!((1..=THREADS).contains(&workers) && bound > 0 && !nul);
            assert_eq!((pool.workers(), pool.apply(|| 6 * 7)), (workers, Ok(42)));
            assert_eq!(pool.map(0..10, |n| n + 1), Ok((1..11).collect()));
        }
        Err(PoolError::NoWorkers) => assert_eq!(workers, 0),
        Err(error @ PoolError::TooManyWorkers { .. }) => {
            assert!(workers > MOST);
            says(&error, workers);
        }
        Err(PoolError::ZeroBound) => assert_eq!(bound, 0),
        Err(PoolError::NameWithNul { at, .. }) => assert!(nul && at == 1),
        Err(error) => panic!("{error}"),
    }
}

fn values(reserve: usize, limit: usize, magazine: usize) {
    let builder = Pool::<[u64; 6]>::builder().reserve(reserve).limit(limit).magazine_size(magazine).name("six");
    let builder = if limit.is_multiple_of(3) { builder.exact_limit(limit.is_multiple_of(2)) } else { builder };
    match builder.build() {
        Ok(pool) => {
            assert!(format!("{pool:?}").contains("six") && pool.stats().name.as_deref() == Some("six"));
            assert_eq!(pool.reserve(limit.min(3)), Ok(()), "no more than the limit");
            assert!(reserve <= limit && (1..=127).contains(&magazine), "{reserve} {limit} {magazine}");
            let held: Vec<_> =
                (0..limit.min(100)).map(|n| pool.try_alloc([n as u64; 6]).expect("below the limit")).collect();
            assert!(limit > 100 || pool.try_alloc([0; 6]).is_err_and(|error| error.value == [0; 6]));
            assert!(held.iter().enumerate().all(|(n, value)| **value == [n as u64; 6]));
            drop(held);
            let pool = Arc::new(pool);
            let counted: Vec<_> = (0..limit.min(5)).filter_map(|_| pool.try_alloc_arc([9; 6]).ok()).collect();
            assert_eq!(counted.len(), limit.min(5), "counted ones have a limit of their own");
            assert!(limit > 5 || pool.try_alloc_arc([0; 6]).is_err_and(|error| error.value == [0; 6]));
            if limit > 0 {
                assert_eq!(pool.alloc_owned([4; 6]).into_inner(), [4; 6]);
            }
            pool.purge();
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty());
            // More than there is of anything is refused too.
            assert!(reserve > limit || !(1..=127).contains(&magazine) || reserve >= PLENTY, "{text}");
        }
    }
}

fn queue(values: usize) {
    match Queue::<u64>::bounded(values) {
        Ok(queue) => {
            assert!(values > 0 && queue.capacity() == Some(values));
            for n in 0..values.min(40) {
                queue.try_put(n as u64).expect("there is room");
            }
            assert!(values > 40 || queue.try_put(0) == Err(QueueError::Full));
            assert!((0..values.min(40)).all(|n| queue.try_get() == Ok(n as u64)) && queue.is_empty());
        }
        Err(error @ QueueError::Capacity { .. }) => says(&error, values),
        Err(error) => assert!(matches!(error, QueueError::Memory(_)) && values >= PLENTY, "{error} for {values}"),
    }
}

fn pipe(messages: usize) {
    match ipc::pipe_with_capacity::<u8, u8>(messages) {
        Ok((mut near, mut far)) => {
            near.try_send(9).expect("there is room");
            assert_eq!(far.try_recv(), Ok(9));
        }
        Err(error @ PipeError::Capacity { .. }) => says(&error, messages),
        Err(error) => {
            assert!(matches!(error, PipeError::Memory(_)) && messages >= PLENTY / 2, "{error} for {messages}")
        }
    }
}

fn permits(permits: usize, more: usize) {
    match ipc::Semaphore::new(permits) {
        Ok(semaphore) => {
            assert_eq!(semaphore.available(), permits);
            let added = semaphore.release(more);
            let gained = added.is_ok() && more > 0;
            match added {
                Ok(()) => assert_eq!(semaphore.available(), permits + more),
                Err(error) => {
                    assert!(matches!(error, SemaphoreError::TooMany { .. }) && !error.to_string().is_empty());
                    assert_eq!(semaphore.available(), permits);
                }
            }
            assert_eq!(semaphore.try_acquire().is_ok(), permits > 0 || gained);
        }
        Err(error @ SemaphoreError::TooMany { .. }) => says(&error, permits),
        Err(error) => panic!("{error}"),
    }
}

fn slice(len: usize) {
    match SharedSlice::<u64>::new(len) {
        Ok(slice) => assert!(slice.len() == len && len < PLENTY && slice.iter().all(|n| *n == 0)),
        Err(error) => assert!(len >= PLENTY && says_bytes(&error, len), "{error}"),
    }
}

/// An error says how many bytes so many values have, or that these are too many to be counted.
fn says_bytes(error: &impl ToString, len: usize) -> bool {
    let bytes = len.saturating_mul(8);
    error.to_string().contains(&bytes.to_string())
}

impl Op {
    fn step(&self) {
        let heap = HeapConfig::new();
        if !matches!(
            self,
            Self::Tick(_)
                | Self::Surplus(_)
                | Self::CacheBytes(_)
                | Self::HardLimit(_)
                | Self::Huge(_)
                | Self::Use { .. }
        ) {
            // Others are refused for their own settings only.
            defaults();
        }
        match *self {
            Self::Tick(every) => heap.tick(Duration::from_millis(every.get() as u64)).apply(),
            Self::Surplus(bytes) => heap.surplus(bytes.get()).apply(),
            Self::CacheBytes(bytes) => heap.cache_bytes(bytes.get()).apply(),
            Self::HardLimit(bytes) => heap.hard_limit(bytes.get()).apply(),
            Self::Huge(which) => {
                heap.huge_pages([HugePages::Off, HugePages::Growing][usize::from(which) % 2]).apply();
            }
            Self::Use { size, count } => use_heap(size.get(), count.into()),
            Self::Threads { workers, bound, nul, flags } => {
                threads(workers.get(), bound.get(), nul, flags);
            }
            Self::Stack { bytes } => {
                if let Ok(thread) = Thread::builder().stack_size(bytes.get()).spawn(|| 5_u8) {
                    assert_eq!(thread.join().expect("it does not panic"), 5);
                }
            }
            Self::Named { letters, nul } => {
                let name = "x".repeat(letters.into()) + if nul { "\0" } else { "" };
                match Thread::spawn(name.clone(), millpond::thread::current_name) {
                    Ok(thread) => assert!(!nul && thread.join().is_ok_and(|seen| seen == name)),
                    Err(error) => assert!(nul && error.to_string().contains(&letters.to_string()), "{error}"),
                }
            }
            Self::Cores { first, count } => {
                let first = first.get();
                let cores = (0..usize::from(count) % 3).map(|n| first.wrapping_add(n));
                match ThreadPool::builder().workers(1).affinity(cores).build() {
                    Ok(pool) => assert!(!count.is_multiple_of(3) && pool.apply(|| 1) == Ok(1)),
                    Err(PoolError::NoCores) => assert!(count.is_multiple_of(3)),
                    Err(error) => assert!(matches!(error, PoolError::NoSuchCore { .. }), "{error}"),
                }
            }
            Self::Values { reserve, limit, magazine } => {
                // 2^40 values are 48 TiB: nobody has them.
                values(reserve.modest(1 << 40), limit.get(), magazine.get());
            }
            Self::Recycled { limit } => recycled::run(limit.get(), limit.kind, limit.detail),
            // More is refused for its number.
            Self::Queue { values } => queue(values.modest(1 << 25)),
            Self::Pipe { messages } => pipe(messages.modest(1 << 21)),
            Self::Permits { permits: first, more } => permits(first.get(), more.get()),
            Self::Parties { parties } => match ipc::Barrier::new(parties.get()) {
                Ok(barrier) => assert_eq!((barrier.parties(), barrier.waiting()), (parties.get(), 0)),
                Err(error @ BarrierError::Parties { .. }) => says(&error, parties.get()),
                Err(error) => panic!("{error}"),
            },
            // A block of shared memory has at most 4 GiB.
            Self::Slice { len } => slice(len.modest(1 << 30)),
        }
    }
}

fn defaults() {
    HeapConfig::new()
        .tick(Duration::from_millis(100))
        .huge_pages(HugePages::Growing)
        .surplus(8 << 20)
        .cache_bytes(512 << 10)
        .hard_limit(usize::MAX)
        .apply();
}

impl Operation for Op {
    fn run(program: Vec<Self>) {
        let program = Arc::new(program);
        // On a thread of its own: what it keeps is gone with it.
        let run = Arc::clone(&program);
        let ended = std::thread::spawn(move || run.iter().take(40).for_each(Self::step)).join();
        defaults();
        Heap::purge();
        if let Err(payload) = ended {
            std::panic::resume_unwind(payload);
        }
    }
}
