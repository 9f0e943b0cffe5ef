//! A slot: one thread's free blocks of one size, in two magazines, and the fast path through them.
//!
//! ```text
//! frame of the loaded magazine      null at word 127-cap          end: a multiple of 1024
//!                                       |                            |
//!       +--------+----------------------+----------------------------+
//!       |        |        unused        |0| free blocks ..|   room    |
//!       +--------+----------------------+----------------------------+
//!                                         ^bottom         ^cursor
//! ```
//!
//! The null below the blocks is the "empty" that the caller wants to see anyway, and "full" is the cursor at a
//! multiple of the frame's size: neither needs a second word. A slot without a frame points at the end of an
//! all-null frame, which is empty and full at once. Two magazines, so that a sequence hovering around a boundary does
//! not go to the depot each time (Bonwick and Adams, "Magazines and Vmem", USENIX 2001).
//!
//! Invariant S1: `previous` is empty or as full as it was when it was put there; only this thread uses the frames.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use super::depot::Depot;
use super::magazine::{CAPACITY, FRAME_BYTES, Frame, Magazine, WORDS, Word};
use super::source::Source;
use crate::primitive::{AtomicPtr, AtomicU32, Ordering};

/// Blocks that a thread that never allocated this size hands straight back: they are some other thread's, and keeping
/// them would have two threads write to neighbouring blocks in one cache line.
const FOREIGN: u32 = 4;

/// See the module. All methods but [`cached`](Self::cached) are for the thread that the slot belongs to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    /// Atomic only so that statistics may read it: the owner's accesses are plain moves.
    cursor: AtomicPtr<Word>,
    bottom: AtomicPtr<Word>,
    previous: Cell<*mut Frame>,
    previous_len: AtomicU32,
    /// Blocks in a magazine of this slot; 0 before first use.
    capacity: Cell<u16>,
    foreign: Cell<u8>,
    /// Went to the depot since the last [`idle`](Self::idle).
    busy: Cell<bool>,
}

#[cfg(not(millpond_loom))]
mod unloaded {
    use super::{FRAME_BYTES, Slot, WORDS, Word};
    use core::cell::Cell;

    #[repr(C, align(1024))]
    struct Null([Word; WORDS]);
    // SAFETY: a slot never writes through a cursor at a frame's end.
    unsafe impl Sync for Null {}

    const _: () = assert!(size_of::<Null>() == FRAME_BYTES);
    static NULL: [Null; 2] = [const { Null([const { Cell::new(core::ptr::null_mut()) }; WORDS]) }; 2];

    impl Slot {
        /// The end of a frame of nulls.
        pub(super) const UNLOADED: *mut Word = (&raw const NULL[1]).cast::<Word>().cast_mut();
    }
}

impl Slot {
    /// A slot without a frame.
    #[cfg(not(millpond_loom))]
    pub(crate) const fn new() -> Self {
        Self {
            cursor: AtomicPtr::new(Self::UNLOADED),
            bottom: AtomicPtr::new(Self::UNLOADED),
            previous: Cell::new(ptr::null_mut()),
            previous_len: AtomicU32::new(0),
            capacity: Cell::new(0),
            foreign: Cell::new(0),
            busy: Cell::new(false),
        }
    }

    /// The most recently freed block.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        // Relaxed, here and below: only this thread writes it.
        let cursor = self.cursor.load(Ordering::Relaxed);
        // SAFETY: below the cursor is a block or the null at the bottom, in the slot's frame.
        let top = unsafe { cursor.sub(1) };
        // SAFETY: as above; the frame is this thread's.
        let block = NonNull::new(unsafe { (*top).get() })?;
        // Read again: this way the compiler changes it where it is, by one instruction.
        self.cursor.store(self.cursor.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        Some(block)
    }

    /// Keeps a free block, if there is room.
    #[inline(always)]
    #[must_use = "false: the block was not taken"]
    pub(crate) fn push(&self, block: NonNull<u8>) -> bool {
        let cursor = self.cursor.load(Ordering::Relaxed);
        if cursor.addr() & (FRAME_BYTES - 1) == 0 {
            return false;
        }
        // SAFETY: not at a frame's end, so the cursor is at a word of the slot's frame.
        unsafe { (*cursor).set(block.as_ptr()) };
        self.cursor.store(self.cursor.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        true
    }

    /// Whether it has a capacity: its thread allocates this size, or frees much of it.
    pub(crate) fn is_engaged(&self) -> bool {
        self.capacity.get() > 0
    }

    /// How many blocks its magazines hold when full.
    pub(crate) fn capacity(&self) -> usize {
        usize::from(self.capacity.get())
    }

    /// Sets it, for the next magazine that is loaded empty or filled.
    pub(crate) fn set_capacity(&self, blocks: usize) {
        self.capacity.set(u16::try_from(blocks.clamp(1, CAPACITY)).unwrap_or(1));
    }

    /// Blocks in the slot. From another thread it is close; from its own, or when that one rests, exact.
    pub(crate) fn cached(&self) -> usize {
        let (cursor, bottom) = (self.cursor.load(Ordering::Relaxed), self.bottom.load(Ordering::Relaxed));
        let loaded = cursor.addr().wrapping_sub(bottom.addr()) / size_of::<Word>();
        let loaded = if loaded < WORDS { loaded } else { 0 };
        loaded + self.previous_len.load(Ordering::Relaxed) as usize
    }

    /// The frame at whose words the slot's cursor moves.
    fn frame(&self) -> NonNull<Frame> {
        let inside = self.bottom.load(Ordering::Relaxed).wrapping_sub(1);
        let frame = inside.map_addr(|address| address & !(FRAME_BYTES - 1)).cast::<Frame>();
        // SAFETY: frames are never at address 0.
        unsafe { NonNull::new_unchecked(frame) }
    }

    fn word(frame: NonNull<Frame>, index: usize) -> *mut Word {
        // SAFETY: index is at most WORDS, the end of the frame.
        unsafe { frame.cast::<Word>().as_ptr().add(index) }
    }

    /// Loads a magazine: its blocks lie at the frame's end, and pops make the room.
    fn load(&self, magazine: Magazine) {
        let (frame, len) = magazine.into_words();
        self.load_words(frame, len, len);
    }

    /// Loads an empty magazine with room for the slot's capacity.
    fn load_empty(&self, magazine: Magazine) {
        let (frame, _) = magazine.into_words();
        self.load_words(frame, 0, self.capacity());
    }

    fn load_words(&self, frame: NonNull<Frame>, len: usize, capacity: usize) {
        let bottom = Self::word(frame, WORDS - capacity);
        let below = Self::word(frame, WORDS - 1 - capacity);
        // SAFETY: capacity is at most 127, so the word is in the frame, which is this thread's.
        unsafe { (*below).set(ptr::null_mut()) };
        self.bottom.store(bottom, Ordering::Relaxed);
        self.cursor.store(Self::word(frame, WORDS - capacity + len), Ordering::Relaxed);
    }

    /// The loaded magazine, taken out: the caller loads another at once.
    fn unload(&self) -> Magazine {
        let (cursor, bottom) = (self.cursor.load(Ordering::Relaxed), self.bottom.load(Ordering::Relaxed));
        let len = (cursor.addr() - bottom.addr()) / size_of::<Word>();
        let frame = self.frame();
        let end = Self::word(frame, WORDS - len);
        if end != bottom {
            // SAFETY: both ranges are `len` words of the frame; they may overlap.
            unsafe { ptr::copy(bottom.cast_const(), end, len) };
        }
        // SAFETY: the frame was loaded, so it is this thread's, and its last `len` words are the blocks.
        unsafe { Magazine::from_words(frame, len) }
    }

    fn take_previous(&self) -> Option<Magazine> {
        let frame = NonNull::new(self.previous.replace(ptr::null_mut()))?;
        let len = self.previous_len.load(Ordering::Relaxed) as usize;
        self.previous_len.store(0, Ordering::Relaxed);
        // SAFETY: S1: put there by `set_previous`, in this form.
        Some(unsafe { Magazine::from_words(frame, len) })
    }

    fn set_previous(&self, magazine: Magazine) {
        let (frame, len) = magazine.into_words();
        self.previous.set(frame.as_ptr());
        #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
        self.previous_len.store(len as u32, Ordering::Relaxed);
    }

    /// A block when [`pop`](Self::pop) had none: from the previous magazine, or from the depot. The slot has a
    /// capacity. `None`: no memory, or the depot's limit.
    pub(crate) fn pop_slow<S: Source>(&self, depot: &Depot<S>) -> Option<NonNull<u8>> {
        debug_assert!(self.is_engaged());
        let loaded = self.has_frame();
        if loaded {
            // Whoever came here may have been interrupted by one who filled the slot.
            let found = self.pop();
            if found.is_some() {
                return found;
            }
        }
        if loaded && self.previous_len.load(Ordering::Relaxed) > 0 {
            let full = self.take_previous()?;
            self.set_previous(self.unload());
            self.load(full);
            return self.pop();
        }
        self.busy.set(true);
        let empty = loaded.then(|| self.unload());
        match depot.exchange_empty(empty, self.capacity()) {
            Ok(full) => {
                self.load(full);
                self.pop()
            }
            Err(empty) => {
                let Some(empty) = empty else {
                    // There is no memory for a frame: a block may be had all the same.
                    self.park();
                    return depot.take_one();
                };
                self.load_empty(empty);
                None
            }
        }
    }

    /// Keeps a block when [`push`](Self::push) had no room. The slot has a capacity.
    ///
    /// # Safety
    /// The block came from this depot, and nobody uses it.
    pub(crate) unsafe fn push_slow<S: Source>(&self, depot: &Depot<S>, block: NonNull<u8>) {
        debug_assert!(self.is_engaged());
        self.busy.set(true);
        let loaded = self.has_frame();
        let empty = if !loaded {
            depot.take_frame()
        } else if self.previous_len.load(Ordering::Relaxed) > 0 {
            let full = self.take_previous();
            self.set_previous(self.unload());
            // SAFETY: the slot's blocks came from this depot.
            full.and_then(|full| unsafe { depot.exchange_full(full) })
        } else {
            let empty = self.take_previous();
            self.set_previous(self.unload());
            empty.or_else(|| depot.take_frame())
        };
        match empty {
            Some(empty) => {
                self.load_empty(empty);
                let kept = self.push(block);
                debug_assert!(kept, "an empty magazine has room");
            }
            None => {
                // No memory for a frame: give everything back, this block too.
                self.park();
                // SAFETY: the slot's blocks came from this depot.
                unsafe { depot.put(self.take_previous()) };
                // SAFETY: the caller's duty.
                unsafe { depot.give_one(block) };
            }
        }
    }

    /// Whether a block freed by a thread that never allocated this size should go straight back.
    pub(crate) fn is_foreign(&self) -> bool {
        let seen = self.foreign.get();
        if self.is_engaged() || u32::from(seen) >= FOREIGN {
            return false;
        }
        self.foreign.set(seen + 1);
        true
    }

    /// Whether a magazine is loaded at all.
    fn has_frame(&self) -> bool {
        self.cursor.load(Ordering::Relaxed) != Self::unloaded()
    }

    fn unloaded() -> *mut Word {
        #[cfg(not(millpond_loom))]
        return Self::UNLOADED;
        #[cfg(millpond_loom)]
        return ptr::without_provenance_mut(FRAME_BYTES);
    }

    /// Points the cursor away from a frame that went elsewhere.
    fn park(&self) {
        self.bottom.store(Self::unloaded(), Ordering::Relaxed);
        self.cursor.store(Self::unloaded(), Ordering::Relaxed);
    }

    /// Whether it has not been to the depot since this was last asked.
    pub(crate) fn idle(&self) -> bool {
        !self.busy.replace(false)
    }

    /// Takes both magazines out; the slot is as new.
    fn take_all(&self) -> [Option<Magazine>; 2] {
        let loaded = self.has_frame().then(|| self.unload());
        let previous = self.take_previous();
        self.park();
        self.capacity.set(0);
        [previous, loaded]
    }

    /// Gives every block to the depot.
    ///
    /// # Safety
    /// They came from this depot.
    pub(crate) unsafe fn flush<S: Source>(&self, depot: &Depot<S>) {
        if !self.is_engaged() {
            return;
        }
        // SAFETY: the caller's duty.
        unsafe { depot.put(self.take_all().into_iter().flatten()) };
    }

    /// Drops every block: their pool is gone. Returns the frames to the stock.
    pub(crate) fn discard(&self) {
        for mut magazine in self.take_all().into_iter().flatten() {
            magazine.forget_blocks();
            super::magazine::stock::give(magazine);
        }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self {
            cursor: AtomicPtr::new(Self::unloaded()),
            bottom: AtomicPtr::new(Self::unloaded()),
            previous: Cell::new(ptr::null_mut()),
            previous_len: AtomicU32::new(0),
            capacity: Cell::new(0),
            foreign: Cell::new(0),
            busy: Cell::new(false),
        }
    }
}
