//! Semaphores between threads: so many at a time, in order of arrival.
//!
//! `cargo run --release --example semaphore`

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::sync::{Barrier, Lock, Semaphore};

const THREADS: usize = 8;
const AT_A_TIME: usize = 3;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "semaphore: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    so_many_at_a_time(out)?;
    in_order_of_arrival(out)?;
    counts(out)?;
    refuses(out)
}

fn so_many_at_a_time(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let millstones = Semaphore::bounded(AT_A_TIME);
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // All three permits are in use at some time, because three threads meet while they have one.
    let meet = Barrier::new(AT_A_TIME);
    let lines = Lock::new(Vec::new());
    let failed = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (millstones, inside, most, meet, lines) = (&millstones, &inside, &most, &meet, &lines);
                scope.spawn(move || -> Result<(), Box<dyn Error + Send + Sync>> {
                    let permit = millstones.acquire()?;
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    lines.lock().push(format!("  thread {number} grinds, one of {now}"));
                    if number < AT_A_TIME {
                        meet.wait()?;
                    }
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).any(|end| !matches!(end, Ok(Ok(()))))
    });
    let most = most.into_inner();
    writeln!(out, "{THREADS} threads, {AT_A_TIME} millstones:")?;
    for line in lines.into_inner() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "  At most {most} at a time; all {} permits are back.", millstones.available())?;
    expect(!failed && most == AT_A_TIME && millstones.available() == AT_A_TIME, "so many at a time, and no more")
}

fn in_order_of_arrival(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let millstones = Semaphore::bounded(AT_A_TIME);
    let order = Lock::new(Vec::new());
    let all = millstones.acquire_many(AT_A_TIME)?;
    let wanted = [2, 3, 1, 3];
    let failed = thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .iter()
            .enumerate()
            .map(|(place, &permits)| {
                let (millstones, order) = (&millstones, &order);
                let thread = scope.spawn(move || {
                    let permit = millstones.acquire_many(permits);
                    order.lock().push(place);
                    permit.map(drop)
                });
                // The next one comes when this one waits.
                while millstones.waiting() <= place {
                    thread::yield_now();
                }
                thread
            })
            .collect();
        drop(all);
        threads.into_iter().map(|thread| thread.join()).any(|end| !matches!(end, Ok(Ok(()))))
    });
    let order = order.into_inner();
    writeln!(out, "Four threads that want {wanted:?} permits got them in the order of their arrival: {order:?}.")?;
    expect(!failed && order == [0, 1, 2, 3], "nobody is passed")
}

fn counts(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    const SACKS: usize = 100;
    let filled = Semaphore::new(0);
    let failed = thread::scope(|scope| {
        let miller = scope.spawn(|| (0..SACKS).try_for_each(|_| filled.acquire().map(|sack| sack.forget())));
        let failed = (0..SACKS / 10).any(|_| filled.release(10).is_err());
        failed || !matches!(miller.join(), Ok(Ok(())))
    });
    writeln!(out, "Counting: {SACKS} sacks were filled, ten at a time, and ground; {} are left.", filled.available())?;
    expect(!failed && filled.available() == 0, "what is released is acquired once")
}

fn refuses(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let millstones = Semaphore::bounded(AT_A_TIME);
    let taken = millstones.acquire_many(2)?;
    let late = Duration::from_millis(1);
    let mut refused = vec![
        millstones.try_acquire_many(2).err(),
        millstones.acquire_many_timeout(2, late).err(),
        millstones.acquire_many(4).err(),
        millstones.release(1).err(),
    ];
    millstones.close();
    refused.push(millstones.acquire().err());
    drop(taken);
    for refused in refused {
        let Some(error) = refused else { return Err("it was not refused".into()) };
        writeln!(out, "Refused: {error}.")?;
    }
    expect(millstones.available() == AT_A_TIME, "nothing is lost by a refusal")
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
