//! Locks that sleep, and those who sleep under them: parking_lot's, or loom's under the same names.
//!
//! For what stands above the memory core only: a thread that sleeps here for the first time allocates.

#[cfg(not(millpond_loom))]
mod imp {
    use std::time::{Duration, Instant};

    pub(crate) use parking_lot::{
        Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };

    /// When to give up waiting.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Deadline(Option<Instant>);

    impl Deadline {
        pub(crate) const NEVER: Self = Self(None);

        /// So long from now; never, if the clock does not reach so far.
        pub(crate) fn after(time: Duration) -> Self {
            Self(Instant::now().checked_add(time))
        }
    }

    /// Threads that sleep until they are woken, each having let go of one mutex.
    #[derive(Debug)]
    pub(crate) struct Sleepers(parking_lot::Condvar);

    impl Sleepers {
        pub(crate) const fn new() -> Self {
            Self(parking_lot::Condvar::new())
        }

        /// Lets go of the mutex and sleeps. Whether the deadline passed.
        pub(crate) fn sleep<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, until: Deadline) -> bool {
            match until.0 {
                Some(instant) => self.0.wait_until(guard, instant).timed_out(),
                None => {
                    self.0.wait(guard);
                    false
                }
            }
        }

        pub(crate) fn wake_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            self.0.notify_all();
        }
    }

    /// Lets go of the mutex while `work` runs.
    pub(crate) fn unlocked<T: ?Sized, U>(guard: &mut MutexGuard<'_, T>, work: impl FnOnce() -> U) -> U {
        MutexGuard::unlocked(guard, work)
    }
}

#[cfg(millpond_loom)]
mod imp {
    use core::ops::{Deref, DerefMut};

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, guard: Some(self.0.lock().unwrap()) }
        }
    }

    /// Empty only while its thread sleeps.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        guard: Option<loom::sync::MutexGuard<'a, T>>,
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.guard.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.guard.as_mut().unwrap()
        }
    }

    /// Time does not pass in a model: a wait with an end may be over whenever its thread is scheduled.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Deadline {
        Never,
        Some,
    }

    impl Deadline {
        pub(crate) const NEVER: Self = Self::Never;

        pub(crate) fn after(_: std::time::Duration) -> Self {
            Self::Some
        }
    }

    #[derive(Debug)]
    pub(crate) struct Sleepers(loom::sync::Condvar);

    impl Sleepers {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn sleep<T>(&self, guard: &mut MutexGuard<'_, T>, until: Deadline) -> bool {
            match until {
                Deadline::Never => {
                    guard.guard = Some(self.0.wait(guard.guard.take().unwrap()).unwrap());
                    false
                }
                Deadline::Some => {
                    // Taking it again is where loom lets others go first. (Not `yield_now`: that lets all others go first.)
                    unlocked(guard, || ());
                    true
                }
            }
        }

        pub(crate) fn wake_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) fn unlocked<T, U>(guard: &mut MutexGuard<'_, T>, work: impl FnOnce() -> U) -> U {
        guard.guard = None;
        let result = work();
        guard.guard = Some(guard.mutex.0.lock().unwrap());
        result
    }
}

pub(crate) use imp::*;
