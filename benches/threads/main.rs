//! Millpond's thread pool beside those of other crates, in interleaved rounds, each run a fresh process.
//!
//! `cargo bench -p millpond-bench --bench threads -- --help` says what can be asked.

use millpond_bench::{MILLPOND, Options, Ratio, Rounds, Table, Worker, Workshop, median};

mod rows;

use rows::{Row, Target};

fn main() {
    let options = Options::from_command_line();
    let workshop = Workshop::new(env!("CARGO_TARGET_TMPDIR"), options.profile).take_built(options.built);
    let program = match workshop.build("thread-worker", "threads", &["thread-worker", "alloc-system"]) {
        Ok(program) => program,
        Err(reason) => {
            println!("Left out: {reason}.");
            return;
        }
    };
    let contestant = |name: &str| Worker { name: name.into(), arguments: vec![name.into()], ..program.clone() };
    let mut results = Vec::new();
    for row in rows::ROWS.iter().filter(|row| options.wants_workload(row.name)) {
        for &workers in row.workers {
            let peers = row.peers.iter().filter(|peer| options.wants_peer(peer));
            let able: Vec<Worker> =
                [MILLPOND].iter().chain(row.own).chain(peers).map(|name| contestant(name)).collect();
            let name = format!("{}-{workers}", row.name);
            let rounds = Rounds::run_recorded::<&str>(&able, &name, &[], options.rounds, &options);
            results.push((row, workers, rounds));
        }
    }
    judge(&results, &options);
    for figure in ["nanoseconds", "processor"] {
        figures(&results, figure);
    }
    for failure in results.iter().flat_map(|(_, _, rounds)| rounds.failures()) {
        println!("\n{failure}.");
    }
}

/// The ratios to the best peer, against the targets.
fn judge(results: &[(&Row, usize, Rounds)], options: &Options) {
    let count = results.iter().map(|(_, _, rounds)| rounds.count()).min().unwrap_or(0);
    let title =
        format!("ThreadPool, time as a ratio: median of {count} rounds (quartiles), {}", options.profile.title());
    let headings = ["work", "workers", "figure", "against", "ratio", "quartiles", "best", "target", ""];
    let mut table = Table::new(&title, headings);
    for (row, workers, rounds) in results {
        for Target { figure, against, rivals, most } in row.targets {
            let rivals: Vec<&str> = rivals.iter().copied().filter(|peer| options.wants_peer(peer)).collect();
            let Some(ratio) = Ratio::to_best(rounds, figure, MILLPOND, &rivals) else { continue };
            table.row(vec![
                row.title.into(),
                workers.to_string(),
                (*figure).into(),
                (*against).into(),
                format!("{:.2}", ratio.median),
                format!("{:.2}–{:.2}", ratio.low, ratio.high),
                ratio.best,
                format!("{most:.2}"),
                if ratio.median <= *most { "met" } else { "LOST" }.into(),
            ]);
        }
    }
    if !table.is_empty() {
        print!("{table}");
    }
}

/// Everybody's figures for each operation; latencies are percentiles, whatever figure is asked for.
fn figures(results: &[(&Row, usize, Rounds)], figure: &str) {
    let title = match figure {
        "nanoseconds" => "nanoseconds for each operation (medians); latencies: p50 / p99",
        _ => "processor time for each operation, all threads, nanoseconds (medians)",
    };
    let mut names: Vec<String> = Vec::new();
    for name in results.iter().flat_map(|(_, _, rounds)| rounds.names()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    let headings = ["work", "workers"].map(String::from).into_iter().chain(names.iter().cloned());
    let mut table = Table::new(title, headings);
    for (row, workers, rounds) in results.iter().filter(|(row, _, _)| figure == "nanoseconds" || !row.is_latency()) {
        let cells = names.iter().map(|name| {
            let text = |figures: Vec<f64>| median(figures).map_or("–".into(), short);
            if row.is_latency() {
                let [p50, p99] = ["p50", "p99"].map(|part| text(rounds.figures(name, part)));
                return if p50 == "–" { p50 } else { format!("{p50} / {p99}") };
            }
            let each = rounds.figures(name, figure).into_iter().zip(rounds.figures(name, "operations"));
            text(each.map(|(time, operations)| time / operations).collect())
        });
        table.row([row.title.to_owned(), workers.to_string()].into_iter().chain(cells).collect());
    }
    print!("{table}");
}

/// Three figures or so.
fn short(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
