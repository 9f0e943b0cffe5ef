//! Whether a worker that has run out of tasks yields before it sleeps: as long as that was not both costly and in vain.
//!
//! A yield lets others run: whoever submits, if it has this core, submits many tasks then, and makes no system call to wake
//! anybody. But if the core is another program's, a task that comes waits for the end of its time slice, since a searcher is
//! not woken. So a yield that was costly, and that few tasks came of, is the last one for some time: a worker that sleeps is
//! woken at once, whoever has the core. Measured: see `README.md`.

use core::cell::Cell;
use core::time::Duration;
use std::time::Instant;

/// A yield that takes longer than this has cost the time slice of somebody else.
const COSTLY: Duration = Duration::from_micros(50);
/// So many tasks, come meanwhile, are worth a time slice.
const PLENTY: usize = 64;
/// How long a worker does not yield after one that was costly, for little.
const SOBER: Duration = Duration::from_secs(1);

/// One worker's yields.
#[derive(Debug, Default)]
pub(super) struct Yields {
    /// When it may yield again.
    from: Cell<Option<Instant>>,
}

impl Yields {
    /// Lets others run, if that is worth it; `queued` says how many tasks wait then. False: it did not yield.
    pub(super) fn pass(&self, queued: impl FnOnce() -> usize) -> bool {
        let before = Instant::now();
        if !self.may(before) {
            return false;
        }
        std::thread::yield_now();
        self.judge(before, before.elapsed(), queued());
        true
    }

    fn may(&self, now: Instant) -> bool {
        self.from.get().is_none_or(|from| now >= from)
    }

    /// What came of a yield that began at `before`.
    fn judge(&self, before: Instant, took: Duration, queued: usize) {
        let in_vain = took > COSTLY && queued < PLENTY;
        self.from.set(in_vain.then(|| before + SOBER));
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_yielded_long_for_few_tasks_does_not_for_a_second() {
        let (yields, start) = (Yields::default(), Instant::now());
        let long = COSTLY + Duration::from_micros(1);
        assert!(yields.may(start));
        for (took, queued) in [(COSTLY, 0), (long, PLENTY), (Duration::ZERO, PLENTY)] {
            yields.judge(start, took, queued);
            assert!(yields.may(start), "{took:?} for {queued} tasks was worth it");
        }
        yields.judge(start, long, PLENTY - 1);
        assert!(!yields.may(start) && !yields.may(start + SOBER - Duration::from_nanos(1)));
        assert!(yields.may(start + SOBER));
        yields.judge(start, COSTLY, 0);
        assert!(yields.may(start), "one that was cheap ends it");
    }

    #[test]
    fn who_may_not_yield_does_not_look_what_waits() {
        let yields = Yields::default();
        assert!(yields.pass(|| PLENTY));
        yields.judge(Instant::now() + Duration::from_secs(3600), COSTLY * 2, 0);
        assert!(!yields.pass(|| unreachable!()));
    }
}
