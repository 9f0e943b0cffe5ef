//! Locks between threads: Millpond's beside parking_lot's, on which they stand, and the standard library's. What is asked
//! is whether the layer costs anything, and what order of arrival costs a semaphore.
//!
//! `cargo bench -p millpond-bench --bench locks`

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use millpond_bench::{Table, median};

const ROUNDS: usize = 9;
const WHO: [&str; 3] = ["millpond", "parking_lot", "std"];

/// One contestant's operation, made anew for each run.
type Contestant = fn(usize, u32) -> f64;

struct Row {
    name: &'static str,
    threads: usize,
    times: u32,
    contestants: [Contestant; 3],
}

/// ns for one operation, when so many threads do it so many times each.
fn time(threads: usize, times: u32, operation: impl Fn() + Sync) -> f64 {
    let start_line = Barrier::new(threads + 1);
    let began = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start_line.wait();
                (0..times).for_each(|_| operation());
            });
        }
        start_line.wait();
        Instant::now()
    });
    began.elapsed().as_secs_f64() * 1e9 / f64::from(times) / threads as f64
}

fn lock_millpond(threads: usize, times: u32) -> f64 {
    let lock = millpond::sync::Lock::new(0_u64);
    time(threads, times, || *lock.lock() += black_box(1))
}

fn lock_parking_lot(threads: usize, times: u32) -> f64 {
    let lock = parking_lot::Mutex::new(0_u64);
    time(threads, times, || *lock.lock() += black_box(1))
}

fn lock_std(threads: usize, times: u32) -> f64 {
    let lock = std::sync::Mutex::new(0_u64);
    time(threads, times, || *lock.lock().unwrap() += black_box(1))
}

fn read_millpond(threads: usize, times: u32) -> f64 {
    let lock = millpond::sync::RwLock::new(1_u64);
    time(threads, times, || {
        black_box(*lock.read());
    })
}

fn read_parking_lot(threads: usize, times: u32) -> f64 {
    let lock = parking_lot::RwLock::new(1_u64);
    time(threads, times, || {
        black_box(*lock.read());
    })
}

fn read_std(threads: usize, times: u32) -> f64 {
    let lock = std::sync::RwLock::new(1_u64);
    time(threads, times, || {
        black_box(*lock.read().unwrap());
    })
}

fn write_millpond(threads: usize, times: u32) -> f64 {
    let lock = millpond::sync::RwLock::new(0_u64);
    time(threads, times, || *lock.write() += black_box(1))
}

fn write_parking_lot(threads: usize, times: u32) -> f64 {
    let lock = parking_lot::RwLock::new(0_u64);
    time(threads, times, || *lock.write() += black_box(1))
}

fn write_std(threads: usize, times: u32) -> f64 {
    let lock = std::sync::RwLock::new(0_u64);
    time(threads, times, || *lock.write().unwrap() += black_box(1))
}

fn semaphore_millpond(threads: usize, times: u32) -> f64 {
    let semaphore = millpond::sync::Semaphore::bounded(2);
    time(threads, times, || drop(black_box(semaphore.acquire())))
}

/// What one would write by hand, without order.
fn semaphore_parking_lot(threads: usize, times: u32) -> f64 {
    let (free, back) = (parking_lot::Mutex::new(2_u32), parking_lot::Condvar::new());
    time(threads, times, || {
        let mut now = free.lock();
        back.wait_while(&mut now, |now| *now == 0);
        *now -= 1;
        drop(now);
        *free.lock() += black_box(1);
        back.notify_one();
    })
}

/// The same by the standard library.
fn semaphore_std(threads: usize, times: u32) -> f64 {
    let (free, back) = (std::sync::Mutex::new(2_u32), std::sync::Condvar::new());
    time(threads, times, || {
        let mut now = back.wait_while(free.lock().unwrap(), |now| *now == 0).unwrap();
        *now -= 1;
        drop(now);
        *free.lock().unwrap() += black_box(1);
        back.notify_one();
    })
}

fn rows() -> Vec<Row> {
    let lock: [Contestant; 3] = [lock_millpond, lock_parking_lot, lock_std];
    let read: [Contestant; 3] = [read_millpond, read_parking_lot, read_std];
    let write: [Contestant; 3] = [write_millpond, write_parking_lot, write_std];
    let semaphore: [Contestant; 3] = [semaphore_millpond, semaphore_parking_lot, semaphore_std];
    let row = |name, threads, times, contestants| Row { name, threads, times, contestants };
    vec![
        row("lock, one thread", 1, 8_000_000, lock),
        row("lock, two threads", 2, 2_000_000, lock),
        row("lock, four threads", 4, 1_000_000, lock),
        row("read, one thread", 1, 8_000_000, read),
        row("read, two threads", 2, 2_000_000, read),
        row("write, one thread", 1, 8_000_000, write),
        row("write, two threads", 2, 2_000_000, write),
        row("semaphore of 2, one thread", 1, 4_000_000, semaphore),
        row("semaphore of 2, two threads", 2, 250_000, semaphore),
        row("semaphore of 2, four threads", 4, 50_000, semaphore),
    ]
}

fn main() {
    let mut table = Table::new(
        "Locks between threads: ns for one operation, medians",
        ["", WHO[0], WHO[1], WHO[2], "to parking_lot", "to std"],
    );
    for row in rows() {
        let mut figures = [const { Vec::new() }; 3];
        let mut ratios = [const { Vec::new() }; 2];
        for round in 0..ROUNDS {
            // Each begins in turn.
            let mut now = [0.0; 3];
            for place in 0..3 {
                let who = (round + place) % 3;
                now[who] = row.contestants[who](row.threads, row.times);
                figures[who].push(now[who]);
            }
            ratios[0].push(now[0] / now[1]);
            ratios[1].push(now[0] / now[2]);
        }
        let shown = |figures: &[f64]| median(figures.to_vec()).map_or("-".to_owned(), |ns| format!("{ns:.1}"));
        let [own, parking_lot, std] = figures;
        let [to_parking_lot, to_std] =
            ratios.map(|ratios| median(ratios).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        let name = row.name.to_owned();
        table.row(vec![name, shown(&own), shown(&parking_lot), shown(&std), to_parking_lot, to_std]);
    }
    println!("{table}");
}
