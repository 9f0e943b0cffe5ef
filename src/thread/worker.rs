//! A worker: looks for entries, runs them, sleeps when there are none.

use core::cell::Cell;
use core::ptr::NonNull;
use std::sync::Arc;

use crossbeam_deque::Worker as Deque;

use super::entry::Entry;
use super::seat::Seat;
use super::shared::Shared;
use super::yields::Yields;
use crate::os;
use crate::panics::{guarded, message};
use crate::primitive::{Ordering, fence, spin_loop};
use crate::task::{PoolError, Wanted};

/// A worker, on its own thread.
pub(super) struct Worker {
    seat: Seat,
    shared: Arc<Shared>,
    turns: Cell<u32>,
    yields: Yields,
}

/// How a worker began.
pub(super) type Begun = Result<(), PoolError>;

/// Rounds of looking before a worker sleeps: first those in which it yields, for on one core whoever waits for what it just
/// did waits for that; then those in which the processor pauses, twice as long each time.
const YIELDS: u32 = 4;
const ROUNDS: u32 = YIELDS + 4;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, deque: Deque<Entry>) -> Self {
        let tally = NonNull::from(&shared.tallies[index]);
        let room = (shared.bound != usize::MAX).then(|| NonNull::from(&shared.room));
        // SAFETY: tallies and room live as long as the pool, and the worker drops its seat first.
        let seat = unsafe { Seat::new(shared.id, index, deque, tally, room) };
        Self { seat, shared, turns: Cell::new(0), yields: Yields::default() }
    }

    /// The whole life. `begun` is told how it began.
    pub(super) fn main(self, begun: impl FnOnce(Begun)) {
        self.seat.taken(|| {
            let how = self.begin();
            let good = how.is_ok();
            begun(how);
            if good {
                self.work();
                self.finish();
            } else {
                self.found();
            }
        });
        self.shared.ended();
    }

    fn begin(&self) -> Begun {
        let attributes = &self.shared.attributes;
        if let Some(cores) = &attributes.cores {
            os::set_affinity(cores).map_err(|error| PoolError::AffinityRefused { code: error.raw_os_error() })?;
        }
        if let Some(nice) = attributes.nice {
            os::set_nice(nice).map_err(|error| PoolError::NiceRefused { nice, code: error.raw_os_error() })?;
        }
        if let Some(hook) = &attributes.on_start {
            guarded(|| hook(self.seat.index())).map_err(|payload| PoolError::StartHookPanicked {
                worker: self.seat.index(),
                message: message(payload),
            })?;
        }
        Ok(())
    }

    fn finish(&self) {
        if let Some(hook) = &self.shared.attributes.on_exit
            && let Err(payload) = guarded(|| hook(self.seat.index()))
        {
            self.seat.tally().hook_panicked();
            drop(message(payload));
        }
    }

    fn work(&self) {
        // A new worker is counted as a searcher already.
        while self.idle() {
            while let Some(entry) = self.next() {
                self.execute(entry);
            }
            self.shared.sleep.search();
        }
    }

    #[inline]
    fn next(&self) -> Option<Entry> {
        /// So often the queue comes before what this worker has, or a task that submits itself again would shut it out.
        const FAIRNESS: u32 = 61;
        let turn = self.turns.get().wrapping_add(1);
        self.turns.set(turn);
        if turn.is_multiple_of(FAIRNESS)
            && let Some(entry) = self.take()
        {
            return Some(entry);
        }
        self.seat.deque().pop().or_else(|| self.take())
    }

    /// Takes a batch from the queue; the first is returned, the others lie where they can be stolen.
    #[inline]
    fn take(&self) -> Option<Entry> {
        let mut first = None;
        let taken = self.shared.take(self.seat.index(), |entry| {
            entry.prefetch();
            match first {
                None => first = Some(entry),
                Some(_) => self.seat.deque().push(entry),
            }
        });
        if taken > 1 && !self.shared.picks() {
            // Others may have looked between the queue and here; pairs with the fence in their look at the deque.
            fence(Ordering::SeqCst);
            self.shared.sleep.work_was_added();
        }
        first
    }

    #[inline]
    fn execute(&self, entry: Entry) {
        let wanted = if self.shared.is_halted() { Wanted::Discard } else { Wanted::Run };
        let ran = entry.run(wanted);
        self.seat.tally().count(ran);
    }

    fn look(&self) -> Option<Entry> {
        if let Some(entry) = self.take() {
            return Some(entry);
        }
        if self.shared.picks() {
            return None;
        }
        let stolen = self.shared.steal(self.seat.deque(), self.seat.index());
        if stolen.is_some() {
            self.seat.tally().steal();
        }
        stolen
    }

    /// A searcher looks for work, runs what it finds first, and sleeps if there is nothing. False: the worker is to end.
    fn idle(&self) -> bool {
        let sleep = &self.shared.sleep;
        let mut round = 0;
        loop {
            if let Some(entry) = self.look() {
                self.found();
                self.execute(entry);
                return true;
            }
            if !self.shared.is_open() && self.shared.may_end(self.seat.index()) {
                self.found();
                return false;
            }
            if round < ROUNDS {
                round += 1;
                if round > YIELDS {
                    for _ in 0..1_u32 << (round - YIELDS) {
                        spin_loop();
                    }
                } else if !self.yields.pass(|| self.shared.queued()) {
                    round = ROUNDS;
                }
                continue;
            }
            round = 0;
            let work = || self.shared.has_work_for(self.seat.index()) || !self.shared.is_open();
            if sleep.sleep(self.seat.index(), work) {
                self.seat.tally().sleep();
            }
        }
    }

    /// No searcher any more; if it was the last one, somebody else has to look for what there is besides.
    fn found(&self) {
        if self.shared.sleep.found() && !self.shared.picks() && self.shared.has_work_for(self.seat.index()) {
            self.shared.sleep.work_was_added();
        }
    }
}
