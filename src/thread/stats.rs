//! What workers have done, in figures.

use core::fmt;

use crate::primitive::{AtomicU64, Ordering};

/// One worker's counters. Only that worker changes them, without a lock; anybody reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    run: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    stolen: AtomicU64,
    slept: AtomicU64,
    /// Accepted by way of no queue that counts.
    accepted: AtomicU64,
    /// Counted by a queue, and no task.
    tickets: AtomicU64,
    hook_panics: AtomicU64,
}

/// Adds to a counter that only this thread changes. Relaxed: figures publish nothing.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Tally {
    /// The owner has run or discarded an entry.
    #[inline]
    pub(super) fn count(&self, ran: crate::task::Ran) {
        use crate::task::Ran;
        match ran {
            Ran::Task => bump(&self.run, 1),
            Ran::Panicked => {
                bump(&self.run, 1);
                bump(&self.panicked, 1);
            }
            Ran::Cancelled => bump(&self.cancelled, 1),
            Ran::Helped | Ran::Ticket => {}
        }
    }

    /// As `count`, by anybody.
    pub(super) fn count_shared(&self, ran: crate::task::Ran) {
        use crate::task::Ran;
        match ran {
            Ran::Task => drop(self.run.fetch_add(1, Ordering::Relaxed)),
            Ran::Panicked => {
                self.run.fetch_add(1, Ordering::Relaxed);
                self.panicked.fetch_add(1, Ordering::Relaxed);
            }
            Ran::Cancelled => drop(self.cancelled.fetch_add(1, Ordering::Relaxed)),
            Ran::Helped | Ran::Ticket => {}
        }
    }

    /// A panic in a task that the owner counts as run.
    pub(super) fn panicked(&self) {
        bump(&self.panicked, 1);
    }

    /// As `panicked`, by anybody.
    pub(super) fn panicked_shared(&self) {
        self.panicked.fetch_add(1, Ordering::Relaxed);
    }

    /// The owner accepted a task that no queue has counted.
    #[inline]
    pub(super) fn accept(&self) {
        bump(&self.accepted, 1);
    }

    pub(super) fn accept_shared(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_ticket(&self) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_ticket(&self) {
        self.tickets.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn steal(&self) {
        bump(&self.stolen, 1);
    }

    pub(super) fn sleep(&self) {
        bump(&self.slept, 1);
    }

    pub(super) fn hook_panicked(&self) {
        bump(&self.hook_panics, 1);
    }

    pub(super) fn stats(&self, index: usize) -> WorkerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            index,
            run: read(&self.run),
            panicked: read(&self.panicked),
            stolen: read(&self.stolen),
            slept: read(&self.slept),
            hook_panics: read(&self.hook_panics),
        }
    }

    pub(super) fn add_to(&self, progress: &mut Progress) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        progress.finished += read(&self.run);
        progress.panicked += read(&self.panicked);
        progress.cancelled += read(&self.cancelled);
        progress.submitted = progress.submitted.wrapping_add(read(&self.accepted)).wrapping_sub(read(&self.tickets));
    }
}

/// What one worker has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The worker's number, from 0.
    pub index: usize,
    /// Tasks that it ran.
    pub run: u64,
    /// Of them, tasks that panicked.
    pub panicked: u64,
    /// How often it took tasks that another worker had.
    pub stolen: u64,
    /// How often it fell asleep because there was nothing to do.
    pub slept: u64,
    /// Hooks that panicked in it.
    pub hook_panics: u64,
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, run, stolen, slept, panicked, .. } = self;
        write!(f, "worker {index}: {run} tasks run ({panicked} panicked), {stolen} times stolen, {slept} times slept")
    }
}

/// How far a pool has come: exact at rest, close while it runs.
///
/// Tasks of a scope and pieces of a map are counted, as submitted and finished, when they have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Tasks that the pool accepted.
    pub submitted: u64,
    /// Tasks that ended, by a result or a panic.
    pub finished: u64,
    /// Of them, tasks that panicked.
    pub panicked: u64,
    /// Tasks that never started: cancelled, or discarded by `terminate`. A cancelled task counts when its turn would
    /// have come.
    pub cancelled: u64,
}

impl Progress {
    /// Tasks that wait or run.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.submitted.saturating_sub(self.finished + self.cancelled)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitted, finished, panicked, cancelled } = self;
        write!(f, "{finished} of {submitted} tasks finished ({panicked} panicked), {cancelled} cancelled")
    }
}
