//! Ten processes print under one lock, and their lines never mix; ten processes keep a balance at zero; one dies with the
//! lock, and the next one knows.
//!
//! ```text
//! cargo run --release --example locks
//! ```

use std::error::Error;
use std::io::Write;

use millpond::ipc::{Event, Lock, LockError};
use millpond::process::{self, Process};

fn print_slowly(lock: Lock<()>, name: u32) {
    let _guard = lock.lock().expect("nobody dies here");
    let mut out = std::io::stdout();
    // Word by word: without the lock, words of others would come between.
    for word in ["process", &name.to_string(), "says", "hello", "world\n"] {
        let _ = write!(out, "{word} ").and_then(|()| out.flush());
        std::thread::yield_now();
    }
}

fn deposit_and_withdraw(balance: Lock<i64>, times: u32) {
    for _ in 0..times {
        *balance.lock().expect("nobody dies here") += 5;
        *balance.lock().expect("nobody dies here") -= 5;
    }
}

fn die_holding(balance: Lock<i64>, held: Event) {
    let mut guard = balance.lock().expect("it is free");
    *guard += 5;
    held.set();
    // Killed here, before it takes the five away again.
    std::thread::sleep(std::time::Duration::from_secs(60));
}

millpond::tasks![print_slowly, deposit_and_withdraw, die_holding];

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let lock = Lock::new(())?;
    let printers: Vec<_> =
        (0..10).map(|n| Process::spawn(print_slowly, (lock.clone(), n))).collect::<Result<_, _>>()?;
    for printer in printers {
        printer.join()?;
    }

    let balance = Lock::new(0_i64)?;
    let clerks: Vec<_> =
        (0..10).map(|_| Process::spawn(deposit_and_withdraw, (balance.clone(), 10_000))).collect::<Result<_, _>>()?;
    for clerk in clerks {
        clerk.join()?;
    }
    println!("balance after 10 processes x 10,000 balanced updates: {}", *balance.lock()?);
    assert_eq!(*balance.lock()?, 0);

    let held = Event::new()?;
    let child = Process::spawn(die_holding, (balance.clone(), held.clone()))?;
    held.wait()?;
    child.kill()?;
    let told = balance.lock().map(|_| ()).expect_err("its holder died");
    println!("the next one to ask: {told}");
    assert_eq!(told, LockError::OwnerDied);
    println!("and all after it: {}", balance.lock().map(|_| ()).expect_err("not repaired yet"));
    let repaired = *balance.lock_recovering(|balance| *balance = 0);
    println!("repaired: {repaired}; it works on: {}", *balance.lock()?);
    Ok(())
}
