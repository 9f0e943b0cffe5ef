//! How tasks find workers, threads and processes: who ran what under each dispatch, who woke for a single task, and who
//! waited beside whom.
//!
//! `cargo run --release --example dispatch`

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use millpond::Dispatch;
use millpond::process::{self, ProcessPool};
use millpond::thread::ThreadPool;

const WORKERS: usize = 4;
const TASKS: usize = 12;

/// Takes a moment, and says where.
fn nap(milliseconds: u64) -> u32 {
    thread::sleep(Duration::from_millis(milliseconds));
    process::id()
}
millpond::tasks![nap];

fn main() -> ExitCode {
    process::init();
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "dispatch: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All of it. A test runs it too.
pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "A pool of {WORKERS} threads:")?;
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        who_ran_what(dispatch, out)?;
    }
    one_task_wakes_one(out)?;
    behind_a_long_task(out)?;
    writeln!(out, "\nA pool of {WORKERS} processes:")?;
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        which_process_ran_what(dispatch, out)?;
    }
    one_task_wakes_one_process(out)
}

fn pool(dispatch: Dispatch) -> Result<ThreadPool, Box<dyn Error>> {
    Ok(ThreadPool::builder().workers(WORKERS).dispatch(dispatch).name("mill").build()?)
}

/// Each task notes its worker.
fn who_ran_what(dispatch: Dispatch, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool = pool(dispatch)?;
    let task = || {
        thread::sleep(Duration::from_millis(2));
        thread::current().name().and_then(|name| name.strip_prefix("mill-")?.parse::<usize>().ok())
    };
    let handles: Result<Vec<_>, _> = (0..TASKS).map(|_| pool.apply_async(task)).collect();
    let mut ran = vec![Vec::new(); WORKERS];
    for (number, handle) in handles?.iter().enumerate() {
        ran[handle.join()?.ok_or("a task ran outside of the pool")?].push(number + 1);
    }
    writeln!(out, "{dispatch:?}:")?;
    for (worker, tasks) in ran.iter().enumerate() {
        writeln!(out, "  worker {worker} ran {tasks:?}")?;
    }
    let turns = ran.iter().all(|tasks| tasks.len() == TASKS / WORKERS);
    expect(dispatch != Dispatch::RoundRobin || turns, "in turn, each gets its share")
}

/// The same with processes: each task's value is where it ran.
fn which_process_ran_what(dispatch: Dispatch, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool = ProcessPool::builder().workers(WORKERS).dispatch(dispatch).build()?;
    pool.wait_ready(Duration::from_secs(60))?;
    let workers = pool.worker_ids();
    let handles: Vec<_> = (0..TASKS).map(|_| pool.apply_async(nap, (2,))).collect::<Result<_, _>>()?;
    let mut ran = vec![Vec::new(); WORKERS];
    for (number, handle) in handles.iter().enumerate() {
        let process = handle.join()?;
        let worker = workers.iter().position(|id| *id == process).ok_or("a task ran outside of the pool")?;
        ran[worker].push(number + 1);
    }
    writeln!(out, "{dispatch:?}:")?;
    for (tasks, process) in ran.iter().zip(&workers) {
        writeln!(out, "  process {process} ran {tasks:?}")?;
    }
    let turns = ran.iter().all(|tasks| tasks.len() == TASKS / WORKERS);
    expect(dispatch != Dispatch::RoundRobin || turns, "in turn, each gets its share")
}

/// Idle processes sleep on the shared queue; a new task wakes one.
fn one_task_wakes_one_process(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool = ProcessPool::builder().workers(WORKERS).build()?;
    pool.wait_ready(Duration::from_secs(60))?;
    let start = Instant::now();
    let all_sleep = || {
        while pool.sleeping() < WORKERS && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
    };
    let (mut tasks, mut woken) = (0, 0);
    while tasks < 5 {
        all_sleep();
        let (before, put) = (pool.wake_ups(), Instant::now());
        pool.apply(nap, (0,))?;
        let took = put.elapsed();
        all_sleep();
        // A pool wakes everybody when a task has waited for 100 ms, as on a machine that is too busy to run who was woken.
        if took < Duration::from_millis(50) || start.elapsed() > Duration::from_secs(60) {
            tasks += 1;
            woken += pool.wake_ups() - before;
        }
    }
    writeln!(out, "Five tasks, each while all {WORKERS} processes slept: {woken} wake-ups.")?;
    expect(woken == 5, "one task wakes one process, the others stay asleep")
}

/// Idle workers sleep; a new task wakes one, and exactly one takes it.
fn one_task_wakes_one(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool = pool(Dispatch::SharedQueue)?;
    let start = Instant::now();
    let all_sleep = || {
        while pool.sleeping() < WORKERS && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
    };
    for _ in 0..5 {
        all_sleep();
        pool.apply(|| ())?;
    }
    all_sleep();
    writeln!(out, "Five tasks, each while all {WORKERS} workers slept: {} wake-ups.", pool.wake_ups())?;
    expect(pool.wake_ups() == 5, "one task wakes one worker, the others stay asleep")
}

/// What it costs that a picked worker keeps its tasks: short ones wait behind a long one, though others are idle.
fn behind_a_long_task(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "One task of 100 ms, then {TASKS} short ones; the last of them ended after")?;
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random] {
        let pool = pool(dispatch)?;
        let (tell, hear) = mpsc::channel();
        pool.spawn(|| thread::sleep(Duration::from_millis(100)))?;
        let start = Instant::now();
        for _ in 0..TASKS {
            let tell = tell.clone();
            pool.spawn(move || {
                let _ = tell.send(start.elapsed());
            })?;
        }
        drop(tell);
        let last = hear.iter().max().unwrap_or_default();
        writeln!(out, "  {:>6.1} ms with {dispatch:?}", last.as_secs_f64() * 1e3)?;
    }
    Ok(())
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
