//! Threads: a target and a name, started, joined with their value; the current thread's name; panics as errors.
//!
//! `cargo run --release --example thread`

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use millpond::sync::Event;
use millpond::thread::{self, Thread, ThreadError};

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "thread: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the thread does: it counts, and says which thread counted.
fn count(to: u32) -> (Vec<String>, u32) {
    let lines = (1..=to).map(|n| format!("thread {} >>> {n}", thread::current_name())).collect();
    (lines, to)
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "thread {} is running.", thread::current_name())?;
    let looping = Thread::spawn("LoopThread", || count(5))?;
    writeln!(out, "thread {} was started, as number {}.", looping.name(), looping.id())?;
    let (lines, counted) = looping.join()?;
    for line in &lines {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "thread LoopThread ended, with {counted}.")?;
    expect(counted == 5 && lines.iter().all(|line| line.starts_with("thread LoopThread >>> ")), "its value is joined")?;

    with_settings(out)?;
    nobody_named_it(out)?;
    panics_are_errors(out)?;
    waits_for_so_long(out)?;
    refused(out)
}

fn with_settings(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let deep = Thread::builder().name("deep").stack_size(64 << 20).spawn(|| depth(50_000))?;
    let depth = deep.join()?;
    writeln!(out, "thread deep, with a stack of 64 MiB, called itself {depth} times.")?;
    expect(depth == 50_000, "the stack is as large as asked")
}

/// Each call takes more than 128 bytes of the stack, some 8 MB in all: four times what a thread has if nothing is said.
fn depth(left: u32) -> u32 {
    let here = std::hint::black_box([left; 32]);
    if here[0] == 0 { 0 } else { depth(here[31] - 1) + 1 }
}

fn nobody_named_it(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let named = std::thread::spawn(thread::current).join().map_err(|_| "the other thread panicked")?;
    writeln!(out, "A thread that nobody named, started elsewhere: {}.", named.name())?;
    expect(named.name() == format!("Thread-{}", named.id()), "every thread has a name")
}

fn panics_are_errors(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // The program's own choice: without this line the standard library also reports the panic.
    let reports = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let error = Thread::spawn("unlucky", || -> u32 { panic!("the sluice is jammed") })?.join();
    std::panic::set_hook(reports);
    let Err(error) = error else { return Err("the panic was lost".into()) };
    writeln!(out, "{error}.")?;
    expect(matches!(error, ThreadError::Panicked { .. }), "a panic is an error")
}

fn waits_for_so_long(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    static GO: Event = Event::new();
    let patient = Thread::spawn("patient", || GO.wait())?;
    let Err(error) = patient.join_timeout(Duration::from_millis(1)) else { return Err("it cannot be over".into()) };
    writeln!(out, "{error}.")?;
    expect(matches!(error, ThreadError::TimedOut { .. }) && !patient.is_finished(), "it goes on")?;
    GO.set();
    patient.join()?;
    writeln!(out, "thread patient ended.")?;
    Ok(())
}

fn refused(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for refused in
        [Thread::spawn("two\0names", || ()), Thread::builder().name("greedy").stack_size(usize::MAX / 4).spawn(|| ())]
    {
        let Err(error) = refused else { return Err("it was started".into()) };
        writeln!(out, "Refused: {error}.")?;
    }
    Ok(())
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
