//! Events and barriers between threads: waiting until something has happened, waiting until all are there.
//!
//! `cargo run --release --example event`

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::sync::{Barrier, BarrierError, Event};

const THREADS: usize = 4;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "event: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    all_wait_for_one(out)?;
    waits_for_so_long(out)?;
    all_wait_for_all(out)?;
    one_gives_up(out)
}

fn all_wait_for_one(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let (opened, passed) = (Event::new(), AtomicUsize::new(0));
    let before = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                opened.wait();
                passed.fetch_add(1, Ordering::SeqCst);
            });
        }
        while opened.waiting() < THREADS {
            thread::yield_now();
        }
        let before = passed.load(Ordering::SeqCst);
        // Cleared at once, it lets all go on all the same that wait now.
        opened.set();
        opened.clear();
        before
    });
    let after = passed.into_inner();
    writeln!(out, "{THREADS} threads wait for the sluice to open: {before} have passed.")?;
    writeln!(out, "It was opened and shut again: all {after} that waited have passed.")?;
    expect(before == 0 && after == THREADS && !opened.is_set(), "all that wait go on, none before")
}

fn waits_for_so_long(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let opened = Event::new();
    let shut = opened.wait_timeout(Duration::from_millis(1));
    opened.set();
    let open = opened.wait_timeout(Duration::ZERO);
    writeln!(out, "Waiting 1 ms at a shut sluice: {shut}; at an open one it takes no time: {open}.")?;
    expect(!shut && open && opened.is_set(), "it says whether it was set")
}

fn all_wait_for_all(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    const TURNS: usize = 3;
    let (meet, arrived, early) = (Barrier::new(THREADS), AtomicUsize::new(0), AtomicUsize::new(0));
    let leaders = thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| {
            scope.spawn(|| {
                (1..=TURNS).try_fold(0, |led, turn| {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    let passed = meet.wait()?;
                    let missing = arrived.load(Ordering::SeqCst) < turn * THREADS;
                    early.fetch_add(usize::from(missing), Ordering::SeqCst);
                    Ok::<_, BarrierError>(led + usize::from(passed.is_leader()))
                })
            })
        });
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).sum::<usize>()
    });
    let early = early.into_inner();
    writeln!(out, "{THREADS} threads met {TURNS} times: {early} went on early, {leaders} led, one each time.")?;
    expect(early == 0 && leaders == TURNS, "nobody goes on before all are there")
}

fn one_gives_up(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let meet = Barrier::new(2);
    let Err(alone) = meet.wait_timeout(Duration::from_millis(1)) else { return Err("nobody else came".into()) };
    let Err(next) = meet.wait() else { return Err("it is broken".into()) };
    writeln!(out, "{alone}.\n{next}.")?;
    meet.reset();
    let passed = thread::scope(|scope| {
        let other = scope.spawn(|| meet.wait().is_ok());
        meet.wait().is_ok() && other.join().is_ok_and(|passed| passed)
    });
    writeln!(out, "After a reset two pass: {passed}.")?;
    expect(passed && next == BarrierError::Broken, "a reset makes it as new")
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
