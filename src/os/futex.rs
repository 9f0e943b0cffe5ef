//! A word that threads of one process sleep on.
//!
//! `wait` sleeps only if the word still holds what the caller saw, and the system compares and falls asleep in one
//! step: a change of the word followed by a wake is never missed. A wait may end early; callers look again.

#[cfg(not(millpond_loom))]
pub(crate) use real::Futex;

#[cfg(millpond_loom)]
pub(crate) use modelled::Futex;

#[cfg(not(millpond_loom))]
mod real {
    use core::ops::Deref;
    use core::ptr;
    use std::time::{Duration, Instant};

    use crate::primitive::AtomicU32;

    /// An atomic word with a queue of sleepers in the system.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        pub(crate) const fn new(value: u32) -> Self {
            Self(AtomicU32::new(value))
        }

        /// Sleeps while the word holds `expected`.
        pub(crate) fn wait(&self, expected: u32) {
            self.sleep(expected, ptr::null());
        }

        /// Sleeps while the word holds `expected`, until a point in time. False: it has passed.
        pub(crate) fn wait_until(&self, expected: u32, deadline: Option<Instant>) -> bool {
            let Some(deadline) = deadline else {
                self.wait(expected);
                return true;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // The system refuses more seconds than it can count: whoever waits that long looks again.
            let left = left.min(Duration::from_secs(1 << 30));
            let time = libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::from(left.subsec_nanos().cast_signed()),
            };
            self.sleep(expected, &raw const time);
            true
        }

        fn sleep(&self, expected: u32, time: *const libc::timespec) {
            let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the kernel reads the word, which the reference keeps alive, and the time, which the caller does.
            unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), op, expected, time) };
        }

        /// Wakes one thread that sleeps on the word.
        #[cfg(feature = "thread")]
        pub(crate) fn wake_one(&self) {
            Self::wake(ptr::from_ref(self), 1);
        }

        /// Wakes all threads that sleep on the word.
        #[cfg(feature = "thread")]
        pub(crate) fn wake_all(&self) {
            Self::wake(ptr::from_ref(self), i32::MAX);
        }

        /// Wakes all that sleep on a word which may be gone by now: to the system it is a number.
        pub(crate) fn wake_all_at(word: *const Self) {
            Self::wake(word, i32::MAX);
        }

        fn wake(word: *const Self, most: i32) {
            let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the kernel uses a private word's address as a key and does not read it.
            unsafe { libc::syscall(libc::SYS_futex, word, op, most) };
        }
    }

    impl Deref for Futex {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.0
        }
    }
}

#[cfg(millpond_loom)]
mod modelled {
    //! The same over loom's mutex and condition: the comparison and falling asleep are one step.
    use core::ops::Deref;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};

    #[derive(Debug)]
    pub(crate) struct Futex {
        word: AtomicU32,
        gate: Mutex<()>,
        bell: Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Self {
            Self { word: AtomicU32::new(value), gate: Mutex::new(()), bell: Condvar::new() }
        }

        pub(crate) fn wait(&self, expected: u32) {
            let guard = self.gate.lock().unwrap();
            // The kernel's read is of the word's latest value.
            if self.word.fetch_add(0, Ordering::AcqRel) == expected {
                drop(self.bell.wait(guard).unwrap());
            }
        }

        pub(crate) fn wake_one(&self) {
            let guard = self.gate.lock().unwrap();
            self.bell.notify_one();
            drop(guard);
        }

        pub(crate) fn wake_all(&self) {
            let guard = self.gate.lock().unwrap();
            self.bell.notify_all();
            drop(guard);
        }
    }

    impl Deref for Futex {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.word
        }
    }
}
