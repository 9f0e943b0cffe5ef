//! What a child process reports of its run, and how it travels: lines of a name and a value, then two texts.

use std::time::Duration;

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// From the first file to the last byte freed.
    pub(crate) time: Duration,
    /// Of it, dropping index and tree.
    pub(crate) dropping: Duration,
    /// The most memory, in KiB.
    pub(crate) peak: u64,
    /// Memory after all was dropped, in KiB.
    pub(crate) after: u64,
    pub(crate) answer: String,
    pub(crate) stats: String,
}

const ANSWER: &str = "answer\n";
const STATS: &str = "statistics\n";

impl Report {
    pub(crate) fn to_text(&self) -> String {
        let Self { time, dropping, peak, after, answer, stats } = self;
        let (time, dropping) = (time.as_nanos(), dropping.as_nanos());
        format!("time {time}\ndropping {dropping}\npeak {peak}\nafter {after}\n{ANSWER}{answer}{STATS}{stats}")
    }

    /// Reads it back; otherwise says what is missing.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let (figures, texts) = text.split_once(ANSWER).ok_or("there is no answer")?;
        let (answer, stats) = texts.split_once(STATS).ok_or("there are no statistics")?;
        let figure = |name: &str| {
            let value = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("the figure {name} is missing"))
        };
        Ok(Self {
            time: Duration::from_nanos(figure("time")?),
            dropping: Duration::from_nanos(figure("dropping")?),
            peak: figure("peak")?,
            after: figure("after")?,
            answer: answer.to_owned(),
            stats: stats.to_owned(),
        })
    }
}
