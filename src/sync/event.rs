//! Events: something that has happened, or not yet.

use core::fmt;
use std::time::Duration;

use crate::primitive::{AtomicU32, Deadline, Mutex, Ordering, Sleepers};

/// What changes under the lock.
#[derive(Debug)]
struct State {
    /// How often it was set.
    times: u64,
    waiting: usize,
}

/// A flag that threads can wait for: one thread says that something has happened, all that wait go on.
///
/// ```
/// use millpond::sync::Event;
/// use std::thread;
///
/// let ready = Event::new();
/// thread::scope(|scope| {
///     scope.spawn(|| ready.wait());
///     ready.set();
/// });
/// assert!(ready.is_set());
/// ```
///
/// [`set`](Self::set) lets everybody go on who waits at that moment, even if the event is cleared right after it. What a
/// thread did before it set the event is seen by whoever found it set.
///
/// Looking at it is one load; setting, clearing and sleeping take a short lock.
pub struct Event {
    /// 1 if set. Written under the lock.
    set: AtomicU32,
    state: Mutex<State>,
    sleepers: Sleepers,
}

impl Event {
    /// An event that is not set.
    #[cfg(not(millpond_loom))]
    #[must_use]
    pub const fn new() -> Self {
        let state = Mutex::new(State { times: 0, waiting: 0 });
        Self { set: AtomicU32::new(0), state, sleepers: Sleepers::new() }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State { times: 0, waiting: 0 });
        Self { set: AtomicU32::new(0), state, sleepers: Sleepers::new() }
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire: who finds it set sees what was done before; pairs with the Release in `set`.
        self.set.load(Ordering::Acquire) == 1
    }

    /// Sets it and wakes everybody who waits. It stays set until it is cleared; setting it again does nothing.
    pub fn set(&self) {
        let mut state = self.state.lock();
        // Release: pairs with the Acquire in `is_set`.
        self.set.store(1, Ordering::Release);
        state.times = state.times.wrapping_add(1);
        self.sleepers.wake_all();
    }

    /// Clears it: whoever waits from now on sleeps until it is set again.
    pub fn clear(&self) {
        let _state = self.state.lock();
        // Relaxed: tells nobody anything; writes to the flag are ordered by the lock.
        self.set.store(0, Ordering::Relaxed);
    }

    /// Waits until it is set; returns at once if it is.
    pub fn wait(&self) {
        self.wait_until(Deadline::NEVER);
    }

    /// Waits until it is set, but not longer than this. Whether it was set.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, until: Deadline) -> bool {
        if self.is_set() {
            return true;
        }
        let mut state = self.state.lock();
        if self.is_set() {
            return true;
        }
        // E1: being set once is enough to go on, whatever the flag says by the time this thread runs again.
        let before = state.times;
        let mut passed = false;
        state.waiting += 1;
        while state.times == before && !passed {
            passed = self.sleepers.sleep(&mut state, until);
        }
        state.waiting -= 1;
        state.times != before
    }

    /// How many threads wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }
}

#[cfg(not(millpond_loom))]
impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).field("waiting", &self.waiting()).finish()
    }
}
