//! What must be true of every live block: where it lies, how it is aligned, that no other overlaps it, and its bytes.
//!
//! A block is filled with a pattern of its own when it is adopted: all of it up to [`WHOLE`] bytes, both ends and a
//! word every [`stride`] bytes of larger ones. The pattern is looked for when the block is checked, resized or freed:
//! bytes that somebody else wrote, or that were lost in a move, are found.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::collections::BTreeMap;

/// Blocks up to here are filled from end to end.
const WHOLE: usize = 4096;
/// Bytes at each end of larger ones that are filled.
const ENDS: usize = 64;

/// From one word of the pattern to the next in a larger one: several on a page, or, since touching a page is what
/// takes the time, one on every fourth.
const fn stride(len: usize) -> usize {
    match len {
        0..=0x1_0000 => 256,
        0x1_0001..=0x10_0000 => 2048,
        _ => 4 * 4096,
    }
}

/// A live block as the model knows it.
#[derive(Debug)]
#[must_use = "the block is to be freed"]
pub(crate) struct Lived<Tag> {
    pub(crate) at: NonNull<u8>,
    pub(crate) layout: Layout,
    /// What else has to be known to free it.
    pub(crate) tag: Tag,
    /// What its pattern is made from.
    stamp: u64,
}

// SAFETY: the model uses a block's bytes from whichever thread has the model.
unsafe impl<Tag: Send> Send for Lived<Tag> {}

/// The places of a block of `len` bytes where the pattern is: offset and number of bytes, at most 8.
fn marks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let dense = if len <= WHOLE { len } else { ENDS };
    let tail = if len <= WHOLE { len } else { len - ENDS };
    let word = move |offset: usize| (offset, (len - offset).min(8));
    let middle = (stride(len)..tail.saturating_sub(7)).step_by(stride(len)).filter(move |_| len > WHOLE);
    (0..dense).step_by(8).chain(middle).chain((tail..len).step_by(8)).map(word)
}

/// The pattern's bytes at an offset.
fn pattern(stamp: u64, offset: usize) -> [u8; 8] {
    (stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (offset as u64).wrapping_mul(0xff51_afd7_ed55_8ccd)).to_ne_bytes()
}

/// Fills a block.
///
/// # Safety
/// `at` is the start of `len` bytes that nobody else uses.
unsafe fn fill(at: NonNull<u8>, len: usize, stamp: u64) {
    for (offset, count) in marks(len) {
        // SAFETY: inside the block.
        let place = unsafe { at.add(offset) };
        // SAFETY: `count` bytes from there are inside the block, and at most the pattern's 8.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(&pattern(stamp, offset)).cast(), count) };
    }
}

/// The bytes at some place of a block.
///
/// # Safety
/// `count` bytes at `offset`, at most 8, were written.
unsafe fn read(at: NonNull<u8>, offset: usize, count: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    // SAFETY: the caller's duty.
    let place = unsafe { at.add(offset) };
    // SAFETY: the caller's duty.
    unsafe { place.copy_to_nonoverlapping(NonNull::from(&mut bytes).cast(), count) };
    bytes
}

impl<Tag> Lived<Tag> {
    /// Looks for the pattern in a block that is on its way from one model to another.
    pub(crate) fn verify(&self) {
        // SAFETY: it is live: no model has freed it.
        unsafe { self.check(self.at, self.layout.size()) }
    }

    /// Looks for the pattern in the first `upto` bytes of what lies at `at` now.
    ///
    /// # Safety
    /// So many bytes of the block are there.
    unsafe fn check(&self, at: NonNull<u8>, upto: usize) {
        for (offset, count) in marks(self.layout.size()).take_while(|(offset, _)| *offset < upto) {
            let count = count.min(upto - offset);
            // SAFETY: the caller's duty; filled when the block was adopted.
            let found = unsafe { read(at, offset, count) };
            let expected = pattern(self.stamp, offset);
            assert_eq!(
                found[..count],
                expected[..count],
                "bytes at {offset} of the block {:p} of {:?}, now at {at:p}, are not what was written",
                self.at,
                self.layout
            );
        }
    }
}

/// Asserts that `len` bytes are zero: every one of up to 64 KiB, and in larger blocks a sample of those that the model
/// may have written when they were other blocks.
///
/// # Safety
/// `at` is the start of `len` bytes that nobody else uses.
pub(crate) unsafe fn assert_zero(at: NonNull<u8>, len: usize) {
    if len <= 64 * 1024 {
        // SAFETY: the caller's duty; fresh from an allocation that promises zeros, so initialised.
        let bytes = unsafe { NonNull::slice_from_raw_parts(at, len).as_ref() };
        let (before, words, after) = {
            // SAFETY: every pattern of bits is a number.
            unsafe { bytes.align_to::<u64>() }
        };
        let zero = before.iter().chain(after).all(|byte| *byte == 0) && words.iter().all(|word| *word == 0);
        assert!(zero, "{len} bytes at {at:p} should be zero");
        return;
    }
    let pages = (0..len - 8).step_by(4096).map(|offset| (offset, 8));
    for (offset, count) in marks(len).chain(pages) {
        // SAFETY: as above.
        let found = unsafe { read(at, offset, count) };
        assert_eq!(found, [0; 8], "the byte at {offset} of {len} at {at:p} should be zero");
    }
}

/// All ranges of memory that somebody holds.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// From the start of each to its end.
    ends: BTreeMap<usize, usize>,
}

impl Ranges {
    /// Notes a range of at least one byte. No other may overlap it.
    pub(crate) fn claim(&mut self, at: NonNull<u8>, len: usize) {
        let start = at.addr().get();
        let end = start.checked_add(len.max(1)).expect("a block ends inside the address space");
        if let Some((other, stop)) = self.ends.range(..end).next_back() {
            assert!(*stop <= start, "{start:#x}..{end:#x} overlaps the live block {other:#x}..{stop:#x}");
        }
        self.ends.insert(start, end);
    }

    pub(crate) fn release(&mut self, at: NonNull<u8>) {
        self.ends.remove(&at.addr().get()).expect("the model knows what it holds");
    }
}

/// Numbers above it choose one of the blocks that came last.
const RECENT: usize = 0x7fff;

/// What a block may take of the machine's memory: a small one with a large alignment can be alone on a huge page.
pub(crate) fn footprint(layout: Layout) -> usize {
    layout.size().max(layout.align().min(2 * 1024 * 1024))
}

/// All live blocks.
#[derive(Debug)]
pub(crate) struct Shadow<Tag> {
    blocks: Vec<Lived<Tag>>,
    pub(crate) ranges: Ranges,
    bytes: usize,
    stamps: u64,
}

impl<Tag> Shadow<Tag> {
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new(), ranges: Ranges::default(), bytes: 0, stamps: 0 }
    }

    /// One that fills blocks as no other does that starts at another number.
    pub(crate) fn stamped_from(stamps: u64) -> Self {
        Self { stamps, ..Self::new() }
    }

    pub(crate) fn blocks(&self) -> &[Lived<Tag>] {
        &self.blocks
    }

    /// What all live blocks may take of the machine's memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Checks a fresh block and fills it.
    ///
    /// # Safety
    /// If the memory under test is right, the block is as large as its layout says and nobody else's.
    pub(crate) unsafe fn adopt(&mut self, at: NonNull<u8>, layout: Layout, tag: Tag) {
        // SAFETY: the caller's duty.
        let stamp = unsafe { self.admit(at, layout) };
        self.blocks.push(Lived { at, layout, tag, stamp });
    }

    /// Notes and fills a block. Returns what its pattern is made from.
    ///
    /// # Safety
    /// As for [`adopt`](Self::adopt).
    unsafe fn admit(&mut self, at: NonNull<u8>, layout: Layout) -> u64 {
        assert!(at.addr().get().is_multiple_of(layout.align()), "{at:p} is not aligned for {layout:?}");
        self.stamps += 1;
        if layout.size() > 0 {
            self.ranges.claim(at, layout.size());
        }
        // SAFETY: the caller's duty; no overlap was found.
        unsafe { fill(at, layout.size(), self.stamps) };
        self.bytes += footprint(layout);
        self.stamps
    }

    fn retract(&mut self, at: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            self.ranges.release(at);
        }
        self.bytes -= footprint(layout);
    }

    /// One of the live blocks, chosen by any number: a large one means one of the last few.
    pub(crate) fn choose(&self, which: usize) -> Option<usize> {
        let last = self.blocks.len().checked_sub(1)?;
        Some(if which > RECENT { last - which % (last + 1).min(4) } else { which % (last + 1) })
    }

    /// Checks one block's bytes.
    pub(crate) fn check(&self, index: usize) {
        let block = &self.blocks[index];
        // SAFETY: live, so all its bytes are there.
        unsafe { block.check(block.at, block.layout.size()) };
    }

    /// Checks every block's bytes.
    pub(crate) fn check_all(&self) {
        (0..self.blocks.len()).for_each(|index| self.check(index));
    }

    /// Checks a block and gives it up: the caller frees it.
    pub(crate) fn disown(&mut self, index: usize) -> Lived<Tag> {
        self.check(index);
        let block = self.blocks.swap_remove(index);
        self.retract(block.at, block.layout);
        block
    }

    /// Gives a block up whose memory is never to be anybody's again: its range stays taken.
    pub(crate) fn abandon(&mut self, index: usize) {
        let block = self.blocks.swap_remove(index);
        self.bytes -= footprint(block.layout);
    }

    /// A block was resized, and lies at `at` with a new layout: checks that its bytes came along, and fills it anew.
    ///
    /// # Safety
    /// As for [`adopt`](Self::adopt).
    pub(crate) unsafe fn moved(&mut self, index: usize, at: NonNull<u8>, layout: Layout) {
        let old = &self.blocks[index];
        let (from, before) = (old.at, old.layout);
        // SAFETY: the bytes that both sizes have in common.
        unsafe { old.check(at, before.size().min(layout.size())) };
        self.retract(from, before);
        // SAFETY: the caller's duty.
        let stamp = unsafe { self.admit(at, layout) };
        let block = &mut self.blocks[index];
        (block.at, block.layout, block.stamp) = (at, layout, stamp);
    }
}
