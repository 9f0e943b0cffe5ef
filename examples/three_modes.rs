//! Three ways of doing several things at once: many processes; many threads; many processes, each with many threads. The
//! same work each time: odd primes below two million, counted in pieces.
//!
//! ```text
//! cargo run --release --example three_modes
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::time::Instant;

use millpond::process::{self, Process, ProcessPool};

const BELOW: u64 = 2_000_000;
const PIECES: u64 = 4;

/// Who counted, by process and thread, and how many primes it found.
type Counted = Vec<(u32, String, u64)>;

/// The primes in the `n`th of `pieces` pieces of the odd numbers below [`BELOW`].
fn count(n: u64, pieces: u64) -> u64 {
    let is_prime = |odd: u64| odd > 1 && (3..).step_by(2).take_while(|d| d * d <= odd).all(|d| !odd.is_multiple_of(d));
    (0..BELOW / 2).filter(|half| half % pieces == n && is_prime(2 * half + 1)).count() as u64
}

fn in_a_process(n: u64) -> Counted {
    vec![(process::id(), "main".to_owned(), count(n, PIECES))]
}

/// Both threads of a process at once, each on a piece of the process's piece.
fn in_threads(first: u64, threads: u64, pieces: u64) -> Counted {
    std::thread::scope(|scope| {
        let start = |n: u64| {
            let name = format!("thread {n}");
            let thread = std::thread::Builder::new().name(name.clone());
            thread.spawn_scoped(scope, move || (process::id(), name, count(first + n, pieces)))
        };
        let threads = (0..threads).map(start).collect::<Result<Vec<_>, _>>().expect("the system gives threads");
        threads.into_iter().map(|thread| thread.join().expect("counting does not panic")).collect()
    })
}

/// A task of a pool whose processes have several threads: in whichever of them is free.
fn in_a_pool(n: u64) -> (u32, String, u64) {
    let thread = std::thread::current().name().unwrap_or("?").to_owned();
    (process::id(), thread, count(n, PIECES))
}

millpond::tasks![in_a_process, in_threads, in_a_pool];

fn report(out: &mut impl Write, mode: &str, start: Instant, counted: Counted) -> io::Result<u64> {
    let all = counted.iter().map(|(.., primes)| primes).sum();
    let by: BTreeSet<u32> = counted.iter().map(|(id, ..)| *id).collect();
    writeln!(out, "{mode}: {all} primes in {:.2} s, by {} process(es)", start.elapsed().as_secs_f64(), by.len())?;
    for (id, thread, primes) in counted {
        writeln!(out, "    process {id}, {thread}: {primes}")?;
    }
    Ok(all)
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();
    run(&mut io::stdout().lock())
}

/// All of it. A test runs it too.
pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "this is process {}; the system decides who runs when", process::id())?;

    let start = Instant::now();
    let children = (0..PIECES).map(|n| Process::spawn(in_a_process, (n,))).collect::<Result<Vec<_>, _>>()?;
    let counted = children.iter().map(Process::join).collect::<Result<Vec<_>, _>>()?;
    let processes = report(out, "many processes", start, counted.concat())?;

    let start = Instant::now();
    let threads = report(out, "many threads", start, in_threads(0, PIECES, PIECES))?;

    let start = Instant::now();
    let children = (0..2).map(|n| Process::spawn(in_threads, (n * 2, 2, PIECES))).collect::<Result<Vec<_>, _>>()?;
    let counted = children.iter().map(Process::join).collect::<Result<Vec<_>, _>>()?;
    let both = report(out, "many processes with many threads", start, counted.concat())?;

    let start = Instant::now();
    let pool = ProcessPool::builder().workers(2).threads_per_worker(2).name("mill").build()?;
    let pooled = report(out, "the same from a pool", start, pool.map(in_a_pool, 0..PIECES)?)?;
    pool.close();
    pool.join()?;

    let all = [processes, threads, both, pooled];
    let same = all.iter().all(|primes| *primes == processes);
    if same { Ok(()) } else { Err("not the same primes however they are counted".into()) }
}
