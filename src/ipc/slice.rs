//! A slice in shared memory that moves between processes by its number.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::codec::{self, Plain};
use super::handle;
use crate::primitive::Ordering;
use crate::shm::id::{Id, Kind as IdKind};
use crate::shm::message;
use crate::shm::shape::{Kind, Shape};
use crate::shm::{self, Here, ShmError, free, step, store};

/// A slice of plain data in shared memory, with one owner: like a boxed slice that moves to another process without being
/// copied.
///
/// It moves as an argument or inside a message: a number goes over, the bytes stay where they are. Its memory stays with
/// the system's pages behind it when it is dropped, and is used again: up to 64 MiB for all free blocks of 64 KiB and more
/// together, and all smaller ones until the last process ends. A process that dies leaves none behind.
///
/// The bytes are trusted: a process that writes over shared memory can change them under their owner. What is sent has no
/// other owner: where something else holds the slice too, as the clone of an `Arc` around it does, sending it is an error,
/// and it stays. In a process that was made by a bare `fork` it is empty, which each access looks at: a loop over many is
/// best over one borrowed slice.
///
/// ```
/// use millpond::ipc::{Queue, SharedSlice};
/// let frames: Queue<SharedSlice<u8>> = Queue::bounded(8)?;
/// let mut frame = SharedSlice::<u8>::new(1 << 20)?;
/// frame[0] = 1;
/// frames.put(frame)?;
/// assert_eq!(frames.get()?[0], 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedSlice<T> {
    here: Here,
    /// The block, in the generation in which this process owns it.
    id: Id,
    first: NonNull<T>,
    len: usize,
    values: PhantomData<T>,
}

// SAFETY: it owns its values, as a box does.
unsafe impl<T: Send> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for SharedSlice<T> {}

/// Why a slice that came can't be used.
const NO_SLICE: ShmError = ShmError::Stale;

impl<T: Plain> SharedSlice<T> {
    /// A slice of so many values, all of them zero bytes.
    ///
    /// # Errors
    /// [`TooLarge`](ShmError::TooLarge) above 4 GiB; the system refused.
    pub fn new(len: usize) -> Result<Self, ShmError> {
        let (slice, dirty) = Self::taken(len)?;
        let stale = dirty.min(len * size_of::<T>());
        // SAFETY: the block has room for the bytes and is ours.
        unsafe { slice.first.cast::<u8>().write_bytes(0, stale) };
        Ok(slice)
    }

    /// A slice of so many values, whatever they are: what was in the memory before. Costs no time that grows with its
    /// length, once the memory has been used.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn unspecified(len: usize) -> Result<Self, ShmError> {
        Self::taken(len).map(|(slice, _)| slice)
    }

    /// A slice, and how many bytes of its block were ever written to. All of its own count as written from here on, before
    /// the first is: whoever dies with them half written leaves no block that passes for clean.
    fn taken(len: usize) -> Result<(Self, usize), ShmError> {
        codec::expect_alignable::<T>();
        let here = shm::here()?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(ShmError::TooLarge { bytes: usize::MAX })?;
        // Blocks are aligned to their size, up to a page, and that is at least the alignment of what they hold.
        let taken = store::take(here.segment, here.me(), bytes.max(align_of::<T>()))?;
        let slice = Self { here, id: taken.id, first: taken.bytes.cast(), len, values: PhantomData };
        let dirty = taken.soil(bytes);
        taken.entry.content.store(Shape::of::<T>(Kind::Bytes).bits(), Ordering::Release);
        step::reach(26);
        Ok((slice, dirty))
    }

    /// A slice with a copy of these values.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn from_slice(values: &[T]) -> Result<Self, ShmError>
    where
        T: Copy,
    {
        let mut slice = Self::unspecified(values.len())?;
        slice.copy_from_slice(values);
        Ok(slice)
    }
}

#[cfg(test)]
impl<T> SharedSlice<T> {
    /// Where it is.
    pub(super) fn block(&self) -> (Here, Id) {
        (self.here, self.id)
    }
}

impl<T> SharedSlice<T> {
    /// How many values are seen: none in a forked copy, for they are those of the process that it is a copy of.
    #[inline]
    fn seen(&self) -> usize {
        if self.here.is_still() { self.len } else { 0 }
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the block has room for so many values, is aligned, and is this value's alone; any bytes are values. It stays
        // so until this is dropped: a message that it moves in takes it over only then.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.seen()) }
    }
}

impl<T> DerefMut for SharedSlice<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the slice is borrowed uniquely.
        unsafe { core::slice::from_raw_parts_mut(self.first.as_ptr(), self.seen()) }
    }
}

impl<T> Drop for SharedSlice<T> {
    fn drop(&mut self) {
        // A slice that moves is its message's from here on. A child made by fork owns nothing of this.
        if !message::is_taken_over(self.id) && self.here.is_still() {
            store::give(self.here.segment, self.here.me(), self.id);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Only inside Millpond's own messages, in which the slice moves.
impl<T: Plain> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let listed = handle::listed(self.id)?;
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&listed.bits())?;
        pair.serialize_element(&(self.len as u64))?;
        pair.end()
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, len) = handle::taken_with_length(deserializer)?;
        let here = shm::here().map_err(handle::untaken)?;
        let found = Self::found(here, id, len);
        if found.is_none() {
            free::release(here.segment, here.me(), id);
        }
        found.ok_or_else(|| handle::untaken(NO_SLICE))
    }
}

impl<T: Plain> SharedSlice<T> {
    /// The slice of a block that this process has claimed, if it is one of this type and so long.
    fn found(here: Here, id: Id, len: u64) -> Option<Self> {
        codec::expect_alignable::<T>();
        if id.kind() != IdKind::Block {
            return None;
        }
        let class = id.class()?;
        let entry = here.segment.entry(class, id.index())?;
        let len = usize::try_from(len).ok()?;
        let fits = len.checked_mul(size_of::<T>())?.max(align_of::<T>()) <= class.size();
        if !fits || entry.content.load(Ordering::Acquire) != Shape::of::<T>(Kind::Bytes).bits() {
            return None;
        }
        let first = here.segment.block(class, id.index())?.cast();
        Some(Self { here, id, first, len, values: PhantomData })
    }
}
