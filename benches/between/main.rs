//! What processes share, beside pipes, sockets, other crates and bare loops over shared memory, in interleaved rounds:
//! each run is a fresh process that starts the other side itself.
//!
//! `cargo bench -p millpond-bench --bench between -- --help` says what can be asked.

use millpond_bench::{Options, Ratio, Rounds, Table, Worker, median};

mod bare;
mod locks;
mod memory;
mod messages;
mod python;
mod two;

/// A question: who runs it, and the largest good ratio of Millpond to each of its rivals.
struct Row {
    name: &'static str,
    title: &'static str,
    /// Millpond's contestant, and those beside it.
    own: &'static str,
    targets: &'static [(&'static [&'static str], f64)],
    /// Millpond in other ways, without a target.
    also: &'static [&'static str],
}

const BARE: &[&str] = &["bare"];

const ROWS: &[Row] = &[
    Row {
        name: "queue-64",
        title: "64 bytes, one way",
        own: "millpond",
        targets: &[(&["pipe", "socket", "ipc-channel", "python"], 0.3), (BARE, 2.5)],
        also: &["millpond-raw"],
    },
    Row {
        name: "ping-two",
        title: "ping-pong, two processors, p50",
        own: "millpond-sleep",
        targets: &[(BARE, 1.1), (&["pipe", "socket", "python"], 1.0)],
        also: &["millpond", "millpond-spin"],
    },
    Row {
        name: "ping-one",
        title: "ping-pong, one processor, p50",
        own: "millpond",
        targets: &[(BARE, 1.1), (&["pipe", "socket", "python"], 1.0)],
        also: &["millpond-sleep"],
    },
    Row {
        name: "ping-spin",
        title: "ping-pong by spinning, two processors, p50",
        own: "millpond-spin",
        // iceoryx2 by polling took 960 ns when it was measured; it needs libclang to be built, so it is not run here.
        targets: &[],
        also: &["bare-spin"],
    },
    Row {
        name: "bounce",
        title: "hand-over, there and back: 1 MiB slice against 64 bytes",
        own: "millpond-slice",
        targets: &[(&["millpond-64"], 2.0)],
        also: &[],
    },
    Row {
        name: "fill",
        title: "1 MiB written and read",
        own: "millpond-slice",
        targets: &[(&["private"], 1.2)],
        also: &[],
    },
    Row {
        name: "value-1m",
        title: "1 MiB by value",
        own: "millpond",
        targets: &[(&["pipe", "socket", "ipc-channel", "python"], 0.5)],
        also: &[],
    },
    Row {
        name: "four-four",
        title: "64 bytes, four to four",
        own: "millpond",
        targets: &[(&["pipe", "socket"], 0.5)],
        also: &["millpond-raw"],
    },
    Row {
        name: "lock-1",
        title: "lock, alone",
        own: "millpond",
        targets: &[(&["pthread-robust", "python"], 1.0)],
        also: &[],
    },
    Row {
        name: "lock-2",
        title: "lock, 2 processes",
        own: "millpond",
        targets: &[(&["pthread-robust", "python"], 1.0)],
        also: &[],
    },
    Row {
        name: "lock-4",
        title: "lock, 4 processes",
        own: "millpond",
        targets: &[(&["pthread-robust", "python"], 1.0)],
        also: &[],
    },
];

fn main() {
    millpond::process::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, contestant, workload] = &arguments[..]
        && mark == "--contestant"
    {
        return run(contestant, workload);
    }
    let options = Options::from_command_line();
    let program = std::env::current_exe().expect("a running program has a path");
    let worker = |name: &&str| Worker {
        name: (*name).to_owned(),
        program: program.clone(),
        arguments: vec!["--contestant".into(), (*name).into()],
    };
    let mut times = Table::new("nanoseconds for each (medians)", ["", "", "ns"]);
    let title = format!("ratios: median of {} rounds (quartiles)", options.rounds);
    let mut ratios = Table::new(&title, ["workload", "against", "ratio", "quartiles", "best", "target", ""]);
    for row in ROWS.iter().filter(|row| options.wants_workload(row.name)) {
        let rivals = row.targets.iter().flat_map(|(rivals, _)| rivals.iter());
        let rivals = rivals.filter(|rival| options.wants_peer(rival));
        let workers: Vec<Worker> = [row.own].iter().chain(row.also).chain(rivals).map(worker).collect();
        let rounds = Rounds::run::<&str>(&workers, row.name, &[], options.rounds);
        for name in rounds.names() {
            let each = median(rounds.figures(name, "nanoseconds"));
            times.row(vec![row.title.into(), name.into(), each.map_or("–".into(), |each| format!("{each:.1}"))]);
        }
        for (rivals, target) in row.targets {
            let Some(ratio) = Ratio::to_best(&rounds, "nanoseconds", row.own, rivals) else { continue };
            let verdict = if ratio.median <= *target { "met" } else { "LOST" };
            ratios.row(vec![
                row.title.into(),
                rivals.join(", "),
                format!("{:.2}", ratio.median),
                format!("{:.2}–{:.2}", ratio.low, ratio.high),
                ratio.best,
                format!("{target:.1}"),
                verdict.into(),
            ]);
        }
        rounds.failures().for_each(|failure| println!("{failure}."));
    }
    print!("{ratios}{times}");
}

/// One run of one contestant: prints its figure.
fn run(contestant: &str, workload: &str) {
    let nanoseconds = match workload {
        _ if contestant == "python" => python::run(workload),
        "queue-64" => messages::one_way(contestant),
        "value-1m" => messages::by_value(contestant),
        "four-four" => messages::four_to_four(contestant),
        "ping-two" => messages::ping_pong(contestant, [0, 1]),
        "ping-one" => messages::ping_pong(contestant, [0, 0]),
        "ping-spin" => messages::ping_pong(contestant, [0, 1]),
        "bounce" => memory::bounce(contestant),
        "fill" => memory::fill(contestant),
        "lock-1" => locks::run(contestant, 1),
        "lock-2" => locks::run(contestant, 2),
        "lock-4" => locks::run(contestant, 4),
        _ => panic!("no such workload: {workload}"),
    };
    println!("nanoseconds={nanoseconds:.3}");
}
