//! The workers, as the parent sees them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;

use super::super::record::Record;

/// Deaths in a row, each before the worker was ready, after which the pool gives up.
pub(super) const MOST_FAILURES: u32 = 20;

/// All workers of a pool.
#[derive(Debug, Default)]
pub(super) struct Crew {
    pub(super) workers: Vec<Worker>,
    /// Deaths in a row before a worker was ready.
    pub(super) failures: u32,
    /// What the last of them said.
    pub(super) last_words: String,
}

/// A worker's place.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// Who is there.
    pub(super) record: Option<Arc<Record>>,
    pub(super) pid: u32,
    pub(super) ready: bool,
    /// The pool itself has killed it, so none of its tasks is to blame.
    pub(super) killed: bool,
    /// Slots of tasks that were taken from it while it ran them, and room for their arguments: nobody's until it is dead.
    pub(super) debts: Vec<(u32, Option<Range<usize>>)>,
    /// When to start the next one.
    pub(super) not_before: Option<Instant>,
    /// A thread is starting it.
    pub(super) starting: bool,
    /// Workers that were here.
    pub(super) incarnation: u32,
    pub(super) deaths: u64,
    /// What the last one that ended had written to its standard error.
    pub(super) said: String,
}

impl Worker {
    /// Sends the signal, if it was to be killed.
    pub(super) fn keep_killed(&self) {
        if let (true, Some(record)) = (self.killed, &self.record) {
            // It runs as the same user; if it has changed that, it ends when it sees that its task is gone.
            let _ = record.signal(Signal::KILL);
        }
    }
}

impl Crew {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Worker::default()).collect(), ..Self::default() }
    }

    /// A slot, and room, that a worker may still be reading.
    pub(super) fn owes(&mut self, worker: usize, slot: u32, room: Option<Range<usize>>) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.debts.push((slot, room));
        }
    }

    /// Kills a worker: the pool knows why. One that is just being started may have taken a task already: it is killed as soon
    /// as it is on record.
    pub(super) fn kill(&mut self, worker: usize) {
        if let Some(worker) = self.workers.get_mut(worker)
            && (worker.record.is_some() || worker.starting)
        {
            worker.killed = true;
            worker.keep_killed();
        }
    }

    /// Workers that somebody has stopped go on: the order to leave is not heard otherwise.
    pub(super) fn resume_all(&self) {
        for record in self.workers.iter().filter_map(|worker| worker.record.as_ref()) {
            let _ = record.signal(Signal::CONT);
        }
    }

    pub(super) fn kill_all(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.kill(worker));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.iter().all(|worker| worker.record.is_none() && !worker.starting)
    }
}
