//! Size classes: which blocks serve a layout.
//!
//! Up to 1,024 bytes in steps of 16; from there four sizes for each doubling, up to 32 KiB. The size is first rounded
//! up to the alignment: then the class's block size is a multiple of the alignment, without a branch. For up to 1,024
//! every multiple of 16 is a class; above, the classes between 2^k and 2^(k+1) are all multiples of 2^(k-2), and a
//! size that is a multiple of a larger alignment is one of them.

use core::alloc::Layout;

use crate::block::{BlockLayout, SMALLEST_BLOCK};

/// The largest size with a step of 16.
pub(super) const FINE: usize = 1024;
const FINE_CLASSES: usize = FINE / SMALLEST_BLOCK + 1;
/// Sizes for each doubling above, as a power of two.
const STEP_SHIFT: u32 = 2;
/// The largest size that has a class.
pub(super) const LARGEST: usize = 32 * 1024;
/// How many classes there are. Number 0 serves a size of 0, without memory.
pub(super) const CLASSES: usize = FINE_CLASSES + ((LARGEST.ilog2() - FINE.ilog2()) as usize) * (1 << STEP_SHIFT);

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

/// The class that serves a padded size of at most [`LARGEST`].
#[inline(always)]
pub(super) const fn class_of(padded: usize) -> usize {
    if padded <= FINE {
        return fine_class_of(padded);
    }
    let below = padded - 1;
    let power = below.ilog2();
    let quarter = (below >> (power - STEP_SHIFT)) & ((1 << STEP_SHIFT) - 1);
    FINE_CLASSES + (((power - FINE.ilog2()) as usize) << STEP_SHIFT) + quarter
}

/// The size of a class's blocks.
pub(super) const fn block_size(class: usize) -> usize {
    if class == 0 {
        return SMALLEST_BLOCK;
    }
    if class < FINE_CLASSES {
        return class * SMALLEST_BLOCK;
    }
    let above = class - FINE_CLASSES;
    let base = FINE << (above >> STEP_SHIFT);
    base + (base >> STEP_SHIFT) * ((above & ((1 << STEP_SHIFT) - 1)) + 1)
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
        let block = block_size(class_of(size));
        assert!(block >= size, "{size} in {block}");
        (block - size, block)
    }

    #[test]
    fn a_class_is_the_smallest_that_fits() {
        for size in 0..=LARGEST {
            let class = class_of(size);
            assert!(class < CLASSES && block_size(class) >= size);
            assert!(class == 0 || size == 0 || class == 1 || block_size(class - 1) < size, "{size}");
        }
        assert_eq!(class_of(LARGEST), CLASSES - 1);
        assert_eq!(block_size(CLASSES - 1), LARGEST);
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
    fn every_alignment_is_met_by_the_block_size() {
        for shift in 0..=15 {
            let align = 1 << shift;
            for size in (0..LARGEST).step_by(7) {
                let layout = Layout::from_size_align(size, align).unwrap();
                let padded = padded(layout);
                assert_eq!(padded, size.next_multiple_of(align), "{layout:?}");
                if padded <= LARGEST && padded > 0 {
                    assert_eq!(block_size(class_of(padded)) % align, 0, "{layout:?}");
                }
            }
        }
    }
}
