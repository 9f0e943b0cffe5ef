//! The closing of a pipe's end: whoever waits at the other is told, and the last to close one frees the pipe.
//!
//! OWNED → closing → FREE. What is closing is gone for the other side and holds the pipe still, until the other side was woken:
//! so whoever closes an end slowly wakes that and nothing that comes after it in the pipe's memory (invariants E1 and E2 in
//! `README.md`).

use super::block::{Owner, State, Word};
use super::step;
use crate::primitive::{AtomicU64, Ordering, fence};

/// OWNED → closing, by the owner in this generation. None: it is not that one's any more.
pub(crate) fn begin(end: &AtomicU64, me: Owner, generation: u32) -> Option<Word> {
    let owned = Word::owned(me, generation);
    let closing = Word::closing(me, generation.wrapping_add(1));
    owned.step(end, closing).is_ok().then_some(closing)
}

/// The same in the place of a dead member, which had this end, or was to get it, or was closing it already.
pub(crate) fn begin_for(end: &AtomicU64, me: Owner, dead: Owner) -> Option<Word> {
    let seen = Word::load(end);
    match seen.state() {
        _ if seen.owner() != dead => None,
        State::Owned | State::Queued => {
            let closing = Word::closing(me, seen.generation().wrapping_add(1));
            seen.step(end, closing).is_ok().then_some(closing)
        }
        State::Shared => Some(seen),
        State::Free | State::Damaged => None,
    }
}

/// closing → FREE, after `tell` woke whoever waits at the other end, and took out what was sent to this one. True: the pipe may
/// have lost its last end.
pub(crate) fn finish(end: &AtomicU64, closing: Word, tell: impl FnOnce()) -> bool {
    step::reach(80);
    // Pairs with the exchange of a message's slot: whoever gave one on before this is found, or sees the end closed.
    fence(Ordering::SeqCst);
    tell();
    step::reach(81);
    closing.step(end, Word::free(closing.generation())).is_ok()
}

/// Whether nobody can use an end any more.
#[inline]
pub(crate) fn is_closed(end: &AtomicU64) -> bool {
    matches!(Word::load(end).state(), State::Free | State::Shared)
}

/// The same, for who has just given a message on, by a sequentially consistent exchange of its slot: if not, whoever closes the
/// end finds the message (E4).
#[inline]
pub(crate) fn was_closed(end: &AtomicU64) -> bool {
    // Loom knows the one order of fences only.
    #[cfg(millpond_loom)]
    fence(Ordering::SeqCst);
    // SeqCst: not before the caller's exchange; pairs with the fence in `finish`.
    matches!(Word::of(end.load(Ordering::SeqCst)).state(), State::Free | State::Shared)
}

/// Whether either of the two is left that keeps the pipe.
pub(crate) fn hold(ends: &[AtomicU64; 2]) -> bool {
    ends.iter().any(|end| Word::load(end).state() != State::Free)
}
