//! What the handle of a pool and its workers share.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_deque::{Steal, Stealer};

use super::bounded;
use super::entry::{Entry, Job};
use super::queue::{Queue, Refusal};
use super::room::Room;
use super::seat::{self, Seat};
use super::sleep::Sleep;
use super::stats::{Progress, Tally, WorkerStats};
use crate::os::Futex;
use crate::primitive::{AtomicU32, AtomicUsize, Ordering, fence, spin_loop};
use crate::task::{Dispatch, PoolError, Ran, Wanted, WhenFull};

/// Puts an entry into a queue, or gives it back.
#[inline(always)]
fn push(queue: &Queue<Job>, entry: Entry) -> Result<(), (Refusal, Entry)> {
    queue.push(entry.as_raw()).map_err(|refusal| (refusal, entry))?;
    Ok(())
}

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
    queues: Vec<Queue<Job>>,
    stealers: Vec<Stealer<Entry>>,
    pub(super) sleep: Sleep,
    pub(super) room: Room,
    pub(super) tallies: Vec<Tally>,
    /// What others than workers ran, under their own lock-free sums.
    pub(super) outside: Tally,
    turn: AtomicUsize,
    state: AtomicUsize,
    /// The pool's number while it is open, then 0: a worker asks at once whether it is one of this pool's, and may submit.
    open_as: AtomicU32,
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
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let Plan { workers, name, dispatch, when_full, bound, attributes } = plan;
        let queues = if dispatch == Dispatch::SharedQueue { 1 } else { workers };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = u32::try_from(number % (u32::MAX as usize)).unwrap_or_default().max(1);
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

    pub(super) fn workers(&self) -> usize {
        self.tallies.len()
    }

    /// Whether each worker has a queue of its own.
    pub(super) fn picks(&self) -> bool {
        self.dispatch != Dispatch::SharedQueue
    }

    /// Hands an entry to whichever worker takes it, or says what to do with it instead.
    #[inline(never)]
    fn offer_to_all(&self, entry: Entry) -> Result<(), (Refusal, Entry)> {
        // SeqCst: as in `is_open`; a closed pool's worker goes by way of the queue, which refuses.
        if self.bound == usize::MAX
            && let Some(own) = seat::of(self.open_as.load(Ordering::SeqCst))
        {
            #[cfg(test)]
            tests::before_it_is_kept();
            own.keep(entry);
            // The deque's push is in no order with our look at the sleepers; pairs with the one in `sleep`.
            fence(Ordering::SeqCst);
            if self.is_halted() {
                self.discard_kept(own);
            }
            self.sleep.work_was_added();
            return Ok(());
        }
        push(&self.queues[0], entry)?;
        self.sleep.work_was_added();
        Ok(())
    }

    /// The pool was terminated while this worker submitted: perhaps before what it kept could be seen there.
    #[cold]
    #[inline(never)]
    fn discard_kept(&self, own: &Seat) {
        while let Some(entry) = own.deque().pop() {
            self.discard(entry);
        }
    }

    /// Under round robin and random: picks a worker.
    fn pick(&self) -> usize {
        let picked = match self.dispatch {
            Dispatch::Random => seat::draw(),
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        picked % self.queues.len()
    }

    /// Hands an entry to the worker that was picked.
    fn offer_to(&self, picked: usize, entry: Entry) -> Result<(), (Refusal, Entry)> {
        push(&self.queues[picked], entry)?;
        self.sleep.own_work_was_added(picked);
        Ok(())
    }

    /// Hands an entry to a worker. What to do when the queue is full, the pool's settings say.
    #[inline]
    pub(super) fn submit(&self, entry: Entry) -> Result<(), PoolError> {
        if self.picks() {
            return self.submit_picked(entry);
        }
        match self.offer_to_all(entry) {
            Ok(()) => Ok(()),
            Err((refusal, entry)) => self.refused(refusal, 0, entry),
        }
    }

    #[inline(never)]
    fn submit_picked(&self, entry: Entry) -> Result<(), PoolError> {
        // Once for each entry: who waits for room waits for that worker's.
        let picked = self.pick();
        match self.offer_to(picked, entry) {
            Ok(()) => Ok(()),
            Err((refusal, entry)) => self.refused(refusal, picked, entry),
        }
    }

    /// Hands over an entry that its owner can do without: a ticket.
    pub(super) fn submit_ticket(&self, entry: Entry) -> Result<(), Entry> {
        self.outside.add_ticket();
        self.offer_ticket(entry).map_err(|(_, entry)| {
            self.outside.remove_ticket();
            entry
        })
    }

    /// A ticket is no task: where there is a bound it does not count.
    fn offer_ticket(&self, entry: Entry) -> Result<(), (Refusal, Entry)> {
        if self.bound == usize::MAX {
            return if self.picks() { self.offer_to(self.pick(), entry) } else { self.offer_to_all(entry) };
        }
        let picked = if self.picks() { self.pick() } else { 0 };
        self.queues[picked].push_beside(entry.as_raw()).map_err(|refusal| (refusal, entry))?;
        if self.picks() {
            self.sleep.own_work_was_added(picked);
        } else {
            self.sleep.work_was_added();
        }
        Ok(())
    }

    /// Offers an entry once more to the queue that refused it, when what is over is gone (R2).
    fn offer_again(&self, picked: usize, mut entry: Entry) -> Result<(), (Refusal, Entry)> {
        loop {
            let any = self.room.ever_over() > 0 && self.weed(&self.queues[picked]);
            // Also if somebody else weeded it: there may be room for both.
            let offered = if self.picks() { self.offer_to(picked, entry) } else { self.offer_to_all(entry) };
            match offered {
                Err((Refusal::Full, back)) if any => entry = back,
                other => return other,
            }
        }
    }

    /// Gives up the entries of tasks that are over. True: there were some.
    fn weed(&self, queue: &Queue<Job>) -> bool {
        let weeds = queue.weed(self.room.ever_over(), |raw| Entry::from_queue(raw).is_over());
        let any = !weeds.is_empty();
        weeds.into_iter().for_each(|raw| self.discard(Entry::from_queue(raw)));
        any
    }

    #[cold]
    #[inline(never)]
    fn refused(&self, mut refusal: Refusal, picked: usize, mut entry: Entry) -> Result<(), PoolError> {
        if refusal == Refusal::Full {
            match self.offer_again(picked, entry) {
                Ok(()) => return Ok(()),
                Err(again) => (refusal, entry) = again,
            }
        }
        let error = match (refusal, self.when_full) {
            (Refusal::Closed, _) => PoolError::Closed,
            (Refusal::NoMemory, _) => PoolError::OutOfMemory,
            (Refusal::Full, WhenFull::Fail) => PoolError::Full { bound: self.bound },
            (Refusal::Full, WhenFull::Block) if self.seat().is_none() => {
                return self.wait_for_room(picked, entry);
            }
            (Refusal::Full, _) => {
                self.run_here(entry);
                return Ok(());
            }
        };
        let _ = entry.run(Wanted::Refuse);
        Err(error)
    }

    fn wait_for_room(&self, picked: usize, entry: Entry) -> Result<(), PoolError> {
        let mut waiting = Some(entry);
        let mut refusal = Refusal::Full;
        self.room.wait(|| {
            let Some(entry) = waiting.take() else { return true };
            match self.offer_again(picked, entry) {
                Ok(()) => true,
                Err((why, entry)) => {
                    waiting = Some(entry);
                    refusal = why;
                    why != Refusal::Full
                }
            }
        });
        match waiting {
            None => Ok(()),
            Some(entry) => self.refused(refusal, picked, entry),
        }
    }

    /// Runs an entry on the submitter's thread.
    fn run_here(&self, entry: Entry) {
        self.outside.accept_shared();
        let ran = entry.run(Wanted::Run);
        self.outside.count_shared(ran);
    }

    /// Drops an accepted entry without running it.
    fn discard(&self, entry: Entry) {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use crate::TaskError;
    use crate::thread::ThreadPool;

    std::thread_local! {
        static BEFORE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    }

    /// A worker has seen that the pool is open, and submits.
    pub(super) fn before_it_is_kept() {
        if let Some(what) = BEFORE.take() {
            what();
        }
    }

    #[test]
    fn what_a_worker_submits_while_the_pool_is_terminated_is_discarded() {
        let pool = Arc::new(ThreadPool::builder().workers(1).build().unwrap());
        let (inner, ender) = (Arc::clone(&pool), Arc::clone(&pool));
        let (give, given) = mpsc::channel();
        let (tell, hear) = mpsc::channel();
        pool.spawn(move || {
            BEFORE.set(Some(Box::new(move || ender.terminate())));
            give.send(inner.apply_async(|| ())).unwrap();
            // The task goes on until somebody else knows what became of the other.
            hear.recv().unwrap();
        })
        .unwrap();
        let handle = given.recv().unwrap().unwrap();
        let result = handle.join_timeout(Duration::from_secs(60));
        tell.send(()).unwrap();
        assert_eq!(result, Err(TaskError::Cancelled));
        pool.join().unwrap();
        assert_eq!(pool.progress().to_string(), "1 of 2 tasks finished (0 panicked), 1 cancelled");
    }
}
