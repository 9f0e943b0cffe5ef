//! Where everything lies in a segment: arithmetic on its length alone, so that no byte that a peer could write decides
//! an address.
//!
//! ```text
//! share 0: root page | members | tokens | for each class: entries, hints     shares 1..: one for the blocks of each class
//! ```

use core::ops::Range;

/// Block sizes are the powers of two from 256 bytes to 4 GiB.
pub(crate) const CLASSES: usize = 25;
/// The size of the smallest class, as a power of two.
const SMALLEST: u32 = 8;
/// Blocks of one class at most.
const MOST_BLOCKS: usize = 1 << 18;
/// The segment is cut into so many equal shares.
const SHARES: usize = 32;
/// The smallest and the largest segment, in bytes.
pub(crate) const LEAST: usize = 64 << 20;
pub(crate) const MOST: usize = 256 << 30;

/// Processes that can be members at once.
pub(crate) const MEMBERS: usize = 1024;
/// References to shared objects that can be in transit at once.
pub(crate) const TOKENS: usize = 1 << 15;

/// Bytes of a member, a token, a block's entry.
pub(crate) const MEMBER: usize = 64;
pub(crate) const TOKEN: usize = 16;
pub(crate) const ENTRY: usize = 64;

/// The root page, and the offsets of what follows it.
const ROOT: usize = 4096;
pub(crate) const MEMBERS_AT: usize = ROOT;
pub(crate) const TOKENS_AT: usize = MEMBERS_AT + MEMBERS * MEMBER;
const ENTRIES_AT: usize = TOKENS_AT + TOKENS * TOKEN;
/// What the classes' tables begin at a multiple of.
const PAGE: usize = 4096;

/// A class of block sizes: 0 is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// The smallest class whose blocks hold `bytes`.
    pub(crate) fn holding(bytes: usize) -> Option<Self> {
        let power = bytes.max(1).checked_next_power_of_two()?.trailing_zeros();
        Self::new(power.saturating_sub(SMALLEST) as usize)
    }

    /// The class of this number.
    pub(crate) fn new(number: usize) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "below 25")]
        (number < CLASSES).then_some(Self(number as u8))
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES).filter_map(Self::new)
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }

    /// Bytes of a block.
    pub(crate) fn size(self) -> usize {
        1 << (u32::from(self.0) + SMALLEST)
    }

    /// Whether room is taken for each block on its own; smaller blocks get theirs in steps.
    pub(crate) fn is_large(self) -> bool {
        self.size() >= STEP
    }
}

/// Room for small blocks is taken in steps of so many bytes.
pub(crate) const STEP: usize = 64 << 10;

/// The offsets of a segment of one length.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    len: usize,
    /// For each class, where its entries begin.
    entries: [usize; CLASSES],
    /// For each class, where its hints begin.
    hints: [usize; CLASSES],
}

impl Layout {
    /// The layout of a segment of `len` bytes, if that is a length that a segment can have.
    pub(crate) fn new(len: usize) -> Option<Self> {
        if !len.is_power_of_two() || !(LEAST..=MOST).contains(&len) {
            return None;
        }
        let mut layout = Self { len, entries: [0; CLASSES], hints: [0; CLASSES] };
        let mut at = ENTRIES_AT;
        for class in Class::all() {
            layout.entries[class.number()] = at;
            at += (layout.blocks(class) * ENTRY).next_multiple_of(PAGE);
            layout.hints[class.number()] = at;
            at += (layout.hint_words(class) * 8 + layout.summary_words(class) * 8).next_multiple_of(PAGE);
        }
        (at <= len / SHARES).then_some(layout)
    }

    /// Bytes of the segment.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many blocks a class has.
    pub(crate) fn blocks(&self, class: Class) -> usize {
        (self.len / SHARES / class.size()).min(MOST_BLOCKS)
    }

    /// Words of 64 hints each.
    pub(crate) fn hint_words(&self, class: Class) -> usize {
        self.blocks(class).div_ceil(64)
    }

    /// Words with a bit for each word of hints.
    pub(crate) fn summary_words(&self, class: Class) -> usize {
        self.hint_words(class).div_ceil(64)
    }

    /// The offset of a block's entry. `index` is below [`blocks`](Self::blocks).
    pub(crate) fn entry(&self, class: Class, index: usize) -> usize {
        debug_assert!(index < self.blocks(class));
        self.entries[class.number()] + index * ENTRY
    }

    /// The offset of a word of hints.
    pub(crate) fn hint(&self, class: Class, word: usize) -> usize {
        debug_assert!(word < self.hint_words(class));
        self.hints[class.number()] + word * 8
    }

    /// The offset of a word of the summary.
    pub(crate) fn summary(&self, class: Class, word: usize) -> usize {
        debug_assert!(word < self.summary_words(class));
        self.hints[class.number()] + (self.hint_words(class) + word) * 8
    }

    /// The hints of a class with their summary, as a range of bytes.
    pub(crate) fn hints(&self, class: Class) -> Range<usize> {
        let start = self.hints[class.number()];
        start..start + (self.hint_words(class) + self.summary_words(class)) * 8
    }

    /// The offset of a block's bytes.
    pub(crate) fn block(&self, class: Class, index: usize) -> usize {
        debug_assert!(index < self.blocks(class));
        self.len / SHARES * (1 + class.number()) + index * class.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_in_the_smallest_and_in_the_largest_segment() {
        for len in [LEAST, 1 << 30, MOST] {
            let layout = Layout::new(len).unwrap();
            let members = (MEMBERS_AT, MEMBERS_AT + MEMBERS * MEMBER);
            let tokens = (TOKENS_AT, TOKENS_AT + TOKENS * TOKEN);
            let mut ranges = vec![(0, ROOT), members, tokens];
            for class in Class::all() {
                let blocks = layout.blocks(class);
                let Some(last) = blocks.checked_sub(1) else { continue };
                ranges.push((layout.entry(class, 0), layout.entry(class, last) + ENTRY));
                ranges.push((layout.hints(class).start, layout.hints(class).end));
                ranges.push((layout.block(class, 0), layout.block(class, last) + class.size()));
                assert_eq!(layout.block(class, last) % class.size(), 0, "blocks are aligned to their size");
                assert_eq!(layout.block(class, last) - layout.block(class, 0), last * class.size());
                // Hints, then their summary, word after word.
                let (words, summaries) = (layout.hint_words(class), layout.summary_words(class));
                let hints = (0..words).map(|word| layout.hint(class, word));
                let all = hints.chain((0..summaries).map(|word| layout.summary(class, word)));
                assert!(all.eq(layout.hints(class).step_by(8)), "{len}: hints of {class:?}");
            }
            assert!(ranges.iter().all(|range| range.0 < range.1), "{len}: {ranges:x?}");
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{len}: {ranges:x?}");
            assert!(ranges.last().unwrap().1 <= len);
        }
        assert!(Layout::new(LEAST / 2).is_none() && Layout::new(LEAST + 4096).is_none());
    }

    #[test]
    fn the_class_of_a_size_holds_it_and_none_below_does() {
        for bytes in [0, 1, 256, 257, 4096, 4097, 1 << 20, (1 << 20) + 1, 4 << 30] {
            let class = Class::holding(bytes).unwrap();
            assert!(class.size() >= bytes);
            assert!(class.number() == 0 || class.size() / 2 < bytes);
        }
        assert!(Class::holding((4 << 30) + 1).is_none() && Class::holding(usize::MAX).is_none());
    }
}
