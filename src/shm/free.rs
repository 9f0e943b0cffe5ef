//! Freeing goes round: an object's last mark goes, so it is emptied; what lies in it are handles; a handle may be an
//! object's last. All of that round is here. What is below gives the handles that it finds to whoever empties it.

use core::cell::RefCell;
use core::mem::ManuallyDrop;

use super::block::{NOBODY, Owner, State, Word};
use super::id::{Id, Kind as IdKind};
use super::layout::TOKENS;
use super::members::Member;
use super::segment::Segment;
use super::shape::{Kind, Shape, head};
use super::transit::{self, header};
use super::{bodies, ends, step, store};
use crate::primitive::{AtomicU64, Ordering};

std::thread_local! {
    /// While a handle is released: those that were met meanwhile. Messages lie in queues in messages, as deep as anybody likes, and
    /// stacks are small. (What is not to be dropped is there until the thread is gone.)
    static LATER: RefCell<ManuallyDrop<Option<Vec<Id>>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// Releases a handle that this process owns: what it stands for goes with it, if it was the last. One that was met while another
/// is released is done after that.
pub(crate) fn release(segment: &Segment, me: Owner, id: Id) {
    /// Also where somebody panics.
    struct First;

    impl Drop for First {
        fn drop(&mut self) {
            drop(LATER.with_borrow_mut(|later| later.take()));
        }
    }

    let first = LATER.with_borrow_mut(|later| match &mut **later {
        Some(later) => {
            later.push(id);
            None
        }
        none => {
            *none = Some(Vec::new());
            Some(First)
        }
    });
    if let Some(_first) = first {
        let mut next = Some(id);
        while let Some(id) = next {
            release_one(segment, me, id);
            next = LATER.with_borrow_mut(|later| later.as_mut().and_then(Vec::pop));
        }
    }
}

fn release_one(segment: &Segment, me: Owner, id: Id) {
    let Some(header) = header(segment, id) else { return };
    if Word::load(header) != Word::owned(me, id.generation()) {
        return;
    }
    match id.kind() {
        IdKind::Block => dismantle(segment, me, id),
        IdKind::Token => free_token(segment, me, id),
        IdKind::End(_) => close_end(segment, me, id),
    }
}

/// Releases a handle that is still on its way to nobody in particular: its message goes unread.
pub(crate) fn release_unread(segment: &Segment, me: Owner, id: Id) {
    let Some(header) = header(segment, id) else { return };
    if Word::queued(NOBODY, id.generation()).step(header, Word::owned(me, id.generation())).is_ok() {
        release(segment, me, id);
    }
}

/// A pipe's end goes: the other is told, and the pipe is freed after both.
pub(crate) fn close_end(segment: &Segment, me: Owner, id: Id) {
    let Some(end) = header(segment, id) else { return };
    if let Some(closing) = ends::begin(end, me, id.generation()) {
        close(segment, me, id, end, closing);
    }
}

/// Closes an end that is closing, of the pipe in this block.
fn close(segment: &Segment, me: Owner, id: Id, end: &AtomicU64, closing: Word) {
    let pipe = pipe_in(segment, id);
    let tell = || {
        if let (Some(pipe), IdKind::End(side)) = (pipe, id.kind()) {
            bodies::wake_pipe(segment, pipe);
            discard(segment, me, pipe, side);
        }
    };
    if ends::finish(end, closing, tell)
        && let Some(pipe) = pipe
    {
        retire(segment, me, pipe);
    }
}

/// What waits in a pipe for an end that is closed goes unread, for whoever closes it and for who sent at the same moment.
#[cold]
pub(crate) fn discard(segment: &Segment, me: Owner, pipe: Id, side: usize) {
    bodies::discard(segment, me, pipe, side, &mut |id| release_unread(segment, me, id));
}

/// The pipe in the block that an end's number names.
fn pipe_in(segment: &Segment, id: Id) -> Option<Id> {
    let class = id.class()?;
    let entry = segment.entry(class, id.index())?;
    let seen = Word::load(&entry.word);
    let is_pipe = Shape::kind_of(entry.content.load(Ordering::Acquire)) == Kind::Pipe;
    (seen.state() == State::Shared && is_pipe).then(|| Id::block(class, id.index(), seen.generation()))
}

/// Frees a token that this process owns, and the object if nothing else holds it.
pub(crate) fn free_token(segment: &Segment, me: Owner, id: Id) {
    let object = transit::object_of(segment, id);
    let token = segment.token(id.index());
    let free = Word::free(id.generation().wrapping_add(1));
    token.refer_to_nothing();
    if Word::owned(me, id.generation()).step(&token.word, free).is_ok() {
        step::reach(42);
        retire(segment, me, object);
    }
}

/// Whether anything on its way refers to the object.
fn is_referred(segment: &Segment, id: Id) -> bool {
    let tokens = segment.root().tokens.load(Ordering::Acquire) as usize;
    (0..tokens.min(TOKENS)).any(|index| {
        let token = segment.token(index);
        matches!(Word::load(&token.word).state(), State::Owned | State::Queued) && token.object() == id
    })
}

/// Frees an object if nobody holds it.
pub(crate) fn retire(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    let Some(head) = head(segment, id) else { return };
    let held = || match Shape::kind_of(entry.content.load(Ordering::Acquire)) {
        // It goes with its queue.
        Kind::Stage => true,
        Kind::Pipe => ends::hold(&head.ends),
        // O1: tokens first. A mark that a token led to was set before the token went.
        _ => is_referred(segment, id) || head.is_marked(),
    };
    if Word::retire(&entry.word, Word::owned(me, id.generation()), held) {
        step::reach(36);
        dismantle(segment, me, id);
    }
}

/// Frees an owned block with all that is in it: a carrier's handles, a queue's values.
pub(crate) fn dismantle(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    let kind = Shape::kind_of(entry.content.load(Ordering::Acquire));
    bodies::empty(segment, me, id, kind, &mut |id| release_unread(segment, me, id));
    step::reach(37);
    let id = if kind == Kind::Pipe { outlived(segment, me, id, &entry.word) } else { id };
    store::give(segment, me, id);
}

/// A pipe's block, owned in the newest generation that it and its ends have had: numbers of the next pipe there are new.
fn outlived(segment: &Segment, me: Owner, id: Id, word: &AtomicU64) -> Id {
    let ends = head(segment, id).map(|head| [0, 1].map(|side| Word::load(&head.ends[side]).generation()));
    let age = |generation: &u32| generation.wrapping_sub(id.generation()).cast_signed();
    let newest = ends.into_iter().flatten().max_by_key(age).filter(|end| age(end) > 0);
    let Some(newest) = newest else { return id };
    match Word::owned(me, id.generation()).step(word, Word::owned(me, newest)) {
        Ok(()) => id.with_generation(newest),
        Err(_) => id,
    }
}

/// Keeps an object from being freed while the sweep looks into it. False: it is gone.
pub(crate) fn pin(segment: &Segment, id: Id) -> bool {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return false };
    Word::change(&entry.word, id.generation(), |seen| Some(seen.pinned(true)))
}

/// Ends a [`pin`], and frees the object if everybody let go of it meanwhile.
pub(crate) fn unpin(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    if Word::change(&entry.word, id.generation(), |seen| Some(seen.pinned(false))) {
        retire(segment, me, id);
    }
}

/// The ends of a pipe that the dead one had or was closing, or that were on their way to it, are closed.
pub(super) fn close_ends(segment: &Segment, me: Owner, dead: Member, id: Id) {
    let (Some(head), Some(class)) = (head(segment, id), id.class()) else { return };
    for (side, end) in head.ends.iter().enumerate() {
        if let Some(closing) = ends::begin_for(end, me, dead.index) {
            close(segment, me, Id::new(IdKind::End(side), class, id.index(), closing.generation()), end, closing);
        }
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;
    use crate::shm::making::Making;
    use crate::shm::{alone, here};

    #[test]
    fn a_token_that_is_claimed_and_not_filled_holds_no_object_that_it_once_referred_to() {
        let _alone = alone();
        let here = here().unwrap();
        let (segment, me) = (here.segment, here.me());
        let hold = Making::new(8).unwrap().share(Shape::of::<()>(Kind::Condition)).unwrap();
        let object = hold.id;
        let token = transit::make_token(here, object).unwrap();
        release(segment, me, token);
        let word = &segment.token(token.index()).word;
        let seen = Word::load(word);
        assert_eq!(seen.state(), State::Free);
        // Somebody claims it for another object, and comes no further yet.
        seen.step(word, Word::owned(me, seen.generation())).unwrap();
        drop(hold);
        let left = Word::load(header(segment, object).unwrap());
        Word::owned(me, seen.generation()).step(word, seen).unwrap();
        assert_eq!(left.state(), State::Free, "its last holder let go of it");
    }
}
