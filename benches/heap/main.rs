//! Millpond as the global allocator beside its peers: a worker program each, in interleaved rounds.
//!
//! `cargo bench -p millpond-bench --bench heap -- --help` says what can be asked.

use millpond_bench::{ALLOCATORS, MILLPOND, Options, Profile, Rounds, Worker, Workshop};

mod chart;
mod report;
mod rows;
mod sources;

fn main() {
    let options = Options::from_command_line();
    let workers = workers(&options);
    let rows: Vec<_> = rows::ROWS.iter().filter(|row| options.wants_workload(row.name)).collect();
    let mut results = Vec::new();
    for row in rows {
        let inputs = if row.name == "syn" { sources::folders() } else { vec![] };
        results.push((*row, Rounds::run_recorded(&workers, row.name, &inputs, options.rounds, &options)));
    }
    let summary = report::rows(&results, &options);
    if options.wants_workload(rows::RETURN) {
        // Each run waits for a second on purpose; memory varies less than time, so few rounds do.
        let rounds = Rounds::run_recorded::<&str>(&workers, rows::RETURN, &[], options.rounds.min(3), &options);
        report::memory_returned(&rounds);
    }
    let complete = options.is_complete() && options.profile == Profile::Release;
    if complete && workers.iter().any(|worker| worker.name == MILLPOND) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/chart.svg");
        chart::draw(path, &summary).unwrap_or_else(|error| panic!("{path}: {error}"));
        eprintln!("the chart is in {path}");
    }
}

/// A worker for each allocator that is wanted. A peer that does not build here is left out, and the table says so.
fn workers(options: &Options) -> Vec<Worker> {
    let workshop = Workshop::new(env!("CARGO_TARGET_TMPDIR"), options.profile).take_built(options.built);
    let mut workers = Vec::new();
    for allocator in ALLOCATORS {
        let judged = allocator.name == MILLPOND;
        if !judged && !options.wants_peer(allocator.name) {
            continue;
        }
        match workshop.build("heap-worker", allocator.name, &["worker", allocator.feature]) {
            Ok(worker) => workers.push(worker),
            Err(reason) => println!("Left out: {reason}."),
        }
    }
    workers
}
