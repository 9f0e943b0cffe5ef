//! What kind of object is in a block, and the head that it begins with: the marks of the members that hold it.

use core::hash::{Hash, Hasher};

use super::block::Owner;
use super::id::Id;
use super::layout::MEMBERS;
use super::segment::Segment;
use crate::primitive::{AtomicU64, Ordering};

/// What kind of object is in a block, with a fingerprint of its types: the entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape(u64);

/// What a block's content can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain bytes: a slice, or a value in the making.
    Bytes,
    /// The bytes of a value, with the handles in it.
    Carrier,
    Queue,
    Pipe,
    Lock,
    Semaphore,
    Event,
    Condition,
    Barrier,
    Value,
    /// A queue without a bound, and one of its stages.
    Unbounded,
    Stage,
}

/// The bits of a type's id, as they are: all members run the same program, in which each type has one.
struct Bits(u64);

impl Hasher for Bits {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(17) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shape {
    /// The shape of an object of this kind for this type.
    #[inline]
    pub(crate) fn of<T: ?Sized>(kind: Kind) -> Self {
        let mut bits = Bits(0);
        typeid::of::<T>().hash(&mut bits);
        let hash = bits.finish();
        Self(hash << 8 | kind as u64)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// That of an object which is there, by its entry's content.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn kind_of(bits: u64) -> Kind {
        match bits & 0xFF {
            1 => Kind::Carrier,
            2 => Kind::Queue,
            3 => Kind::Pipe,
            4 => Kind::Lock,
            5 => Kind::Semaphore,
            6 => Kind::Event,
            7 => Kind::Condition,
            8 => Kind::Barrier,
            9 => Kind::Value,
            10 => Kind::Unbounded,
            11 => Kind::Stage,
            _ => Kind::Bytes,
        }
    }
}

/// What every object's block begins with.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// The two ends of a pipe.
    pub(crate) ends: [AtomicU64; 2],
    /// A bit for each member that holds it.
    marks: [AtomicU64; MEMBERS / 64],
    /// The body begins on a line of its own.
    _room: [AtomicU64; 6],
}

/// Where the object's own part begins.
pub(crate) const BODY: usize = size_of::<Head>();
const _: () = assert!(BODY == 192);

impl Head {
    pub(super) fn set(&self, member: Owner) {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].fetch_or(1 << (member % 64), Ordering::SeqCst);
    }

    pub(crate) fn clear(&self, member: Owner) {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].fetch_and(!(1 << (member % 64)), Ordering::SeqCst);
    }

    pub(crate) fn has(&self, member: Owner) -> bool {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].load(Ordering::SeqCst) & 1 << (member % 64) != 0
    }

    pub(super) fn is_marked(&self) -> bool {
        self.marks.iter().any(|marks| marks.load(Ordering::SeqCst) != 0)
    }
}

/// The head of whatever is in a block.
pub(crate) fn head(segment: &Segment, id: Id) -> Option<&Head> {
    let bytes = segment.block(id.class()?, id.index())?.cast::<Head>();
    // SAFETY: every block is at least as large as a head and aligned to its size; any bytes are atomics.
    Some(unsafe { bytes.as_ref() })
}
