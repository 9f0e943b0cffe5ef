//! Locks that many may read under, or one may write.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::primitive;

/// Lets many threads read a value at once, or one write it.
///
/// ```
/// use millpond::sync::RwLock;
///
/// let prices = RwLock::new(vec![3, 5]);
/// let (one, other) = (prices.read(), prices.read());
/// assert_eq!(one.len() + other.len(), 4);
/// drop((one, other));
/// prices.write().push(8);
/// ```
///
/// Neither side starves: a reader that comes while a writer waits queues up behind it, and about every half millisecond
/// the lock goes to whoever waits longest. So a thread that reads must not call [`read`](Self::read) again (a writer
/// between the two would wait for the first and the second for the writer): [`read_again`](Self::read_again) is for that.
///
/// A panic of a holder frees it; it is not poisoned.
pub struct RwLock<T: ?Sized>(primitive::RwLock<T>);

impl<T> RwLock<T> {
    /// A free lock over `value`.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(primitive::RwLock::new(value))
    }

    /// The value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock to read; waits while anybody writes or waits to.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read())
    }

    /// Takes the lock to read by a thread that may be reading already: waits while anybody writes, but passes those that
    /// wait to. Too much of it starves writers.
    pub fn read_again(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.0.read_recursive())
    }

    /// Takes the lock to write; waits until nobody reads or writes.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        WriteGuard(self.0.write())
    }

    /// Takes the lock to read, if that needs no wait.
    #[must_use]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.0.try_read().map(ReadGuard)
    }

    /// Takes the lock to write, if that needs no wait.
    #[must_use]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.0.try_write().map(WriteGuard)
    }

    /// Takes the lock to read; waits, but not longer than this.
    #[must_use]
    pub fn read_timeout(&self, timeout: Duration) -> Option<ReadGuard<'_, T>> {
        self.0.try_read_for(timeout).map(ReadGuard)
    }

    /// Takes the lock to write; waits, but not longer than this.
    #[must_use]
    pub fn write_timeout(&self, timeout: Duration) -> Option<WriteGuard<'_, T>> {
        self.0.try_write_for(timeout).map(WriteGuard)
    }

    /// Whether anybody reads or writes now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// The value, without locking: nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(value) => f.debug_tuple("RwLock").field(&&*value).finish(),
            None => f.write_str("RwLock(written)"),
        }
    }
}

/// Proves that nobody writes and leads to the value; ends the reading when dropped.
#[must_use = "dropping it gives the lock back at once"]
pub struct ReadGuard<'a, T: ?Sized>(primitive::RwLockReadGuard<'a, T>);

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Proves that nobody else is at the value and leads to it; ends the writing when dropped.
#[must_use = "dropping it gives the lock back at once"]
pub struct WriteGuard<'a, T: ?Sized>(primitive::RwLockWriteGuard<'a, T>);

impl<'a, T: ?Sized> WriteGuard<'a, T> {
    /// Goes on as a reader, without letting a writer in between.
    pub fn downgrade(guard: Self) -> ReadGuard<'a, T> {
        ReadGuard(primitive::RwLockWriteGuard::downgrade(guard.0))
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
