//! Runs the work in child processes, the contestants in turn, and shows how far it is.

use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::TourError;
use crate::options::Options;
use crate::report::Report;
use crate::switch::Contestant;
use crate::texts::Texts;

/// All runs of one contestant.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) contestant: Contestant,
    pub(crate) reports: Vec<Report>,
}

/// All rounds. Who begins changes with each.
pub(crate) fn run(texts: &Texts, options: &Options) -> Result<[Runs; 2], TourError> {
    let mut runs = Contestant::ALL.map(|contestant| Runs { contestant, reports: Vec::new() });
    let progress = Progress::new(options.rounds() * runs.len());
    for round in 0..options.rounds() {
        for turn in 0..runs.len() {
            let runs = &mut runs[(round + turn) % 2];
            progress.begin(round + 1, runs.contestant);
            let report = one_run(runs.contestant, texts, options)?;
            progress.end(round + 1, runs.contestant, report.time);
            runs.reports.push(report);
        }
    }
    Ok(runs)
}

/// This program again, as a child process on a contestant.
fn one_run(contestant: Contestant, texts: &Texts, options: &Options) -> Result<Report, TourError> {
    let failed = |error| TourError::Child { contestant, error };
    let (variable, value) = contestant.environment();
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .args(["--threads", &options.threads().to_string()])
        .env(variable, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;

    // The child reads all of the list before it writes. If it doesn't, its exit status says more than our error.
    let sent = child.stdin.take().map_or(Ok(()), |to| texts.send(std::io::BufWriter::new(to)));
    let mut text = String::new();
    let heard = child.stdout.take().map_or(Ok(0), |mut from| from.read_to_string(&mut text));
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(TourError::Failed { contestant, status });
    }
    sent.and(heard.map(drop)).map_err(failed)?;
    Report::from_text(&text).map_err(|why| TourError::Garbled { contestant, why })
}

/// A bar on a terminal, a line for each run elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(runs: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:24} {elapsed} {msg}");
            let bar = ProgressBar::new(runs as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    fn begin(&self, round: usize, contestant: Contestant) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("round {round}: {contestant}"));
        }
    }

    fn end(&self, round: usize, contestant: Contestant, time: Duration) {
        match &self.bar {
            Some(bar) => bar.inc(1),
            // Nobody may be listening: the tour goes on.
            None => drop(writeln!(std::io::stderr(), "round {round}: {:.2} s with {contestant}", time.as_secs_f64())),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
