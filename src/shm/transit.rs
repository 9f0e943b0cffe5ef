//! Handles on their way: passed on, claimed and released, each by one step of a header.

use core::cell::Cell;

use super::block::{NOBODY, Owner, State, Word};
use super::error::ShmError;
use super::here::Here;
use super::id::{Id, Kind};
use super::layout::TOKENS;
use super::object::{self, Shape};
use super::segment::Segment;
use super::{bodies, step, store};
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
                Kind::End(side) => object::head(segment, id)?.ends.get(side),
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

/// QUEUED → OWNED: claims a handle that arrived, for this process or for anybody.
#[inline]
pub(crate) fn claim(here: Here, id: Id) -> Result<(), ShmError> {
    let header = header(here.segment, id).ok_or(ShmError::Stale)?;
    let mine = Word::owned(here.me(), id.generation());
    let claimed = Word::queued(NOBODY, id.generation())
        .step(header, mine)
        .or_else(|_| Word::queued(here.me(), id.generation()).step(header, mine));
    step::reach(12);
    claimed.map_err(|_| ShmError::Stale)
}

/// Releases a handle that this process owns: what it stands for goes with it, if it was the last.
pub(crate) fn release(segment: &Segment, me: Owner, id: Id) {
    let Some(header) = header(segment, id) else { return };
    if Word::load(header) != Word::owned(me, id.generation()) {
        return;
    }
    let depth = DEPTH.get();
    if depth > DEEPEST {
        return;
    }
    DEPTH.set(depth + 1);
    match id.kind() {
        Kind::Block => object::dismantle(segment, me, id),
        Kind::Token => free_token(segment, me, id),
        Kind::End(side) => close_end(segment, me, id, side),
    }
    DEPTH.set(depth);
}

/// Messages in queues in messages: deeper than this is left where it is, rather than that the stack ends. It goes with
/// this process.
const DEEPEST: u32 = 200;

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Releases a handle that is still on its way to nobody in particular: its message goes unread.
pub(crate) fn release_unread(segment: &Segment, me: Owner, id: Id) {
    let Some(header) = header(segment, id) else { return };
    if Word::queued(NOBODY, id.generation()).step(header, Word::owned(me, id.generation())).is_ok() {
        release(segment, me, id);
    }
}

/// A pipe's end goes: the other is told, and the pipe is freed after both.
pub(crate) fn close_end(segment: &Segment, me: Owner, id: Id, side: usize) {
    let Some(end) = header(segment, id) else { return };
    let free = Word::free(id.generation().wrapping_add(1));
    if Word::owned(me, id.generation()).step(end, free).is_err() {
        return;
    }
    step::reach(80);
    pipe_changed(segment, me, id, side);
}

/// What follows when an end is closed: whoever waits at the other wakes, and the last to go frees the pipe.
pub(crate) fn pipe_changed(segment: &Segment, me: Owner, id: Id, side: usize) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    let seen = Word::load(&entry.word);
    if seen.state() != State::Shared || Shape::kind_of(entry.content.load(Ordering::Acquire)) != object::Kind::Pipe {
        return;
    }
    let Some(class) = id.class() else { return };
    let pipe = Id::block(class, id.index(), seen.generation());
    bodies::wake_pipe(segment, pipe, side);
    step::reach(81);
    object::retire(segment, me, pipe);
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
            // SeqCst: before the object's stamp; pairs with the look of `retire`.
            token.object.store(object.bits(), Ordering::SeqCst);
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
    for _ in 0..1000 {
        let seen = Word::load(&entry.word);
        let is = seen.state() == State::Shared && seen.generation() == object.generation();
        if !is || seen.step(&entry.word, seen.stamped()).is_ok() {
            return;
        }
    }
}

/// The object that a token, which this process owns, refers to.
pub(crate) fn object_of(segment: &Segment, token: Id) -> Id {
    Id::from_bits(segment.token(token.index()).object.load(Ordering::SeqCst))
}

/// Frees a token that this process owns, and the object if nothing else holds it.
pub(crate) fn free_token(segment: &Segment, me: Owner, id: Id) {
    let object = object_of(segment, id);
    let token = segment.token(id.index());
    let free = Word::free(id.generation().wrapping_add(1));
    if Word::owned(me, id.generation()).step(&token.word, free).is_ok() {
        step::reach(42);
        object::retire(segment, me, object);
    }
}
