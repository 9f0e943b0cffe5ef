//! A tour of Millpond by a real program: an index of the words in real text, built on many threads.
//!
//! `cargo run --release --example tour` reads the sources in the current directory and the Rust sources in the local
//! cargo registry; `-- PATH...` reads those files and directories instead. It shows:
//!
//! - [`millpond::Heap`] as the global allocator of an ordinary program: each thread fills a `HashMap<String, Vec<_>>`,
//!   and the maps are merged into a `BTreeMap`;
//! - the nodes of a tree from a [`millpond::Pool`], linked by `PoolBox`, made on one thread and dropped on another;
//! - reading buffers from a [`millpond::BlockPool`];
//! - a [`millpond::thread::ThreadPool`] that the index is built on;
//! - with `--processes`, a [`millpond::process::ProcessPool`] of processes with two threads each that builds it, what they
//!   found coming back in shared slices, and with `--kill` a process killed half-way: the answer is the same;
//! - what it is worth: the same program runs in turn with Millpond and on the system's allocator alone (without the
//!   pools too), in processes of its own, and the two are set side by side.
//!
//! Exit codes: 0 if both gave the same answer, 3 if they did not, 1 if something could not be done, 2 if the
//! command line was wrong.

mod answer;
mod error;
mod home;
mod index;
mod options;
mod processes;
mod reading;
mod report;
mod rounds;
mod status;
mod switch;
mod table;
mod texts;
mod tour;
mod trie;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;
use crate::switch::Switch;

#[global_allocator]
static GLOBAL: Switch = Switch;

fn main() -> ExitCode {
    millpond::process::init();
    let options = Options::parse();
    let done = match switch::asked() {
        Some(contestant) => contestant.and_then(|contestant| worker::run(contestant, &options)),
        None if options.processes => processes::run(&options),
        None => tour::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever was reading has seen enough.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody hears it, the exit code says it.
            let _ = writeln!(std::io::stderr(), "tour: {error}");
            error.exit_code()
        }
    }
}
