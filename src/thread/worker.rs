//! A worker: looks for entries, runs them, sleeps when there are none.

use core::cell::Cell;
use core::ptr;
use std::sync::Arc;

use crossbeam_deque::Worker as Deque;

use super::job::{Entry, Ran, guarded, message};
use super::shared::Shared;
use crate::os;
use crate::primitive::{Ordering, fence, spin_loop};
use crate::task::{PoolError, Wanted};

/// A worker, on its own thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    deque: Deque<Entry>,
    turns: Cell<u32>,
}

std::thread_local! {
    /// The worker that this thread is.
    static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
    /// Where drawing goes on.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// The worker that this thread is, if it is one of this pool's.
#[inline]
pub(super) fn current_of(shared: &Shared) -> Option<&Worker> {
    current().filter(|worker| ptr::eq(&raw const *worker.shared, shared))
}

#[inline]
fn current<'a>() -> Option<&'a Worker> {
    let worker = CURRENT.get();
    // SAFETY: set by `Worker::main` for as long as the worker lives, on its own thread; the reference is used up before
    // the function that asked for it returns to the worker's loop.
    unsafe { worker.as_ref() }
}

/// Whether this thread is a worker of the pool with this number.
pub(super) fn is_of(pool: u32) -> bool {
    current().is_some_and(|worker| worker.shared.id == pool)
}

/// Counts what this thread, a worker, ran while it waited.
pub(super) fn note(ran: Ran) {
    if let Some(worker) = current() {
        worker.shared.tallies[worker.index].count(ran);
    }
}

/// Counts a task of a group, accepted and run in one, wherever it ran.
pub(super) fn note_group_task(shared: &Shared, ran: Ran) {
    match current_of(shared) {
        Some(worker) => {
            let tally = &shared.tallies[worker.index];
            tally.accept();
            tally.count(ran);
        }
        None => {
            shared.outside.accept_shared();
            shared.outside.count_shared(ran);
        }
    }
}

/// The number of this thread's worker, if it is one.
pub(super) fn index() -> Option<usize> {
    current().map(|worker| worker.index)
}

/// A number drawn by this thread (xorshift, from the address of its own state).
pub(super) fn draw() -> usize {
    DRAWN.with(|drawn| {
        let mut state = drawn.get();
        if state == 0 {
            state = (&raw const *drawn).addr() as u64 | 1;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        drawn.set(state);
        (state >> 16) as usize
    })
}

/// How a worker began.
pub(super) type Begun = Result<(), PoolError>;

/// Rounds of looking before a worker sleeps, and of them those in which the processor only pauses.
const ROUNDS: u32 = 8;
const PAUSES: u32 = 4;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, deque: Deque<Entry>) -> Self {
        Self { shared, index, deque, turns: Cell::new(0) }
    }

    /// The whole life. `begun` is told how it began.
    pub(super) fn main(self, begun: impl FnOnce(Begun)) {
        CURRENT.set(&raw const self);
        let how = self.begin();
        let good = how.is_ok();
        begun(how);
        if good {
            self.work();
            self.finish();
        } else {
            self.found();
        }
        CURRENT.set(ptr::null());
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
            guarded(|| hook(self.index))
                .map_err(|payload| PoolError::StartHookPanicked { worker: self.index, message: message(payload) })?;
        }
        Ok(())
    }

    fn finish(&self) {
        if let Some(hook) = &self.shared.attributes.on_exit
            && let Err(payload) = guarded(|| hook(self.index))
        {
            self.shared.tallies[self.index].hook_panicked();
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

    /// Keeps an entry that this worker itself submitted.
    #[inline]
    pub(super) fn keep(&self, entry: Entry) {
        self.deque.push(entry);
        self.shared.tallies[self.index].accept();
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
        self.deque.pop().or_else(|| self.take())
    }

    /// Takes a batch from the queue; the first is returned, the others lie where they can be stolen.
    #[inline]
    fn take(&self) -> Option<Entry> {
        let mut first = None;
        let taken = self.shared.take(self.index, |entry| {
            entry.prefetch();
            match first {
                None => first = Some(entry),
                Some(_) => self.deque.push(entry),
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
        self.shared.tallies[self.index].count(ran);
    }

    fn look(&self) -> Option<Entry> {
        if let Some(entry) = self.take() {
            return Some(entry);
        }
        if self.shared.picks() {
            return None;
        }
        let stolen = self.shared.steal(&self.deque, self.index);
        if stolen.is_some() {
            self.shared.tallies[self.index].steal();
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
            if !self.shared.is_open() && self.shared.may_end(self.index) {
                self.found();
                return false;
            }
            if round < ROUNDS {
                round += 1;
                if round <= PAUSES {
                    for _ in 0..1_u32 << round {
                        spin_loop();
                    }
                } else {
                    std::thread::yield_now();
                }
                continue;
            }
            round = 0;
            let work = || self.shared.has_work_for(self.index) || !self.shared.is_open();
            if sleep.sleep(self.index, work) {
                self.shared.tallies[self.index].sleep();
            }
        }
    }

    /// No searcher any more; if it was the last one, somebody else has to look for what there is besides.
    fn found(&self) {
        if self.shared.sleep.found() && !self.shared.picks() && self.shared.has_work_for(self.index) {
            self.shared.sleep.work_was_added();
        }
    }
}
