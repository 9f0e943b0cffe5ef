//! The workers, as the parent sees them.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::record::Record;

/// Deaths in a row at one place, each before the worker was of use, after which the pool gives up.
const MOST_FAILURES: u32 = 20;

/// How long a worker that was ready and has run nothing still counts as one that was never of use when it dies.
const YOUNG: Duration = Duration::from_secs(1);

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
    /// Since when.
    pub(super) ready_at: Option<Instant>,
    /// What was run at this place before it was started.
    pub(super) ran_before: u64,
    /// It has run a task.
    pub(super) of_use: bool,
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
    /// How often in a row one died before it was of use.
    pub(super) died_young: u32,
    /// Of both, those while nobody was at work, since one was of use in any place.
    pub(super) failures: u32,
    /// How often in a row one failed here by itself, or could not be started, whoever was at work elsewhere.
    pub(super) fruitless: u32,
    /// What the last of them said.
    pub(super) last_words: String,
    /// Workers that were here.
    pub(super) incarnation: u32,
    pub(super) deaths: u64,
    /// What the last one that ended had written to its standard error.
    pub(super) said: String,
}

impl Worker {
    /// Whether it has been ready for so long that its death would not be one of a worker that fails.
    pub(super) fn is_grown(&self) -> bool {
        self.ready_at.is_some_and(|at| at.elapsed() >= YOUNG)
    }

    /// Whether nobody gets ready here, so that tasks had better go elsewhere.
    pub(super) fn is_given_up(&self) -> bool {
        self.fruitless >= MOST_FAILURES && !self.ready
    }

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

    /// A worker died before it was ready, or soon after and before it had run anything.
    pub(super) fn died_young(&mut self, worker: usize, how: &str) {
        let place = self.failed(worker, how);
        place.died_young += 1;
        // The first few at once; then ever slower, up to a quarter of a second.
        let wait = Duration::from_millis(1 << place.died_young.min(8));
        place.not_before = (place.died_young > 3).then(|| Instant::now() + wait);
    }

    /// A worker could not be started.
    pub(super) fn could_not_start(&mut self, worker: usize, why: &str) {
        let place = self.failed(worker, why);
        // Ever slower.
        place.not_before = Some(Instant::now() + FIRST_REFUSED * (1 << place.refused.min(5)));
        place.refused += 1;
        place.fruitless += 1;
    }

    /// The system may be short of something for a while, or somebody kills at random: as long as others are at work that is no
    /// reason to give up.
    fn failed(&mut self, worker: usize, why: &str) -> &mut Worker {
        let idle = self.workers.iter().all(|worker| !worker.ready);
        let place = &mut self.workers[worker];
        why.clone_into(&mut place.last_words);
        place.failures += u32::from(idle);
        place
    }

    pub(super) fn one_is_ready(&mut self, worker: usize) {
        self.workers[worker].ready = true;
        self.workers[worker].ready_at = Some(Instant::now());
    }

    /// A worker has run a task, or was ready for long: those that failed so far, in whichever place, were no crash
    /// loop.
    pub(super) fn one_is_of_use(&mut self, worker: usize) {
        self.workers.iter_mut().for_each(|worker| worker.failures = 0);
        self.workers[worker].of_use = true;
        self.workers[worker].died_young = 0;
        self.workers[worker].fruitless = 0;
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
    fn what_fails_counts_while_nobody_is_at_work() {
        let kinds: [fn(&mut Crew); 2] =
            [|crew| crew.could_not_start(1, "no more processes"), |crew| crew.died_young(1, "died")];
        for fails in kinds {
            let mut crew = Crew::new(2);
            for n in 1..MOST_FAILURES {
                fails(&mut crew);
                assert_eq!((crew.workers[1].failures, crew.crash_loop()), (n, None));
            }
            // That one gets ready in the other place says nothing yet.
            crew.one_is_ready(0);
            assert_eq!(crew.workers[1].failures, MOST_FAILURES - 1);
            // It is of use, and dies later.
            crew.one_is_of_use(0);
            (0..100).for_each(|_| fails(&mut crew));
            assert_eq!((crew.workers[1].failures, crew.crash_loop()), (0, None));
            crew.workers[0].ready = false;
            (0..MOST_FAILURES).for_each(|_| fails(&mut crew));
            assert_eq!(crew.crash_loop().unwrap().0, MOST_FAILURES);
        }
    }

    #[test]
    fn a_place_whose_starts_are_refused_is_given_up_until_one_is_of_use() {
        let mut crew = Crew::new(2);
        crew.one_is_of_use(0);
        for n in 1..=MOST_FAILURES {
            crew.could_not_start(1, "no more processes");
            assert_eq!(crew.workers[1].is_given_up(), n == MOST_FAILURES);
        }
        crew.one_is_of_use(0);
        assert!(crew.workers[1].is_given_up());
        crew.one_is_ready(1);
        assert!(!crew.workers[1].is_given_up());
        crew.one_is_of_use(1);
        crew.workers[1].ready = false;
        assert!(!crew.workers[1].is_given_up());
    }

    #[test]
    fn the_next_start_in_a_place_waits_ever_longer() {
        let mut crew = Crew::new(2);
        let mut waits = |fails: fn(&mut Crew)| -> Vec<Duration> {
            let wait = |_| {
                let now = Instant::now();
                fails(&mut crew);
                crew.workers[1].not_before.map_or(Duration::ZERO, |at| at - now)
            };
            (0..12).map(wait).collect()
        };
        let refused = waits(|crew| crew.could_not_start(1, "no more processes"));
        assert!(
            refused[0] >= FIRST_REFUSED && refused[5..].iter().all(|wait| *wait >= 32 * FIRST_REFUSED),
            "{refused:?}"
        );
        let young = waits(|crew| crew.died_young(1, "died"));
        assert!(young[2].is_zero() && young[7..].iter().all(|wait| *wait >= Duration::from_millis(256)), "{young:?}");
        // At work elsewhere or not, and ready or not.
        crew.one_is_of_use(0);
        crew.one_is_ready(1);
        crew.died_young(1, "died");
        assert!(crew.workers[1].not_before.is_some());
        crew.one_is_of_use(1);
        crew.died_young(1, "died");
        assert!(crew.workers[1].not_before.is_none());
    }
}
