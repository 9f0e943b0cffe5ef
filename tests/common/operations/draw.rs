//! Sizes and alignments as programs write them: few bytes that reach every path, large sizes rarely.

use arbitrary::Arbitrary;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A size of at least 1 byte.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Size {
    kind: u8,
    detail: u16,
}

impl Size {
    pub(crate) fn bytes(self) -> usize {
        let detail = usize::from(self.detail);
        let near = |place: usize, reach: usize| place - reach + detail % (2 * reach + 1);
        match self.kind % 64 {
            0..=23 => 1 + detail % 256,
            24..=33 => 1 + detail % KIB,
            34..=41 => 1 + detail % (32 * KIB),
            // Around a power of two, or a quarter of one.
            42..=49 => ((4 + detail / 4 % 4) << (2 + detail / 16 % 12)) + detail % 4 - 1,
            50..=53 => near(32 * KIB, 40),
            54..=59 => 32 * KIB + detail * 8,
            60 => 512 * KIB + detail * 24,
            61 => MIB + detail * 64,
            62 => near(16 * MIB, 20) + (detail >> 14) * 4096,
            _ => 16 * MIB + detail * 128,
        }
    }

    /// Now and then zero.
    pub(crate) fn bytes_or_none(self) -> usize {
        if self.kind >= 224 { 0 } else { self.bytes() }
    }

    /// What nobody has: from a terabyte to the last size that a layout can have.
    pub(crate) fn absurd(self) -> usize {
        (usize::from(self.detail) + (1 << 40)).saturating_mul(1 << (self.kind % 24)).min(isize::MAX as usize - 4 * KIB)
    }
}

/// An alignment.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Align(u8);

impl Align {
    pub(crate) fn bytes(self) -> usize {
        let rest = u32::from(self.0 / 32);
        match self.0 % 32 {
            0..=15 => 1 << (rest % 4),
            16..=20 => 16,
            21..=24 => 1 << (5 + rest % 4),
            25..=28 => 1 << (9 + rest % 4),
            29 => 1 << (12 + rest % 5),
            30 => 1 << (14 + rest),
            _ => [2, 2, 2, 4, 16, 32, 32, 64][self.0 as usize / 32] * MIB,
        }
    }
}
