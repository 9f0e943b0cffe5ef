//! Conditions: sleeping until a locked value is as it should be.

use core::fmt;
#[cfg(not(millpond_loom))]
use std::time::Duration;

#[cfg(not(millpond_loom))]
use super::lock::LockGuard;
#[cfg(not(millpond_loom))]
use crate::primitive::unlocked;
use crate::primitive::{AtomicUsize, Deadline, Mutex, Ordering, Sleepers};

/// Lets threads sleep until a value under a [`Lock`](super::Lock) has changed: who waits lets go of the lock, who changes
/// the value notifies.
///
/// ```
/// use millpond::sync::{Condition, Lock};
/// use std::thread;
///
/// let (queue, filled) = (Lock::new(Vec::new()), Condition::new());
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         queue.lock().push("grain");
///         filled.notify_one();
///     });
///     let mut sacks = queue.lock();
///     filled.wait_while(&mut sacks, |sacks| sacks.is_empty());
///     assert_eq!(sacks.pop(), Some("grain"));
/// });
/// ```
///
/// A notification that comes after the change, with or without the lock, is never slept through: the value is looked at
/// and the thread put to sleep before anybody else can get the lock. A change made without the lock may be slept through.
///
/// A thread may wake without a notification, so a bare [`wait`](Self::wait) belongs in a loop; the forms with `while` do
/// that. Threads under different locks may wait for the same condition. A condition promises no order among those who
/// wait. Notifying nobody is one load.
pub struct Condition {
    /// Held from before the user's lock is let go until the thread sleeps, and by who notifies: C1.
    gate: Mutex<()>,
    sleepers: Sleepers,
    waiting: AtomicUsize,
}

impl Condition {
    /// A condition that nobody waits for.
    #[cfg(not(millpond_loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { gate: Mutex::new(()), sleepers: Sleepers::new(), waiting: AtomicUsize::new(0) }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self { gate: Mutex::new(()), sleepers: Sleepers::new(), waiting: AtomicUsize::new(0) }
    }

    /// Lets go of the lock, sleeps until it is notified, and takes the lock again. May return without a notification.
    #[cfg(not(millpond_loom))]
    pub fn wait<T: ?Sized>(&self, guard: &mut LockGuard<'_, T>) {
        self.sleep(Deadline::NEVER, |asleep| unlocked(guard.raw(), asleep));
    }

    /// Waits, but not longer than this. Whether it was notified (or woke for no reason); false if the time ran out.
    #[cfg(not(millpond_loom))]
    pub fn wait_timeout<T: ?Sized>(&self, guard: &mut LockGuard<'_, T>, timeout: Duration) -> bool {
        !self.sleep(Deadline::after(timeout), |asleep| unlocked(guard.raw(), asleep))
    }

    /// Waits as long as `holds` says so of the value. It is asked under the lock, first before any sleep.
    #[cfg(not(millpond_loom))]
    pub fn wait_while<T: ?Sized>(&self, guard: &mut LockGuard<'_, T>, mut holds: impl FnMut(&mut T) -> bool) {
        while holds(guard) {
            self.wait(guard);
        }
    }

    /// Waits as long as `holds` says so, but not longer than this. Whether it came to an end; false if the time ran out
    /// and it still holds.
    #[cfg(not(millpond_loom))]
    pub fn wait_while_timeout<T: ?Sized>(
        &self,
        guard: &mut LockGuard<'_, T>,
        timeout: Duration,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> bool {
        let until = Deadline::after(timeout);
        let mut passed = false;
        while holds(guard) {
            if passed {
                return false;
            }
            passed = self.sleep(until, |asleep| unlocked(guard.raw(), asleep));
        }
        true
    }

    /// Sleeps while `unlocked` has let go of the user's lock. Whether the deadline passed.
    pub(super) fn sleep(&self, until: Deadline, unlocked: impl FnOnce(&mut dyn FnMut() -> bool) -> bool) -> bool {
        let mut gate = Some(self.gate.lock());
        // Relaxed: a notifier that changed the value after this thread let go of the lock sees it, as the lock orders it.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        unlocked(&mut || {
            let Some(mut gate) = gate.take() else { return false };
            let passed = self.sleepers.sleep(&mut gate, until);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            passed
        })
    }

    /// Wakes one thread of those that wait, if any does.
    pub fn notify_one(&self) {
        if self.waiting() > 0 {
            // C1: whoever counted itself sleeps by the time the gate is open.
            let _gate = self.gate.lock();
            self.sleepers.wake_one();
        }
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        if self.waiting() > 0 {
            let _gate = self.gate.lock();
            self.sleepers.wake_all();
        }
    }

    /// How many threads wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(not(millpond_loom))]
impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.waiting()).finish()
    }
}
