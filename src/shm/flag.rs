//! An event and a barrier: words that count, and nothing about who waits.

use super::block::Owner;
use super::step;
use super::wake::Signal;
use crate::primitive::{AtomicU32, Ordering};

/// An event: the lowest bit says whether it is set, the rest counts how often it was.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Flag {
    word: AtomicU32,
    signal: Signal,
}

impl Flag {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(0), signal: Signal::new() }
    }

    /// How it is: whoever waits remembers this.
    pub(crate) fn look(&self) -> u32 {
        // SeqCst: a sleeper's second look; pairs with the exchange in `set`. Acquire: what was done before it was set.
        self.word.load(Ordering::SeqCst)
    }

    pub(crate) fn is_set(seen: u32) -> bool {
        seen & 1 != 0
    }

    /// Whether a waiter that remembers `seen` may go on: it is set, or was set since, even if it was cleared again.
    pub(crate) fn passed(&self, seen: u32) -> bool {
        let now = self.look();
        Self::is_set(now) || now >> 1 != seen >> 1
    }

    /// Sets it and wakes all.
    pub(crate) fn set(&self) {
        let mut seen = self.word.load(Ordering::Relaxed);
        while !Self::is_set(seen) {
            // SeqCst: before the look at who sleeps.
            match self.word.compare_exchange(seen, seen.wrapping_add(2) | 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        step::reach(70);
        self.signal.wake_all();
    }

    /// Clears it.
    pub(crate) fn clear(&self) {
        self.word.fetch_and(!1, Ordering::SeqCst);
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }
}

const BROKEN: u32 = 1 << 31;
const ARRIVED: u32 = (1 << 12) - 1;

/// A barrier's word: whether it is broken, its turn, how many have arrived.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Parties {
    word: AtomicU32,
    signal: Signal,
    /// How many it takes.
    count: AtomicU32,
}

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The last: everybody goes on.
    Last,
    /// One of those that wait for this turn to end.
    Waits(u32),
    Broken,
}

impl Parties {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(0), signal: Signal::new(), count: AtomicU32::new(0) }
    }

    /// The most that a barrier can wait for.
    pub(crate) const MOST: u32 = ARRIVED;

    fn next_turn(word: u32) -> u32 {
        (word & !BROKEN & !ARRIVED).wrapping_add(ARRIVED + 1) & !BROKEN
    }

    /// Says how many it takes, before anybody else can see it.
    pub(crate) fn begin(&self, count: u32) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// How many it takes, as it says.
    pub(crate) fn parties(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// One of `count` arrives.
    pub(crate) fn arrive(&self, count: u32) -> Arrival {
        let mut seen = self.word.load(Ordering::SeqCst);
        loop {
            if seen & BROKEN != 0 {
                return Arrival::Broken;
            }
            let last = (seen & ARRIVED) + 1 >= count;
            let next = if last { Self::next_turn(seen) } else { seen + 1 };
            // SeqCst: before the look at who sleeps. AcqRel: who goes on sees what the others did before they arrived.
            match self.word.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    step::reach(75);
                    if last {
                        self.signal.wake_all();
                        return Arrival::Last;
                    }
                    return Arrival::Waits(seen & !ARRIVED);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the turn that a waiter arrived in has ended; an error if it was broken.
    pub(crate) fn passed(&self, turn: u32) -> Option<Result<(), ()>> {
        let seen = self.word.load(Ordering::SeqCst);
        if seen & !BROKEN & !ARRIVED != turn {
            return Some(Ok(()));
        }
        (seen & BROKEN != 0).then_some(Err(()))
    }

    /// Breaks it for all.
    pub(crate) fn abort(&self) {
        self.word.fetch_or(BROKEN, Ordering::SeqCst);
        self.signal.wake_all();
    }

    /// Makes it as new; who waits goes on with an error only if it was broken before.
    pub(crate) fn reset(&self) {
        let mut seen = self.word.load(Ordering::SeqCst);
        // Whoever waits is told that it is broken first.
        if seen & ARRIVED != 0 && seen & BROKEN == 0 {
            self.abort();
            seen = self.word.load(Ordering::SeqCst);
        }
        let _ = self.word.compare_exchange(seen, Self::next_turn(seen), Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.word.load(Ordering::SeqCst) & BROKEN != 0
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & ARRIVED
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// After a death of one who held it.
    pub(crate) fn sweep(&self, _dead: Owner) {
        self.abort();
        self.signal.wake_all_surely();
    }
}
