//! A process pool: workers that are there before the first task, five tasks of random length on four workers, of which the
//! fifth waits for a free one, results by handle, callback and map, a worker that is killed in its task, and an orderly end.
//!
//! ```text
//! cargo run --release --example process_pool
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use millpond::process::{self, ProcessPool};
use millpond::{PoolError, TaskError};

const WORKERS: usize = 4;
const TASKS: u32 = 5;

/// In each worker, before its first task.
fn set_up(greeting: String) {
    println!("  {} (process {}): {greeting}", process::current_name(), process::id());
}

/// Says when it starts and ends, and in between takes its time. Milliseconds since `start`.
fn long_time_task(number: u32, nap: u64, start: SystemTime) -> (u32, u128, u128) {
    let now = || start.elapsed().unwrap_or_default().as_millis();
    let began = now();
    println!("  {began:>5} ms: task {number} starts in process {}", process::id());
    std::thread::sleep(Duration::from_millis(nap));
    println!("  {:>5} ms: task {number} ends after its {nap} ms", now());
    (process::id(), began, now())
}

fn square(n: u64) -> u64 {
    n * n
}

fn spill() {
    std::panic::resume_unwind(Box::new("the flour is on the floor"));
}

fn forever() {
    loop {
        std::thread::park();
    }
}

millpond::tasks![set_up, long_time_task, square, spill, forever];

fn main() -> ExitCode {
    process::init();
    match run(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "process_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All of it. A test runs it too.
pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "Made with {WORKERS} workers of equal attributes, each of which says when it is ready:")?;
    let pool = ProcessPool::builder()
        .workers(WORKERS)
        .name("mill")
        .nice(1)
        .initializer(set_up, ("ready to grind".to_owned(),))
        .build()?;
    pool.wait_ready(Duration::from_secs(60))?;
    five_tasks_on_four_workers(&pool, out)?;
    results(&pool, out)?;
    a_killed_worker(&pool, out)?;
    the_end(&pool, out)
}

/// Four start at once, each in a process of its own; the fifth when one of them is free.
fn five_tasks_on_four_workers(pool: &ProcessPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "Five tasks of random length on four workers:")?;
    let start = SystemTime::now();
    // Drawn anew each time (xorshift from the clock).
    let mut seed = start.duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos() | 1;
    let mut nap = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        100 + u64::from(seed % 400)
    };
    let handles: Result<Vec<_>, _> =
        (1..=TASKS).map(|number| pool.apply_async(long_time_task, (number, nap(), start))).collect();
    let ran = handles?.iter().map(|handle| handle.join()).collect::<Result<Vec<_>, _>>()?;
    let four: BTreeSet<u32> = ran[..WORKERS].iter().map(|(process, ..)| *process).collect();
    let (process, began, _) = ran[WORKERS];
    let free = ran[..WORKERS].iter().find(|(id, ..)| *id == process).map(|(.., ended)| *ended);
    expect(four.len() == WORKERS, "the first four run at once, each in a process of its own")?;
    expect(free.is_some_and(|free| began >= free), "the fifth starts when one of the four is free")?;
    writeln!(out, "The fifth waited for process {process}.")?;
    Ok(())
}

/// A result is waited for, fetched later, or handed to a callback; a panic is an error, and the worker lives on.
fn results(pool: &ProcessPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "apply waits:            {}", pool.apply(square, (7,))?)?;
    let handle = pool.apply_async(square, (8,))?;
    writeln!(out, "apply_async returned:   its handle says {}", handle.join()?)?;
    let (tell, hear) = mpsc::channel();
    pool.apply_async_then(square, (9,), move |result| drop(tell.send(result)))?;
    writeln!(out, "a callback was told:    {:?}", hear.recv()?)?;
    let Err(error) = pool.apply(spill, ()) else { return Err("the task did not panic".into()) };
    writeln!(out, "a panic is an error:    {error}")?;
    writeln!(out, "map keeps the order:    {:?}", pool.map(square, 1..=5)?)?;
    let imap: Result<Vec<_>, _> = pool.imap(square, 1..=5)?.collect();
    writeln!(out, "imap gives one by one:  {:?}", imap?)?;
    let any: Result<BTreeSet<_>, _> = pool.imap_unordered(square, 1..=5)?.collect();
    writeln!(out, "imap_unordered, sorted: {:?}", any?)?;
    Ok(())
}

/// A worker that is killed in its task is that task's error, and nobody else's; another takes its place.
fn a_killed_worker(pool: &ProcessPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let victims: Vec<_> = (0..WORKERS).map(|_| pool.apply_async(forever, ())).collect::<Result<_, _>>()?;
    let waiting = pool.apply_async(square, (10,))?;
    let killed = pool.worker_ids()[0];
    // All are busy: `worker_stats` says so by what each sleeps.
    let start = Instant::now();
    while pool.queued() > 1 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    writeln!(out, "All four run tasks without end, and one waits; now process {killed} is killed:")?;
    let status = Command::new("kill").args(["-9", &killed.to_string()]).status()?;
    expect(status.success(), "kill kills")?;
    writeln!(out, "  the task that waited ran all the same: {}", waiting.join()?)?;
    let mut died = 0;
    for victim in &victims {
        victim.cancel();
        match victim.join() {
            Err(error @ TaskError::WorkerDied { .. }) => {
                writeln!(out, "  the task that it ran has an error:     {error}")?;
                died += 1;
            }
            Err(TaskError::Cancelled) => {}
            other => return Err(format!("a task without end ended: {other:?}").into()),
        }
    }
    expect(died == 1, "one worker's death is one task's error, the others were cancelled")
}

/// Close, then join; what comes after is a clear error.
fn the_end(pool: &ProcessPool, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let Err(early) = pool.join() else { return Err("an open pool was joined".into()) };
    writeln!(out, "join before close:      {early}")?;
    pool.close();
    let Err(late) = pool.spawn(square, (1,)) else { return Err("a closed pool took a task".into()) };
    writeln!(out, "a task after close:     {late}")?;
    expect(early == PoolError::NotClosed && late == PoolError::Closed, "the errors say what it is")?;
    pool.join()?;
    writeln!(out, "joined:                 {}", pool.progress())?;
    expect(pool.progress().unfinished() == 0, "nothing was left")
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
