//! Sleeping until something changes, with no memory of who sleeps: a word that counts, and whose lowest bit says that
//! somebody may sleep.
//!
//! A sleeper changes the word before it looks again and sleeps on the value it made; a waker changes it when the bit is
//! set and clears the bit when the system says that nobody slept. A sleeper that is killed leaves nothing but the bit,
//! which costs the next waker one call (invariants W1 and W2 in `README.md`).

use core::time::Duration;

#[cfg(not(millpond_loom))]
use crate::os::shared as os;
use crate::primitive::{AtomicU32, Ordering, fence};

#[cfg(millpond_loom)]
use super::models::futex as os;

const SLEEPERS: u32 = 1;
const ONE: u32 = 2;

/// See the module.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Signal(AtomicU32);

impl Signal {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Announces a sleeper: what it must look at again before it sleeps on the value returned.
    pub(crate) fn announce(&self) -> u32 {
        // Relaxed: only a guess for the exchange below.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let next = (seen & !SLEEPERS).wrapping_add(ONE) | SLEEPERS;
            // SeqCst: either the waker sees the bit, or the sleeper sees what the waker did before; pairs with the
            // fence in `wake`.
            match self.0.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break fence(Ordering::SeqCst),
                Err(now) => seen = now,
            }
        }
        // What was stored: nobody else stores the same before this sleeper sleeps.
        (seen & !SLEEPERS).wrapping_add(ONE) | SLEEPERS
    }

    /// Sleeps if nobody woke since [`announce`](Self::announce) gave this value. True: for so long, and nobody woke it.
    pub(crate) fn sleep(&self, announced: u32, most: Option<Duration>) -> bool {
        os::shared_wait(&self.0, announced, most)
    }

    /// Whether somebody woke, or announced itself, since.
    pub(crate) fn has_changed(&self, announced: u32) -> bool {
        self.0.load(Ordering::Acquire) != announced
    }

    /// As if a waker had overlooked the sleepers: they sleep, and nobody knows. False: nobody says that it sleeps.
    #[cfg(all(test, not(millpond_loom)))]
    pub(crate) fn overlook(&self) -> bool {
        self.0.fetch_and(!SLEEPERS, Ordering::SeqCst) & SLEEPERS != 0
    }

    /// Wakes one sleeper, if there may be any. What it is to see was done before.
    #[inline]
    pub(crate) fn wake_one(&self) {
        // Pairs with the fence in `announce`.
        fence(Ordering::SeqCst);
        self.wake_one_fenced();
    }

    /// As [`wake_one`](Self::wake_one), for who did what is to be seen by a sequentially consistent exchange.
    #[inline]
    pub(crate) fn wake_one_fenced(&self) {
        // Loom knows the one order of fences only.
        #[cfg(millpond_loom)]
        fence(Ordering::SeqCst);
        // SeqCst: not before the exchange that the caller did.
        if self.0.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.wake(1);
        }
    }

    /// As [`wake_one`](Self::wake_one), where whoever sleeps made all processes pass a fence after it announced itself.
    #[inline]
    pub(crate) fn wake_one_unfenced(&self) {
        // To loom that is as if each had passed one.
        #[cfg(millpond_loom)]
        fence(Ordering::SeqCst);
        // The compiler is to keep the order; the processor's is the sleeper's business.
        #[cfg(not(millpond_loom))]
        crate::primitive::compiler_fence(Ordering::SeqCst);
        if self.0.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.wake(1);
        }
    }

    /// As [`wake_one_fenced`](Self::wake_one_fenced), for a signal on which at most one sleeps: the bit goes at once.
    #[inline]
    pub(crate) fn wake_only_fenced(&self) {
        #[cfg(millpond_loom)]
        fence(Ordering::SeqCst);
        let seen = self.0.load(Ordering::SeqCst);
        if seen & SLEEPERS != 0 {
            self.wake_only(seen);
        }
    }

    #[cold]
    fn wake_only(&self, seen: u32) {
        // Failure: the sleeper announced itself anew, after what it is to see was done; or another woke it.
        if self.0.compare_exchange(seen, seen.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            os::shared_wake(&self.0, 1);
        }
    }

    /// Wakes all sleepers, if there may be any.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.wake(i32::MAX);
        }
    }

    /// Wakes all sleepers, whatever the word says: after a death nothing is taken for granted.
    pub(crate) fn wake_all_surely(&self) {
        self.0.fetch_or(SLEEPERS, Ordering::SeqCst);
        self.wake(i32::MAX);
    }

    #[cold]
    fn wake(&self, most: i32) {
        // AcqRel: a sleeper that sees the change sees what was done before it.
        let changed = self.0.fetch_add(ONE, Ordering::AcqRel).wrapping_add(ONE);
        let woken = os::shared_wake(&self.0, most);
        if woken == 0 || most != 1 {
            // W2: nobody sleeps who announced before the change; who announced after it changed the word again.
            let _ = self.0.compare_exchange(changed, changed & !SLEEPERS, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
