//! What one can see of a pool's workers.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::desk::{Desk, Stage};
use super::ground;
use super::stats::WorkerStats;
use crate::primitive::{AtomicU64, Ordering};
use crate::task::PoolError;

impl Desk {
    pub(super) fn worker_stats(&self) -> Vec<WorkerStats> {
        let Some(inner) = self.lock_here() else { return Vec::new() };
        let now = ground::now();
        let one = |index: usize| {
            let worker = &inner.crew.workers[index];
            let since = self.ground.post(index).since.load(Ordering::Relaxed);
            let mut stats = WorkerStats {
                index,
                pid: if worker.record.is_some() { worker.pid } else { 0 },
                ready: worker.record.is_some()
                    && self.ground.post(index).phase.load(Ordering::Relaxed) >= super::spec::READY,
                started: worker.incarnation,
                deaths: worker.deaths,
                age: worker.record.as_ref().map_or(Duration::ZERO, |_| Duration::from_nanos(now.saturating_sub(since))),
                ..WorkerStats::default()
            };
            for hand in self.ground.plan.hands_of(index) {
                let hand = self.ground.hand(hand);
                // A worker may have written anything there.
                let add = |sum: &mut u64, word: &AtomicU64| *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
                add(&mut stats.run, &hand.ran);
                add(&mut stats.panicked, &hand.panicked);
                add(&mut stats.slept, &hand.slept);
                add(&mut stats.woken, &hand.woken);
            }
            stats
        };
        (0..self.terms.workers).map(one).collect()
    }

    pub(super) fn captured(&self, worker: usize) -> String {
        let inner = self.lock_here();
        let Some(worker) = inner.as_ref().and_then(|inner| inner.crew.workers.get(worker)) else {
            return String::new();
        };
        worker.record.as_ref().map_or_else(|| worker.said.clone(), |record| record.last_words())
    }

    pub(super) fn wait_ready(&self, timeout: Duration) -> Result<(), PoolError> {
        super::forked::expect_not_forked()?;
        let until = Instant::now().checked_add(timeout);
        let mut inner = self.lock();
        loop {
            if let Stage::Broken(error) = &inner.stage {
                return Err(error.clone());
            }
            if inner.ended {
                return Err(PoolError::Closed);
            }
            let not_ready = inner.crew.workers[..self.terms.workers].iter().filter(|worker| !worker.ready).count();
            if not_ready == 0 {
                return Ok(());
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(PoolError::StillRunning { workers: not_ready, waited: timeout });
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
