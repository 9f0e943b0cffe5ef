//! Building many small strings.

use std::fmt::Write;
use std::hint::black_box;

use crate::random::Random;
use crate::{Sample, timed};

/// Pages of a report: lines are formatted, joined, split into words, changed, collected and joined again.
pub(crate) fn build() -> Sample {
    const PAGES: u64 = 400;
    const LINES: u64 = 300;
    let mut random = Random::new(8);
    timed(PAGES * LINES, || {
        for page in 0..PAGES {
            let lines: Vec<String> = (0..LINES).map(|line| self::line(page, line, &mut random)).collect();
            let text = lines.join("\n");
            let words: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
            let mut unique = words.clone();
            unique.sort_unstable();
            unique.dedup();
            black_box((words.join(" "), unique.concat()));
        }
    })
}

/// One line, put together piece by piece.
fn line(page: u64, line: u64, random: &mut Random) -> String {
    let mut text = format!("{page}:{line}");
    for column in 0..random.between(2, 8) {
        text.push_str(" | ");
        text.push_str(&"x".repeat(random.between(1, 24)));
        write!(text, " {column}").expect("a string takes everything");
    }
    text
}
