//! All at once, for long: workers that are killed, recycled, too late, in pools of every dispatch, with values of every size.
//! Each task ends once; memory and descriptors stay what they are.
//!
//! The long form, a million tasks: `MILLPOND_SOAK=1 cargo test --release --test process_pool_soak -- --nocapture`.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "sends signals")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond::ipc::SharedSlice;
use millpond::process::ProcessPool;
use millpond::{Dispatch, TaskError};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, Random, alone, is_long, open_descriptors, resident, times};

millpond::test_support!();

fn work(n: u64) -> u64 {
    3 * n + 1
}

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn add_one(mut slice: SharedSlice<u8>) -> SharedSlice<u8> {
    slice.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    slice
}

fn endless() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn panics(n: u64) -> u64 {
    panic!("task {n}");
}

/// Thousands of panics need not be told of on the terminal.
fn quietly() {
    std::panic::set_hook(Box::new(|_| {}));
}

millpond::tasks![quietly, work, echo, add_one, endless, panics];

/// How tasks ended.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    submitted: u64,
    values: u64,
    died: u64,
    late: u64,
    panicked: u64,
}

impl Sum {
    /// A task has ended: well, with the right value, or in one of the ways that there are here.
    fn add<R>(&mut self, result: Result<R, TaskError>, is_right: impl FnOnce(R) -> bool) {
        self.submitted += 1;
        match result {
            Ok(value) => {
                assert!(is_right(value));
                self.values += 1;
            }
            Err(TaskError::WorkerDied { signal: Some(9), .. }) => self.died += 1,
            // Any task, where the machine is busy with others.
            Err(TaskError::TimedOut) => self.late += 1,
            Err(TaskError::Panicked { message, .. }) => {
                assert!(message.starts_with("task "), "{message}");
                self.panicked += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// A round of tasks of every kind.
fn round(pool: &ProcessPool, random: &mut Random, sum: &mut Sum, endless_too: bool) {
    let (mut small, mut large, mut slices, mut bad) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..1000_u64 {
        let byte = n.to_le_bytes()[0];
        match random.below(100) {
            0 | 1 => {
                let bytes = vec![byte; 300 + usize::try_from(random.below(30_000)).unwrap()];
                large.push((pool.apply_async(echo, (bytes.clone(),)).unwrap(), bytes));
            }
            2 => {
                let slice = SharedSlice::from_slice(&[byte; 3000]).unwrap();
                slices.push((pool.apply_async(add_one, (slice,)).unwrap(), byte.wrapping_add(1)));
            }
            3 => bad.push(pool.apply_async(panics, (n,)).unwrap()),
            _ => small.push((pool.apply_async(work, (n,)).unwrap(), n)),
        }
    }
    let late = endless_too.then(|| pool.apply_async(endless, ()).unwrap());
    for (task, n) in small {
        sum.add(task.join_timeout(HANG), |value| value == 3 * n + 1);
    }
    for (task, bytes) in large {
        sum.add(task.join_timeout(HANG), |value| value == bytes);
    }
    for (task, byte) in slices {
        sum.add(task.join_timeout(HANG), |slice| slice.len() == 3000 && slice.iter().all(|b| *b == byte));
    }
    for task in bad {
        sum.add(task.join_timeout(HANG), |_| false);
    }
    if let Some(task) = late {
        sum.add(task.join_timeout(HANG), |()| false);
    }
}

#[test]
fn memory_and_descriptors_stay_flat_whatever_happens() {
    let _alone = alone();
    let audit = Audit::now();
    let rounds = times(6, 168);
    let started = Instant::now();
    let (mut all, mut deaths, mut kills, mut restarts) = (Sum::default(), 0, 0, 0);
    let mut seen: Vec<(u64, usize)> = Vec::new();
    let pools = [1, 3].into_iter().flat_map(|threads| {
        [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random].map(|dispatch| (threads, dispatch))
    });
    for (n, (threads, dispatch)) in pools.enumerate() {
        let builder = ProcessPool::builder().workers(4).threads_per_worker(threads).dispatch(dispatch);
        let builder = builder.initializer(quietly, ()).recycle_after(700).task_timeout(Duration::from_millis(40));
        let pool = builder.retries(u32::from(n % 2 == 1)).build().unwrap();
        let stop = AtomicBool::new(false);
        let sum = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let (mut random, mut killed) = (Random(n as u64 + 77), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(2000 + random.below(20_000)));
                    let workers = pool.worker_ids();
                    let one = usize::try_from(random.below(4)).unwrap();
                    if let Some(id) = workers.get(one) {
                        // SAFETY: numbers only; a child of ours, reaped or not.
                        unsafe { libc::kill(i32::try_from(*id).unwrap(), libc::SIGKILL) };
                        killed += 1;
                    }
                }
                killed
            });
            let (mut random, mut sum) = (Random(n as u64 + 1), Sum::default());
            for n in 0..rounds {
                round(&pool, &mut random, &mut sum, n % 12 == 0);
                seen.push((resident(), open_descriptors()));
            }
            stop.store(true, Ordering::Relaxed);
            kills += killer.join().unwrap();
            sum
        });
        pool.close();
        pool.join().unwrap();
        let progress = pool.progress();
        assert_eq!((progress.submitted, progress.finished), (sum.submitted, sum.submitted), "{progress}");
        assert_eq!((progress.panicked, progress.failed), (sum.panicked, sum.died + sum.late), "{progress}");
        deaths += progress.deaths;
        restarts += pool.worker_stats().iter().map(|worker| u64::from(worker.started.saturating_sub(1))).sum::<u64>();
        all.submitted += sum.submitted;
        all.values += sum.values;
        all.died += sum.died;
        all.late += sum.late;
        all.panicked += sum.panicked;
    }
    audit.expect_unchanged();
    assert!(all.panicked > 0 && all.values > 0 && deaths > 0 && restarts > 0);
    assert!(all.late > 0 || !is_long(), "whoever was late was killed before: {all:?}");
    // The first tenth is for what is made once.
    let (first, rest) = seen.split_at(seen.len() / 10 + 1);
    let memory = |part: &[(u64, usize)]| part.iter().map(|seen| seen.0).max().unwrap();
    let open = |part: &[(u64, usize)]| part.iter().map(|seen| seen.1).max().unwrap();
    println!(
        "{} tasks in {:?}: {} values, {} WorkerDied, {} too late, {} panicked; {kills} kills sent, {deaths} deaths, \
         {restarts} workers started again; memory at most {} KiB in the first tenth, {} KiB after; descriptors {}, {}",
        all.submitted,
        started.elapsed(),
        all.values,
        all.died,
        all.late,
        all.panicked,
        memory(first) >> 10,
        memory(rest) >> 10,
        open(first),
        open(rest)
    );
    assert!(memory(rest) < memory(first) + (16 << 20), "memory grows: {seen:?}");
    // A worker that is being started holds a few for a moment; one that was lost each time would be thousands.
    assert!(open(rest) <= open(first) + 40, "descriptors grow: {seen:?}");
}
