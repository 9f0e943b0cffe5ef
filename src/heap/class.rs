//! Size classes: which blocks serve a layout.
//!
//! Up to 1,024 bytes in steps of 16; from there four sizes for each doubling, up to 32 KiB. The size is first rounded
//! up to the alignment: then the class's block size is a multiple of the alignment, without a branch. For up to 1,024
//! every multiple of 16 is a class; above, the classes between 2^k and 2^(k+1) are all multiples of 2^(k-2), and a
//! size that is a multiple of a larger alignment is one of them.
//!
//! Above 1,024 there are two series. Blocks of the usual one lie a cache line further apart than their size asks: blocks
//! of 4,096 bytes side by side would all begin in the same set of a first-level cache, which has room for 8 or 12 of
//! them (slab colouring: Bonwick, "The Slab Allocator", USENIX 1994). The other one, without that line, is for
//! alignments larger than a line.

use core::alloc::Layout;

use crate::block::{BlockLayout, SMALLEST_BLOCK};

/// The largest size with a step of 16.
pub(super) const FINE: usize = 1024;
const FINE_CLASSES: usize = FINE / SMALLEST_BLOCK + 1;
/// Sizes for each doubling above, as a power of two.
const STEP_SHIFT: u32 = 2;
/// The largest size that has a class.
pub(super) const LARGEST: usize = 32 * 1024;
/// Classes above, of a series.
const COARSE_CLASSES: usize = ((LARGEST.ilog2() - FINE.ilog2()) as usize) << STEP_SHIFT;
/// How many classes there are. Number 0 serves a size of 0, without memory.
pub(super) const CLASSES: usize = PLAIN + COARSE_CLASSES;
/// Where the series without the line begins. The largest class is in this one alone: a line more would cost each of its runs
/// one of sixteen blocks.
const PLAIN: usize = FINE_CLASSES + COARSE_CLASSES - 1;
/// The largest size in the other one.
const LARGEST_STAGGERED: usize = LARGEST / 8 * 7;
/// A cache line, by which blocks of the usual series are staggered; the largest alignment that they have.
const LINE: usize = 64;

/// The layout's size as the classes see it: rounded up to its alignment.
#[inline(always)]
pub(super) const fn padded(layout: Layout) -> usize {
    // A layout's size rounded up to its alignment is at most isize::MAX: no overflow.
    let mask = layout.align() - 1;
    (layout.size() + mask) & !mask
}

/// The class that serves a padded size of at most [`FINE`].
#[inline(always)]
pub(super) const fn fine_class_of(padded: usize) -> usize {
    padded.div_ceil(SMALLEST_BLOCK)
}

/// The class that serves a size of at most [`LARGEST`], padded to this alignment.
#[inline(always)]
pub(super) const fn class_of(padded: usize, align: usize) -> usize {
    if padded <= FINE {
        return fine_class_of(padded);
    }
    let below = padded - 1;
    let power = below.ilog2();
    let quarter = (below >> (power - STEP_SHIFT)) & ((1 << STEP_SHIFT) - 1);
    let series = if align > LINE || padded > LARGEST_STAGGERED { PLAIN } else { FINE_CLASSES };
    series + (((power - FINE.ilog2()) as usize) << STEP_SHIFT) + quarter
}

/// The size of a class's blocks.
pub(super) const fn block_size(class: usize) -> usize {
    if class == 0 {
        return SMALLEST_BLOCK;
    }
    if class < FINE_CLASSES {
        return class * SMALLEST_BLOCK;
    }
    let (above, line) = if class < PLAIN { (class - FINE_CLASSES, LINE) } else { (class - PLAIN, 0) };
    let base = FINE << (above >> STEP_SHIFT);
    base + (base >> STEP_SHIFT) * ((above & ((1 << STEP_SHIFT) - 1)) + 1) + line
}

/// The blocks of a class, aligned as far as their size allows.
pub(super) const fn block_layout(class: usize) -> BlockLayout {
    match BlockLayout::new(block_size(class), 1) {
        Ok(layout) => layout,
        Err(_) => panic!("every class has a block layout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waste(size: usize) -> (usize, usize) {
        let block = block_size(class_of(size, 1));
        assert!(block >= size, "{size} in {block}");
        (block - size, block)
    }

    #[test]
    fn a_class_is_the_smallest_that_fits() {
        for (align, spare) in [(1, LINE), (2 * LINE, 0)] {
            for size in (0..=LARGEST).filter(|size| size % align == 0) {
                let class = class_of(size, align);
                assert!(class < CLASSES && block_size(class) >= size);
                let first = class <= 1 || class == FINE_CLASSES || class == PLAIN;
                assert!(first || block_size(class - 1) < size + spare, "{size} aligned to {align}");
            }
        }
        assert_eq!(class_of(LARGEST, 2 * LINE), CLASSES - 1);
        assert_eq!(block_size(CLASSES - 1), LARGEST);
    }

    /// Where blocks begin in the sets of a first-level cache, of 64 sets as most are: all of them are used.
    #[test]
    fn large_blocks_side_by_side_do_not_crowd_into_a_few_sets_of_the_cache() {
        // All but the largest class, which goes without.
        for size in FINE + 1..=LARGEST_STAGGERED {
            let stride = block_size(class_of(size, 1));
            assert_eq!(stride % LINE, 0, "{size}");
            let sets: std::collections::HashSet<usize> = (0..64).map(|block| block * stride / LINE % 64).collect();
            assert_eq!(sets.len(), 64, "blocks of {stride} bytes, for {size}");
        }
    }

    #[test]
    fn waste_is_bounded() {
        for size in 1..=LARGEST {
            let (wasted, block) = waste(size);
            if size <= 128 {
                assert!(wasted <= 15, "{size} wastes {wasted}");
            } else {
                assert!(wasted * 4 <= block, "{size} wastes {wasted} of {block}");
            }
        }
        // Sizes spread evenly over the logarithm, from 128 bytes to the largest class.
        let steps = 100_000;
        let mean: f64 = (0..steps)
            .map(|step| {
                let size = 128.0 * (LARGEST as f64 / 128.0).powf(f64::from(step) / f64::from(steps));
                #[expect(clippy::cast_possible_truncation, reason = "at most 32768")]
                let (wasted, block) = waste(size.ceil() as usize);
                wasted as f64 / block as f64
            })
            .sum::<f64>()
            / f64::from(steps);
        assert!(mean < 0.11, "mean waste {mean}");
    }

    #[test]
    fn runs_of_every_class_can_be_swept() {
        let most = crate::block::sweep::MOST_PAGES * crate::os::page_size().min(4096);
        for class in 1..CLASSES {
            let bytes = block_layout(class).run_bytes();
            assert!(bytes <= most, "blocks of {} lie in runs of {bytes} bytes", block_size(class));
        }
    }

    #[test]
    fn every_alignment_is_met_by_the_block_size() {
        for shift in 0..=15 {
            let align = 1 << shift;
            for size in (0..LARGEST).step_by(7) {
                let layout = Layout::from_size_align(size, align).unwrap();
                let padded = padded(layout);
                assert_eq!(padded, size.next_multiple_of(align), "{layout:?}");
                if padded <= LARGEST && padded > 0 {
                    assert_eq!(block_size(class_of(padded, align)) % align, 0, "{layout:?}");
                }
            }
        }
    }
}
