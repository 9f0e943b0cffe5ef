//! The size and alignment of a pool's blocks, with what is derived from them once.

use super::MemoryError;
use super::{LARGEST_IN_REGION, SLOT, SMALLEST_BLOCK};

/// The reciprocal's binary point. An offset is below 2^26 and a reciprocal at most 2^36 + 1: no overflow.
const POINT: u32 = 40;

/// Equal blocks: how large, how aligned, and how a run of them is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    size: usize,
    align: usize,
    reciprocal: u64,
    run_bytes: usize,
    per_run: u32,
}

impl BlockLayout {
    /// Lays out blocks of `size` bytes (rounded up to 16 and to `align`).
    pub(crate) const fn new(size: usize, align: usize) -> Result<Self, MemoryError> {
        if size == 0 {
            return Err(MemoryError::ZeroSize);
        }
        if !align.is_power_of_two() {
            return Err(MemoryError::BadAlignment { align });
        }
        if size > LARGEST_IN_REGION || align > LARGEST_IN_REGION {
            return Err(MemoryError::TooLarge { size, align, max: LARGEST_IN_REGION });
        }
        let align = if align < SMALLEST_BLOCK { SMALLEST_BLOCK } else { align };
        let size = size.next_multiple_of(align);
        if size > LARGEST_IN_REGION {
            return Err(MemoryError::TooLarge { size, align, max: LARGEST_IN_REGION });
        }
        let run_bytes = run_bytes(size);
        Ok(Self {
            size,
            align,
            reciprocal: (1 << POINT) / size as u64 + 1,
            run_bytes,
            #[expect(clippy::cast_possible_truncation, reason = "at most 4096: a slot of the smallest blocks")]
            per_run: (run_bytes / size) as u32,
        })
    }

    /// Bytes from one block to the next.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// The alignment of every block.
    pub(crate) const fn align(&self) -> usize {
        self.align
    }

    /// Bytes of a run, a multiple of [`SLOT`].
    pub(crate) const fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    /// Blocks in a run.
    pub(crate) const fn per_run(&self) -> u32 {
        self.per_run
    }

    /// The number of the block at `offset` bytes into its run: a multiplication instead of a division.
    ///
    /// Exact for every multiple of the size below the run's length; for others only "not the index of a block there"
    /// is meant, and `index * size != offset` shows it.
    #[inline]
    pub(crate) const fn index_of(&self, offset: usize) -> u32 {
        ((offset as u64 * self.reciprocal) >> POINT) as u32
    }
}

/// A run is long enough for a handful of blocks, and its tail wastes at most an eighth.
const fn run_bytes(size: usize) -> usize {
    let blocks = if size <= 1024 {
        return SLOT;
    } else if size <= 4096 {
        32
    } else if size <= 32 * 1024 {
        16
    } else if size <= 1024 * 1024 {
        8
    } else {
        1
    };
    (size * blocks).next_multiple_of(SLOT)
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;
    use crate::block::REGION;

    #[test]
    fn every_block_of_every_size_has_its_own_index() {
        let sizes = (1..=1024).chain((1024..40_000).step_by(97)).chain([65_536, 1 << 20, 3 << 20, LARGEST_IN_REGION]);
        for size in sizes {
            let layout = BlockLayout::new(size, 1).unwrap();
            assert!(layout.size() >= size && layout.size() < size + 16);
            assert!(layout.per_run() >= 1 && layout.run_bytes() < REGION / 2, "{layout:?}");
            for index in 0..layout.per_run() {
                assert_eq!(layout.index_of(index as usize * layout.size()), index, "{layout:?}");
            }
        }
    }

    #[test]
    fn a_runs_tail_wastes_at_most_an_eighth() {
        for size in (16..100_000).step_by(16) {
            let layout = BlockLayout::new(size, 16).unwrap();
            let tail = layout.run_bytes() - layout.per_run() as usize * layout.size();
            assert!(tail * 8 <= layout.run_bytes(), "{layout:?} wastes {tail}");
        }
    }

    #[test]
    fn runs_are_as_long_as_their_blocks_ask() {
        let runs = |size: usize| BlockLayout::new(size, 16).map(|layout| (layout.run_bytes(), layout.per_run()));
        for (size, least) in
            [(1040_usize, 32), (4096, 32), (4112, 16), (32 << 10, 16), ((32 << 10) + 16, 8), (1 << 20, 8)]
        {
            let bytes = (size * least).next_multiple_of(SLOT);
            assert_eq!(runs(size), Ok((bytes, u32::try_from(bytes / size).unwrap())), "{size}");
        }
        assert_eq!(runs(16), Ok((SLOT, 4096)));
        assert_eq!(runs(1024), Ok((SLOT, 64)));
        assert_eq!(runs((1 << 20) + 16), Ok(((1 << 20) + SLOT, 1)));
        assert_eq!(runs(LARGEST_IN_REGION), Ok((LARGEST_IN_REGION, 1)));
    }

    #[test]
    fn nonsense_is_refused_with_its_numbers() {
        assert_eq!(BlockLayout::new(0, 8), Err(MemoryError::ZeroSize));
        assert_eq!(BlockLayout::new(8, 0), Err(MemoryError::BadAlignment { align: 0 }));
        assert_eq!(BlockLayout::new(8, 24), Err(MemoryError::BadAlignment { align: 24 }));
        for (size, align) in [(usize::MAX, 1), (LARGEST_IN_REGION + 1, 1), (1, LARGEST_IN_REGION * 2)] {
            let error = BlockLayout::new(size, align).unwrap_err();
            assert!(error.to_string().contains("16777216"), "{error}");
        }
        assert!(BlockLayout::new(LARGEST_IN_REGION, LARGEST_IN_REGION).is_ok());
    }

    #[test]
    fn alignment_divides_the_size() {
        for align in [1, 2, 16, 64, 4096, 1 << 21] {
            let layout = BlockLayout::new(100, align).unwrap();
            assert_eq!(layout.size() % align, 0);
            assert!(layout.align() >= align);
        }
    }
}
