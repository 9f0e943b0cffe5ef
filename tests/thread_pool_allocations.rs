//! What a task costs in memory: no allocation for closures of up to 96 bytes, at most 200 bytes while it waits.
#![expect(unsafe_code, reason = "counts what the global allocator is asked for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond::thread::ThreadPool;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, and a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's duty.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's duty.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Not under the test harness, whose own thread notes what runs while this counts.
fn main() {
    let pool = ThreadPool::builder().workers(2).build().unwrap();
    let done: &'static AtomicUsize = Box::leak(Box::default());
    let idle = || {
        pool.apply(|| ()).unwrap();
        while pool.sleeping() < 2 {
            std::thread::yield_now();
        }
    };
    idle();
    const TASKS: usize = 20_000;
    // 8 bytes for the reference, 88 of ballast.
    let ballast = [1_u8; 88];
    let counted = allocations(|| {
        for _ in 0..TASKS {
            let task = move || {
                done.fetch_add(std::hint::black_box(ballast)[0] as usize, Ordering::Relaxed);
            };
            pool.spawn(task).unwrap();
        }
        while done.load(Ordering::Relaxed) < TASKS {
            std::thread::yield_now();
        }
    });
    assert_eq!(counted, 0, "allocations for {TASKS} tasks without a handle");
    idle();
    let counted = allocations(|| {
        for _ in 0..TASKS {
            let handle = pool.apply_async(move || std::hint::black_box([ballast; 1])[0][0] as usize).unwrap();
            assert_eq!(handle.join().unwrap(), 1);
        }
    });
    assert_eq!(counted, 0, "allocations for {TASKS} tasks with a handle");
    let counted = allocations(|| (0..1000).for_each(|n| assert_eq!(pool.apply(|| n), Ok(n))));
    assert_eq!(counted, 0, "allocations for tasks that are waited for");
    let counted = allocations(|| pool.scope(|s| (0..TASKS).for_each(|_| s.spawn(|| ()))));
    assert_eq!(counted, 0, "allocations for tasks of a scope");

    // 100,000 tasks that wait.
    let gate: &'static Barrier = Box::leak(Box::new(Barrier::new(3)));
    let wait = || {
        gate.wait();
    };
    (0..2).for_each(|_| pool.spawn(wait).unwrap());
    while pool.queued() > 0 {
        std::thread::yield_now();
    }
    let before = resident();
    for _ in 0..100_000 {
        pool.spawn(move || assert_eq!(std::hint::black_box(ballast)[0], 1)).unwrap();
    }
    let each = (resident() - before) as f64 / 100_000.0;
    assert!(each <= 200.0, "{each:.0} bytes for each task that waits");
    gate.wait();
}
