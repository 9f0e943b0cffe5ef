//! The parent process: finds the texts, has the rounds run, and says what came of it.

use std::io::{self, Write};

use crate::error::TourError;
use crate::options::Options;
use crate::rounds::{self, Runs};
use crate::table::{count, table};
use crate::texts::Texts;

pub(crate) fn run(options: &Options) -> Result<(), TourError> {
    let texts = Texts::gather(options)?;
    let mut out = io::stdout().lock();
    let (files, bytes) = (count(texts.texts.len(), "text"), mebibytes(texts.bytes));
    writeln!(out, "A word index of {files}, {bytes:.1} MiB{}.", texts.left_out())?;
    let (threads, rounds) = (count(options.threads(), "thread"), count(options.rounds(), "round"));
    writeln!(out, "Built on {threads} in {rounds}, each with Millpond (heap and pools) and without, in turn.")?;
    if cfg!(debug_assertions) {
        writeln!(out, "This is a debug build: its figures say little. Use `cargo run --release --example tour`.")?;
    }
    writeln!(out)?;
    out.flush()?;

    let runs = rounds::run(&texts, options)?;
    let answer = same_answer(&runs)?;
    writeln!(out, "{}", table(&runs))?;
    writeln!(
        out,
        "Medians, in brackets the least and the most; a ratio below 1 is less with Millpond. Time goes from the"
    )?;
    writeln!(out, "first file to the last block freed; \"after the work\" is a second later.\n")?;
    writeln!(out, "All runs gave the same answer:\n{answer}")?;
    if let Some(report) = runs[0].reports.last() {
        writeln!(out, "Millpond's figures while index and tree lived (the last run):\n{}", report.stats)?;
    }
    out.flush()?;
    Ok(())
}

/// The answer of every run, if it is the same.
fn same_answer(runs: &[Runs]) -> Result<&str, TourError> {
    let mut answers = runs.iter().flat_map(|runs| &runs.reports).map(|report| report.answer.as_str());
    let one = answers.next().unwrap_or_default();
    match answers.find(|other| *other != one) {
        Some(other) => Err(TourError::Differ { one: one.to_owned(), other: other.to_owned() }),
        None => Ok(one),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
