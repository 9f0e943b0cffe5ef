//! A lock of a few lines on a futex word: it never allocates, so the allocator may take it.

#[cfg(not(millpond_loom))]
pub(crate) use real::{Lock, LockGuard};

#[cfg(millpond_loom)]
pub(crate) use modelled::{Lock, LockGuard};

#[cfg(not(millpond_loom))]
mod real {
    use core::cell::UnsafeCell;
    use core::fmt;
    use core::ops::{Deref, DerefMut};

    use crate::os::word::Word;

    /// Mutual exclusion over a `T`, `const`-constructible.
    pub(crate) struct Lock<T> {
        word: Word,
        value: UnsafeCell<T>,
    }

    // SAFETY: the word lets one thread at a time at the value, so sharing the lock only ever sends the value.
    unsafe impl<T: Send> Sync for Lock<T> {}

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self { word: Word::new(), value: UnsafeCell::new(value) }
        }

        #[inline]
        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            self.acquire();
            LockGuard { lock: self }
        }

        /// The value, for who has the lock to itself.
        #[cfg(feature = "thread")]
        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.value.get_mut()
        }

        /// The value, for who holds the lock without a guard.
        ///
        /// # Safety
        /// The caller took the lock with [`acquire`](Self::acquire), and uses one such reference at a time.
        #[expect(clippy::mut_from_ref, reason = "the lock is held without a guard")]
        pub(crate) unsafe fn held(&self) -> &mut T {
            // SAFETY: the caller's duty.
            unsafe { &mut *self.value.get() }
        }

        /// Takes the lock without a guard: for the handlers around `fork`, which end in another function.
        #[inline]
        pub(crate) fn acquire(&self) {
            self.word.acquire();
        }

        /// Gives the lock back.
        ///
        /// # Safety
        /// The caller holds it: by [`acquire`](Self::acquire), or as the child of a thread that did.
        #[inline]
        pub(crate) unsafe fn release(&self) {
            self.word.release();
        }
    }

    impl<T> fmt::Debug for Lock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Lock({:?})", self.word)
        }
    }

    /// Proves that the lock is held; gives it back on drop.
    #[must_use]
    pub(crate) struct LockGuard<'a, T> {
        lock: &'a Lock<T>,
    }

    impl<T> Deref for LockGuard<'_, T> {
        type Target = T;
        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: the guard exists, so this thread holds the lock.
            unsafe { &*self.lock.value.get() }
        }
    }

    impl<T> DerefMut for LockGuard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: the guard exists and is borrowed uniquely, so nobody else is at the value.
            unsafe { &mut *self.lock.value.get() }
        }
    }

    impl<T> Drop for LockGuard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: the guard was made by taking the lock.
            unsafe { self.lock.release() }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Lock;

        #[test]
        fn four_threads_never_hold_it_at_once() {
            let lock = Lock::new(0_u64);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..50_000 {
                            let mut value = lock.lock();
                            let seen = *value;
                            std::hint::black_box(seen);
                            *value = seen + 1;
                        }
                    });
                }
            });
            assert_eq!(*lock.lock(), 200_000);
            assert_eq!(format!("{lock:?}"), "Lock(free)");
        }
    }
}

#[cfg(millpond_loom)]
mod modelled {
    //! Loom's mutex under the same names: the models are of what the lock guards.
    use core::ops::{Deref, DerefMut};

    #[derive(Debug)]
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            LockGuard(self.0.lock().unwrap())
        }
    }

    #[must_use]
    pub(crate) struct LockGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

    impl<T> Deref for LockGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for LockGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }
}
