//! Who shares a segment: every process has an entry with a generation, from before it starts until it was swept.
//!
//! FREE → ENLISTED (by who starts it) → LIVE (by itself) → LEAVING (by who saw it dead) → FREE. They are the states of
//! a block's header under other names: free, queued, owned, shared.

use super::block::{NOBODY, Owner, State, Word};
use super::error::ShmError;
use super::layout::MEMBERS;
use super::segment::Segment;
use crate::primitive::Ordering;

/// A process that shares the segment: what its child is told, and what its supervisor reports dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) index: Owner,
    pub(crate) generation: u32,
}

/// Reserves an entry for a process that is about to start.
pub(crate) fn enlist(segment: &Segment) -> Result<Member, ShmError> {
    for index in 0..MEMBERS {
        let entry = segment.member(index);
        let seen = Word::load(&entry.word);
        if seen.state() != State::Free {
            continue;
        }
        let generation = seen.generation().wrapping_add(1);
        if seen.step(&entry.word, Word::queued(NOBODY, generation)).is_ok() {
            entry.process.store(0, Ordering::Relaxed);
            #[expect(clippy::cast_possible_truncation, reason = "at most 1024")]
            segment.root().members.fetch_max(index as u32 + 1, Ordering::AcqRel);
            #[expect(clippy::cast_possible_truncation, reason = "below 1024")]
            return Ok(Member { index: index as Owner, generation });
        }
    }
    Err(ShmError::TooManyMembers)
}

/// The calling process takes the entry that was reserved for it.
pub(crate) fn join(segment: &Segment, member: Member, process: u32) -> Result<(), ShmError> {
    if usize::from(member.index) >= MEMBERS {
        return Err(ShmError::NotASegment);
    }
    let entry = segment.member(member.index.into());
    // Relaxed: only for people who look.
    entry.process.store(process, Ordering::Relaxed);
    let reserved = Word::queued(NOBODY, member.generation);
    reserved.step(&entry.word, Word::owned(member.index, member.generation)).map_err(|_| ShmError::Stale)
}

/// Whether a member lives, as far as anybody has said.
pub(crate) fn is_live(segment: &Segment, index: Owner) -> bool {
    usize::from(index) < MEMBERS && Word::load(&segment.member(index.into()).word).state() == State::Owned
}

/// Says that a member is dead: true for who is the first to say so, who then sweeps and [`forget`]s it.
pub(crate) fn bury(segment: &Segment, member: Member) -> bool {
    if usize::from(member.index) >= MEMBERS {
        return false;
    }
    let entry = segment.member(member.index.into());
    let seen = Word::load(&entry.word);
    let alive = matches!(seen.state(), State::Queued | State::Owned);
    alive
        && seen.generation() == member.generation
        && seen.step(&entry.word, Word::shared(0, member.generation)).is_ok()
}

/// The swept member's entry can be another's.
pub(crate) fn forget(segment: &Segment, member: Member) {
    let entry = segment.member(member.index.into());
    let _ = Word::shared(0, member.generation).step(&entry.word, Word::free(member.generation));
}
