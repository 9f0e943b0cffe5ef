//! Barriers: nobody goes on before all are there.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::BarrierError;
use crate::primitive::{AtomicU32, Deadline, Mutex, Ordering, Sleepers};

/// How a turn ended. Written once and read under the lock, so Relaxed.
const FILLING: u32 = 0;
const PASSED: u32 = 1;
const BROKEN: u32 = 2;

/// One filling of the barrier. Its threads keep it until each has read how it ended, whatever comes after (B2).
#[derive(Debug)]
struct Turn {
    outcome: AtomicU32,
    sleepers: Sleepers,
}

#[derive(Debug)]
struct State {
    arrived: usize,
    broken: bool,
    /// The turn that is filling, if anybody sleeps in it.
    turn: Option<Arc<Turn>>,
}

impl State {
    /// Ends the turn for all who are in it, the same for each (B1).
    fn end(&mut self, outcome: u32) {
        self.arrived = 0;
        if let Some(turn) = self.turn.take() {
            turn.outcome.store(outcome, Ordering::Relaxed);
            turn.sleepers.wake_all();
        }
    }
}

/// A meeting point for a number of threads: each waits until all are there, then all go on, again and again.
///
/// ```
/// use millpond::sync::Barrier;
/// use std::thread;
///
/// let meet = Barrier::new(2);
/// let leaders: usize = thread::scope(|scope| {
///     let threads = [(); 2].map(|_| scope.spawn(|| meet.wait().unwrap().is_leader()));
///     threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
/// });
/// assert_eq!(leaders, 1);
/// ```
///
/// A turn ends in the same way for all that are in it: all pass, or all get an error. It breaks when one of them gives up
/// ([`wait_timeout`](Self::wait_timeout)) or anybody calls [`abort`](Self::abort); from then on everybody who comes gets
/// the error at once, until [`reset`](Self::reset). So nobody waits for ever for one that will not come: a thread that may
/// panic before the barrier calls `abort` when it does.
///
/// What threads did before the barrier is seen by all behind it. A turn takes a short lock for each thread, and one
/// small allocation.
pub struct Barrier {
    parties: usize,
    state: Mutex<State>,
}

impl Barrier {
    /// A barrier that lets through so many threads at a time. One for 0 parties can be made, but to wait at it is an
    /// error.
    #[cfg(not(millpond_loom))]
    #[must_use]
    pub const fn new(parties: usize) -> Self {
        Self { parties, state: Mutex::new(State { arrived: 0, broken: false, turn: None }) }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new(parties: usize) -> Self {
        Self { parties, state: Mutex::new(State { arrived: 0, broken: false, turn: None }) }
    }

    /// Waits until all parties are there.
    ///
    /// # Errors
    /// [`Broken`](BarrierError::Broken) or [`NoParties`](BarrierError::NoParties).
    pub fn wait(&self) -> Result<Passed, BarrierError> {
        self.wait_until(Deadline::NEVER, Duration::MAX)
    }

    /// Waits until all parties are there, but not longer than this: then the barrier is broken.
    ///
    /// # Errors
    /// [`TimedOut`](BarrierError::TimedOut), [`Broken`](BarrierError::Broken) or [`NoParties`](BarrierError::NoParties).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Passed, BarrierError> {
        self.wait_until(Deadline::after(timeout), timeout)
    }

    fn wait_until(&self, until: Deadline, waited: Duration) -> Result<Passed, BarrierError> {
        if self.parties == 0 {
            return Err(BarrierError::NoParties);
        }
        let mut state = self.state.lock();
        if state.broken {
            return Err(BarrierError::Broken);
        }
        let index = state.arrived;
        state.arrived += 1;
        if state.arrived == self.parties {
            state.end(PASSED);
            return Ok(Passed { index, leader: true });
        }
        let fresh = || Arc::new(Turn { outcome: AtomicU32::new(FILLING), sleepers: Sleepers::new() });
        let turn = Arc::clone(state.turn.get_or_insert_with(fresh));
        loop {
            let passed = turn.sleepers.sleep(&mut state, until);
            match turn.outcome.load(Ordering::Relaxed) {
                PASSED => return Ok(Passed { index, leader: false }),
                BROKEN => return Err(BarrierError::Broken),
                _ if passed => break,
                _ => {}
            }
        }
        let arrived = state.arrived;
        state.broken = true;
        state.end(BROKEN);
        Err(BarrierError::TimedOut { waited, arrived, parties: self.parties })
    }

    /// Breaks the barrier: whoever waits, and whoever comes until it is reset, gets an error.
    pub fn abort(&self) {
        let mut state = self.state.lock();
        state.broken = true;
        state.end(BROKEN);
    }

    /// Makes it as new. Whoever waits gets an error.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.broken = false;
        state.end(BROKEN);
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    /// How many threads it lets through at a time.
    #[must_use]
    pub const fn parties(&self) -> usize {
        self.parties
    }

    /// How many threads wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().arrived
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let mut shown = f.debug_struct("Barrier");
        shown.field("parties", &self.parties).field("waiting", &state.arrived).field("broken", &state.broken).finish()
    }
}

/// Says that a thread passed a [`Barrier`], and as which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    index: usize,
    leader: bool,
}

impl Passed {
    /// The how manieth of the turn came: 0 for the first.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }

    /// Whether this thread came last: true for exactly one of each turn, for what only one should do.
    #[must_use]
    pub const fn is_leader(self) -> bool {
        self.leader
    }
}
