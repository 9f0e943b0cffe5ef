//! What it takes to start a process for an empty function and to wait for it: Millpond, procspawn, the standard
//! library's `Command`, and a bare `fork`, in turns within one run, with little and with much memory in the parent.
//!
//! `cargo bench -p millpond-bench --bench processes`; `-- --quick` for three rounds.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millpond::process::Process;
use millpond_bench::{Options, Table, median};

/// How often each starts a process in a round.
const EACH: usize = 30;
/// Rounds of one size before the other has its turn.
const TURN: usize = 5;
/// How long the machine rests after a change of size.
const SETTLE: Duration = Duration::from_millis(100);
/// The parent's memory, in MiB.
const SIZES: [usize; 2] = [16, 512];
/// Millpond over procspawn.
const TARGET: f64 = 0.8;
/// Millpond with much memory over Millpond with little.
const FLAT: f64 = 1.1;

fn empty(_: ()) {}

fn nothing() {}

millpond::tasks![nothing];

fn millpond() {
    Process::spawn(nothing, ()).unwrap().join().unwrap();
}

fn procspawn() {
    procspawn::spawn((), empty).join().unwrap();
}

/// This program again, by `posix_spawn`, which ends at once.
fn command() {
    let itself = std::env::current_exe().unwrap();
    let status = Command::new(itself).arg("--end").stdin(Stdio::null()).status().unwrap();
    assert!(status.success());
}

/// A copy of this process that ends at once.
fn fork() {
    // SAFETY: the copy only exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends the copy, and runs nothing.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: writes the status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
}

const CONTESTANTS: [(&str, fn()); 4] =
    [("millpond", millpond), ("procspawn", procspawn), ("std Command, this program", command), ("fork", fork)];

/// The place of `fork` among them.
const FORK: usize = 3;

fn main() {
    millpond::process::init();
    procspawn::init();
    if std::env::args().any(|argument| argument == "--end") {
        return;
    }
    let options = Options::from_command_line();
    let mut ballast: Vec<u8> = Vec::new();
    // Microseconds by size, contestant and round.
    let mut times = vec![vec![Vec::new(); CONTESTANTS.len()]; SIZES.len()];
    // Sizes take turns of a few rounds: memory that was just given back keeps the machine busy for a while.
    let mut place = 0;
    let turns = options.rounds.div_ceil(TURN);
    for turn in 0..turns {
        for (size, mebibytes) in SIZES.iter().enumerate() {
            ballast.clear();
            ballast.shrink_to_fit();
            ballast.resize(mebibytes << 20, 1);
            std::hint::black_box(&ballast);
            std::thread::sleep(SETTLE);
            CONTESTANTS.iter().for_each(|(_, run)| run());
            for _ in turn * TURN..options.rounds.min((turn + 1) * TURN) {
                for (who, time) in one_round(&mut place).into_iter().enumerate() {
                    times[size][who].push(time);
                }
            }
        }
    }
    report(&times, options.rounds);
}

/// The median time of each contestant, in microseconds. They take turns with every single process, but for `fork`,
/// which comes last: it leaves all of the parent's memory to be copied when written to.
fn one_round(place: &mut usize) -> [f64; CONTESTANTS.len()] {
    let mut times = [const { Vec::new() }; CONTESTANTS.len()];
    let mut run = |who: usize| {
        let start = Instant::now();
        CONTESTANTS[who].1();
        times[who].push(start.elapsed().as_secs_f64() * 1e6);
    };
    for _ in 0..EACH {
        *place += 1;
        (0..FORK).for_each(|who| run((who + *place) % FORK));
    }
    (0..3).for_each(|_| run(FORK));
    std::thread::sleep(SETTLE);
    times.map(|times| median(times).unwrap_or(f64::NAN))
}

fn report(times: &[Vec<Vec<f64>>], rounds: usize) {
    let title = format!("starting a process for an empty function and waiting for it, µs: medians of {rounds} rounds");
    let headings = SIZES.iter().map(|mebibytes| format!("{mebibytes} MiB in the parent"));
    let mut table = Table::new(&title, std::iter::once(String::new()).chain(headings));
    for (who, (name, _)) in CONTESTANTS.iter().enumerate() {
        let cells = times.iter().map(|size| format!("{:.0}", median(size[who].clone()).unwrap_or(f64::NAN)));
        table.row(std::iter::once((*name).to_owned()).chain(cells).collect());
    }
    print!("{table}");
    let mut table = Table::new("ratios, round by round: medians", ["", "ratio", "target", ""]);
    let mut judge = |title: String, over: &[f64], under: &[f64], target: f64| {
        let ratio = median(over.iter().zip(under).map(|(over, under)| over / under).collect()).unwrap_or(f64::NAN);
        let verdict = if ratio <= target { "met" } else { "LOST" };
        table.row(vec![title, format!("{ratio:.2}"), format!("{target:.2}"), verdict.to_owned()]);
    };
    for (size, mebibytes) in SIZES.iter().enumerate() {
        judge(format!("millpond over procspawn, {mebibytes} MiB"), &times[size][0], &times[size][1], TARGET);
    }
    judge(format!("millpond, {} over {} MiB", SIZES[1], SIZES[0]), &times[1][0], &times[0][0], FLAT);
    print!("{table}");
}
