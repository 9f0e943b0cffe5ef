//! The pools of other crates, each used as its documentation says; and threads without a pool.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use rayon::prelude::*;
use workloads::{Sample, timed};

use crate::pool::Pool;

pub const HANDLES: u64 = 1_000_000;
pub const TREES: u64 = 50;
pub const MAPS: u64 = 10;
pub const ITEMS: u64 = 1_000_000;
pub const POOLS: u64 = 300;

/// The inputs of the maps, made before the clock starts.
pub fn start_map() -> Vec<Vec<u64>> {
    (0..MAPS).map(|map| (map..map + ITEMS).collect()).collect()
}

/// Little work.
pub fn little(item: u64) -> u64 {
    item.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7
}

pub struct Rayon(rayon::ThreadPool);

fn rayon_pool(workers: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(workers).build().expect("a pool")
}

impl Pool for Rayon {
    fn start(workers: usize) -> Self {
        Self(rayon_pool(workers))
    }
    fn spawn(&self, f: impl FnOnce() + Send + 'static) {
        self.0.spawn(f);
    }
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        self.0.install(f)
    }
}

pub struct Threadpool(threadpool::ThreadPool);

impl Pool for Threadpool {
    fn start(workers: usize) -> Self {
        Self(threadpool::ThreadPool::new(workers))
    }
    fn spawn(&self, f: impl FnOnce() + Send + 'static) {
        self.0.execute(f);
    }
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        let (tell, hear) = mpsc::channel();
        self.0.execute(move || tell.send(f()).expect("somebody waits"));
        hear.recv().expect("it does not panic")
    }
}

pub struct Rusty(rusty_pool::ThreadPool);

fn rusty_pool(workers: usize) -> rusty_pool::ThreadPool {
    rusty_pool::Builder::new().core_size(workers).max_size(workers.max(1)).build()
}

impl Pool for Rusty {
    fn start(workers: usize) -> Self {
        Self(rusty_pool(workers))
    }
    fn spawn(&self, f: impl FnOnce() + Send + 'static) {
        self.0.execute(f);
    }
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        self.0.evaluate(f).await_complete()
    }
}

pub struct Tokio(tokio::runtime::Runtime);

fn tokio_runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(workers).build().expect("a runtime")
}

impl Pool for Tokio {
    fn start(workers: usize) -> Self {
        Self(tokio_runtime(workers))
    }
    fn spawn(&self, f: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(f));
    }
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
        self.0.block_on(self.0.spawn_blocking(f)).expect("it does not panic")
    }
}

fn rayon_fibonacci(n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = rayon::join(|| rayon_fibonacci(n - 1), || rayon_fibonacci(n - 2));
    a + b
}

pub fn rayon_fib(workers: usize) -> Sample {
    let pool = rayon_pool(workers);
    pool.install(|| {
        rayon_fibonacci(20);
        timed(TREES, || (0..TREES).map(|_| rayon_fibonacci(27)).max())
    })
}

fn chili_fibonacci(scope: &mut chili::Scope<'_>, n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = scope.join(|scope| chili_fibonacci(scope, n - 1), |scope| chili_fibonacci(scope, n - 2));
    a + b
}

pub fn chili_fib(workers: usize) -> Sample {
    let config = chili::Config { thread_count: std::num::NonZero::new(workers), ..chili::Config::default() };
    let pool = chili::ThreadPool::with_config(config);
    let mut scope = pool.scope();
    chili_fibonacci(&mut scope, 20);
    timed(TREES, || (0..TREES).map(|_| chili_fibonacci(&mut scope, 27)).max())
}

fn forte_fibonacci(worker: &forte::Worker, n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = worker.join(|worker| forte_fibonacci(worker, n - 1), |worker| forte_fibonacci(worker, n - 2));
    a + b
}

pub fn forte_fib(workers: usize) -> Sample {
    static POOL: forte::ThreadPool = forte::ThreadPool::new();
    POOL.resize_to(workers);
    POOL.with_worker(|worker| {
        forte_fibonacci(worker, 20);
        timed(TREES, || (0..TREES).map(|_| forte_fibonacci(worker, 27)).max())
    })
}

pub fn rayon_map(workers: usize) -> Sample {
    let pool = rayon_pool(workers);
    let inputs = start_map();
    timed(MAPS * ITEMS, || {
        let one = |items: Vec<u64>| items.into_par_iter().map(little).collect::<Vec<_>>().len();
        inputs.into_iter().map(|items| pool.install(|| one(items))).sum::<usize>()
    })
}

pub fn std_map(workers: usize) -> Sample {
    let inputs = start_map();
    timed(MAPS * ITEMS, || {
        let one = |items: Vec<u64>| {
            let mut results = vec![0; items.len()];
            let size = items.len().div_ceil(workers);
            thread::scope(|scope| {
                for (items, results) in items.chunks(size).zip(results.chunks_mut(size)) {
                    scope.spawn(|| items.iter().zip(results).for_each(|(item, result)| *result = little(*item)));
                }
            });
            results.len()
        };
        inputs.into_iter().map(one).sum::<usize>()
    })
}

/// Rayon ends its threads some time after the pool is dropped: an exit handler says when.
pub fn rayon_make(workers: usize) -> Sample {
    timed(POOLS, || {
        for _ in 0..POOLS {
            let (tell, ended) = mpsc::channel();
            let tell = std::sync::Mutex::new(tell);
            let exit = move |_| tell.lock().expect("nobody panics").send(()).expect("somebody waits");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).exit_handler(exit).build().expect("a pool");
            drop(pool);
            (0..workers).for_each(|_| ended.recv().expect("it ends"));
        }
    })
}

/// It starts a thread when there is a task for it.
pub fn rusty_make(workers: usize) -> Sample {
    timed(POOLS, || {
        for _ in 0..POOLS {
            let pool = rusty_pool(workers);
            (0..workers).for_each(|_| pool.execute(|| ()));
            pool.shutdown_join();
        }
    })
}

pub fn std_make(workers: usize) -> Sample {
    timed(POOLS, || {
        for _ in 0..POOLS {
            let threads: Vec<_> = (0..workers).map(|_| thread::spawn(|| ())).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        }
    })
}

pub fn rayon_scope(workers: usize) -> Sample {
    let pool = rayon_pool(workers);
    let sum = AtomicU64::new(0);
    timed(HANDLES, || {
        pool.scope(|scope| {
            for n in 0..HANDLES {
                let sum = &sum;
                scope.spawn(move |_| {
                    sum.fetch_add(n, Ordering::Relaxed);
                });
            }
        });
    })
}

pub fn tokio_handles(workers: usize) -> Sample {
    let runtime = tokio_runtime(workers);
    timed(HANDLES, || {
        let handles: Vec<_> = (0..HANDLES).map(|n| runtime.spawn_blocking(move || n)).collect();
        runtime.block_on(async {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.expect("it does not panic");
            }
            sum
        })
    })
}

pub fn rusty_handles(workers: usize) -> Sample {
    let pool = rusty_pool(workers);
    let counted = Arc::new(AtomicUsize::new(0));
    timed(HANDLES, || {
        let handles: Vec<_> = (0..HANDLES).map(|n| pool.evaluate(move || n)).collect();
        counted.fetch_add(handles.len(), Ordering::Relaxed);
        handles.into_iter().map(|handle| handle.await_complete()).sum::<u64>()
    })
}
