//! What a pool has done, in figures.

use core::fmt;
use std::time::Duration;

use super::ground::Ground;
use crate::primitive::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Count {
    Submitted = 0,
    Finished = 1,
    Panicked = 2,
    Failed = 3,
    Cancelled = 4,
    Retried = 5,
    Deaths = 6,
    Restarts = 7,
}

/// The counters, in the parent's own memory; copies in the segment are for whoever looks on.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; 8]);

impl Counts {
    /// Under the desk's lock.
    pub(super) fn add(&self, ground: &Ground, count: Count, by: u64) {
        let word = &self.0[count as usize];
        // Relaxed: one writer at a time, and readers want a figure.
        let now = word.load(Ordering::Relaxed) + by;
        word.store(now, Ordering::Relaxed);
        ground.head().counts[count as usize].store(now, Ordering::Relaxed);
        super::trace::counted(count, by);
    }

    pub(super) fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            submitted: self.get(Count::Submitted),
            finished: self.get(Count::Finished),
            panicked: self.get(Count::Panicked),
            failed: self.get(Count::Failed),
            cancelled: self.get(Count::Cancelled),
            retried: self.get(Count::Retried),
            deaths: self.get(Count::Deaths),
        }
    }
}

/// How far a process pool's tasks are. Counts since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Tasks that were taken in. A chunk of a map is one.
    pub submitted: u64,
    /// Tasks that have ended, in a value or an error; not those that were cancelled.
    pub finished: u64,
    /// Those of them that panicked.
    pub panicked: u64,
    /// Those of them that have another error: their worker died, they were late, their result could not travel.
    pub failed: u64,
    /// Tasks that were cancelled, by their handles or by `terminate`.
    pub cancelled: u64,
    /// How often a task was run again as [`retries`](super::ProcessPoolBuilder::retries) allow, since its worker died. Those that
    /// are run again to see which of several tasks killed their worker, or for another's fault, are not counted.
    pub retried: u64,
    /// Workers that died, other than by the pool's own order to leave.
    pub deaths: u64,
}

impl Progress {
    /// Tasks that wait or run.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        // Whoever looks on from another process reads figures that may be rubbish.
        self.submitted.saturating_sub(self.finished.saturating_add(self.cancelled))
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitted, finished, panicked, failed, cancelled, retried, deaths } = self;
        write!(
            f,
            "{finished} of {submitted} tasks finished ({panicked} panicked, {failed} failed), {cancelled} cancelled, \
             {retried} run again, {deaths} workers died"
        )
    }
}

/// One worker's place: the process that is there, and what its threads have done, counted over all processes that were there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The place, from 0.
    pub index: usize,
    /// The process; 0 where there is none at the moment.
    pub pid: u32,
    /// Whether it is ready for tasks.
    pub ready: bool,
    /// How many processes there were at this place.
    pub started: u32,
    /// How many of them died.
    pub deaths: u64,
    /// Tasks run.
    pub run: u64,
    /// Tasks that panicked.
    pub panicked: u64,
    /// Times that a thread of it slept since there was no task.
    pub slept: u64,
    /// Times that a thread of it was woken from that: calls to one that was awake don't count.
    pub woken: u64,
    /// How long the process has been there.
    pub age: Duration,
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, pid, started, deaths, run, panicked, slept, .. } = self;
        write!(
            f,
            "worker {index}: process {pid}, the {started}. here ({deaths} died), {run} tasks run ({panicked} panicked), \
             {slept} times slept"
        )
    }
}
