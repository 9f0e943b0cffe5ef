//! Handles on their way: passed on and claimed, each by one step of a header.

use super::block::{NOBODY, Owner, State, Word};
use super::error::ShmError;
use super::here::{Here, parent};
use super::id::{Id, Kind};
use super::layout::TOKENS;
use super::segment::Segment;
use super::shape::head;
use super::{step, store};
use crate::primitive::{AtomicU64, Ordering};

/// Room for tokens is taken for so many at once.
const TOKENS_AT_ONCE: usize = 1024;

/// The header of what a number stands for, if there is room for such a thing at all.
#[inline]
pub(crate) fn header(segment: &Segment, id: Id) -> Option<&AtomicU64> {
    match id.kind() {
        Kind::Token => {
            let tokens = segment.root().tokens.load(Ordering::Acquire) as usize;
            (id.index() < tokens.min(TOKENS)).then(|| &segment.token(id.index()).word)
        }
        kind => {
            let class = id.class()?;
            if id.index() >= store::grown(segment, class) {
                return None;
            }
            match kind {
                Kind::End(side) => head(segment, id)?.ends.get(side),
                _ => Some(&segment.entry(class, id.index())?.word),
            }
        }
    }
}

/// The number under which a handle travels: the generation after that in which it is owned.
pub(crate) fn travelling(id: Id) -> Id {
    id.with_generation(id.generation().wrapping_add(1))
}

/// OWNED → QUEUED: passes a handle on under its travelling number.
#[inline]
pub(crate) fn send(here: Here, id: Id, to: Owner) -> Result<(), ShmError> {
    let header = header(here.segment, id).ok_or(ShmError::Stale)?;
    let owned = Word::owned(here.me(), id.generation().wrapping_sub(1));
    let sent = owned.step(header, Word::queued(to, id.generation())).map_err(|_| ShmError::Stale);
    step::reach(5);
    sent
}

/// QUEUED → OWNED: takes a handle that was not sent after all back, as it was.
pub(crate) fn unsend(here: Here, id: Id, to: Owner) {
    let Some(header) = header(here.segment, id) else { return };
    let owned = Word::owned(here.me(), id.generation().wrapping_sub(1));
    let _ = Word::queued(to, id.generation()).step(header, owned);
}

/// QUEUED → OWNED: claims a handle that arrived, for anybody or for this process, or that its parent keeps for whichever of its
/// children comes first.
#[inline]
pub(crate) fn claim(here: Here, id: Id) -> Result<(), ShmError> {
    let header = header(here.segment, id).ok_or(ShmError::Stale)?;
    let mine = Word::owned(here.me(), id.generation());
    let from = |to| Word::queued(to, id.generation()).step(header, mine);
    let claimed = from(NOBODY).or_else(|_| from(here.me())).or_else(|_| from(parent()));
    step::reach(12);
    claimed.map_err(|_| ShmError::Stale)
}

/// A token that refers to a shared object, which the caller holds.
pub(crate) fn make_token(here: Here, object: Id) -> Result<Id, ShmError> {
    let segment = here.segment;
    for _ in 0..TOKENS {
        let tokens = (segment.root().tokens.load(Ordering::Acquire) as usize).min(TOKENS);
        let start = segment.last_token.load(Ordering::Relaxed) as usize;
        for index in (0..tokens).map(|n| (start + n) % tokens) {
            let token = segment.token(index);
            let seen = Word::load(&token.word);
            let owned = Word::owned(here.me(), seen.generation());
            if seen.state() != State::Free || seen.step(&token.word, owned).is_err() {
                continue;
            }
            step::reach(40);
            token.refer_to(object);
            stamp(segment, object);
            step::reach(41);
            #[expect(clippy::cast_possible_truncation, reason = "at most 2^16")]
            segment.last_token.store(index as u32 + 1, Ordering::Relaxed);
            return Id::token(index, seen.generation()).ok_or(ShmError::Damaged);
        }
        if tokens >= TOKENS {
            break;
        }
        let room = TOKENS_AT_ONCE * super::layout::TOKEN;
        segment.take_room(super::layout::TOKENS_AT + tokens * super::layout::TOKEN, room)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^16")]
        let (from, to) = (tokens as u32, (tokens + TOKENS_AT_ONCE) as u32);
        // Failure: somebody else took room for as many.
        let _ = segment.root().tokens.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }
    Err(ShmError::TooManyInTransit)
}

/// O1: whoever made a reference to an object stamps its header.
fn stamp(segment: &Segment, object: Id) {
    let Some(entry) = object.class().and_then(|class| segment.entry(class, object.index())) else { return };
    Word::stamp(&entry.word, object.generation());
}

/// The object that a token, which this process owns, refers to.
pub(crate) fn object_of(segment: &Segment, token: Id) -> Id {
    segment.token(token.index()).object()
}
