//! Millpond's typed pools beside those of other crates, `Box` on each allocator, and a bare thread-local list, in
//! interleaved rounds.
//!
//! `cargo bench -p millpond-bench --bench pools -- --help` says what can be asked.

use millpond_bench::{ALLOCATORS, MILLPOND, Options, Ratio, Rounds, Table, Worker, median};

mod contestants;

use contestants::{BARE_LIST, OWN, POOLS, UNSHARED};

/// A workload and its targets: the largest good ratio to the best pool, and to the bare list.
struct Row {
    name: &'static str,
    title: &'static str,
    to_pools: f64,
    to_bare_list: Option<f64>,
}

const fn at_once(name: &'static str, title: &'static str) -> Row {
    Row { name, title, to_pools: 0.6, to_bare_list: Some(1.3) }
}

const fn handed_over(name: &'static str, title: &'static str) -> Row {
    Row { name, title, to_pools: 0.7, to_bare_list: None }
}

const ROWS: &[Row] = &[
    at_once("one-64", "64 bytes, freed at once"),
    at_once("one-256", "256 bytes, freed at once"),
    at_once("two-threads-64", "64 bytes, two threads"),
    at_once("two-threads-256", "256 bytes, two threads"),
    handed_over("handover-64", "64 bytes, producer–consumer"),
    handed_over("handover-256", "256 bytes, producer–consumer"),
];

fn main() {
    let options = Options::from_command_line();
    let workers = contestants::build(&options);
    let mut results = Vec::new();
    for row in ROWS.iter().filter(|row| options.wants_workload(row.name)) {
        let able: Vec<Worker> = workers.iter().filter(|worker| runs(&worker.name, row)).cloned().collect();
        results.push((row, Rounds::run_recorded::<&str>(&able, row.name, &[], options.rounds, &options)));
    }
    judge(&results, &options);
    times(&results, &workers);
    for failure in results.iter().flat_map(|(_, rounds)| rounds.failures()) {
        println!("\n{failure}.");
    }
}

/// Whether this contestant can run this workload at all.
fn runs(name: &str, row: &Row) -> bool {
    match name {
        BARE_LIST => row.to_bare_list.is_some(),
        UNSHARED => row.name.starts_with("one-"),
        _ => true,
    }
}

/// `Pool<T>` against the best pool, the bare list and `Box` on the best peer.
fn judge(results: &[(&Row, Rounds)], options: &Options) {
    let title = format!(
        "Pool<T>, time as a ratio: median of {} rounds (quartiles), {}",
        results.first().map_or(0, |(_, rounds)| rounds.count()),
        options.profile.title()
    );
    let headings = ["workload", "against", "ratio", "quartiles", "best", "target", ""];
    let mut table = Table::new(&title, headings);
    let peers = ALLOCATORS.iter().filter(|allocator| allocator.name != MILLPOND);
    let boxes: Vec<String> = peers.map(|allocator| contestants::boxed(allocator.name)).collect();
    let boxes: Vec<&str> = boxes.iter().map(String::as_str).collect();
    for (row, rounds) in results {
        let rivals: [(&str, &[&str], Option<f64>); 3] = [
            ("best pool", POOLS, Some(row.to_pools)),
            ("bare list", &[BARE_LIST], row.to_bare_list),
            ("best peer's Box", &boxes, None),
        ];
        for (against, rivals, target) in rivals {
            let Some(ratio) = Ratio::to_best(rounds, "nanoseconds", MILLPOND, rivals) else { continue };
            let verdict = target.map_or("", |target| if ratio.median <= target { "met" } else { "LOST" });
            table.row(vec![
                row.title.into(),
                against.into(),
                format!("{:.2}", ratio.median),
                format!("{:.2}–{:.2}", ratio.low, ratio.high),
                ratio.best,
                target.map_or(String::new(), |target| format!("{target:.2}")),
                verdict.into(),
            ]);
        }
    }
    if !table.is_empty() {
        print!("{table}");
    }
}

/// Nanoseconds for taking an object and giving it back, for everybody.
fn times(results: &[(&Row, Rounds)], workers: &[Worker]) {
    let headings = std::iter::once("").chain(results.iter().map(|(row, _)| row.title));
    let mut table = Table::new("nanoseconds for each object (medians)", headings);
    for worker in workers {
        let cells = results.iter().map(|(_, rounds)| {
            let times = rounds.figures(&worker.name, "nanoseconds");
            let each = times.iter().zip(rounds.figures(&worker.name, "operations")).map(|(time, n)| time / n);
            median(each.collect()).map_or("–".into(), |each| format!("{each:.1}"))
        });
        let name =
            if OWN.contains(&worker.name.as_str()) { format!("**{}**", worker.name) } else { worker.name.clone() };
        table.row(std::iter::once(name).chain(cells).collect());
    }
    print!("{table}");
}
