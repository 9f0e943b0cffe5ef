//! Instructions of a warm `Box<[u64; 8]>`, made and dropped in a dependency crate, less an empty loop, counted by
//! `valgrind --tool=callgrind`: exact on a noisy machine, and so a gate. Fails when a count is over its bound in
//! `instructions.txt`.
//!
//! `cargo bench -p warm-box --bench instructions [-- --peers jemalloc,snmalloc]` counts these peers, too.

use std::process::{Command, ExitCode};

use millpond_bench::{ALLOCATORS, MILLPOND, Options, Profile, Table, Worker, Workshop};

/// The bounds: one `profile = count` a line.
const BOUNDS: &str = include_str!("instructions.txt");

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let mut table = Table::new(
        "instructions for a warm Box<[u64; 8]>, made and dropped in a dependency",
        ["allocator", "default", "at most", "", "fat LTO", "at most", ""],
    );
    let mut within = true;
    for allocator in ALLOCATORS {
        let judged = allocator.name == MILLPOND;
        if !judged && !options.peers.iter().any(|peer| peer == allocator.name) {
            continue;
        }
        let mut cells = vec![allocator.name.to_owned()];
        for (profile, name) in [(Profile::Release, "default"), (Profile::FatLto, "fat-lto")] {
            let workshop = Workshop::new(env!("CARGO_TARGET_TMPDIR"), profile);
            let worker = match workshop.build("warm-box-worker", allocator.name, &["warm-box", allocator.feature]) {
                Ok(worker) => worker,
                Err(reason) => {
                    eprintln!("{reason}");
                    return ExitCode::FAILURE;
                }
            };
            let count = instructions_of_a_box(&worker);
            cells.push(count.map_or("does not run here".into(), |count| format!("{count:.1}")));
            if judged {
                let bound = bound(name);
                // What is left after the point is the start, spread over all rounds of the loop.
                let met = count.is_some_and(|count| count.round() <= bound);
                within &= met;
                cells.extend([format!("{bound}"), if met { "met" } else { "LOST" }.into()]);
            } else {
                cells.extend([String::new(), String::new()]);
            }
        }
        table.row(cells);
    }
    print!("{table}");
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The bound of a profile.
fn bound(profile: &str) -> f64 {
    let lines = BOUNDS.lines().filter_map(|line| line.split_once('='));
    let bound = lines.filter(|(name, _)| name.trim() == profile).find_map(|(_, bound)| bound.trim().parse().ok());
    bound.unwrap_or_else(|| panic!("instructions.txt has no bound for {profile}"))
}

/// Counted between two lengths of the loop, so that the start of the program and the first, cold box cancel out.
fn instructions_of_a_box(worker: &Worker) -> Option<f64> {
    const SHORT: u64 = 10_000;
    const LONG: u64 = 110_000;
    let each = |what| {
        let more = instructions(worker, what, LONG)? - instructions(worker, what, SHORT)?;
        Some(more / (LONG - SHORT) as f64)
    };
    Some(each("boxes")? - each("nothing")?)
}

/// All instructions of one run of the program; nothing where it fails (some allocators do not run under valgrind).
fn instructions(worker: &Worker, what: &str, times: u64) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(&worker.program)
        .args([what, &times.to_string()])
        .output()
        .unwrap_or_else(|error| panic!("valgrind does not start: {error}"));
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{report}\n{} failed under valgrind", worker.name);
        return None;
    }
    let collected = report.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok())
}
