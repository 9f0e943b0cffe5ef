//! The process pool, beside Python's pools, loky, pebble and procspawn, and a bare futex round trip as the limit: four
//! workers on two cores, in interleaved rounds; each run is a fresh process.
//!
//! `cargo bench -p millpond-bench --bench process_pool -- --help` says what can be asked.

use millpond_bench::{Options, Ratio, Rounds, Table, Worker, median};

#[path = "../between/bare.rs"]
#[expect(dead_code, reason = "shared with another benchmark")]
mod bare;
mod contestants;
mod python;
#[path = "../between/two.rs"]
#[expect(dead_code, reason = "shared with another benchmark")]
mod two;

/// A question: who runs it, and the largest good ratio of Millpond to the best of its rivals.
struct Row {
    name: &'static str,
    title: &'static str,
    /// The workload whose rivals these are, if it is another's.
    rivals_do: &'static str,
    procspawn: bool,
    target: f64,
}

const fn row(name: &'static str, title: &'static str, procspawn: bool, target: f64) -> Row {
    Row { name, title, rivals_do: name, procspawn, target }
}

const ROWS: &[Row] = &[
    row("start", "start of 4 to the first result", true, 0.8),
    row("apply-two", "apply, two cores", true, 0.3),
    row("apply-one", "apply, one core", true, 0.3),
    row("map-single", "map of 50,000, one at a time", false, 0.03),
    row("map-chunks", "map of 50,000, in chunks", false, 0.5),
    row("async", "apply_async of 50,000, all joined", true, 0.05),
    row("value-1m", "1 MiB of bytes there and back by value", true, 0.3),
    // serde carries it byte by byte, which the rivals' bytes are spared.
    Row { rivals_do: "value-1m", ..row("value-1m-vec", "the same as Vec<u8>", true, 0.3) },
    Row { rivals_do: "value-1m", ..row("slice-1m", "the same by SharedSlice, filled and read", true, 0.06) },
];

/// Of a bare futex round trip.
const LIMIT: f64 = 1.3;
/// Of the processor time of both cores.
const EFFICIENCY: f64 = 0.95;

fn main() {
    contestants::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, contestant, workload, ..] = &arguments[..]
        && mark == "--contestant"
    {
        return contestants::run(contestant, workload);
    }
    let options = Options::from_command_line();
    let program = std::env::current_exe().expect("a running program has a path");
    let here = |name: &str| Worker {
        name: name.to_owned(),
        program: program.clone(),
        arguments: vec!["--contestant".into(), name.into()],
    };
    let (python, absent) = python::peers();
    let python: Vec<Worker> = python.into_iter().filter(|peer| options.wants_peer(&peer.name)).collect();
    let mut times = Table::new("microseconds (medians)", ["", "", "p50 or each", "p99"]);
    let title = format!("ratios: median of {} rounds (quartiles)", options.rounds);
    let mut ratios = Table::new(&title, ["4 workers", "against", "ratio", "quartiles", "best", "target", ""]);
    let mut judge = |rounds: &Rounds, figure: &str, title: &str, rivals: &[&str], target: f64| {
        let Some(ratio) = Ratio::to_best(rounds, figure, "millpond", rivals) else { return };
        ratios.row(vec![
            title.into(),
            if rivals == ["bare"] { "the limit".into() } else { "the best peer".into() },
            format!("{:.3}", ratio.median),
            format!("{:.3}–{:.3}", ratio.low, ratio.high),
            ratio.best,
            format!("{target:.2}"),
            if ratio.median <= target { "met" } else { "LOST" }.into(),
        ]);
    };
    for row in ROWS.iter().filter(|row| options.wants_workload(row.name)) {
        let mut workers = vec![here("millpond")];
        let mut rivals = python.clone();
        if row.procspawn && options.wants_peer("procspawn") {
            rivals.push(here("procspawn"));
        }
        let bare = row.name.starts_with("apply");
        if bare {
            workers.push(here("bare"));
        }
        // Where the rivals do something else, each is told so by its command line, and ignores the workload after it.
        let names: Vec<String> = rivals.iter().map(|rival| rival.name.clone()).collect();
        for mut rival in rivals {
            if row.rivals_do != row.name {
                rival.arguments.push(row.rivals_do.to_owned());
            }
            workers.push(rival);
        }
        let rounds = Rounds::run::<&str>(&workers, row.name, &[], options.rounds);
        for name in rounds.names() {
            let cell = |figure: &str| median(rounds.figures(name, figure)).map_or("–".into(), |n| format!("{n:.2}"));
            times.row(vec![row.title.into(), name.into(), cell("microseconds"), cell("p99")]);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        judge(&rounds, "microseconds", row.title, &names, row.target);
        if bare {
            judge(&rounds, "microseconds", row.title, &["bare"], LIMIT);
            let title = format!("{}, p99", row.title);
            judge(&rounds, "p99", &title, &names, row.target);
            judge(&rounds, "p99", &title, &["bare"], LIMIT);
        }
        rounds.failures().for_each(|failure| println!("{failure}."));
    }
    print!("{ratios}{times}");
    if options.wants_workload("compute") {
        compute(&options, here("millpond"), &python);
    }
    absent.iter().for_each(|absent| println!("{absent}."));
}

/// Tasks × processor time of one ÷ (both cores × elapsed): 1 is all that there is.
fn compute(options: &Options, own: Worker, python: &[Worker]) {
    let workers: Vec<Worker> = std::iter::once(own).chain(python.iter().cloned()).collect();
    let rounds = Rounds::run::<&str>(&workers, "compute", &[], options.rounds);
    let mut table =
        Table::new("tasks of 100 µs: part of two cores' time that is spent in them", ["", "part", "target", ""]);
    for name in rounds.names() {
        let part = median(rounds.figures(name, "efficiency")).unwrap_or(f64::NAN);
        let verdict = if part >= EFFICIENCY { "met" } else { "LOST" };
        let own = name == "millpond";
        let (target, verdict) = if own { (format!("{EFFICIENCY:.2}"), verdict) } else { (String::new(), "") };
        table.row(vec![name.to_owned(), format!("{part:.3}"), target, verdict.to_owned()]);
    }
    print!("{table}");
}
