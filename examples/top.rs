//! A live view of a running process pool: its workers, queue, slots and restarts, read from its segment without stopping it.
//!
//! ```text
//! cargo run --release --example top -- PID      the pools of that process, once a second until it ends
//! cargo run --release --example top -- PID 1    the same, once
//! cargo run --release --example top             a pool of its own, three views of it
//! ```

use std::error::Error;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use millpond::process::{self, ProcessPool};

fn nap(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn fail() {
    std::process::abort();
}

millpond::tasks![nap, fail];

const USAGE: &str = "usage: top [PID [VIEWS]]";

fn main() -> ExitCode {
    process::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<u32>> = arguments.iter().map(|argument| argument.parse().ok()).collect();
    let mut out = io::stdout();
    let done = match numbers.as_deref() {
        Some([]) => run(&mut out),
        Some([pid]) => watch(&mut out, *pid, None, Duration::from_secs(1)),
        Some([pid, views]) => watch(&mut out, *pid, Some(*views), Duration::from_secs(1)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("top: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows a process's pools again and again, until it has ended or for so many times.
fn watch(out: &mut impl Write, pid: u32, views: Option<u32>, pause: Duration) -> Result<(), Box<dyn Error>> {
    let mut shown = 0;
    loop {
        let pools = match process::look(pid) {
            Ok(pools) => pools,
            Err(error) if error.kind() == ErrorKind::NotFound && shown > 0 => {
                writeln!(out, "process {pid} has ended")?;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(format!("there is no process {pid}").into());
            }
            Err(error) => return Err(format!("process {pid}: {error}").into()),
        };
        if views.is_none() && io::stdout().is_terminal() {
            // Home, and all below cleared.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        if pools.is_empty() {
            writeln!(out, "process {pid} has no process pool")?;
        }
        for pool in &pools {
            writeln!(out, "{pool}")?;
        }
        shown += 1;
        if views.is_some_and(|views| shown >= views) {
            return Ok(());
        }
        thread::sleep(pause);
    }
}

/// Something to look at: a pool of two processes with two threads each, that has more to do than it can, and loses a worker.
pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pool = ProcessPool::builder().workers(2).threads_per_worker(2).name("mill").retries(0).build()?;
    pool.wait_ready(Duration::from_secs(60))?;
    let naps = (0..40).map(|_| pool.apply_async(nap, (25,))).collect::<Result<Vec<_>, _>>()?;
    let lost = pool.apply_async(fail, ())?;
    watch(out, process::id(), Some(3), Duration::from_millis(150))?;
    for nap in &naps {
        nap.join()?;
    }
    writeln!(out, "the task that aborted: {}", lost.join().err().map_or_else(String::new, |error| error.to_string()))?;
    watch(out, process::id(), Some(1), Duration::ZERO)?;
    pool.close();
    pool.join()?;
    Ok(())
}
