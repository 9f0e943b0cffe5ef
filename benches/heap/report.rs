//! The tables.

use millpond_bench::{MILLPOND, Options, Ratio, Rounds, Table, geometric_mean, median};

use crate::rows::{MEAN_TARGET, PEAK_ALLOWANCE, PEAK_PEERS, PEAK_TARGET, RETURN_TARGET, Row};

const MIB: f64 = (1 << 20) as f64;

/// Prints all tables about the rows and gives back the ratios.
pub fn rows(results: &[(Row, Rounds)], options: &Options) -> Vec<(Row, Ratio)> {
    let ratios = times(results, options);
    figures(results, "time, ms (medians)", "nanoseconds", 1e6);
    if options.details {
        figures(results, "processor time, ms (medians)", "processor", 1e6);
        figures(results, "page faults (medians)", "faults", 1.0);
    }
    figures(results, "peak memory, MiB (medians)", "peak", MIB);
    peaks(results);
    for failure in results.iter().flat_map(|(_, rounds)| rounds.failures()) {
        println!("\n{failure}.");
    }
    ratios
}

/// Time against the best peer.
fn times(results: &[(Row, Rounds)], options: &Options) -> Vec<(Row, Ratio)> {
    let title = format!(
        "time, ratio to the best peer: median of {} rounds (quartiles), {}",
        results.first().map_or(0, |(_, rounds)| rounds.count()),
        options.profile.title()
    );
    let mut table = Table::new(&title, ["workload", "ratio", "quartiles", "best peer", "target", ""]);
    let mut ratios = Vec::new();
    for (row, rounds) in results {
        let peers: Vec<&str> = rounds.names().filter(|name| *name != MILLPOND).collect();
        let Some(ratio) = Ratio::to_best(rounds, "nanoseconds", MILLPOND, &peers) else { continue };
        table.row(vec![
            row.title.into(),
            format!("{:.2}", ratio.median),
            format!("{:.2}–{:.2}", ratio.low, ratio.high),
            ratio.best.clone(),
            format!("{:.2}", row.target),
            verdict(ratio.median <= row.target).into(),
        ]);
        ratios.push((*row, ratio));
    }
    let medians: Vec<f64> = ratios.iter().map(|(_, ratio)| ratio.median).collect();
    if let Some(mean) = geometric_mean(&medians) {
        table.row(vec![
            format!("geometric mean of these {}", medians.len()),
            format!("{mean:.3}"),
            String::new(),
            String::new(),
            format!("{MEAN_TARGET:.2}"),
            verdict(mean <= MEAN_TARGET).into(),
        ]);
    }
    print(&table);
    ratios
}

/// The median of one figure for everybody.
fn figures(results: &[(Row, Rounds)], title: &str, figure: &str, unit: f64) {
    let Some((_, first)) = results.first() else { return };
    let names: Vec<&str> = first.names().collect();
    let mut table = Table::new(title, std::iter::once("workload").chain(names.iter().copied()));
    for (row, rounds) in results {
        let cell =
            |name: &&str| median(rounds.figures(name, figure)).map_or("failed".into(), |median| short(median / unit));
        table.row(std::iter::once(row.title.into()).chain(names.iter().map(cell)).collect());
    }
    print(&table);
}

/// Peak memory against the best of those that it is compared with.
fn peaks(results: &[(Row, Rounds)]) {
    let title = "peak memory, ratio to the best of mimalloc and jemalloc (medians)";
    let mut table = Table::new(title, ["workload", "ratio", "MiB more", "best", "at most", ""]);
    for (row, rounds) in results {
        let Some(own) = median(rounds.figures(MILLPOND, "peak")) else { continue };
        let rivals = PEAK_PEERS.iter().filter_map(|name| Some((*name, median(rounds.figures(name, "peak"))?)));
        let Some((name, best)) = rivals.min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let bound = (best * PEAK_TARGET).max(best + PEAK_ALLOWANCE);
        table.row(vec![
            row.title.into(),
            format!("{:.2}", own / best),
            format!("{:+.1}", (own - best) / MIB),
            name.into(),
            format!("{:.2}", bound / best),
            verdict(own <= bound).into(),
        ]);
    }
    print(&table);
}

/// What each still holds after 512 MiB were freed.
pub fn memory_returned(rounds: &Rounds) {
    let title = "memory after freeing 512 MiB in random order, MiB above the start (medians)";
    let mut table = Table::new(title, ["allocator", "full", "right after", "a second later", "target", ""]);
    for name in rounds.names() {
        let start = rounds.figures(name, "start");
        let above = |figure| {
            let figures = rounds.figures(name, figure);
            let differences = figures.iter().zip(&start).map(|(figure, start)| (figure - start) / MIB);
            median(differences.collect()).unwrap_or(f64::NAN)
        };
        let later = above("later");
        let (target, verdict) = match name {
            MILLPOND => (format!("{RETURN_TARGET:.0}"), verdict(later <= RETURN_TARGET)),
            _ => (String::new(), ""),
        };
        let cells = [short(above("full")), short(above("after")), short(later), target, verdict.into()];
        table.row(std::iter::once(name.into()).chain(cells).collect());
    }
    print(&table);
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "LOST" }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn print(table: &Table) {
    if !table.is_empty() {
        print!("{table}");
    }
}
