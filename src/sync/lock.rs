//! Locks: one thread at a time at a value.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::primitive::{Mutex, MutexGuard};

/// Lets one thread at a time at a value.
///
/// ```
/// use millpond::sync::Lock;
///
/// static BALANCE: Lock<i64> = Lock::new(0);
///
/// *BALANCE.lock() += 5;
/// *BALANCE.lock() -= 5;
/// assert_eq!(*BALANCE.lock(), 0);
/// ```
///
/// A word and the value. Free, it is taken and given back by one atomic operation each; held, a thread spins briefly and
/// then sleeps. A thread that comes by may overtake those that sleep, but about every half millisecond the lock goes to
/// the one that waits longest, so every wait is bounded; [`LockGuard::unlock_fair`] does it at once.
///
/// A panic of the holder frees it; it is not poisoned. A thread that locks it twice waits for ever: see
/// [`ReentrantLock`](super::ReentrantLock).
pub struct Lock<T: ?Sized>(Mutex<T>);

impl<T> Lock<T> {
    /// A free lock over `value`.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// The value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Lock<T> {
    /// Takes the lock; waits until it is free.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, T> {
        LockGuard(self.0.lock())
    }

    /// Takes the lock if it is free now.
    #[inline]
    #[must_use]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock().map(LockGuard)
    }

    /// Takes the lock; waits for it, but not longer than this. `None` if it was held all the time.
    #[must_use]
    pub fn lock_timeout(&self, timeout: Duration) -> Option<LockGuard<'_, T>> {
        self.0.try_lock_for(timeout).map(LockGuard)
    }

    /// Whether somebody holds it now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// The value, without locking: nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("Lock").field(&&*value).finish(),
            None => f.write_str("Lock(held)"),
        }
    }
}

/// Proves that the lock is held and leads to its value; gives it back when dropped.
#[must_use = "dropping it gives the lock back at once"]
pub struct LockGuard<'a, T: ?Sized>(MutexGuard<'a, T>);

impl<'a, T: ?Sized> LockGuard<'a, T> {
    pub(super) fn raw(&mut self) -> &mut MutexGuard<'a, T> {
        &mut self.0
    }

    /// Gives the lock to the thread that waits longest, if any does, instead of to whoever comes first.
    pub fn unlock_fair(guard: Self) {
        MutexGuard::unlock_fair(guard.0);
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
