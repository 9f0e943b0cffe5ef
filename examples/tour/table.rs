//! The comparison as a table, and numbers as people read them.

use std::fmt::{self, Write};

use crate::report::Report;
use crate::rounds::Runs;

/// What is compared, less being better.
struct Row {
    name: &'static str,
    unit: &'static str,
    of: fn(&Report) -> f64,
}

const ROWS: [Row; 4] = [
    Row { name: "time", unit: "s", of: |report| report.time.as_secs_f64() },
    Row { name: "  of it freeing", unit: "s", of: |report| report.dropping.as_secs_f64() },
    Row { name: "peak memory", unit: "MiB", of: |report| mebibytes(report.peak) },
    Row { name: "after the work", unit: "MiB", of: |report| mebibytes(report.after) },
];

#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

/// The middle of some figures, and how far they spread.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, least: at(0), most: at(last) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.most {
            10.0.. => 1,
            1.0.. => 2,
            _ => 3,
        };
        let Self { median, least, most } = self;
        f.pad(&format!("{median:.digits$} ({least:.digits$}–{most:.digits$})"))
    }
}

/// Median, least and most of each row, and the ratio of the first contestant's median to the second's.
pub(crate) fn table([first, second]: &[Runs; 2]) -> String {
    let mut text = String::new();
    let (one, other) = (first.contestant.to_string(), second.contestant.to_string());
    let _ = writeln!(text, "{:<21}{one:>24}{other:>26}{:>8}", "", "ratio");
    for Row { name, unit, of } in &ROWS {
        let spread = |runs: &Runs| Spread::of(runs.reports.iter().map(of).collect());
        let (one, other) = (spread(first), spread(second));
        let ratio = one.median / other.median;
        let _ = writeln!(text, "{name:<16}{unit:<5}{one:>24}{other:>26}{ratio:>8.2}");
    }
    text
}

/// So many of something.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
