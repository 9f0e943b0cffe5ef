//! Where tasks lie: blocks of 32, 64, 128 and 256 bytes, shared by all thread pools, so that a handle may outlive its pool.
//!
//! A block moves from the submitter's cache to the worker's and back in whole magazines. What is larger, or aligned to
//! more than a cache line, comes from the program's allocator.

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::pool::BlockPool;

static TINY: BlockPool = BlockPool::new(32, 32);
static SMALL: BlockPool = BlockPool::new(64, 64);
static MIDDLE: BlockPool = BlockPool::new(128, 64);
static LARGE: BlockPool = BlockPool::new(256, 64);

/// The pool whose blocks hold a `T`.
#[inline(always)]
const fn blocks<T>() -> Option<&'static BlockPool> {
    match (size_of::<T>(), align_of::<T>()) {
        (..=32, ..=32) => Some(&TINY),
        (..=64, ..=64) => Some(&SMALL),
        (..=128, ..=64) => Some(&MIDDLE),
        (..=256, ..=64) => Some(&LARGE),
        _ => None,
    }
}

/// Room for a `T`; `None` if there is no memory.
#[inline]
pub(super) fn take<T>() -> Option<NonNull<T>> {
    const { assert!(size_of::<T>() > 0) };
    match blocks::<T>() {
        Some(pool) => pool.take_raw().ok().map(NonNull::cast),
        // SAFETY: the layout's size is not 0.
        None => NonNull::new(unsafe { std::alloc::alloc(Layout::new::<T>()) }.cast()),
    }
}

/// Gives the room back. What lies there is not dropped.
///
/// # Safety
/// It came from `take::<T>`, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give<T>(place: NonNull<T>) {
    match blocks::<T>() {
        // SAFETY: the caller's duty: from this pool, since the pool follows from the type.
        Some(pool) => unsafe { pool.give_back(place.cast()) },
        // SAFETY: the caller's duty: made with this layout.
        None => unsafe { std::alloc::dealloc(place.as_ptr().cast(), Layout::new::<T>()) },
    }
}
