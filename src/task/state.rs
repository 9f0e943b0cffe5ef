//! The life of a task as one word.
//!
//! ```text
//!  bit 0 STARTED   somebody has the closure: a worker, a waiter that helps, or whoever cancels
//!  bit 1 DONE      the outcome is there, for ever
//!  bit 2 HANDLE    the handle lives
//!  bit 3 QUEUE     the runner's side still has a pointer: an entry of a queue, or a worker at the task
//!  bit 4 SLEPT     a thread may sleep on this word until DONE
//!  bit 5 WAKER     the waker's place holds one
//!  bit 6 TAKEN     the outcome was moved out
//!  bits 7–8        the outcome: 0 a value, 1 a panic, 2 cancelled
//! ```
//!
//! T1. STARTED is set once, by one `start`: the closure is run, or dropped, by one thread, once.
//! T2. Nothing touches the block after the later of HANDLE and QUEUE is gone; who clears the later one frees it.
//! T3. A sleeper that set SLEPT before DONE is woken; a waker that was in its place at DONE is woken once.
//! T4. The outcome is moved out once (TAKEN), or dropped by whoever frees the block.

use crate::primitive::Ordering;

use crate::os::Futex;

const STARTED: u32 = 1;
const DONE: u32 = 1 << 1;
const HANDLE: u32 = 1 << 2;
const QUEUE: u32 = 1 << 3;
const SLEPT: u32 = 1 << 4;
const WAKER: u32 = 1 << 5;
const TAKEN: u32 = 1 << 6;
const OUTCOME: u32 = 7;

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value = 0,
    Panicked = 1,
    Cancelled = 2,
}

/// What whoever finished a task has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Finished {
    /// A thread may sleep on the word.
    pub(crate) slept: bool,
    /// The waker's place holds one, which is the finisher's now; the runner's pointer is still counted.
    pub(crate) waker: bool,
    /// Nobody else has a pointer: free the block.
    pub(crate) last: bool,
}

/// The word.
pub(crate) struct State(Futex);

impl State {
    /// A task that waits in a queue and has a handle.
    pub(crate) fn new() -> Self {
        Self(Futex::new(HANDLE | QUEUE))
    }

    /// Claims the task (T1): true once, for whoever runs it or cancels it.
    #[inline]
    pub(crate) fn start(&self) -> bool {
        // Relaxed: the closure came here with the pointer to it, by a queue or in a handle.
        self.0.fetch_or(STARTED, Ordering::Relaxed) & STARTED == 0
    }

    /// Claims the task in order to cancel it (T1).
    #[cfg(feature = "thread")]
    pub(crate) fn start_cancelling(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & STARTED == 0 {
            let next = seen | STARTED | ((Outcome::Cancelled as u32) << OUTCOME);
            // Relaxed: see `start`.
            match self.0.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Whether somebody claimed the task in order to cancel it.
    #[cfg(feature = "thread")]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) >> OUTCOME == Outcome::Cancelled as u32
    }

    /// Says that the outcome is in its place. With `release`, gives up the runner's pointer in the same step.
    #[inline]
    pub(crate) fn finish(&self, outcome: Outcome, release: bool) -> Finished {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let waker = seen & WAKER != 0;
            let mut next = (seen | DONE | ((outcome as u32) << OUTCOME)) & !WAKER;
            // The waker lies in the block: the pointer is given up after it was taken out.
            if release && !waker {
                next &= !QUEUE;
            }
            // Release: the outcome is seen by whoever sees DONE (`is_done`, `drop_handle`). Acquire: pairs with the Release
            // in `set_waker` and `drop_handle`.
            match self.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    let last = next & (HANDLE | QUEUE) == 0;
                    return Finished { slept: seen & SLEPT != 0, waker, last };
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Gives up the runner's pointer. True: it was the last one.
    #[inline]
    pub(crate) fn drop_queue(&self) -> bool {
        // AcqRel: pairs with `drop_handle` and `finish`: who frees the block sees all that was done in it.
        self.0.fetch_and(!QUEUE, Ordering::AcqRel) & HANDLE == 0
    }

    /// Gives up the handle's pointer. True: it was the last one.
    #[inline]
    pub(crate) fn drop_handle(&self) -> bool {
        // Acquire: pairs with the Release in `finish`.
        if self.0.load(Ordering::Acquire) & QUEUE == 0 {
            return true;
        }
        // AcqRel: pairs with `drop_queue` and `finish`.
        self.0.fetch_and(!HANDLE, Ordering::AcqRel) & QUEUE == 0
    }

    /// The outcome, once there is one.
    #[inline]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        // Acquire: pairs with the Release in `finish`.
        let seen = self.0.load(Ordering::Acquire);
        if seen & DONE == 0 {
            return None;
        }
        Some(match seen >> OUTCOME {
            0 => Outcome::Value,
            1 => Outcome::Panicked,
            _ => Outcome::Cancelled,
        })
    }

    /// Whether somebody has the closure.
    pub(crate) fn is_started(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STARTED != 0
    }

    /// Claims the outcome (T4): true once.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // Relaxed: whoever gets here has seen DONE with Acquire.
        self.0.fetch_or(TAKEN, Ordering::Relaxed) & TAKEN == 0
    }

    /// Whether there is an outcome that nobody took, for whoever frees the block.
    #[cfg(feature = "thread")]
    pub(crate) fn untaken(&self) -> Option<Outcome> {
        let taken = self.0.load(Ordering::Relaxed) & TAKEN != 0;
        self.outcome().filter(|_| !taken)
    }

    /// Sleeps once, until the outcome is there, or by mistake. With a deadline, false says that it has passed.
    #[cfg(not(millpond_loom))]
    pub(crate) fn sleep(&self, deadline: Option<std::time::Instant>) -> bool {
        // Relaxed: the caller looks again, with Acquire.
        let seen = self.0.fetch_or(SLEPT, Ordering::Relaxed);
        seen & DONE != 0 || self.0.wait_until(seen | SLEPT, deadline)
    }

    #[cfg(millpond_loom)]
    pub(crate) fn sleep(&self) {
        let seen = self.0.fetch_or(SLEPT, Ordering::Relaxed);
        if seen & DONE == 0 {
            self.0.wait(seen | SLEPT);
        }
    }

    /// The word, for waking whoever sleeps on it.
    pub(crate) fn word(&self) -> &Futex {
        &self.0
    }

    /// Makes the waker's place the caller's own: true, and it holds a waker or not; or false, since the task is done.
    pub(crate) fn clear_waker(&self) -> Option<bool> {
        // Acquire: pairs with the Release in `finish`.
        let seen = self.0.fetch_and(!WAKER, Ordering::Acquire);
        if seen & DONE != 0 { None } else { Some(seen & WAKER != 0) }
    }

    /// Says that the waker's place holds one. False: the task is done meanwhile, and the waker is still the caller's.
    pub(crate) fn set_waker(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & DONE == 0 {
            // Release: the finisher sees the waker; pairs with the Acquire in `finish`.
            match self.0.compare_exchange(seen, seen | WAKER, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seen = self.0.load(Ordering::Relaxed);
        let phase = match (seen & STARTED != 0, seen & DONE != 0) {
            (_, true) => "done",
            (true, false) => "started",
            (false, false) => "queued",
        };
        f.write_str(phase)?;
        for (bit, name) in [(HANDLE, "handle"), (QUEUE, "queue"), (SLEPT, "slept"), (WAKER, "waker"), (TAKEN, "taken")]
        {
            if seen & bit != 0 {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
