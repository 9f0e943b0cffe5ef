//! Who shares a segment: every process has an entry with a generation, from before it starts until it was swept.
//!
//! FREE → ENLISTED (by who starts it) → LIVE (by itself) → LEAVING (by who saw it dead) → FREE. They are the states of
//! a block's header under other names: free, queued, owned, shared.

use super::block::{Owner, State, Word};
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

impl Member {
    /// Both in one word, which is not 0: index plus one in the upper half, generation in the lower.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        (u64::from(self.index) + 1) << 32 | u64::from(self.generation)
    }

    /// Whoever such a word names.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "packed so in `bits`")]
    pub(crate) fn of(bits: u64) -> Self {
        Self { index: (bits >> 32).wrapping_sub(1) as Owner, generation: bits as u32 }
    }
}

/// Reserves an entry for a process that is about to start.
pub(crate) fn enlist(segment: &Segment, by: Owner) -> Result<Member, ShmError> {
    for index in 0..MEMBERS {
        let entry = segment.member(index);
        let seen = Word::load(&entry.word);
        if seen.state() != State::Free {
            continue;
        }
        let generation = seen.generation().wrapping_add(1);
        if seen.step(&entry.word, Word::queued(by, generation)).is_ok() {
            entry.process.store(0, Ordering::Relaxed);
            #[expect(clippy::cast_possible_truncation, reason = "at most 1024")]
            segment.root().members.fetch_max(index as u32 + 1, Ordering::AcqRel);
            #[expect(clippy::cast_possible_truncation, reason = "below 1024")]
            return Ok(Member { index: index as Owner, generation });
        }
    }
    Err(ShmError::TooManyMembers)
}

/// A member's process is there, whether it has joined yet or not.
pub(crate) fn started(segment: &Segment, member: Member, process: u32) {
    if usize::from(member.index) < MEMBERS {
        // Relaxed: whoever sweeps it was told of its death after this.
        segment.member(member.index.into()).process.store(process, Ordering::Relaxed);
    }
}

/// Whether a member that is being swept ever was a process.
pub(crate) fn has_started(segment: &Segment, member: Member) -> bool {
    usize::from(member.index) < MEMBERS && segment.member(member.index.into()).process.load(Ordering::Relaxed) != 0
}

/// The calling process takes the entry that was reserved for it.
pub(crate) fn join(segment: &Segment, member: Member, process: u32) -> Result<(), ShmError> {
    if usize::from(member.index) >= MEMBERS {
        return Err(ShmError::NotASegment);
    }
    let entry = segment.member(member.index.into());
    // Relaxed: as for `started`.
    entry.process.store(process, Ordering::Relaxed);
    let reserved = Word::load(&entry.word);
    if reserved.state() != State::Queued || reserved.generation() != member.generation {
        return Err(ShmError::Stale);
    }
    reserved.step(&entry.word, Word::owned(member.index, member.generation)).map_err(|_| ShmError::Stale)
}

/// Whether a member lives, as far as anybody has said.
pub(crate) fn is_live(segment: &Segment, member: Member) -> bool {
    usize::from(member.index) < MEMBERS
        && Word::load(&segment.member(member.index.into()).word) == Word::owned(member.index, member.generation)
}

/// The member that has this number, alive or not yet swept.
pub(crate) fn member(segment: &Segment, index: Owner) -> Option<Member> {
    if usize::from(index) >= MEMBERS {
        return None;
    }
    let seen = Word::load(&segment.member(index.into()).word);
    (seen.state() != State::Free).then(|| Member { index, generation: seen.generation() })
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

/// Whether a member was seen dead and is not swept yet.
pub(crate) fn is_leaving(segment: &Segment, member: Member) -> bool {
    Word::load(&segment.member(member.index.into()).word).is_shared(member.generation)
}

/// Members that were seen dead and are not swept yet.
pub(crate) fn leaving(segment: &Segment) -> Vec<Member> {
    all(segment).filter(|(_, word)| word.state() == State::Shared).map(|(member, _)| member).collect()
}

/// Says of those that a member had enlisted, and that never joined, that they are dead.
pub(crate) fn bury_enlisted(segment: &Segment, by: Owner) -> Vec<Member> {
    let enlisted = all(segment).filter(|(_, word)| word.state() == State::Queued && word.owner() == by);
    enlisted.filter(|(member, _)| bury(segment, *member)).map(|(member, _)| member).collect()
}

fn all(segment: &Segment) -> impl Iterator<Item = (Member, Word)> {
    let ever = segment.root().members.load(Ordering::Acquire) as usize;
    (0..ever.min(MEMBERS)).map(|index| {
        let word = Word::load(&segment.member(index).word);
        #[expect(clippy::cast_possible_truncation, reason = "below 1024")]
        (Member { index: index as Owner, generation: word.generation() }, word)
    })
}

/// The swept member's entry can be another's.
pub(crate) fn forget(segment: &Segment, member: Member) {
    let entry = segment.member(member.index.into());
    let _ = Word::shared(0, member.generation).step(&entry.word, Word::free(member.generation));
}
