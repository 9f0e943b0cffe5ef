//! A child forked from a program whose other threads allocate all the time allocates, frees and uses pools, and ends.
//! In a process of its own; Heap is its allocator. An alarm turns a child that hangs into a failure.
//!
//! A child starts a thread only if no thread of its parent was being started when it was forked: the standard library
//! and the C library hold locks of their own then, which nobody gives back in the child. (Seen: the lock in which the
//! standard library keeps the guard pages of its threads.)
#![expect(unsafe_code, reason = "forks, and the raw interface")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, RwLock};

use millpond::{BlockPool, Heap, Pool, PoolBox};

#[global_allocator]
static GLOBAL: Heap = Heap;

static NODES: Pool<[u64; 6]> = Pool::new();
static NEVER_USED_BEFORE: Pool<[u64; 30]> = Pool::new();

const SECONDS: u32 = 20;
/// Of the pool that a sleeping thread keeps blocks of.
const LIMIT: usize = 2_000;

/// What the parent's forking thread made, and the child drops its copies of.
struct Kept {
    words: Vec<String>,
    nodes: Vec<PoolBox<'static, [u64; 6]>>,
}

/// What the child does; its exit status.
fn child(exact: &BlockPool, pool: &BlockPool, limited: &BlockPool, kept: Kept, may_start: bool) -> i32 {
    // No other thread of the child uses the pool.
    let (live, boxes) = (NODES.stats().live, kept.nodes.len());
    let whole = kept.nodes.iter().all(|node| node.iter().all(|word| *word == node[0]));
    drop(kept.nodes);
    let gone = live - NODES.stats().live == boxes;
    let mut words: Vec<String> = (0..300).map(|n| "x".repeat(1 + n * 7)).collect();
    words.retain(|word| word.len() % 2 == 0);
    let large = vec![1_u8; 3 << 20];
    let huge = vec![0_u8; 20 << 20];
    let sum: usize = kept.words.iter().map(String::len).sum();
    drop(kept.words);
    let nodes: Vec<_> = (0..500).map(|n| NODES.alloc([n; 6])).collect();
    let fresh: Vec<_> = (0..50).map(|n| NEVER_USED_BEFORE.alloc([n; 30])).collect();
    let blocks: Vec<_> = (0..200).map_while(|_| pool.take().ok()).collect();
    let few: Vec<_> = (0..4).map_while(|_| exact.take().ok()).collect();
    let own = BlockPool::builder().block_size(128).limit(10).build();
    let taken = own.as_ref().is_ok_and(|own| own.take().is_ok());
    // A bit for each thing that must hold, so that the exit status says which one did not.
    let mut wrong = 0;
    let mut must = |bit: u32, holds: bool| wrong |= i32::from(!holds) << bit;
    must(0, words.len() == 150 && sum > 0);
    must(1, large[large.len() - 1] == 1 && huge[huge.len() - 1] == 0);
    must(2, whole && gone && nodes.iter().all(|node| node[0] == node[5]) && fresh.len() == 50);
    must(3, blocks.len() == 200);
    must(4, taken);
    must(5, Heap::stats().live_blocks > 0 && NODES.stats().blocks > 0 && exact.stats().block_size == 64);
    // What other threads kept is lost to the child, and not held against the limit.
    let all: Vec<_> = (0..LIMIT).map_while(|_| limited.take().ok()).collect();
    must(7, all.len() == LIMIT && limited.take().is_err());
    drop(all);
    drop((words, large, huge, nodes, fresh, blocks, few, own));
    Heap::flush_thread();
    Heap::purge();
    if may_start {
        // Threads of the child are threads like any other.
        let thread = std::thread::spawn(|| vec![NODES.alloc([5; 6])].len() + "x".repeat(5_000).len()).join();
        must(6, matches!(thread, Ok(5_001)));
    }
    wrong
}

#[test]
fn a_child_of_a_busy_program_allocates_and_ends() {
    let stop = Arc::new(AtomicBool::new(false));
    let exact = Arc::new(BlockPool::builder().block_size(64).limit(8).build().unwrap());
    let pool = Arc::new(BlockPool::new(64, 16));
    let limited = Arc::new(BlockPool::builder().block_size(64).limit(LIMIT).build().unwrap());
    let (kept, wake) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let sleeper = {
        let (limited, kept, wake) = (Arc::clone(&limited), Arc::clone(&kept), Arc::clone(&wake));
        std::thread::spawn(move || {
            drop((0..500).map(|_| limited.take().unwrap()).collect::<Vec<_>>());
            kept.wait();
            wake.wait();
        })
    };
    kept.wait();
    assert!(limited.stats().cached > 0, "or this shows less");
    // Read by who starts a thread, written by who forks a child that will.
    let starting = Arc::new(RwLock::new(()));
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let (stop, exact, pool) = (Arc::clone(&stop), Arc::clone(&exact), Arc::clone(&pool));
            let starting = Arc::clone(&starting);
            std::thread::spawn(move || {
                let mut round = 0_usize;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let words: Vec<String> = (0..100).map(|n| "y".repeat(1 + (n * round) % 2_000)).collect();
                    let nodes: Vec<_> = (0..100).map(|n| NODES.alloc([n; 6])).collect();
                    let blocks: Vec<_> = (0..150).map(|_| pool.take().unwrap()).collect();
                    for _ in 0..200 {
                        drop(exact.take());
                    }
                    let large = vec![0_u8; 40_000 + round % 50 * 10_000];
                    drop((words, nodes, blocks, large));
                    if worker == 0 {
                        // Pools and threads that come and go take the registry's lock.
                        let other = BlockPool::new(48, 16);
                        drop(other.take());
                        let started = starting.read().unwrap();
                        std::thread::spawn(|| drop(NODES.alloc([1; 6]))).join().unwrap();
                        drop(started);
                        Heap::flush_thread();
                    } else if round.is_multiple_of(20) {
                        Heap::purge();
                    }
                }
            })
        })
        .collect();
    for round in 0..400 {
        let words = (0..50).map(|n| "z".repeat(round + n)).collect();
        let kept = Kept { words, nodes: (0..40).map(|n| NODES.alloc([n; 6])).collect() };
        // Every other child is forked at any instant, while threads start and end too.
        let nobody_starts = (round % 2 == 0).then(|| starting.write().unwrap());
        let may_start = nobody_starts.is_some();
        // SAFETY: the child allocates, which is what this is about, and ends by `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: sets a timer.
            unsafe { libc::alarm(SECONDS) };
            // A panic must not unwind into the harness, of which the child has no more than this thread, and must not
            // print a backtrace: another thread may have held its lock.
            std::panic::set_hook(Box::new(|panic| {
                let text = panic.to_string();
                // SAFETY: writes a live string to standard error.
                unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(255) };
            }));
            let status = child(&exact, &pool, &limited, kept, may_start);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        drop(nobody_starts);
        let mut status = 0;
        // SAFETY: waits for the child just made.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(ended, pid);
        assert!(!libc::WIFSIGNALED(status), "child {round}: signal {} (14: it hung)", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 0, "child {round}");
    }
    stop.store(true, Ordering::Relaxed);
    wake.wait();
    sleeper.join().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let live = (NODES.stats().live, pool.stats().live, exact.stats().live);
    assert_eq!(live, (0, 0, 0), "the parent goes on as if nothing had been");
}
