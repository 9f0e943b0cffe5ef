//! Locks that their holder may take again.

use core::fmt;
use core::ops::Deref;
use std::time::Duration;

use crate::primitive::{ReentrantMutex, ReentrantMutexGuard};

/// Lets one thread at a time at a value, as often over as that thread likes: Python's `RLock`.
///
/// Since the holder may have several guards at once they lead to a shared reference: change the value through a `Cell` or
/// a `RefCell`.
///
/// ```
/// use millpond::sync::ReentrantLock;
/// use std::cell::Cell;
///
/// let depth = ReentrantLock::new(Cell::new(0));
/// let outer = depth.lock();
/// let inner = depth.lock(); // the same thread: no wait
/// inner.set(inner.get() + 1);
/// assert_eq!(outer.get(), 1);
/// ```
///
/// Free for others once all guards are dropped. Fairness and panics are as for [`Lock`](super::Lock); taking it again
/// costs no atomic read-modify-write.
pub struct ReentrantLock<T: ?Sized>(ReentrantMutex<T>);

impl<T> ReentrantLock<T> {
    /// A free lock over `value`.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(ReentrantMutex::new(value))
    }

    /// The value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> ReentrantLock<T> {
    /// Takes the lock; waits until it is free, or this thread's already.
    #[inline]
    pub fn lock(&self) -> ReentrantLockGuard<'_, T> {
        ReentrantLockGuard(self.0.lock())
    }

    /// Takes the lock if it is free now, or this thread's already.
    #[inline]
    #[must_use]
    pub fn try_lock(&self) -> Option<ReentrantLockGuard<'_, T>> {
        self.0.try_lock().map(ReentrantLockGuard)
    }

    /// Takes the lock; waits for it, but not longer than this. `None` if another thread held it all the time.
    #[must_use]
    pub fn lock_timeout(&self, timeout: Duration) -> Option<ReentrantLockGuard<'_, T>> {
        self.0.try_lock_for(timeout).map(ReentrantLockGuard)
    }

    /// Whether any thread holds it now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// Whether this thread holds it.
    #[must_use]
    pub fn is_held_here(&self) -> bool {
        self.0.is_owned_by_current_thread()
    }

    /// The value, without locking: nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for ReentrantLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for ReentrantLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("ReentrantLock").field(&&*value).finish(),
            None => f.write_str("ReentrantLock(held)"),
        }
    }
}

/// Proves that this thread holds the lock and leads to its value.
#[must_use = "dropping it gives the lock back at once"]
pub struct ReentrantLockGuard<'a, T: ?Sized>(ReentrantMutexGuard<'a, T>);

impl<T: ?Sized> Deref for ReentrantLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReentrantLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for ReentrantLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
