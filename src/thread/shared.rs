//! What the handle of a pool and its workers share.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_deque::{Steal, Stealer};

use super::entry::{Entry, Job};
use super::queue::Queue;
use super::room::Room;
use super::seat::{self, Seat};
use super::sleep::Sleep;
use super::stats::{Progress, Tally, WorkerStats};
use super::{bounded, forked};
use crate::os::Futex;
use crate::primitive::{AtomicU32, AtomicUsize, Ordering, spin_loop};
use crate::task::{Dispatch, PoolError, Ran, Wanted, WhenFull};

/// A hook: called in a worker, with its number.
pub(super) type Hook = Arc<dyn Fn(usize) + Send + Sync>;

/// What all workers of a pool have in common.
#[derive(Clone, Default)]
pub(super) struct Attributes {
    pub(super) nice: Option<i32>,
    pub(super) cores: Option<Vec<usize>>,
    pub(super) on_start: Option<Hook>,
    pub(super) on_exit: Option<Hook>,
}

impl core::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Attributes")
            .field("nice", &self.nice)
            .field("cores", &self.cores)
            .field("on_start", &self.on_start.is_some())
            .field("on_exit", &self.on_exit.is_some())
            .finish()
    }
}

const OPEN: usize = 0;
const CLOSED: usize = 1;
const HALTED: usize = 2;

/// A pool.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: u32,
    pub(super) name: Option<String>,
    pub(super) dispatch: Dispatch,
    pub(super) when_full: WhenFull,
    pub(super) bound: usize,
    pub(super) attributes: Attributes,
    /// One, or under round robin and random one for each worker.
    pub(super) queues: Vec<Queue<Job>>,
    stealers: Vec<Stealer<Entry>>,
    pub(super) sleep: Sleep,
    pub(super) room: Room,
    pub(super) tallies: Vec<Tally>,
    /// What others than workers ran, under their own lock-free sums.
    pub(super) outside: Tally,
    pub(super) turn: AtomicUsize,
    state: AtomicUsize,
    /// The pool's number while it is open, then 0: a worker asks at once whether it is one of this pool's, and may submit.
    pub(super) open_as: AtomicU32,
    /// Workers that have not ended.
    alive: Futex,
}

/// What a pool is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) name: Option<String>,
    pub(super) dispatch: Dispatch,
    pub(super) when_full: WhenFull,
    pub(super) bound: usize,
    pub(super) attributes: Attributes,
}

impl Shared {
    pub(super) fn new(plan: Plan, stealers: Vec<Stealer<Entry>>) -> Arc<Self> {
        let Plan { workers, name, dispatch, when_full, bound, attributes } = plan;
        let queues = if dispatch == Dispatch::SharedQueue { 1 } else { workers };
        let id = forked::number();
        let new = Arc::new(Self {
            id,
            name,
            dispatch,
            when_full,
            bound,
            attributes,
            queues: (0..queues).map(|_| Queue::new(bound)).collect(),
            stealers,
            sleep: Sleep::new(workers),
            room: Room::new(),
            tallies: (0..workers).map(|_| Tally::default()).collect(),
            outside: Tally::default(),
            turn: AtomicUsize::new(0),
            state: AtomicUsize::new(OPEN),
            open_as: AtomicU32::new(id),
            alive: Futex::new(u32::try_from(workers).unwrap_or(u32::MAX)),
        });
        if bound != usize::MAX {
            bounded::enter(&new);
        }
        new
    }

    /// The seat of this thread, if it is one of this pool's workers.
    #[inline]
    pub(super) fn seat(&self) -> Option<&Seat> {
        seat::of(self.id)
    }

    /// Counts a task of a group, accepted and run in one, wherever it ran.
    pub(super) fn note_group_task(&self, ran: Ran) {
        match self.seat() {
            Some(seat) => {
                seat.tally().accept();
                seat.tally().count(ran);
            }
            None => {
                self.outside.accept_shared();
                self.outside.count_shared(ran);
            }
        }
    }

    /// Counts a panic in a task that is itself counted as run.
    pub(super) fn note_panic(&self) {
        match self.seat() {
            Some(seat) => seat.tally().panicked(),
            None => self.outside.panicked_shared(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.tallies.len()
    }

    /// Whether each worker has a queue of its own.
    pub(super) fn picks(&self) -> bool {
        self.dispatch != Dispatch::SharedQueue
    }

    /// Drops an accepted entry without running it.
    pub(super) fn discard(&self, entry: Entry) {
        let ran = entry.run(Wanted::Discard);
        self.outside.count_shared(ran);
    }

    /// Takes entries out of a worker's queue (the shared one, or its own).
    #[inline]
    pub(super) fn take(&self, worker: usize, mut each: impl FnMut(Entry)) -> usize {
        /// Small enough that taking one is soon over, large enough that the lock is nothing.
        const BATCH: usize = 32;
        let (queue, sharers) = if self.picks() { (&self.queues[worker], 1) } else { (&self.queues[0], self.workers()) };
        // What was taken in a batch would not count against the bound any more.
        let most = if self.bound == usize::MAX { BATCH } else { 1 };
        let taken = queue.take(most, sharers, |raw| each(Entry::from_queue(raw)));
        if taken > 0 && self.bound != usize::MAX {
            self.room.made();
        }
        taken
    }

    /// Takes an entry that another worker has.
    pub(super) fn steal(&self, own: &crossbeam_deque::Worker<Entry>, index: usize) -> Option<Entry> {
        let count = self.stealers.len();
        let start = seat::draw() % count;
        for step in 0..count {
            let victim = (start + step) % count;
            if victim == index {
                continue;
            }
            loop {
                match self.stealers[victim].steal_batch_and_pop(own) {
                    Steal::Success(entry) => return Some(entry),
                    Steal::Retry => spin_loop(),
                    Steal::Empty => break,
                }
            }
        }
        None
    }

    /// Whether anything lies in the queues that tasks are put into.
    pub(super) fn has_queued(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Whether there is anything that a worker could do.
    pub(super) fn has_work_for(&self, worker: usize) -> bool {
        if self.picks() {
            return !self.queues[worker].is_empty();
        }
        !self.queues[0].is_empty() || self.stealers.iter().any(|stealer| !stealer.is_empty())
    }

    /// Whether this process is a bare fork of the one that has the workers.
    #[inline]
    pub(super) fn is_foreign(&self) -> bool {
        forked::is_foreign(self.id)
    }

    pub(super) fn expect_open(&self) -> Result<(), PoolError> {
        forked::expect_own(self.id)?;
        if self.is_open() { Ok(()) } else { Err(PoolError::Closed) }
    }

    pub(super) fn is_open(&self) -> bool {
        // SeqCst: read by a worker after it has listed itself as asleep; pairs with the store in `close`.
        self.state.load(Ordering::SeqCst) == OPEN
    }

    /// Whether tasks are to be discarded.
    #[inline]
    pub(super) fn is_halted(&self) -> bool {
        // SeqCst: a worker that took entries from another, or kept its own, and does not see it here is seen by `halt`,
        // which looks later.
        self.state.load(Ordering::SeqCst) == HALTED
    }

    /// Takes no more tasks. True: it was open.
    pub(super) fn close(&self) -> bool {
        if self.is_foreign() {
            return false;
        }
        let before = self.state.fetch_max(CLOSED, Ordering::SeqCst);
        self.open_as.store(0, Ordering::SeqCst);
        // A push that came before is seen by every worker that sees its queue closed and looks into it once more.
        self.queues.iter().for_each(Queue::close);
        // Workers may end only now: see `may_end`.
        self.sleep.wake_all();
        self.room.open_for_all();
        before == OPEN
    }

    /// Closes, and discards what has not started.
    pub(super) fn halt(&self) {
        if self.is_foreign() {
            return;
        }
        self.close();
        self.state.fetch_max(HALTED, Ordering::SeqCst);
        for queue in &self.queues {
            // One after the other, each when the queue's lock is free again: a callback may wait for whoever takes the next.
            let mut one = None;
            while queue.take(1, 1, |raw| one = Some(Entry::from_queue(raw))) > 0 {
                one.take().into_iter().for_each(|entry| self.discard(entry));
            }
        }
        for stealer in &self.stealers {
            loop {
                match stealer.steal() {
                    Steal::Success(entry) => self.discard(entry),
                    Steal::Retry => spin_loop(),
                    Steal::Empty => break,
                }
            }
        }
    }

    /// Whether a worker whose queues are empty may end: nothing can be put in any more.
    pub(super) fn may_end(&self, worker: usize) -> bool {
        let queue = if self.picks() { &self.queues[worker] } else { &self.queues[0] };
        queue.is_closed() && !self.has_work_for(worker)
    }

    /// A worker ends.
    pub(super) fn ended(&self) {
        // Release: whoever waits for the workers sees what they did; pairs with the Acquire in `wait_for_workers`.
        if self.alive.fetch_sub(1, Ordering::Release) == 1 {
            self.alive.wake_all();
        }
    }

    /// Workers that never started.
    pub(super) fn never_started(&self, count: usize) {
        self.alive.fetch_sub(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Release);
    }

    pub(super) fn alive(&self) -> usize {
        // Acquire: see `ended`.
        self.alive.load(Ordering::Acquire) as usize
    }

    /// Waits until all workers have ended. False: the time was over first.
    pub(super) fn wait_for_workers(&self, deadline: Option<Instant>) -> bool {
        loop {
            // Acquire: see `ended`.
            let alive = self.alive.load(Ordering::Acquire);
            if alive == 0 {
                return true;
            }
            if !self.alive.wait_until(alive, deadline) {
                return self.alive() == 0;
            }
        }
    }

    /// The workers' figures.
    pub(super) fn worker_stats(&self) -> Vec<WorkerStats> {
        self.tallies.iter().enumerate().map(|(index, tally)| tally.stats(index)).collect()
    }

    pub(super) fn progress(&self) -> Progress {
        let put: usize = self.queues.iter().map(Queue::ever_put).sum();
        let mut progress = Progress { submitted: put as u64, ..Progress::default() };
        self.tallies.iter().chain([&self.outside]).for_each(|tally| tally.add_to(&mut progress));
        progress
    }

    /// Entries that no worker has taken yet.
    pub(super) fn queued(&self) -> usize {
        let kept: usize = self.stealers.iter().map(Stealer::len).sum();
        self.queues.iter().map(Queue::len).sum::<usize>() + kept
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.bound != usize::MAX {
            bounded::leave(self.id);
        }
    }
}
