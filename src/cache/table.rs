//! Tables of the registry and of its threads, in memory that comes from the reserve: nothing here may allocate.

use core::ptr::{self, NonNull};

/// A growing array in memory of its own.
#[derive(Debug)]
pub(super) struct Table<T> {
    items: *mut T,
    len: usize,
    room: usize,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self { items: ptr::null_mut(), len: 0, room: 0 }
    }

    pub(super) fn as_slice(&self) -> &[T] {
        if self.items.is_null() {
            return &[];
        }
        // SAFETY: `len` items were written.
        unsafe { core::slice::from_raw_parts(self.items, self.len) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.items.is_null() {
            return &mut [];
        }
        // SAFETY: `len` items were written.
        unsafe { core::slice::from_raw_parts_mut(self.items, self.len) }
    }

    /// Adds an item; its index.
    pub(super) fn grow(&mut self, item: impl FnOnce() -> T) -> Option<usize> {
        if self.len == self.room {
            let (new, room) = memory::take::<T>((self.room * 2).max(1))?;
            if let Some(old) = NonNull::new(self.items) {
                // SAFETY: `len` items move into the larger table.
                unsafe { ptr::copy_nonoverlapping(old.as_ptr(), new.as_ptr(), self.len) };
                // SAFETY: made here, with this room; its items were moved.
                unsafe { memory::give(old, self.room) };
            }
            (self.items, self.room) = (new.as_ptr(), room);
        }
        // SAFETY: len < room.
        let place = unsafe { self.items.add(self.len) };
        // SAFETY: as above.
        unsafe { place.write(item()) };
        self.len += 1;
        Some(self.len - 1)
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        if let Some(items) = NonNull::new(self.items) {
            // SAFETY: made by `grow`, with this room; the items need no drop.
            unsafe { memory::give(items, self.room) };
        }
    }
}

/// Memory for tables.
pub(super) mod memory {
    use core::ptr::NonNull;

    #[cfg(not(millpond_loom))]
    use crate::block::{QUANTUM, RESERVE};

    /// Room for at least `least` items, and for how many.
    #[cfg(not(millpond_loom))]
    pub(in crate::cache) fn take<T>(least: usize) -> Option<(NonNull<T>, usize)> {
        let bytes = least.checked_mul(size_of::<T>())?.checked_next_multiple_of(QUANTUM)?;
        if bytes > crate::block::LARGEST_IN_REGION {
            return None;
        }
        let (memory, _) = RESERVE.alloc(bytes, QUANTUM)?;
        Some((memory.cast(), bytes / size_of::<T>()))
    }

    /// # Safety
    /// From [`take`], with the room that it said, and nobody's any more.
    #[cfg(not(millpond_loom))]
    pub(in crate::cache) unsafe fn give<T>(items: NonNull<T>, room: usize) {
        RESERVE.free(items.cast(), (room * size_of::<T>()).next_multiple_of(QUANTUM));
    }

    #[cfg(millpond_loom)]
    pub(in crate::cache) fn take<T>(least: usize) -> Option<(NonNull<T>, usize)> {
        let items = Box::leak(Box::<[T]>::new_uninit_slice(least));
        Some((NonNull::from(items).cast(), least))
    }

    /// # Safety
    /// From [`take`], with the room that it said, and nobody's any more.
    #[cfg(millpond_loom)]
    pub(in crate::cache) unsafe fn give<T>(items: NonNull<T>, room: usize) {
        let items = core::ptr::slice_from_raw_parts_mut(items.cast::<core::mem::MaybeUninit<T>>().as_ptr(), room);
        // SAFETY: the caller's duty: the box leaked by `take`.
        drop(unsafe { Box::from_raw(items) });
    }
}
