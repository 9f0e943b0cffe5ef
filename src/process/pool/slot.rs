//! The life of a task in the segment, as one word.
//!
//! ```text
//!  63   48 47        16 15     8 7     0
//! | hand | generation | flags  | phase |      hand: who runs it
//!
//!  FREE ──parent──▶ QUEUED ──hand──▶ TAKEN(hand) ──hand──▶ DONE(hand) ──parent──▶ FREE, next generation
//!                      └──parent──▶ FREE, next     └──parent──▶ FREE, next: it is cancelled, late, or its hand is dead
//! ```
//! S1. A step is one compare-and-swap of the whole word, so of two that want it one gets it: a hand takes or the parent
//!     cancels; a hand has done it or the parent revokes it.
//! S2. Only the parent frees, and each time the generation is another: what was read before is good for no step after.
//!     Half of the generation is in the half of the word that a sleeper compares, so nobody sleeps on another task's word.
//! S3. Whoever set WAITED before DONE is woken by the hand, and by whoever takes the slot out; NOTIFY set before DONE has the
//!     bell rung.

use core::fmt;

use crate::primitive::{AtomicU64, Ordering};

/// A thread of the parent may sleep on the word's lower half.
pub(super) const WAITED: u64 = 1 << 8;
/// The parent's own thread is to hear of its end.
pub(super) const NOTIFY: u64 = 1 << 9;
/// The task is asked to stop.
pub(super) const STOP: u64 = 1 << 10;
const FLAGS: u64 = 0xff << 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Free = 0,
    Queued = 1,
    Taken = 2,
    Done = 3,
    /// No state at all: somebody wrote where they must not.
    Rubbish,
}

/// What a word says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) fn new(phase: Phase, generation: u32, hand: u16) -> Self {
        Self(u64::from(hand) << 48 | u64::from(generation) << 16 | phase as u64)
    }

    pub(super) fn load(word: &AtomicU64) -> Self {
        // Acquire: who sees DONE sees the result (pairs with Release in `done`).
        Self(word.load(Ordering::Acquire))
    }

    pub(super) fn phase(self) -> Phase {
        match self.0 & 0xff {
            0 => Phase::Free,
            1 => Phase::Queued,
            2 => Phase::Taken,
            3 => Phase::Done,
            _ => Phase::Rubbish,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits")]
    pub(super) fn generation(self) -> u32 {
        (self.0 >> 16) as u32
    }

    pub(super) fn hand(self) -> u16 {
        (self.0 >> 48) as u16
    }

    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// What a sleeper compares: the lower half.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) fn low(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}, generation {}", self.phase(), self.hand(), self.generation())?;
        for (flag, name) in [(WAITED, "waited"), (NOTIFY, "notify"), (STOP, "stop")] {
            if self.has(flag) {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

/// FREE → QUEUED, by the parent alone, with `flags` set already.
pub(super) fn queue(word: &AtomicU64, generation: u32, flags: u64) {
    // Release: whoever takes it sees the arguments (pairs with Acquire in `take`).
    word.store(Word::new(Phase::Queued, generation, 0).0 | flags, Ordering::Release);
}

/// QUEUED → TAKEN, by a hand (S1).
pub(super) fn take(word: &AtomicU64, generation: u32, hand: u16) -> bool {
    let mut seen = Word(word.load(Ordering::Relaxed));
    while seen.phase() == Phase::Queued && seen.generation() == generation {
        let next = Word::new(Phase::Taken, generation, hand).0 | seen.0 & FLAGS;
        // Acquire: pairs with Release in `queue`.
        match word.compare_exchange(seen.0, next, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = Word(now),
        }
    }
    false
}

/// TAKEN → DONE, by its hand: the flags that were set; `None` if it was revoked (S1).
pub(super) fn done(word: &AtomicU64, generation: u32, hand: u16) -> Option<Word> {
    let mut seen = Word(word.load(Ordering::Relaxed));
    while seen.phase() == Phase::Taken && seen.generation() == generation && seen.hand() == hand {
        let next = Word::new(Phase::Done, generation, hand).0 | seen.0 & FLAGS;
        // Release: the parent sees the result (pairs with Acquire in `load` and `flag`).
        match word.compare_exchange(seen.0, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(seen),
            Err(now) => seen = Word(now),
        }
    }
    None
}

/// Any → FREE of the next generation, by the parent, if the word is still `seen` but for its flags (S1, S2). What it was.
pub(super) fn free(word: &AtomicU64, seen: Word) -> Option<Word> {
    let mut now = seen;
    while now.0 & !FLAGS == seen.0 & !FLAGS {
        let next = Word::new(Phase::Free, seen.generation().wrapping_add(1), 0).0;
        // AcqRel: what follows in the slot is written after its last user is done with it.
        match word.compare_exchange(now.0, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(now),
            Err(other) => now = Word(other),
        }
    }
    None
}

/// Sets a flag, by the parent: the word afterwards.
pub(super) fn flag(word: &AtomicU64, flag: u64) -> Word {
    // AcqRel: a flag set before DONE is seen by `done`; DONE before the flag is seen here, and so is the result.
    Word(word.fetch_or(flag, Ordering::AcqRel) | flag)
}
