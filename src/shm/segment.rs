//! A segment: a sealed file in memory, mapped whole, of which room is taken in steps.
//!
//! Only this file turns offsets into addresses. Offsets come from the layout, so they are inside.

use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::ShmError;
use super::id::Id;
use super::layout::{
    CLASSES, Class, ENTRY, LEAST, Layout, MEMBER, MEMBERS, MEMBERS_AT, MOST, TOKEN, TOKENS, TOKENS_AT,
};
use super::sweeper::Sweeper;
use crate::os::{Lock, shared as os};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// "millpond", and the version of the layout.
const MAGIC: u64 = u64::from_be_bytes(*b"millpon1");

/// What the root page holds.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Root {
    magic: AtomicU64,
    /// The member that sweeps.
    pub(crate) sweeper: Sweeper,
    /// Bytes of room taken for large blocks that are free.
    pub(crate) spare: AtomicU64,
    /// Tokens for which there is room.
    pub(crate) tokens: AtomicU32,
    /// Members that ever were: the sweep looks no further.
    pub(crate) members: AtomicU32,
    /// For each class, the blocks that ever were.
    pub(crate) grown: [AtomicU32; CLASSES],
}

/// An entry of the table of members.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct MemberEntry {
    pub(crate) word: AtomicU64,
    pub(crate) process: AtomicU32,
}

/// An entry of the table of tokens: a reference to a shared object on its way.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TokenEntry {
    pub(crate) word: AtomicU64,
    /// The object's number with all bits turned: zero, as in a token that is new or free, is no object's.
    object: AtomicU64,
}

impl TokenEntry {
    /// The object that it refers to.
    pub(crate) fn object(&self) -> Id {
        // SeqCst: pairs with `refer_to`.
        Id::from_bits(!self.object.load(Ordering::SeqCst))
    }

    /// Said by who owns it.
    pub(crate) fn refer_to(&self, object: Id) {
        // SeqCst: before the object's stamp; pairs with the look of `retire`.
        self.object.store(!object.bits(), Ordering::SeqCst);
    }

    /// Said by who owns it and is about to free it: whoever claims it next is not taken to refer to what was in it before.
    pub(crate) fn refer_to_nothing(&self) {
        // SeqCst: as above.
        self.object.store(0, Ordering::SeqCst);
    }
}

/// A block's entry: a line of its own, for neighbours are often on their way at once.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    pub(crate) word: AtomicU64,
    /// Bytes from its start for which there is room: large blocks only.
    pub(crate) room: AtomicU64,
    /// Bytes from its start that may not be zero.
    pub(crate) dirty: AtomicU64,
    /// What is in it: its shape, or its kind; 0 for nothing yet.
    pub(crate) content: AtomicU64,
}

const _: () =
    assert!(size_of::<Entry>() == ENTRY && size_of::<TokenEntry>() == TOKEN && size_of::<MemberEntry>() == MEMBER);

/// See the module.
#[derive(Debug)]
pub(crate) struct Segment {
    base: NonNull<u8>,
    layout: Layout,
    file: OwnedFd,
    /// Whether a fence that others ask for is one of this process too: its wakers need none of their own then.
    pub(crate) fenced: bool,
    /// This process's own: for each class the block that it freed last, plus one.
    pub(crate) recent: [AtomicU32; CLASSES],
    /// This process's own: for how many blocks of each class it has seen that there is room for their entries.
    seen: [AtomicU32; CLASSES],
    /// This process's own: where it found a free token last.
    pub(crate) last_token: AtomicU32,
    /// This process's own: its handles to each shared object that it has a mark on.
    pub(crate) holds: Lock<BTreeMap<u64, usize>>,
}

// SAFETY: the mapping is never undone while the segment lives, and what is in it is reached as atomics or copied.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// A new segment, as large as the system lets it be, up to `most` bytes.
    pub(crate) fn create(most: usize) -> Result<Self, ShmError> {
        let mut len = most.clamp(LEAST, MOST).next_power_of_two();
        loop {
            match Self::create_exactly(len) {
                Err(_) if len > LEAST => len /= 2,
                other => return other,
            }
        }
    }

    fn create_exactly(len: usize) -> Result<Self, ShmError> {
        let layout = Layout::new(len).ok_or(ShmError::NotASegment)?;
        let file = os::memory_file(len).map_err(|error| ShmError::refused("a file in memory", len, &error))?;
        let fixed = TOKENS_AT;
        os::take_room(file.as_fd(), 0, fixed)
            .map_err(|error| ShmError::refused("room for the tables", fixed, &error))?;
        let base =
            os::map_shared(file.as_fd(), len).map_err(|error| ShmError::refused("address space", len, &error))?;
        let segment = Self::new(base, layout, file);
        // Release: pairs with the Acquire in `open`.
        segment.root().magic.store(MAGIC, Ordering::Release);
        Ok(segment)
    }

    fn new(base: NonNull<u8>, layout: Layout, file: OwnedFd) -> Self {
        Self {
            base,
            layout,
            file,
            fenced: os::join_fences(),
            recent: [const { AtomicU32::new(0) }; CLASSES],
            seen: [const { AtomicU32::new(0) }; CLASSES],
            last_token: AtomicU32::new(0),
            holds: Lock::new(BTreeMap::new()),
        }
    }

    /// The segment that somebody else made.
    pub(crate) fn open(file: OwnedFd) -> Result<Self, ShmError> {
        let len = os::sealed_length(file.as_fd()).map_err(|_| ShmError::NotASegment)?;
        let layout = Layout::new(len).ok_or(ShmError::NotASegment)?;
        let base =
            os::map_shared(file.as_fd(), len).map_err(|error| ShmError::refused("address space", len, &error))?;
        let segment = Self::new(base, layout, file);
        // Acquire: pairs with the Release in `create_exactly`.
        if segment.root().magic.load(Ordering::Acquire) != MAGIC {
            return Err(ShmError::NotASegment);
        }
        Ok(segment)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Something that is made of atomics, at an offset that the layout gave.
    fn at<T>(&self, offset: usize) -> &T {
        debug_assert!(offset + size_of::<T>() <= self.layout.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: the layout's offsets are inside the mapping.
        let place = unsafe { self.base.add(offset) }.cast::<T>();
        // SAFETY: aligned as the layout is; the types used here are atomics through and through, which may be written
        // by anybody at any time, and any bytes are one.
        unsafe { place.as_ref() }
    }

    pub(crate) fn root(&self) -> &Root {
        self.at(0)
    }

    /// A member's entry; `index` is taken modulo their number.
    pub(crate) fn member(&self, index: usize) -> &MemberEntry {
        self.at(MEMBERS_AT + index % MEMBERS * size_of::<MemberEntry>())
    }

    /// A token's entry; `index` is taken modulo their number.
    pub(crate) fn token(&self, index: usize) -> &TokenEntry {
        self.at(TOKENS_AT + index % TOKENS * size_of::<TokenEntry>())
    }

    /// A block's entry, if there is such a block.
    pub(crate) fn entry(&self, class: Class, index: usize) -> Option<&Entry> {
        (index < self.layout.blocks(class)).then(|| self.at(self.layout.entry(class, index)))
    }

    pub(crate) fn hint(&self, class: Class, word: usize) -> &AtomicU64 {
        self.at(self.layout.hint(class, word))
    }

    pub(crate) fn summary(&self, class: Class, word: usize) -> &AtomicU64 {
        self.at(self.layout.summary(class, word))
    }

    /// Where a block's bytes begin, if there is such a block.
    pub(crate) fn block(&self, class: Class, index: usize) -> Option<NonNull<u8>> {
        let inside = index < self.layout.blocks(class);
        // SAFETY: the layout's offsets are inside the mapping.
        inside.then(|| unsafe { self.base.add(self.layout.block(class, index)) })
    }

    /// Takes room for a range of bytes, rounded to pages.
    pub(crate) fn take_room(&self, at: usize, len: usize) -> Result<(), ShmError> {
        let page = crate::os::page_size();
        let (start, end) = (at / page * page, (at + len).next_multiple_of(page));
        os::take_room(self.file(), start, end - start)
            .map_err(|error| ShmError::refused("shared memory", end - start, &error))
    }

    /// Writes over every word of the segment for which there is room and that anything is made of: what a process out of
    /// control does. `write` says what comes in the place of each.
    #[cfg(test)]
    pub(crate) fn scribble(&self, mut write: impl FnMut(u64) -> u64) {
        let mut range = |from: usize, len: usize| {
            for at in (from..from + len).step_by(8) {
                let word: &AtomicU64 = self.at(at);
                word.store(write(word.load(Ordering::Relaxed)), Ordering::Relaxed);
            }
        };
        range(0, TOKENS_AT + 1024 * size_of::<TokenEntry>());
        for class in Class::all() {
            let blocks = self.layout.blocks(class).min(64);
            if blocks == 0 {
                continue;
            }
            range(self.layout.entry(class, 0), blocks * size_of::<Entry>());
            range(self.layout.hints(class).start, 64);
            range(self.layout.hints(class).end - 64, 64);
            (0..blocks.min(8)).for_each(|index| range(self.layout.block(class, index), class.size().min(16 << 10)));
        }
    }

    /// Writes a word somewhere in what anything is made of.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn scribble_at(&self, place: usize, value: u64) {
        let class = Class::all().nth(place % CLASSES).filter(|class| self.layout.blocks(*class) > 0);
        let offset = match (place >> 5 & 7, class) {
            (0, _) | (_, None) => place & 0x1F8,
            (1, _) => TOKENS_AT + (place & 0x1F8),
            (2, _) => MEMBERS_AT + (place & 0x1F8),
            (3, Some(class)) => self.layout.hints(class).start + (place >> 8 & 7) * 8,
            (4 | 5, Some(class)) => self.layout.entry(class, 0) + (place >> 8) * 8 % (4 * ENTRY),
            (_, Some(class)) => self.layout.block(class, 0) + (place >> 8) * 8 % class.size(),
        };
        let word: &AtomicU64 = self.at(offset);
        word.store(value, Ordering::Relaxed);
    }

    /// Turns bits of a word over in one of the first blocks of a small class: `block` is the class and, times eight, which.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn turn_at(&self, block: usize, word: usize, bits: u64) {
        let (class, index) = (Class::all().nth(block % 8), block / 8);
        let Some(class) = class.filter(|class| index < self.layout.blocks(*class)) else { return };
        let word: &AtomicU64 = self.at(self.layout.block(class, index) + word * 8 % class.size());
        word.fetch_xor(bits, Ordering::Relaxed);
    }

    /// How many of the first so many blocks of a class have an entry for which there is room, at most: whatever the segment says.
    pub(crate) fn entries_with_room(&self, class: Class, blocks: usize) -> usize {
        // Room for entries is never given back. To ask takes as long as others that take room at that moment.
        let seen = &self.seen[class.number()];
        if blocks <= seen.load(Ordering::Relaxed) as usize {
            return blocks;
        }
        let first = self.layout.entry(class, 0);
        let hole = os::first_hole(self.file(), first).unwrap_or(self.layout.len());
        let room = (hole.saturating_sub(first) / ENTRY).min(self.layout.blocks(class));
        #[expect(clippy::cast_possible_truncation, reason = "a class has less than 2^25 blocks")]
        seen.fetch_max(room as u32, Ordering::Relaxed);
        room.min(blocks)
    }

    /// Bytes that the system has given for it.
    pub(crate) fn committed(&self) -> Result<u64, ShmError> {
        os::file_room(self.file()).map_err(|error| ShmError::refused("the size of shared memory", 0, &error))
    }

    /// Gives the room of a range of whole pages back; false if the system refused.
    pub(crate) fn give_room(&self, at: usize, len: usize) -> bool {
        os::give_room(self.file(), at, len).is_ok()
    }
}

/// Only a fuzz target comes so far: otherwise a segment lives as long as its process.
#[cfg(feature = "fuzzing")]
impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped whole by this segment, and nobody has anything of it any more.
        unsafe { crate::os::shared::unmap_shared(self.base, self.layout.len()) };
    }
}
