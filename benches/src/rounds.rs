//! Runs workers in interleaved rounds and keeps what they print.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Options, Worker};

/// What one run of a worker printed: figures by name.
pub type Figures = BTreeMap<String, f64>;

/// All runs of one workload: for each worker, one set of figures a round.
#[derive(Debug)]
pub struct Rounds {
    workload: String,
    runs: Vec<(String, Vec<Figures>)>,
}

impl Rounds {
    /// Runs each worker once a round, each time in a fresh process, in an order that is drawn anew for each round: what a
    /// process costs depends on who ran before it (memory that a neighbour just gave back is dear or cheap to touch),
    /// and a rotation would leave each the same neighbour for ever.
    pub fn run<S: AsRef<OsStr>>(workers: &[Worker], workload: &str, inputs: &[S], rounds: usize) -> Self {
        Self::run_from(workers, workload, inputs, rounds, 0)
    }

    /// The same, after so many rounds were run before: their orders are not drawn again.
    fn run_from<S: AsRef<OsStr>>(
        workers: &[Worker],
        workload: &str,
        inputs: &[S],
        rounds: usize,
        before: usize,
    ) -> Self {
        let start = Instant::now();
        let mut runs: Vec<_> = workers.iter().map(|worker| (worker.name.clone(), vec![])).collect();
        let mut order: Vec<_> = (0..workers.len()).collect();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64.rotate_left(before as u32 % 64);
        for _ in 0..rounds {
            for last in (1..order.len()).rev() {
                // xorshift, from a fixed seed.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                #[expect(clippy::cast_possible_truncation, reason = "below a handful of workers")]
                order.swap(last, (random % (last as u64 + 1)) as usize);
            }
            for &place in &order {
                runs[place].1.push(run_once(&workers[place], workload, inputs));
            }
        }
        eprintln!("{workload}: {rounds} rounds in {:.1} s", start.elapsed().as_secs_f64());
        Self { workload: workload.to_owned(), runs }
    }

    /// The same; if the options name a record, the rounds are added to those in it, and all of them are given back.
    pub fn run_recorded<S: AsRef<OsStr>>(
        workers: &[Worker],
        workload: &str,
        inputs: &[S],
        rounds: usize,
        options: &Options,
    ) -> Self {
        let Some(path) = &options.record else { return Self::run(workers, workload, inputs, rounds) };
        let failed = |error: std::io::Error| -> ! { panic!("{}: {error}", path.display()) };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => failed(error),
        };
        // Before the rounds, so that a file that cannot be written costs nobody's minutes.
        let mut file = File::options().create(true).append(true).open(path).unwrap_or_else(|error| failed(error));
        let mut all = Self::recorded(&text, workload, workers);
        let before = all.count();
        let more = Self::run_from(workers, workload, inputs, rounds, before);
        let mut lines = String::new();
        for ((_, runs), (name, more)) in all.runs.iter_mut().zip(more.runs) {
            for figures in more {
                let figures_in_words: Vec<_> = figures.iter().map(|(name, value)| format!("{name}={value}")).collect();
                lines.push_str(&format!("{workload} {name} {}\n", figures_in_words.join(" ")));
                runs.push(figures);
            }
        }
        file.write_all(lines.as_bytes()).unwrap_or_else(|error| failed(error));
        all
    }

    /// The runs of a workload in a record: a line for each, which starts with the workload and the worker.
    fn recorded(text: &str, workload: &str, workers: &[Worker]) -> Self {
        let runs_of = |name: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(workload)?.strip_prefix(' '));
            let own = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            own.map(|figures| figures.split_whitespace().filter_map(figure).collect()).collect()
        };
        let runs = workers.iter().map(|worker| (worker.name.clone(), runs_of(&worker.name))).collect();
        Self { workload: workload.to_owned(), runs }
    }

    /// The names of those who ran.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|(name, _)| name.as_str())
    }

    /// How many rounds there are.
    pub fn count(&self) -> usize {
        self.runs.iter().map(|(_, runs)| runs.len()).max().unwrap_or(0)
    }

    /// Who did not finish every run, in words.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let failed = |runs: &[Figures]| runs.iter().filter(|figures| figures.is_empty()).count();
        self.runs.iter().filter(move |(_, runs)| failed(runs) > 0).map(move |(name, runs)| {
            format!("{}: {name} failed in {} of {} runs", self.workload, failed(runs), runs.len())
        })
    }

    /// One figure of one worker, round by round; not a number where the run failed.
    pub fn figures(&self, worker: &str, figure: &str) -> Vec<f64> {
        let runs = self.runs.iter().find(|(name, _)| name == worker).map(|(_, runs)| runs);
        runs.into_iter().flatten().map(|run| run.get(figure).copied().unwrap_or(f64::NAN)).collect()
    }
}

/// One run; no figures of a worker that crashed.
fn run_once<S: AsRef<OsStr>>(worker: &Worker, workload: &str, inputs: &[S]) -> Figures {
    let output = Command::new(&worker.program)
        .args(&worker.arguments)
        .arg(workload)
        .args(inputs)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", worker.program.display()));
    if !output.status.success() {
        eprintln!("{workload} on {} failed: {}", worker.name, output.status);
        return Figures::new();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().filter_map(figure).collect()
}

/// Reads `name=value`.
fn figure(word: &str) -> Option<(String, f64)> {
    let (name, value) = word.split_once('=')?;
    Some((name.to_owned(), value.parse().ok()?))
}
