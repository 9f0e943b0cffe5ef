//! How an entry comes into a pool: into a queue or a worker's own deque, or what its settings say when there is no room.

use super::entry::{Entry, Job};
use super::queue::{Queue, Refusal};
use super::seat::{self, Seat};
use super::shared::Shared;
use crate::primitive::{Ordering, fence};
use crate::task::{Dispatch, PoolError, Wanted, WhenFull};

/// Puts an entry into a queue, or gives it back.
#[inline(always)]
fn push(queue: &Queue<Job>, entry: Entry) -> Result<(), (Refusal, Entry)> {
    queue.push(entry.as_raw()).map_err(|refusal| (refusal, entry))?;
    Ok(())
}

impl Shared {
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
        if self.is_foreign() {
            return Self::refuse(PoolError::Forked, entry);
        }
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
        Self::refuse(error, entry)
    }

    #[cold]
    #[inline(never)]
    fn refuse(error: PoolError, entry: Entry) -> Result<(), PoolError> {
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
