//! Numbers that stand for what is in a segment: never an address, and checked on arrival.
//!
//! ```text
//!  63                    32 31  30 29     25 24          0
//! +------------------------+------+---------+-------------+
//! |       generation       | kind |  class  |    index    |
//! +------------------------+------+---------+-------------+
//! ```

use core::fmt;

use super::layout::{Class, TOKENS};

/// What a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A block: a slice, or the bytes of a large value.
    Block,
    /// A reference to a shared object.
    Token,
    /// One of the two ends of a pipe.
    End(usize),
}

/// See the module. Any number is one; whether there is such a thing is asked when it is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

const INDEX: u64 = (1 << 25) - 1;

impl Id {
    pub(crate) fn new(kind: Kind, class: Class, index: usize, generation: u32) -> Self {
        let kind = match kind {
            Kind::Block => 0,
            Kind::Token => 1,
            Kind::End(0) => 2,
            Kind::End(_) => 3,
        };
        Self(u64::from(generation) << 32 | kind << 30 | (class.number() as u64) << 25 | (index as u64 & INDEX))
    }

    /// The block of this class and index.
    pub(crate) fn block(class: Class, index: usize, generation: u32) -> Self {
        Self::new(Kind::Block, class, index, generation)
    }

    /// The token of this index.
    pub(crate) fn token(index: usize, generation: u32) -> Option<Self> {
        Some(Self::new(Kind::Token, Class::new(0)?, index % TOKENS, generation))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 >> 30 & 3 {
            0 => Kind::Block,
            1 => Kind::Token,
            2 => Kind::End(0),
            _ => Kind::End(1),
        }
    }

    pub(crate) fn class(self) -> Option<Class> {
        Class::new((self.0 >> 25 & 31) as usize)
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & INDEX) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The same thing in another generation.
    pub(crate) fn with_generation(self, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class().map_or(usize::MAX, Class::number);
        write!(f, "{:?} {class}.{} generation {}", self.kind(), self.index(), self.generation())
    }
}
