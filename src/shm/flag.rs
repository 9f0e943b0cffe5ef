//! An event and a barrier: words that count, and nothing about who waits.

use super::block::Owner;
use super::step;
use super::wake::Signal;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

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
        loop {
            // Also where it is set: whoever clears it afterwards sees what was done before, and does not wait for it.
            let next = if Self::is_set(seen) { seen } else { seen.wrapping_add(2) | 1 };
            // SeqCst: before the look at who sleeps; pairs with the exchange in `clear`.
            match self.word.compare_exchange(seen, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        step::reach(70);
        self.signal.wake_all();
    }

    /// Clears it.
    pub(crate) fn clear(&self) {
        // SeqCst: before the look at what is to be waited for; pairs with the exchange in `set`.
        self.word.fetch_and(!1, Ordering::SeqCst);
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }
}

// A barrier's word, from the lowest bit: how many have arrived, its turn, how the last turns ended (the latest lowest; 1: by
// a reset), whether it is broken.
const ARRIVED: u64 = Parties::MOST as u64;
const TURN_AT: u32 = 12;
const TURN: u64 = (1 << 20) - 1;
const ENDS_AT: u32 = 32;
const ENDS: u64 = (1 << 31) - 1;
const BROKEN: u64 = 1 << 63;

/// A barrier.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Parties {
    word: AtomicU64,
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
    Waits(u64),
    Broken,
}

impl Parties {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0), signal: Signal::new(), count: AtomicU32::new(0) }
    }

    /// The most that a barrier can wait for.
    pub(crate) const MOST: u32 = (1 << 12) - 1;

    fn turn(word: u64) -> u64 {
        (word >> TURN_AT) & TURN
    }

    /// The word for the next turn, which nobody has arrived in.
    fn next_turn(word: u64, by_reset: bool) -> u64 {
        let ends = ((word >> ENDS_AT) << 1) | u64::from(by_reset);
        ((ends & ENDS) << ENDS_AT) | (((Self::turn(word) + 1) & TURN) << TURN_AT)
    }

    /// How a turn ended, if it has: an error if it was broken.
    fn end_of(turn: u64, word: u64) -> Option<Result<(), ()>> {
        match Self::turn(word).wrapping_sub(turn) & TURN {
            0 => (word & BROKEN != 0).then_some(Err(())),
            // So long ago that it is not known any more: ordinary turns are what there are many of.
            late if late > u64::from(ENDS.count_ones()) => Some(Ok(())),
            late => Some(if word >> ENDS_AT >> (late - 1) & 1 == 0 { Ok(()) } else { Err(()) }),
        }
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
            let last = (seen & ARRIVED) + 1 >= u64::from(count);
            let next = if last { Self::next_turn(seen, false) } else { seen + 1 };
            // SeqCst: before the look at who sleeps. AcqRel: who goes on sees what the others did before they arrived.
            match self.word.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    step::reach(75);
                    if last {
                        self.signal.wake_all();
                        return Arrival::Last;
                    }
                    return Arrival::Waits(Self::turn(seen));
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the turn that a waiter arrived in has ended; an error if it was broken.
    pub(crate) fn passed(&self, turn: u64) -> Option<Result<(), ()>> {
        Self::end_of(turn, self.word.load(Ordering::SeqCst))
    }

    /// Breaks it for all.
    pub(crate) fn abort(&self) {
        self.word.fetch_or(BROKEN, Ordering::SeqCst);
        self.signal.wake_all();
    }

    /// Breaks it because one does not wait any longer, unless the turn that it arrived in has ended: then how.
    pub(crate) fn give_up(&self, turn: u64) -> Option<Result<(), ()>> {
        let mut seen = self.word.load(Ordering::SeqCst);
        loop {
            if let Some(end) = Self::end_of(turn, seen) {
                return Some(end);
            }
            match self.word.compare_exchange(seen, seen | BROKEN, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.signal.wake_all();
        None
    }

    /// Makes it as new: the turn ends, and whoever waits for its end finds that it was by this.
    pub(crate) fn reset(&self) {
        let mut seen = self.word.load(Ordering::SeqCst);
        while let Err(now) =
            self.word.compare_exchange(seen, Self::next_turn(seen, true), Ordering::SeqCst, Ordering::SeqCst)
        {
            seen = now;
        }
        self.signal.wake_all();
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.word.load(Ordering::SeqCst) & BROKEN != 0
    }

    pub(crate) fn waiting(&self) -> usize {
        (self.word.load(Ordering::Relaxed) & ARRIVED) as usize
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
