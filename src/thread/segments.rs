//! The segments of queues: blocks of 1 KiB, shared by all pools; boxes in the models.

use core::ptr::{self, NonNull};

use crate::primitive::{AtomicPtr, Ordering};

/// Entries in a segment.
#[cfg(not(millpond_loom))]
pub(super) const SLOTS: usize = 127;
#[cfg(millpond_loom)]
pub(super) const SLOTS: usize = 2;

/// A piece of a queue.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Segment<T> {
    next: AtomicPtr<Self>,
    slots: [AtomicPtr<T>; SLOTS],
}

impl<T> Segment<T> {
    /// # Safety
    /// The segment is live, the caller holds the back's lock, and `at` is below `SLOTS`.
    #[inline]
    pub(super) unsafe fn set(this: *mut Self, at: usize, entry: *mut T) {
        // SAFETY: the caller's duty.
        let slots = unsafe { &(*this).slots };
        // Relaxed: the counter of the queue publishes it (Q2).
        slots[at].store(entry, Ordering::Relaxed);
    }

    /// # Safety
    /// The segment is live, and `at` is below `SLOTS`.
    #[inline]
    pub(super) unsafe fn get(this: *mut Self, at: usize) -> *mut T {
        // SAFETY: the caller's duty.
        let slots = unsafe { &(*this).slots };
        // Relaxed: see `set`.
        slots[at].load(Ordering::Relaxed)
    }

    /// # Safety
    /// Both segments are live.
    pub(super) unsafe fn link(this: *mut Self, next: *mut Self) {
        // SAFETY: the caller's duty.
        let link = unsafe { &(*this).next };
        // Relaxed: whoever follows the link has seen the counter of an entry behind it (Q2).
        link.store(next, Ordering::Relaxed);
    }

    /// # Safety
    /// The segment is live.
    pub(super) unsafe fn next(this: *mut Self) -> *mut Self {
        // SAFETY: the caller's duty.
        let link = unsafe { &(*this).next };
        // Relaxed: see `link`.
        link.load(Ordering::Relaxed)
    }
}

#[cfg(not(millpond_loom))]
static SEGMENTS: crate::pool::BlockPool = crate::pool::BlockPool::new(1024, 64);

/// A segment without a successor; `None` if there is no memory.
#[cfg(not(millpond_loom))]
pub(super) fn take<T>() -> Option<NonNull<Segment<T>>> {
    const { assert!(size_of::<Segment<T>>() <= 1024) };
    let segment: NonNull<Segment<T>> = SEGMENTS.take_raw().ok()?.cast();
    let slots = core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
    // SAFETY: room for a segment, just taken.
    unsafe { segment.write(Segment { next: AtomicPtr::new(ptr::null_mut()), slots }) };
    Some(segment)
}

/// Gives a segment back.
///
/// # Safety
/// It is from `take`, live, and nobody uses it any more.
#[cfg(not(millpond_loom))]
pub(super) unsafe fn give<T>(segment: *mut Segment<T>) {
    if let Some(segment) = NonNull::new(segment) {
        // SAFETY: the caller's duty.
        unsafe { SEGMENTS.give_back(segment.cast()) };
    }
}

#[cfg(millpond_loom)]
pub(super) fn take<T>() -> Option<NonNull<Segment<T>>> {
    let slots = core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
    Some(NonNull::from(Box::leak(Box::new(Segment { next: AtomicPtr::new(ptr::null_mut()), slots }))))
}

#[cfg(millpond_loom)]
pub(super) unsafe fn give<T>(segment: *mut Segment<T>) {
    // SAFETY: made by `take`, and the caller's duty.
    drop(unsafe { Box::from_raw(segment) });
}
