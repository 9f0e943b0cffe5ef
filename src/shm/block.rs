//! A block's header: one word that says what state it is in and whose it is, and the steps between its states.
//!
//! ```text
//!  63                    32 31                  8 7     4 3     0
//! +------------------------+---------------------+-------+-------+
//! |       generation       | owner, or the stamp | flags | state |
//! +------------------------+---------------------+-------+-------+
//! ```
//!
//! Each step is one compare-and-swap, so claiming and owning are the same instant, and whoever dies between two steps
//! has left a state that says what to do. `README.md` beside this file numbers the steps.

use core::fmt;

use crate::primitive::{AtomicU64, Ordering, fence};

/// What a block, a token or a pipe's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody's.
    Free,
    /// A member's alone.
    Owned,
    /// On its way: whoever gets its number takes it. The owner is the member that it waits for, or nobody where a
    /// ring's slot or another block says where it is.
    Queued,
    /// An object that several members hold, each by a mark of its own. Of a pipe's end: its owner is closing it.
    Shared,
    /// No state at all: somebody wrote over the word.
    Damaged,
}

/// The index of a member.
pub(crate) type Owner = u16;
/// No member.
pub(crate) const NOBODY: Owner = u16::MAX;

const STAMP: u32 = (1 << 24) - 1;
const PINNED: u64 = 1 << 4;
/// How often a shared object's header is tried again because others were quicker.
const PATIENCE: usize = 1000;

/// A header's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    fn pack(state: State, middle: u32, generation: u32) -> Self {
        let state = match state {
            State::Free => 0,
            State::Owned => 1,
            State::Queued => 2,
            State::Shared => 3,
            State::Damaged => 15,
        };
        Self(u64::from(generation) << 32 | u64::from(middle & STAMP) << 8 | state)
    }

    pub(crate) fn free(generation: u32) -> Self {
        Self::pack(State::Free, 0, generation)
    }

    pub(crate) fn owned(owner: Owner, generation: u32) -> Self {
        Self::pack(State::Owned, owner.into(), generation)
    }

    pub(crate) fn queued(owner: Owner, generation: u32) -> Self {
        Self::pack(State::Queued, owner.into(), generation)
    }

    /// A shared object's word; the stamp tells two looks at it apart.
    pub(crate) fn shared(stamp: u32, generation: u32) -> Self {
        Self::pack(State::Shared, stamp, generation)
    }

    /// A pipe's end that its owner is closing.
    pub(crate) fn closing(owner: Owner, generation: u32) -> Self {
        Self::pack(State::Shared, owner.into(), generation)
    }

    /// A word that was loaded in another way.
    pub(crate) fn of(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn load(from: &AtomicU64) -> Self {
        // Acquire: whoever sees a state sees what its maker did before; pairs with the Release half of `step`.
        Self(from.load(Ordering::Acquire))
    }

    /// Goes from this value to `next`, if it still is this value.
    pub(crate) fn step(self, at: &AtomicU64, next: Self) -> Result<(), Self> {
        // AcqRel: pairs with itself and with `load`, over the same word.
        at.compare_exchange(self.0, next.0, Ordering::AcqRel, Ordering::Acquire).map(|_| ()).map_err(Self)
    }

    pub(crate) fn state(self) -> State {
        match self.0 & 15 {
            0 => State::Free,
            1 => State::Owned,
            2 => State::Queued,
            3 => State::Shared,
            _ => State::Damaged,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the middle's lower half")]
    pub(crate) fn owner(self) -> Owner {
        self.middle() as u16
    }

    #[expect(clippy::cast_possible_truncation, reason = "24 bits of a shifted word")]
    fn middle(self) -> u32 {
        (self.0 >> 8) as u32 & STAMP
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// The same with the next stamp: a shared object of which somebody got hold.
    pub(crate) fn stamped(self) -> Self {
        let stamped = Self::shared(self.middle().wrapping_add(1), self.generation());
        Self(stamped.0 | (self.0 & PINNED))
    }

    /// Whether it is a shared object's, of this generation.
    pub(crate) fn is_shared(self, generation: u32) -> bool {
        self.state() == State::Shared && self.generation() == generation
    }

    /// A step from a shared object's header, as it was looked at, to what `to` says; again while others are quicker. False: the
    /// object is gone, or `to` says nothing.
    pub(crate) fn change(at: &AtomicU64, generation: u32, to: impl Fn(Self) -> Option<Self>) -> bool {
        for _ in 0..PATIENCE {
            let seen = Self::load(at);
            let Some(next) = Some(seen).filter(|seen| seen.is_shared(generation)).and_then(&to) else { return false };
            if seen.step(at, next).is_ok() {
                return true;
            }
        }
        false
    }

    /// O1: whoever got hold of a shared object, by a mark or a token that is set already, stamps it. False: it is gone.
    pub(crate) fn stamp(at: &AtomicU64, generation: u32) -> bool {
        Self::change(at, generation, |seen| Some(seen.stamped()))
    }

    /// SHARED → `mine`, if nothing holds the object: from exactly the header that was looked at before `held` was asked, so
    /// whoever got hold meanwhile has stamped it (O1). True: it is the caller's, to be freed.
    pub(crate) fn retire(at: &AtomicU64, mine: Self, held: impl Fn() -> bool) -> bool {
        // Between a mark taken off and a look at the others': of two that take theirs off at once, one sees the other's gone.
        fence(Ordering::SeqCst);
        Self::change(at, mine.generation(), |seen| (!seen.is_pinned() && !held()).then_some(mine))
    }

    /// The same with a pin, which keeps it from being freed; or without.
    pub(crate) fn pinned(self, pinned: bool) -> Self {
        Self(if pinned { self.0 | PINNED } else { self.0 & !PINNED })
    }

    /// Whether the state is one that the word can be in, with nothing in the bits that mean nothing.
    pub(crate) fn is_sane(self) -> bool {
        let flags = (self.0 >> 4) & 15;
        self.state() != State::Damaged && flags <= 1
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.generation();
        match self.state() {
            State::Free => write!(f, "free, generation {generation}"),
            State::Owned => write!(f, "owned by {}, generation {generation}", self.owner()),
            State::Queued if self.owner() == NOBODY => write!(f, "queued, generation {generation}"),
            State::Queued => write!(f, "queued for {}, generation {generation}", self.owner()),
            State::Shared => write!(f, "shared, stamp {}, generation {generation}", self.middle()),
            State::Damaged => write!(f, "damaged: {:#x}", self.0),
        }
    }
}
