//! Who sleeps, who was woken and has not found anything yet: one bit for each hand.
//!
//! ```text
//!  at work ──▶ asleep ──woken──▶ searching ──finds a task, or lies down again──▶ at work, asleep
//! ```
//! Z1. No task waits while a hand sleeps that could take it and nobody searches: a task is put in before one looks who
//!     searches and sleeps; a hand says that it lies down, or that it searches no more, before it looks for tasks again.
//! Z2. One that searches finds a task: then it wakes another if there are more. So one wake-up is under way at a time.
//! Z3. A bit is cleared by one alone, who thereby has the duty (or the right) to wake that hand.
//! Z4. A dead hand's bits are cleared by the parent, who then wakes somebody as if a task had come. So is the mark of
//!     one that searches and gets nowhere.

use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Hands that can be told apart.
pub(super) const MOST_HANDS: usize = 1024;
const WORDS: usize = if cfg!(millpond_loom) { 1 } else { MOST_HANDS / 64 };

/// A bit for each hand.
#[repr(C)]
pub(super) struct Bits([AtomicU64; WORDS]);

impl Bits {
    #[cfg(all(test, millpond_loom))]
    pub(super) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn word(&self, hand: u16) -> (&AtomicU64, u64) {
        let hand = usize::from(hand);
        (&self.0[hand / 64 % WORDS], 1 << (hand % 64))
    }

    /// SeqCst, as all here: the order of all threads is what Z1 stands on.
    fn set(&self, hand: u16) {
        let (word, bit) = self.word(hand);
        word.fetch_or(bit, Ordering::SeqCst);
    }

    /// Whether it was set (Z3).
    fn clear(&self, hand: u16) -> bool {
        let (word, bit) = self.word(hand);
        word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    fn is_set(&self, hand: u16) -> bool {
        let (word, bit) = self.word(hand);
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// The first of a range that is set.
    fn first(&self, hands: core::ops::Range<u16>) -> Option<u16> {
        let mut hand = hands.start;
        while hand < hands.end {
            let (word, bit) = self.word(hand);
            let rest = word.load(Ordering::SeqCst) & !(bit - 1);
            let start = hand - hand % 64;
            if rest != 0 {
                #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
                let found = start + rest.trailing_zeros() as u16;
                return (found < hands.end).then_some(found);
            }
            hand = start + 64;
        }
        None
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }
}

/// What comes before it and what comes after it are steps in the one order of all threads (`SeqCst`): nothing need be done
/// here for that. Loom takes `SeqCst` for acquire and release, so it gets the fence that says the same.
#[inline(always)]
fn in_one_order() {
    #[cfg(millpond_loom)]
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}

/// The two sets.
#[repr(C)]
pub(super) struct Beds {
    pub(super) asleep: Bits,
    pub(super) searching: Bits,
}

impl Beds {
    /// A hand lies down, and sleeps while its bed says 1, unless there is something to do after all (Z1). `doze` sleeps once,
    /// or not at all if the bed says something else. `lies` is told once if it lies until somebody wakes it. True: there was
    /// something to do, and the hand counts as one that was woken for it, since those who came while it searched have woken
    /// nobody.
    #[must_use]
    pub(super) fn rest(
        &self,
        hand: u16,
        bed: &AtomicU32,
        is_there_more: impl Fn() -> bool,
        lies: impl Fn(),
        doze: impl Fn(),
    ) -> bool {
        bed.swap(1, Ordering::Relaxed);
        // In this order: who picks it marks it as searching, and that mark is not to be wiped.
        self.searching.clear(hand);
        self.asleep.set(hand);
        in_one_order();
        let stays_up = is_there_more();
        if stays_up {
            // Relaxed: a figure alone hangs on it, whether somebody was quicker and has woken it.
            if bed.swap(0, Ordering::Relaxed) == 0 {
                lies();
            }
        } else {
            lies();
            // Acquire: pairs with the Release of whoever wakes.
            while bed.load(Ordering::Acquire) == 1 {
                doze();
            }
        }
        // Cleared already by whoever woke it: then it searches.
        self.asleep.clear(hand);
        stays_up
    }

    /// A hand that is awake, or about to end a task that somebody waits for, looks for tasks, until it finds one, rests or leaves. It may be said to have stopped by one that wanted to
    /// wake it: that one wakes another then.
    pub(super) fn search(&self, hand: u16) {
        self.searching.set(hand);
    }

    /// A hand has found a task. True: it was woken for one, and is to wake the next if there are more (Z2).
    pub(super) fn found(&self, hand: u16) -> bool {
        let searched = self.searching.is_set(hand) && self.searching.clear(hand);
        in_one_order();
        searched
    }

    /// A task has come: the hand to wake, if any of these sleeps and none of them searches (Z1). It searches from now on.
    pub(super) fn pick(&self, hands: core::ops::Range<u16>) -> Option<u16> {
        in_one_order();
        if self.searching.first(hands.clone()).is_some() {
            return None;
        }
        self.pick_anyway(hands)
    }

    /// The same, whoever searches.
    pub(super) fn pick_anyway(&self, hands: core::ops::Range<u16>) -> Option<u16> {
        while let Some(hand) = self.asleep.first(hands.clone()) {
            // Before it is woken, so that it is the one who clears it.
            self.searching.set(hand);
            if self.asleep.clear(hand) {
                return Some(hand);
            }
            self.searching.clear(hand);
        }
        None
    }

    /// Whether a hand counts as searching.
    pub(super) fn is_searching(&self, hand: u16) -> bool {
        self.searching.is_set(hand)
    }

    /// One of these hands that counts as searching seems to be stopped, or was never woken: it counts no more (Z4). The
    /// caller wakes it, in case it sleeps, and the one that it is told, as if a task had come: those who came while
    /// this one searched have woken nobody. If it goes on after all it takes tasks like any other, and leaves it to
    /// that one to wake the next.
    pub(super) fn give_up_on(&self, hand: u16, hands: core::ops::Range<u16>) -> Option<u16> {
        self.searching.clear(hand);
        self.pick(hands)
    }

    /// A hand is dead (Z4).
    pub(super) fn bury(&self, hand: u16) {
        self.asleep.clear(hand);
        self.searching.clear(hand);
    }
}
