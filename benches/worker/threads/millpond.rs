//! Millpond.

use millpond::Dispatch;
use millpond::thread::ThreadPool;
use workloads::{Sample, timed};

use crate::peers::{HANDLES, ITEMS, MAPS, POOLS, TREES, little, start_map};
use crate::pool::Pool;

fn pool(workers: usize, dispatch: Dispatch) -> ThreadPool {
    ThreadPool::builder().workers(workers).dispatch(dispatch).build().expect("a pool")
}

macro_rules! contestant {
    ($name:ident, $dispatch:expr, $what:literal) => {
        #[doc = $what]
        pub struct $name(ThreadPool);

        impl Pool for $name {
            fn start(workers: usize) -> Self {
                Self(pool(workers, $dispatch))
            }

            fn spawn(&self, f: impl FnOnce() + Send + 'static) {
                self.0.spawn(f).expect("it is open");
            }

            fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64 {
                self.0.apply(f).expect("it does not panic")
            }
        }
    };
}

contestant!(Millpond, Dispatch::SharedQueue, "As it is made.");
contestant!(RoundRobin, Dispatch::RoundRobin, "Each worker in turn.");
contestant!(Random, Dispatch::Random, "A worker drawn for each task.");

fn fibonacci(pool: &ThreadPool, n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = pool.fork_join(|| fibonacci(pool, n - 1), || fibonacci(pool, n - 2));
    a + b
}

pub fn fib(workers: usize) -> Sample {
    let pool = pool(workers, Dispatch::SharedQueue);
    fibonacci(&pool, 20);
    timed(TREES, || (0..TREES).map(|_| fibonacci(&pool, 27)).max())
}

pub fn map(workers: usize) -> Sample {
    let pool = pool(workers, Dispatch::SharedQueue);
    let inputs = start_map();
    timed(MAPS * ITEMS, || {
        inputs.into_iter().map(|items| pool.map(items, little).expect("it does not panic").len()).sum::<usize>()
    })
}

pub fn make(workers: usize) -> Sample {
    timed(POOLS, || {
        for _ in 0..POOLS {
            let pool = pool(workers, Dispatch::SharedQueue);
            pool.close();
            pool.join().expect("it is closed");
        }
    })
}

pub fn handles(workers: usize) -> Sample {
    let pool = pool(workers, Dispatch::SharedQueue);
    timed(HANDLES, || {
        let handles: Vec<_> = (0..HANDLES).map(|n| pool.apply_async(move || n).expect("it is open")).collect();
        handles.into_iter().map(|handle| handle.join().expect("it does not panic")).sum::<u64>()
    })
}
