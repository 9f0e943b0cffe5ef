//! Between processes: the same promises, and one more: who dies with the lock blocks nobody.

use std::io::{self, Write};

use millpond::ipc::{Event, Lock, LockError};
use millpond::process::{self, Process};

const PRINTERS: u32 = 10;
const LINES: u32 = 3;
const UPDATES: u32 = 10_000;

/// Prints its lines, each under the lock, which counts all lines.
fn print(lines: Lock<u64>, printer: u32) -> Result<(), String> {
    for line in 1..=LINES {
        let mut count = lines.lock().map_err(|error| error.to_string())?;
        *count += 1;
        let text = format!("line {count:2}: printer {printer}, process {}, prints its line {line}\n", process::id());
        let mut out = io::stdout().lock();
        for letter in text.bytes() {
            out.write_all(&[letter]).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
            std::thread::yield_now(); // Anybody else may run, but not print.
        }
    }
    Ok(())
}

fn update(balance: Lock<i64>, amount: i64) -> Result<(), String> {
    for _ in 0..UPDATES {
        *balance.lock().map_err(|error| error.to_string())? += amount;
        *balance.lock().map_err(|error| error.to_string())? -= amount;
    }
    Ok(())
}

fn die_holding(balance: Lock<i64>, held: Event) {
    let Ok(mut balance) = balance.lock() else { return };
    *balance += 5;
    held.set();
    // Killed here, before it takes the five away again.
    std::thread::sleep(std::time::Duration::from_secs(60));
}

millpond::tasks![print, update, die_holding];

pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
    println!("Lock: {PRINTERS} processes print {LINES} lines each, letter by letter, under one lock.");
    let lines = Lock::new(0_u64)?;
    let printers = (0..PRINTERS).map(|n| Process::spawn(print, (lines.clone(), n))).collect::<Result<Vec<_>, _>>()?;
    for printer in &printers {
        printer.join()??;
    }
    assert_eq!(*lines.lock()?, u64::from(PRINTERS * LINES));

    let balance = Lock::new(0_i64)?;
    let updaters = (1..=2).map(|n| Process::spawn(update, (balance.clone(), n))).collect::<Result<Vec<_>, _>>()?;
    for updater in &updaters {
        updater.join()??;
    }
    let left = *balance.lock()?;
    println!("2 processes x {UPDATES} balanced updates: the balance is {left}");
    assert_eq!(left, 0);

    let held = Event::new()?;
    let child = Process::spawn(die_holding, (balance.clone(), held.clone()))?;
    held.wait()?;
    child.kill()?;
    let told = balance.lock().map(|_| ()).expect_err("its holder died");
    println!("a process was killed with the lock; the next one to ask is told: {told}");
    assert_eq!(told, LockError::OwnerDied);
    let repaired = *balance.lock_recovering(|balance| *balance = 0);
    println!("repaired, it works on: the balance is {repaired}");
    Ok(())
}
