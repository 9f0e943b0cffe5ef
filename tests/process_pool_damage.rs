//! A worker that writes rubbish over its pool's memory: its pool gives up, in words; nobody hangs, nobody else is harmed.
//!
//! More seeds: `MILLPOND_SOAK=1 cargo test --release --test process_pool_damage -- --nocapture`.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "writes where it must not")]

use std::time::{Duration, Instant};

use millpond::process::ProcessPool;
use millpond::{Dispatch, PoolError};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, Random, alone, times};

millpond::test_support!();

fn work(n: u64, microseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(microseconds));
    3 * n + 1
}

/// The memory that this worker shares with its pool: where it begins, and how long it is.
fn memory() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let ours = maps.lines().filter(|line| line.contains("/memfd:millpond") && line.contains("rw-s"));
    let range = ours.map(|line| line.split(' ').next().unwrap().split_once('-').unwrap());
    let range = range.map(|(start, end)| (number(start), number(end) - number(start)));
    range
        .filter(|(start, _)| {
            let start: *const u64 = std::ptr::with_exposed_provenance(*start);
            // SAFETY: mapped, as the system says.
            unsafe { start.read_volatile() == u64::from_be_bytes(*b"millpoo1") }
        })
        .collect()
}

/// Writes rubbish over all of it, of a kind that the seed says; then returns, stays, or dies.
fn scribble(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let _ = (0..10).map(|_| random.below(2)).sum::<u64>();
    let all = memory();
    assert_eq!(all.len(), 1);
    let (kind, end) = (random.below(4), random.below(3));
    for (start, len) in all {
        for at in (0..len.min(1 << 20)).step_by(8) {
            let rubbish = match kind {
                0 => u64::MAX,
                1 => 0,
                2 => random.below(1 << 52) << 11 ^ random.below(1 << 52),
                // Words that look like something.
                _ => random.below(5) | random.below(4) << 8 | random.below(3) << 16 | random.below(3) << 48,
            };
            let place: *mut u64 = std::ptr::with_exposed_provenance_mut(start + at);
            // SAFETY: mapped and writable; that it is others' is the point.
            unsafe { place.write_volatile(rubbish) };
        }
    }
    match end {
        0 => {}
        1 => std::thread::sleep(Duration::from_secs(1000)),
        _ => std::process::abort(),
    }
}

millpond::tasks![work, scribble];

#[test]
fn rubbish_in_the_memory_ends_the_pool_and_nothing_else() {
    let _alone = alone();
    let audit = Audit::now();
    let other = ProcessPool::builder().workers(1).build().unwrap();
    let mut longest = Duration::ZERO;
    let seeds = times(24, 1000);
    let mut damaged = 0;
    for seed in 0..seeds {
        let dispatch =
            [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random][usize::try_from(seed % 3).unwrap()];
        let builder = ProcessPool::builder()
            .workers(2)
            .threads_per_worker(1 + usize::try_from(seed % 2).unwrap())
            .dispatch(dispatch);
        let pool = builder.build().unwrap();
        pool.wait_ready(HANG).unwrap();
        // Some from rest, some with others about.
        let before: Vec<_> = (0..seed % 4 * 20).map(|n| pool.apply_async(work, (n, 300)).unwrap()).collect();
        let culprit = pool.apply_async(scribble, (seed,)).unwrap();
        let started = Instant::now();
        let after: Vec<_> = (0..seed % 5 * 20).map_while(|n| pool.apply_async(work, (n, 300)).ok()).collect();
        // No matter what: each ends. What is read from rubbish may be rubbish.
        for task in before.iter().chain(&after) {
            assert_ne!(task.join_timeout(HANG / 4), Err(millpond::TaskError::TimedOut), "seed {seed}");
        }
        assert_ne!(culprit.join_timeout(HANG / 4), Err(millpond::TaskError::TimedOut), "seed {seed}");
        longest = longest.max(started.elapsed());
        // Nothing of this panics, whatever is there.
        let _ = (pool.worker_stats(), pool.progress(), pool.queued(), pool.sleeping(), pool.wake_ups());
        // Another task finds out, if the pool had not yet.
        let next = pool.apply_async(work, (1, 0)).map(|task| task.join_timeout(HANG / 4));
        assert!(!matches!(next, Ok(Err(millpond::TaskError::TimedOut))), "seed {seed}");
        pool.close();
        match pool.join() {
            Err(PoolError::Damaged) => damaged += 1,
            other => println!("seed {seed}: {other:?}"),
        }
        assert_eq!(other.apply(work, (seed, 0)), Ok(3 * seed + 1));
    }
    assert_eq!(other.progress().deaths, 0);
    drop(other);
    audit.expect_unchanged();
    println!("{seeds} pools written over, {damaged} said so; all handles done after {longest:?} at most");
    assert!(damaged == seeds);
}
