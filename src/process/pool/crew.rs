//! The workers, as the parent sees them.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::record::Record;

/// Deaths in a row at one place, each before the worker was ready, after which the pool gives up.
const MOST_FAILURES: u32 = 20;

/// How long to wait when a worker could not be started: then twice as long, up to 32 times.
const FIRST_REFUSED: Duration = Duration::from_millis(50);

/// All workers of a pool.
#[derive(Debug, Default)]
pub(super) struct Crew {
    pub(super) workers: Vec<Worker>,
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
    /// How often in a row it could not be started.
    pub(super) refused: u32,
    /// Deaths in a row before a worker was ready here, and starts that were refused while nobody was at work.
    pub(super) failures: u32,
    /// What the last of them said.
    pub(super) last_words: String,
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
            // It runs as the same user; if it has changed that, it takes no other task once it sees that its own is gone.
            let _ = record.signal(Signal::KILL);
        }
    }
}

impl Crew {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Worker::default()).collect() }
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

    /// A worker could not be started. The system may be short of something for a while: as long as others are at work that is
    /// no reason to give up.
    pub(super) fn could_not_start(&mut self, worker: usize, why: String) {
        let idle = self.workers.iter().all(|worker| !worker.ready);
        let place = &mut self.workers[worker];
        place.last_words = why;
        place.failures += u32::from(idle);
        // Ever slower.
        place.not_before = Some(Instant::now() + FIRST_REFUSED * (1 << place.refused.min(5)));
        place.refused += 1;
    }

    /// A place at which worker after worker failed: how many, and what is known of the last.
    pub(super) fn crash_loop(&self) -> Option<(u32, &str)> {
        let place = self.workers.iter().find(|place| place.failures >= MOST_FAILURES)?;
        Some((place.failures, &place.last_words))
    }

    pub(super) fn kill_all(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.kill(worker));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers.iter().all(|worker| worker.record.is_none() && !worker.starting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_start_counts_while_nobody_is_at_work() {
        let mut crew = Crew::new(2);
        let mut waits = Vec::new();
        for n in 1..=MOST_FAILURES {
            let now = Instant::now();
            crew.could_not_start(1, "no more processes".to_owned());
            assert_eq!(crew.workers[1].failures, n);
            assert_eq!(crew.crash_loop().is_some(), n == MOST_FAILURES);
            waits.push(crew.workers[1].not_before.unwrap() - now);
        }
        assert!(waits[0] >= FIRST_REFUSED && waits[5..].iter().all(|wait| *wait >= 32 * FIRST_REFUSED), "{waits:?}");
        crew.workers[1].failures = 0;
        crew.workers[0].ready = true;
        (0..100).for_each(|_| crew.could_not_start(1, "no more processes".to_owned()));
        assert_eq!(crew.workers[1].failures, 0);
    }
}
