//! Blocks: taken by one step of their header, given back by one; where free ones may be is only hinted at.
//!
//! A hint is a bit that says "look here". It is set after a block became free and cleared before one is claimed, so a
//! death between the two can lose a hint, never a block: the sweep sets the hints anew.

use core::ptr::NonNull;

use super::block::{Owner, State, Word};
use super::error::ShmError;
use super::id::Id;
use super::layout::{Class, STEP};
use super::segment::{Entry, Segment};
use super::step;
use crate::primitive::Ordering;

/// Large free blocks keep room for so many bytes in all; what is freed beyond goes back to the system.
const SPARE: u64 = 64 << 20;
/// How many classes up a block is looked for when one class has none left.
const CLASSES_UP: usize = 3;
/// How often a class is grown for one request.
const PATIENCE: usize = 1000;

/// A block that this process owns.
#[derive(Debug, Clone, Copy)]
#[must_use = "it stays taken until it is given back"]
pub(crate) struct Taken<'a> {
    pub(crate) id: Id,
    pub(crate) entry: &'a Entry,
    pub(crate) bytes: NonNull<u8>,
}

impl Taken<'_> {
    /// Says that so many of its bytes may be written to from now on: before the first is, for whoever dies meanwhile. How
    /// many ever were before this; those behind them are zero.
    #[inline]
    pub(crate) fn soil(&self, bytes: usize) -> usize {
        // Relaxed: the block is ours; who has it next learns of it with its word.
        let dirty = self.entry.dirty.load(Ordering::Relaxed);
        if dirty < bytes as u64 {
            self.entry.dirty.store(bytes as u64, Ordering::Relaxed);
        }
        usize::try_from(dirty).unwrap_or(usize::MAX)
    }
}

/// Takes a block of at least `bytes`. What is in it is whatever was left there; its content says 0.
pub(crate) fn take(segment: &Segment, me: Owner, bytes: usize) -> Result<Taken<'_>, ShmError> {
    let first = Class::holding(bytes).ok_or(ShmError::TooLarge { bytes })?;
    if segment.layout().blocks(first) == 0 {
        return Err(ShmError::TooLarge { bytes });
    }
    for class in (first.number()..=first.number() + CLASSES_UP).filter_map(Class::new) {
        if let Some(taken) = take_of(segment, me, class)? {
            if class.is_large() {
                make_room(segment, me, taken, bytes, class)?;
            }
            return Ok(taken);
        }
    }
    Err(ShmError::NoBlocks { bytes })
}

fn take_of(segment: &Segment, me: Owner, class: Class) -> Result<Option<Taken<'_>>, ShmError> {
    // Relaxed: whether the block is free is asked below.
    let recent = segment.recent[class.number()].load(Ordering::Relaxed);
    if recent != 0 {
        segment.recent[class.number()].store(0, Ordering::Relaxed);
        if let Some(taken) = claim(segment, me, class, recent as usize - 1) {
            return Ok(Some(taken));
        }
    }
    // Others may be as quick as we are, but not for ever.
    for _ in 0..PATIENCE {
        if let Some(taken) = take_hinted(segment, me, class) {
            return Ok(Some(taken));
        }
        match grow(segment, class)? {
            None => return Ok(None),
            Some(index) => {
                if let Some(taken) = claim(segment, me, class, index) {
                    return Ok(Some(taken));
                }
            }
        }
    }
    Ok(None)
}

/// Claims a block if it is free: the one step that makes it ours.
fn claim(segment: &Segment, me: Owner, class: Class, index: usize) -> Option<Taken<'_>> {
    let entry = segment.entry(class, index)?;
    let seen = Word::load(&entry.word);
    step::reach(20);
    if seen.state() != State::Free || seen.step(&entry.word, Word::owned(me, seen.generation())).is_err() {
        return None;
    }
    step::reach(21);
    Some(Taken { id: Id::block(class, index, seen.generation()), entry, bytes: segment.block(class, index)? })
}

fn take_hinted(segment: &Segment, me: Owner, class: Class) -> Option<Taken<'_>> {
    for word in 0..segment.layout().summary_words(class) {
        let summary = segment.summary(class, word);
        // Acquire, here and below: a bit that is seen comes after the block was freed; pairs with the Release in `hint`.
        let mut maybe = summary.load(Ordering::Acquire);
        while maybe != 0 {
            let low = maybe.trailing_zeros() as usize;
            maybe &= maybe - 1;
            let hints = word * 64 + low;
            if hints >= segment.layout().hint_words(class) {
                continue;
            }
            if let Some(taken) = take_from_hints(segment, me, class, hints) {
                return Some(taken);
            }
        }
    }
    None
}

fn take_from_hints(segment: &Segment, me: Owner, class: Class, hints: usize) -> Option<Taken<'_>> {
    let at = segment.hint(class, hints);
    // At most one look for each bit, whatever others write.
    for _ in 0..64 {
        let seen = at.load(Ordering::Acquire);
        if seen == 0 {
            break;
        }
        let bit = seen & seen.wrapping_neg();
        if at.fetch_and(!bit, Ordering::AcqRel) & bit == 0 {
            continue;
        }
        let taken = claim(segment, me, class, hints * 64 + bit.trailing_zeros() as usize);
        if taken.is_some() {
            return taken;
        }
    }
    // Nothing left: the summary says so, unless somebody sets a hint meanwhile.
    let summary = segment.summary(class, hints / 64);
    if at.load(Ordering::SeqCst) == 0 {
        summary.fetch_and(!(1 << (hints % 64)), Ordering::SeqCst);
        if at.load(Ordering::SeqCst) != 0 {
            summary.fetch_or(1 << (hints % 64), Ordering::SeqCst);
        }
    }
    None
}

/// Says that a block may be free.
pub(crate) fn hint(segment: &Segment, class: Class, index: usize) {
    if index >= segment.layout().blocks(class) {
        return;
    }
    // SeqCst: before the summary; pairs with the second look in `take_from_hints`.
    segment.hint(class, index / 64).fetch_or(1 << (index % 64), Ordering::SeqCst);
    let summary = segment.summary(class, index / 4096);
    let bit = 1 << (index / 64 % 64);
    if summary.load(Ordering::SeqCst) & bit == 0 {
        summary.fetch_or(bit, Ordering::SeqCst);
    }
}

/// Blocks of this class that ever were.
pub(crate) fn grown(segment: &Segment, class: Class) -> usize {
    // Acquire: their entries have room; pairs with the Release in `grow`.
    let grown = segment.root().grown[class.number()].load(Ordering::Acquire) as usize;
    grown.min(segment.layout().blocks(class))
}

/// As [`grown`], but not more than there can be: for who looks at every block, which would take long, and memory, if
/// somebody had written another number there.
pub(crate) fn grown_in_earnest(segment: &Segment, class: Class) -> usize {
    if segment.layout().blocks(class) == 0 {
        return 0;
    }
    match grown(segment, class) {
        0 => 0,
        grown => segment.entries_with_room(class, grown),
    }
}

/// Takes room for more blocks; one of them, the others are hinted at. `None`: the class is as large as it can be.
fn grow(segment: &Segment, class: Class) -> Result<Option<usize>, ShmError> {
    let layout = segment.layout();
    let before = grown(segment, class);
    let most = layout.blocks(class);
    if before >= most {
        return Ok(None);
    }
    let step = (STEP / class.size()).clamp(1, most - before);
    let entries = layout.entry(class, before);
    segment.take_room(entries, layout.entry(class, before + step - 1) + super::layout::ENTRY - entries)?;
    // Each page is touched before it counts: the system calls one that it gave and nobody ever looked at a hole, and whoever
    // sweeps goes no further than the first hole, though another process may have grown the class beyond it meanwhile.
    for index in (before..before + step).step_by(crate::os::page_size() / super::layout::ENTRY) {
        let _ = segment.entry(class, index).map(|entry| Word::load(&entry.word));
    }
    let _ = segment.entry(class, before + step - 1).map(|entry| Word::load(&entry.word));
    if before == 0 {
        let hints = layout.hints(class);
        segment.take_room(hints.start, hints.len())?;
    }
    if !class.is_large() {
        segment.take_room(layout.block(class, before), step * class.size())?;
    }
    step::reach(22);
    let root = &segment.root().grown[class.number()];
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^18 blocks")]
    let (from, to) = (before as u32, (before + step) as u32);
    // Release: pairs with the Acquire in `grown`. Failure: another process grew it, by as much.
    if root.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        for index in before + 1..before + step {
            hint(segment, class, index);
        }
    }
    Ok(Some(before))
}

/// Sees to it that a large block has room for `bytes`; gives it back where the system refuses.
fn make_room(segment: &Segment, me: Owner, taken: Taken<'_>, bytes: usize, class: Class) -> Result<(), ShmError> {
    let page = crate::os::page_size() as u64;
    let need = (bytes as u64).next_multiple_of(page);
    // Relaxed, here and below: the block is ours.
    let room = taken.entry.room.load(Ordering::Relaxed) & !(page - 1);
    let spare = &segment.root().spare;
    spare.fetch_sub(room, Ordering::Relaxed);
    if room >= need {
        return Ok(());
    }
    let at = segment.layout().block(class, taken.id.index());
    #[expect(clippy::cast_possible_truncation, reason = "below the block's size")]
    let (from, len) = (at + room as usize, (need - room) as usize);
    let mut got = segment.take_room(from, len);
    if got.is_err() && purge(segment, me) > 0 {
        got = segment.take_room(from, len);
    }
    if let Err(error) = got {
        spare.fetch_add(room, Ordering::Relaxed);
        let _ = give_back(segment, taken.id, taken.entry);
        return Err(error);
    }
    taken.entry.room.store(need, Ordering::Relaxed);
    step::reach(23);
    Ok(())
}

/// Frees a block that this process owns in the id's generation. False: it is not ours any more.
pub(crate) fn give(segment: &Segment, me: Owner, id: Id) -> bool {
    let Some((class, entry)) = id.class().and_then(|class| Some((class, segment.entry(class, id.index())?))) else {
        return false;
    };
    if Word::load(&entry.word) != Word::owned(me, id.generation()) {
        return false;
    }
    entry.content.store(0, Ordering::Relaxed);
    if class.is_large() {
        trim(segment, class, id.index(), entry);
    }
    if !give_back(segment, id, entry) {
        return false;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 2^18")]
    segment.recent[class.number()].store(id.index() as u32 + 1, Ordering::Relaxed);
    true
}

/// OWNED → FREE, and the hint.
fn give_back(segment: &Segment, id: Id, entry: &Entry) -> bool {
    let Some(class) = id.class() else { return false };
    let seen = Word::load(&entry.word);
    if seen.state() != State::Owned || seen.generation() != id.generation() {
        return false;
    }
    if seen.step(&entry.word, Word::free(id.generation().wrapping_add(1))).is_err() {
        return false;
    }
    step::reach(24);
    hint(segment, class, id.index());
    true
}

/// A large block that is about to become free counts as spare, or gives its room back.
fn trim(segment: &Segment, class: Class, index: usize, entry: &Entry) {
    let root = segment.root();
    let room = entry.room.load(Ordering::Relaxed);
    // Relaxed: a figure. Wrapped below zero after a death, it is set right by the sweep.
    let spare = root.spare.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned();
    if spare.saturating_add(room) <= SPARE || !drop_room(segment, class, index, entry) {
        root.spare.fetch_add(room, Ordering::Relaxed);
    }
}

/// Gives all room of a block that we own back.
fn drop_room(segment: &Segment, class: Class, index: usize, entry: &Entry) -> bool {
    // Room is given up in the books first: a death in between leaves pages that nobody counts on.
    entry.room.store(0, Ordering::Relaxed);
    step::reach(25);
    let given = segment.give_room(segment.layout().block(class, index), class.size());
    if given {
        entry.dirty.store(0, Ordering::Relaxed);
    }
    given
}

/// Gives the room of all large free blocks back. Bytes.
pub(crate) fn purge(segment: &Segment, me: Owner) -> u64 {
    let mut purged = 0;
    for class in Class::all().filter(|class| class.is_large()) {
        for index in 0..grown_in_earnest(segment, class) {
            let has_room = segment.entry(class, index).is_some_and(|entry| entry.room.load(Ordering::Relaxed) > 0);
            let Some(taken) = has_room.then(|| claim(segment, me, class, index)).flatten() else { continue };
            let room = taken.entry.room.load(Ordering::Relaxed);
            segment.root().spare.fetch_sub(room, Ordering::Relaxed);
            if drop_room(segment, class, index, taken.entry) {
                purged += room;
            }
            let _ = give_back(segment, taken.id, taken.entry);
        }
    }
    purged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_sees_blocks_behind_some_that_nobody_has_touched() {
        let segment = Segment::create(1 << 30).unwrap();
        for class in Class::all().filter(|class| segment.layout().blocks(*class) > 1) {
            // As when two processes grow it at once: the second takes a block before anybody took one of the first's.
            let first = grow(&segment, class).unwrap();
            let second = grow(&segment, class).unwrap().unwrap();
            assert!(first == Some(0) && second > 0);
            let taken = claim(&segment, 3, class, second).unwrap();
            assert_eq!(grown_in_earnest(&segment, class), grown(&segment, class), "{class:?}");
            assert!(taken.id.index() < grown_in_earnest(&segment, class), "{class:?}: nobody would sweep it");
        }
    }
}
