//! Permits, and the threads that wait for some in order of arrival: the protocol of [`Semaphore`](super::Semaphore).
//!
//! See README.md for states and invariants (P1–P4).

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::SemaphoreError;
use crate::primitive::{AtomicU32, Deadline, Mutex, Ordering, Sleepers};

/// What became of a wait. Written and read under the lock, so Relaxed.
const WAITING: u32 = 0;
const GRANTED: u32 = 1;
const CLOSED: u32 = 2;

/// A thread in the queue. It sleeps on its own, so that a grant wakes nobody else.
#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wanted: usize,
    outcome: AtomicU32,
    sleepers: Sleepers,
}

impl Waiter {
    fn end(&self, outcome: u32) {
        self.outcome.store(outcome, Ordering::Relaxed);
        self.sleepers.wake_one();
    }
}

#[derive(Debug)]
struct State {
    /// Free permits. Those of a granted waiter are taken already.
    available: usize,
    /// Free and taken ones; those forgotten are in neither.
    total: usize,
    closed: bool,
    next_ticket: u64,
    /// By ticket.
    queue: VecDeque<Arc<Waiter>>,
}

impl State {
    /// Lets through those at the head of the queue for whom there is enough (P2, P3).
    fn grant(&mut self) {
        while let Some(head) = self.queue.front()
            && head.wanted <= self.available
        {
            self.available -= head.wanted;
            head.end(GRANTED);
            self.queue.pop_front();
        }
    }
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) available: usize,
    pub(super) total: usize,
    pub(super) waiting: usize,
    pub(super) closed: bool,
}

/// A number of permits and a queue for them.
#[derive(Debug)]
pub(super) struct Permits {
    state: Mutex<State>,
    /// The most there may be.
    limit: usize,
}

impl Permits {
    #[cfg(not(millpond_loom))]
    pub(super) const fn new(permits: usize, limit: usize) -> Self {
        let queue = VecDeque::new();
        let state = State { available: permits, total: permits, closed: false, next_ticket: 0, queue };
        Self { state: Mutex::new(state), limit }
    }

    #[cfg(millpond_loom)]
    pub(super) fn new(permits: usize, limit: usize) -> Self {
        let queue = VecDeque::new();
        let state = State { available: permits, total: permits, closed: false, next_ticket: 0, queue };
        Self { state: Mutex::new(state), limit }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `wanted` permits if they are free and nobody waits.
    pub(super) fn try_take(&self, wanted: usize) -> Result<(), SemaphoreError> {
        let mut state = self.state.lock();
        self.take_free(&mut state, wanted)
    }

    fn take_free(&self, state: &mut State, wanted: usize) -> Result<(), SemaphoreError> {
        if state.closed {
            return Err(SemaphoreError::Closed);
        }
        if wanted > self.limit {
            return Err(SemaphoreError::TooMany { wanted, limit: self.limit });
        }
        // P3: whoever waits comes first, however many are free.
        if state.queue.is_empty() && wanted <= state.available {
            state.available -= wanted;
            return Ok(());
        }
        Err(SemaphoreError::NoPermits { wanted, available: state.available, waiting: state.queue.len() })
    }

    /// Takes `wanted` permits, waiting for them. `NoPermits` means that the deadline passed.
    pub(super) fn take(&self, wanted: usize, until: Deadline) -> Result<(), SemaphoreError> {
        let mut state = self.state.lock();
        match self.take_free(&mut state, wanted) {
            Err(SemaphoreError::NoPermits { .. }) => {}
            done => return done,
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let me = Arc::new(Waiter { ticket, wanted, outcome: AtomicU32::new(WAITING), sleepers: Sleepers::new() });
        state.queue.push_back(Arc::clone(&me));
        loop {
            let passed = me.sleepers.sleep(&mut state, until);
            // Whatever the clock says: a grant that came in time counts, or its permits would be lost (P1).
            match me.outcome.load(Ordering::Relaxed) {
                GRANTED => return Ok(()),
                CLOSED => return Err(SemaphoreError::Closed),
                _ if passed => break,
                _ => {}
            }
        }
        let (available, waiting) = (state.available, state.queue.len());
        if let Ok(at) = state.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            state.queue.remove(at);
        }
        // P2: this one may have held up those behind it, who want fewer.
        state.grant();
        Err(SemaphoreError::NoPermits { wanted, available, waiting })
    }

    /// Gives taken permits back.
    pub(super) fn give(&self, permits: usize) {
        let mut state = self.state.lock();
        state.available += permits;
        state.grant();
    }

    /// Strikes taken permits off.
    pub(super) fn forget(&self, permits: usize) {
        self.state.lock().total -= permits;
    }

    /// Makes new permits, as far as the limit goes.
    pub(super) fn add(&self, permits: usize) -> Result<(), SemaphoreError> {
        let mut state = self.state.lock();
        match state.total.checked_add(permits) {
            Some(total) if total <= self.limit => {
                state.total = total;
                state.available += permits;
                state.grant();
                Ok(())
            }
            _ => Err(SemaphoreError::AboveLimit { released: permits, existing: state.total, limit: self.limit }),
        }
    }

    /// Sends everybody away who waits, and who will come (P4).
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        while let Some(waiter) = state.queue.pop_front() {
            waiter.end(CLOSED);
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures { available: state.available, total: state.total, waiting: state.queue.len(), closed: state.closed }
    }
}
