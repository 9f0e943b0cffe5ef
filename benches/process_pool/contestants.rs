//! What is run here: Millpond, procspawn, and the bare limit. The Python peers do the same in `peers.py`.

use std::time::{Duration, Instant};

use millpond::ipc::SharedSlice;
use millpond::process::ProcessPool;
use millpond::thread::MapOptions;

use crate::bare::{Court, shared};
use crate::two::{Forked, pin};

const WORKERS: usize = 4;
/// Latencies taken, and those before the clock starts.
const APPLIES: usize = 20_000;
const WARM: usize = 2_000;
/// Tasks of a map.
const MANY: u64 = 50_000;
/// Trips of a megabyte.
const TRIPS: usize = 200;
const MEGABYTE: usize = 1 << 20;
/// Tasks that compute, and how long each does.
const COMPUTING: usize = 20_000;
const EACH: Duration = Duration::from_micros(100);
/// procspawn fails with 8,000 tasks under way.
const AT_ONCE: u64 = 2_000;

/// Says to procspawn's children where they are to run.
const CORE: &str = "MILLPOND_BENCH_CORE";

fn trivial(n: u64) -> u64 {
    n + 1
}
fn echo(bytes: serde_bytes::ByteBuf) -> serde_bytes::ByteBuf {
    bytes
}
fn echo_plain(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}
/// Reads all of a slice, and returns it.
fn read_slice(slice: SharedSlice<u8>) -> SharedSlice<u8> {
    assert!(sum(&slice) > 0);
    slice
}
fn compute(loops: u64) -> u64 {
    (0..loops).fold(1, |x, n| std::hint::black_box(x ^ n).wrapping_mul(6_364_136_223_846_793_005))
}
millpond::tasks![trivial, echo, echo_plain, read_slice, compute];

fn sum(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0, |sum: u64, eight| sum.wrapping_add(u64::from_ne_bytes(*eight)))
}

/// The first lines of `main`.
pub fn init() {
    millpond::process::init();
    if let Some(core) = std::env::var(CORE).ok().and_then(|core| core.parse().ok()) {
        pin(core);
    }
    procspawn::init();
}

/// Runs a workload once, and prints its figures.
pub fn run(contestant: &str, workload: &str) {
    match (contestant, workload) {
        ("bare", "apply-two") => ping_pong(1),
        ("bare", "apply-one") => ping_pong(0),
        ("procspawn", _) => with_procspawn(workload),
        ("millpond", _) => with_millpond(workload),
        _ => panic!("no such contestant: {contestant}"),
    }
}

fn say(time: Duration, count: usize) {
    println!("microseconds={:.4}", time.as_secs_f64() * 1e6 / count as f64);
}

/// p50 and p99 of `run`.
fn latencies(count: usize, mut run: impl FnMut(u64)) {
    let mut times = Vec::with_capacity(count);
    for n in 0..(count + WARM) as u64 {
        let start = Instant::now();
        run(n);
        times.push(start.elapsed());
    }
    times.drain(..WARM);
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!("microseconds={:.3} p99={:.3}", at(50), at(99));
}

/// Two processes that throw a ball, asleep in a futex between throws.
fn ping_pong(core: usize) {
    let court = shared::<Court>();
    let other = Forked::new(|| {
        pin(core);
        (1..=(APPLIES + WARM) as u32).for_each(|n| court.answer(n, true));
    });
    pin(0);
    latencies(APPLIES, |n| court.serve(n as u32 + 1, true));
    other.wait();
}

fn pool(core: Option<usize>) -> ProcessPool {
    let builder = ProcessPool::builder().workers(WORKERS);
    let builder = core.into_iter().fold(builder, |builder, core| builder.affinity([core]));
    let pool = builder.build().expect("a pool");
    pool.wait_ready(Duration::from_secs(60)).expect("workers");
    pool
}

fn with_millpond(workload: &str) {
    match workload {
        "start" => {
            let start = Instant::now();
            let pool = ProcessPool::builder().workers(WORKERS).build().expect("a pool");
            assert_eq!(pool.apply(trivial, (1,)), Ok(2));
            say(start.elapsed(), 1);
        }
        "apply-two" | "apply-one" => {
            let pool = pool(Some(usize::from(workload == "apply-two")));
            pin(0);
            latencies(APPLIES, |n| assert_eq!(pool.apply(trivial, (n,)), Ok(n + 1)));
        }
        "map-single" | "map-chunks" => {
            let pool = pool(None);
            let options = MapOptions::new().chunk_size(usize::from(workload == "map-single"));
            pool.map(trivial, 0..64).expect("warm");
            let start = Instant::now();
            let all = pool.map_with(options, trivial, 0..MANY).expect("values");
            say(start.elapsed(), all.len());
            assert_eq!(all.last(), Some(&MANY));
        }
        "async" => {
            let pool = pool(None);
            pool.map(trivial, 0..64).expect("warm");
            let start = Instant::now();
            let handles: Vec<_> = (0..MANY).map(|n| pool.apply_async(trivial, (n,)).expect("taken in")).collect();
            let all: Vec<u64> = handles.iter().map(|handle| handle.join().expect("a value")).collect();
            say(start.elapsed(), all.len());
            assert_eq!(all.last(), Some(&MANY));
        }
        "value-1m" => {
            let pool = pool(None);
            let bytes = serde_bytes::ByteBuf::from(vec![1; MEGABYTE]);
            timed(|_| assert_eq!(pool.apply(echo, (bytes.clone(),)).expect("it").len(), MEGABYTE));
        }
        "value-1m-vec" => {
            let pool = pool(None);
            let bytes = vec![1_u8; MEGABYTE];
            timed(|_| assert_eq!(pool.apply(echo_plain, (bytes.clone(),)).expect("it").len(), MEGABYTE));
        }
        "slice-1m" => {
            let pool = pool(None);
            timed(|n| {
                let mut slice = SharedSlice::unspecified(MEGABYTE).expect("room");
                slice.fill(n as u8 | 1);
                let slice = pool.apply(read_slice, (slice,)).expect("it");
                assert!(sum(&slice) > 0);
            });
        }
        "compute" => {
            let pool = pool(None);
            let (loops, each) = calibrate();
            pool.map(trivial, 0..64).expect("warm");
            let start = Instant::now();
            let handles: Vec<_> = (0..COMPUTING).map(|_| pool.apply_async(compute, (loops,)).expect("in")).collect();
            for handle in handles {
                handle.join().expect("a value");
            }
            efficiency(each, start.elapsed());
        }
        _ => panic!("no such workload: {workload}"),
    }
}

fn timed(mut trip: impl FnMut(usize)) {
    (0..TRIPS / 10).for_each(&mut trip);
    let start = Instant::now();
    (0..TRIPS).for_each(trip);
    say(start.elapsed(), TRIPS);
}

fn efficiency(each: Duration, elapsed: Duration) {
    println!("efficiency={:.4}", COMPUTING as f64 * each.as_secs_f64() / (2.0 * elapsed.as_secs_f64()));
}

/// Loops that take [`EACH`], and how much processor time they take while both cores compute.
fn calibrate() -> (u64, Duration) {
    let time = |loops: u64, times: u32| {
        let start = cpu_time();
        for _ in 0..times {
            std::hint::black_box(compute(std::hint::black_box(loops)));
        }
        (cpu_time() - start) / times
    };
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let once = time(100_000, 300);
                    let loops = (100_000.0 * EACH.as_secs_f64() / once.as_secs_f64()) as u64;
                    (loops, time(loops, 2_000))
                })
            })
            .collect();
        let all: Vec<_> = both.into_iter().map(|thread| thread.join().expect("computing")).collect();
        let loops = (all[0].0 + all[1].0) / 2;
        let each = all.iter().map(|(loops, each)| each.as_secs_f64() / *loops as f64).sum::<f64>() / 2.0;
        (loops, Duration::from_secs_f64(each * loops as f64))
    })
}

/// Processor time of the calling thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn with_procspawn(workload: &str) {
    let make = |core: Option<usize>| {
        let mut builder = procspawn::Pool::builder(WORKERS);
        if let Some(core) = core {
            builder.env(CORE, core.to_string());
        }
        builder.build().expect("a pool")
    };
    let go = |pool: &procspawn::Pool, n: u64| procspawn::spawn!(in pool, (n) || n + 1);
    if workload == "start" {
        let start = Instant::now();
        let pool = make(None);
        assert_eq!(go(&pool, 1).join().expect("a value"), 2);
        say(start.elapsed(), 1);
        pool.kill();
        return;
    }
    let core = match workload {
        "apply-two" => Some(1),
        "apply-one" => Some(0),
        _ => None,
    };
    if core.is_some() {
        pin(0);
    }
    let pool = make(core);
    let warm: Vec<_> = (0..64).map(|n| go(&pool, n)).collect();
    for handle in warm {
        handle.join().expect("a value");
    }
    match workload {
        "apply-two" | "apply-one" => {
            latencies(APPLIES / 4, |n| assert_eq!(go(&pool, n).join().expect("a value"), n + 1));
        }
        "async" => {
            let start = Instant::now();
            for first in (0..MANY).step_by(AT_ONCE as usize) {
                let handles: Vec<_> = (first..first + AT_ONCE).map(|n| go(&pool, n)).collect();
                handles.into_iter().for_each(|handle| assert!(handle.join().expect("a value") > first));
            }
            say(start.elapsed(), MANY as usize);
        }
        "value-1m" => {
            let bytes = serde_bytes::ByteBuf::from(vec![1; MEGABYTE]);
            timed(|_| {
                let back = procspawn::spawn!(in &pool, (bytes.clone() => bytes) || bytes).join().expect("it");
                assert_eq!(back.len(), MEGABYTE);
            });
        }
        _ => panic!("no such workload: {workload}"),
    }
    pool.kill();
}
