//! A thread pool: workers that are there before the first task, a fifth task that waits for one of four, results by
//! handle, callback, map and scope, and an orderly end.
//!
//! `cargo run --release --example thread_pool`

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use millpond::thread::ThreadPool;
use millpond::{PoolError, TaskError};

const WORKERS: usize = 4;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "thread_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let started = Arc::new(Mutex::new(BTreeSet::new()));
    let hook = Arc::clone(&started);
    let pool = ThreadPool::builder()
        .workers(WORKERS)
        .name("mill")
        .nice(1)
        .on_start(move |worker| drop(hook.lock().map(|mut started| started.insert(worker))))
        .build()?;
    let ready = started.lock().map_err(|_| "a hook panicked")?.len();
    writeln!(out, "Made with {WORKERS} workers of equal attributes; {ready} were ready before the first task.")?;
    expect(ready == WORKERS, "workers are initialised up front")?;
    five_tasks_on_four_workers(&pool, out)?;
    results(&pool, out)?;
    borrowing(&pool, out)?;
    the_end(pool, out)
}

/// Four run at once, each on a worker of its own; the fifth waits for a free one.
fn five_tasks_on_four_workers(pool: &ThreadPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let gate = Arc::new(Barrier::new(WORKERS + 1));
    let (tell, hear) = mpsc::channel();
    for task in 1..=WORKERS {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        pool.spawn(move || {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let _ = tell.send((task, name));
            gate.wait();
        })?;
    }
    let mut names = BTreeSet::new();
    writeln!(out, "Five tasks on four workers:")?;
    for (task, name) in hear.iter().take(WORKERS) {
        writeln!(out, "  task {task} runs on {name}")?;
        names.insert(name);
    }
    let fifth = pool.apply_async(|| thread::current().name().unwrap_or_default().to_owned())?;
    let waits = fifth.join_timeout(Duration::from_millis(20)) == Err(TaskError::TimedOut);
    writeln!(out, "  task 5 waits: {waits}")?;
    expect(names.len() == WORKERS && waits, "the fifth waits while four run, each on its own worker")?;
    gate.wait();
    let name = fifth.join()?;
    writeln!(out, "  task 5 ran on {name}, which had become free")?;
    expect(names.contains(&name), "it ran on one of the four")
}

/// A result is waited for, fetched later, or handed to a callback; a panic is an error, and the worker lives on.
fn results(pool: &ThreadPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "apply waits:            {}", pool.apply(|| 6 * 7)?)?;
    let handle = pool.apply_async(|| 6 * 7)?;
    writeln!(out, "apply_async returned:   its handle says {}", handle.join()?)?;
    let (tell, hear) = mpsc::channel();
    pool.apply_async_then(|| 6 * 7, move |result| drop(tell.send(result)))?;
    writeln!(out, "a callback was told:    {:?}", hear.recv()?)?;
    let Err(error) = pool.apply::<_, ()>(|| std::panic::resume_unwind(Box::new("out of flour"))) else {
        return Err("the task did not panic".into());
    };
    writeln!(out, "a panic is an error:    {error}")?;
    writeln!(out, "map keeps the order:    {:?}", pool.map(1..=5, |n| n * n)?)?;
    let imap: Result<Vec<_>, _> = pool.imap(1..=5, |n| n * n)?.collect();
    writeln!(out, "imap gives one by one:  {:?}", imap?)?;
    let any: Result<BTreeSet<_>, _> = pool.imap_unordered(1..=5, |n| n * n)?.collect();
    writeln!(out, "imap_unordered, sorted: {:?}", any?)?;
    Ok(())
}

/// Tasks of a scope borrow; forks too.
fn borrowing(pool: &ThreadPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut words = ["rye", "oats", "spelt"].map(String::from);
    pool.scope(|s| words.iter_mut().for_each(|word| s.spawn(|| word.make_ascii_uppercase())));
    writeln!(out, "a scope changed:        {}", words.join(" "))?;
    expect(words == ["RYE", "OATS", "SPELT"], "every task of a scope has ended with it")?;
    let sum = add(pool, &(1..=1_000_000).collect::<Vec<u64>>());
    writeln!(out, "fork_join added up:     {sum}")?;
    expect(sum == 500_000_500_000, "both halves of every fork")
}

fn add(pool: &ThreadPool, numbers: &[u64]) -> u64 {
    if numbers.len() <= 100 {
        return numbers.iter().sum();
    }
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let (left, right) = pool.fork_join(|| add(pool, left), || add(pool, right));
    left + right
}

/// Close, then join; what comes after is a clear error.
fn the_end(pool: ThreadPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let Err(early) = pool.join() else { return Err("an open pool was joined".into()) };
    writeln!(out, "join before close:      {early}")?;
    pool.close();
    let Err(late) = pool.spawn(|| ()) else { return Err("a closed pool took a task".into()) };
    writeln!(out, "a task after close:     {late}")?;
    expect(early == PoolError::NotClosed && late == PoolError::Closed, "the errors say what it is")?;
    pool.join()?;
    writeln!(out, "joined:                 {}", pool.progress())?;
    for worker in pool.worker_stats() {
        writeln!(out, "  {worker}")?;
    }
    expect(pool.progress().unfinished() == 0, "nothing was left")
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
