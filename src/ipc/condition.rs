//! A condition between processes and threads.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::codec::Plain;
use super::error::LockError;
use super::handle;
use super::lock::Guard;
use super::wait::{self, TICK};
use crate::shm::lock::Found;
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{Kind, Shape};
use crate::shm::wake::Signal;
use crate::shm::{ShmError, step};

/// Waits for a change of what a [`Lock`](super::Lock) guards.
///
/// It remembers nobody: a waiter that is killed leaves nothing behind, and a wake-up that reached one which was killed is
/// given to all others. So, as with every condition, look again after waiting: [`wait_while`](Self::wait_while) does.
///
/// ```
/// use millpond::ipc::{Condition, Lock};
/// let (lock, changed) = (Lock::new(0_u32)?, Condition::new()?);
/// let same = (lock.clone(), changed.clone());
/// std::thread::spawn(move || same.0.lock().map(|mut n| { *n = 1; same.1.notify_all() }));
/// let mut n = lock.lock()?;
/// changed.wait_while(&mut n, |n| *n == 0)?;
/// assert_eq!(*n, 1);
/// # drop(n);
/// # Ok::<(), millpond::ipc::LockError>(())
/// ```
#[derive(Clone)]
pub struct Condition {
    inner: Arc<Hold>,
}

impl Condition {
    /// A condition for which nobody waits.
    ///
    /// # Errors
    /// The system refused memory.
    pub fn new() -> Result<Self, ShmError> {
        Ok(Self::of(Making::new(size_of::<Signal>())?.share(Shape::of::<()>(Kind::Condition))?))
    }

    fn of(hold: Hold) -> Self {
        Self { inner: Arc::new(hold) }
    }

    fn signal(&self) -> &Signal {
        // SAFETY: made with such a body; it is an atomic, and the hold keeps it.
        unsafe { self.inner.body().cast::<Signal>().as_ref() }
    }

    /// Gives the lock back, waits to be notified, and takes the lock again. May return without having been notified.
    ///
    /// # Errors
    /// [`OwnerDied`](LockError::OwnerDied), [`Poisoned`](LockError::Poisoned): the guard holds the lock all the same, and
    /// leaves it poisoned when it is dropped. Drop it, and take the lock by
    /// [`lock_recovering`](super::Lock::lock_recovering), which repairs. [`Memory`](LockError::Memory).
    pub fn wait<T: Plain>(&self, guard: &mut Guard<'_, T>) -> Result<(), LockError> {
        self.wait_until(guard, None).map(|_| ())
    }

    /// As [`wait`](Self::wait), for some time; false if it was over before anybody woke this.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout<T: Plain>(&self, guard: &mut Guard<'_, T>, timeout: Duration) -> Result<bool, LockError> {
        self.wait_until(guard, wait::deadline(timeout))
    }

    /// Waits as long as `holds` says true.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_while<T: Plain>(
        &self,
        guard: &mut Guard<'_, T>,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> Result<(), LockError> {
        while holds(guard) {
            self.wait(guard)?;
        }
        Ok(())
    }

    /// Waits as long as `holds` says true, for some time; false if it is over and `holds` still says true.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_while_timeout<T: Plain>(
        &self,
        guard: &mut Guard<'_, T>,
        timeout: Duration,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, LockError> {
        let deadline = wait::deadline(timeout);
        while holds(guard) {
            if !self.wait_until(guard, deadline)? {
                return Ok(!holds(guard));
            }
        }
        Ok(true)
    }

    fn wait_until<T: Plain>(&self, guard: &mut Guard<'_, T>, deadline: Option<Instant>) -> Result<bool, LockError> {
        let lock = &*guard.lock.inner;
        if guard.lost {
            return Err(ShmError::Damaged.into());
        }
        if !lock.hold.here.is_still() {
            return Err(ShmError::NotAMember.into());
        }
        let announced = self.signal().announce();
        lock.word().unlock(guard.mending);
        step::reach(55);
        // Whoever was notified is told so, however long it takes to get the lock: nobody else was.
        let in_time = loop {
            let left = deadline.map_or(TICK, |deadline| deadline.saturating_duration_since(Instant::now()));
            let slept = self.signal().sleep(announced, Some(left.min(TICK)));
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            // It has also changed when another begins to wait: that alone is no reason to say that there is time left.
            if over || self.signal().has_changed(announced) || self.inner.check().is_err() {
                break !(over && slept);
            }
        };
        step::reach(56);
        // The guard must hold the lock again, whatever happens.
        let found = loop {
            match lock.acquire(None) {
                Ok(found) => break found,
                Err(error)
                    if lock.hold.check().is_err()
                        || (error == ShmError::Damaged.into() && lock.made_up().is_some()) =>
                {
                    guard.lose();
                    return Err(error);
                }
                Err(_) => {}
            }
        };
        guard.mending = found != Found::Clean;
        match found {
            Found::Died => return Err(LockError::OwnerDied),
            Found::Poisoned => return Err(LockError::Poisoned),
            Found::Clean => {}
        }
        self.inner.check()?;
        Ok(in_time)
    }

    /// Wakes one of those that wait.
    pub fn notify_one(&self) {
        self.signal().wake_one();
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.signal().wake_all();
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same condition.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner, serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handle::deserialize(Shape::of::<()>(Kind::Condition), deserializer).map(Self::of)
    }
}
