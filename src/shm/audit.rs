//! Counts what is in a segment, for people and for tests.

use super::block::{State, Word};
use super::error::ShmError;
use super::layout::{Class, MEMBERS, TOKENS};
use super::segment::Segment;
use super::store;
use crate::primitive::Ordering;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    pub(crate) members: usize,
    pub(crate) objects: usize,
    pub(crate) owned: usize,
    pub(crate) queued: usize,
    pub(crate) tokens: usize,
    pub(crate) used: u64,
    pub(crate) committed: u64,
}

/// Counts everything.
pub(crate) fn audit(segment: &Segment) -> Result<Audit, ShmError> {
    let mut found = Audit { committed: segment.committed()?, ..Audit::default() };
    let ever = segment.root().members.load(Ordering::Acquire) as usize;
    let is_member = |index: &usize| Word::load(&segment.member(*index).word).state() != State::Free;
    found.members = (0..ever.min(MEMBERS)).filter(is_member).count();
    let tokens = segment.root().tokens.load(Ordering::Acquire) as usize;
    let is_token = |index: &usize| Word::load(&segment.token(*index).word).state() != State::Free;
    found.tokens = (0..tokens.min(TOKENS)).filter(is_token).count();
    for class in Class::all() {
        for index in 0..store::grown_in_earnest(segment, class) {
            let Some(entry) = segment.entry(class, index) else { continue };
            let place = match Word::load(&entry.word).state() {
                State::Free | State::Damaged => continue,
                State::Owned => &mut found.owned,
                State::Queued => &mut found.queued,
                State::Shared => &mut found.objects,
            };
            *place += 1;
            let size = class.size() as u64;
            let used = if class.is_large() { entry.room.load(Ordering::Relaxed).min(size) } else { size };
            found.used = found.used.saturating_add(used);
        }
    }
    Ok(found)
}

/// Free blocks with bytes that the books call clean and that are not: whoever takes one gets what its last owner left. A block
/// is looked at for as much as this behind what may be written to.
#[cfg(test)]
pub(crate) fn unclean(segment: &Segment) -> usize {
    const LOOK: usize = 64 << 10;
    let blocks = Class::all().flat_map(|class| (0..store::grown_in_earnest(segment, class)).map(move |at| (class, at)));
    let is_unclean = |(class, index): &(Class, usize)| {
        let (Some(entry), Some(bytes)) = (segment.entry(*class, *index), segment.block(*class, *index)) else {
            return false;
        };
        if Word::load(&entry.word).state() != State::Free {
            return false;
        }
        let dirty = usize::try_from(entry.dirty.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let room = usize::try_from(entry.room.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let room = if class.is_large() { room.min(class.size()) } else { class.size() };
        let start = dirty.min(room);
        let len = room.saturating_sub(start).min(LOOK);
        // SAFETY: inside the block.
        let clean = unsafe { bytes.add(start) };
        // SAFETY: as above, and there is room; nobody has the block, so nobody writes there.
        let clean = unsafe { core::slice::from_raw_parts(clean.as_ptr(), len) };
        clean.iter().any(|byte| *byte != 0)
    };
    blocks.filter(is_unclean).count()
}
