//! Locks between threads and between processes: balanced updates leave the balance at 0, those who print under one lock
//! don't interleave, and a holder that dies blocks nobody.
//!
//! `cargo run --release --example locks`

use std::io;
use std::process::ExitCode;

mod processes;
mod threads;

fn main() -> ExitCode {
    millpond::process::init();
    match threads::run(&mut io::stdout(), &[10_000, 10_000_000]).and_then(|()| processes::run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("locks: {error}");
            ExitCode::FAILURE
        }
    }
}
