//! The handle: `GlobalAlloc`, `Allocator`, and what a person may ask of the heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use super::class::{self, class_of, fine_class_of, padded};
use super::{HeapStats, large, thread};
use crate::block::{RESERVE, SMALLEST_BLOCK};

/// The process's heap: serves every size, as the global allocator or as an `Allocator`.
///
/// Zero-sized: every value is the same heap. Two lines make it a program's allocator:
///
/// ```
/// #[global_allocator]
/// static GLOBAL: millpond::Heap = millpond::Heap;
///
/// let words: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
/// assert_eq!(words.len(), 1000);
/// assert!(millpond::Heap::stats().live_bytes > 0);
/// ```
///
/// Allocating and freeing up to 32 KiB takes a constant number of instructions while the thread has free blocks of the
/// size (some ten), and one short lock for a batch of blocks otherwise. Larger sizes take a lock and a search of bitmaps.
///
/// **Errors**: out of memory, or past [`HeapConfig::hard_limit`](crate::HeapConfig::hard_limit), is a null pointer
/// (`GlobalAlloc`) or `AllocError` (`Allocator`); nothing is lost by it. **Panics**: none. Debug builds abort with a
/// message when a block is freed twice or with a layout that it doesn't have.
///
/// Magazines and depots are Bonwick's and Adams's ("Magazines and Vmem", USENIX 2001).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Heap;

impl Heap {
    /// Figures of the heap: see [`HeapStats`]. Stops nobody: threads that run go on; only the start and the end of
    /// threads wait for it.
    #[must_use]
    pub fn stats() -> HeapStats {
        HeapStats::gather()
    }

    /// Gives all that is free back to the system, that of pools and this thread's cached blocks too; returns how many
    /// bytes went, those included that other threads gave back meanwhile.
    ///
    /// Blocks that other threads keep in their caches stay there: have them call [`Heap::flush_thread`]. Bookkeeping
    /// stays too: 1 KiB for each batch of blocks that threads ever kept at once.
    pub fn purge() -> usize {
        thread::register();
        RESERVE.purge()
    }

    /// Gives the blocks that the calling thread keeps to the depots, where every thread finds them.
    ///
    /// For a thread that is about to do something else for long. A thread that ends does it by itself.
    pub fn flush_thread() {
        thread::flush();
    }
}

/// Whether the class follows from the size alone, which is so for nearly all requests.
#[inline(always)]
const fn is_plain(layout: Layout) -> bool {
    layout.size() <= class::FINE && layout.align() <= SMALLEST_BLOCK
}

/// A block or piece for the layout; null if there is none.
#[inline(always)]
fn alloc(layout: Layout) -> *mut u8 {
    let got = if is_plain(layout) { thread::alloc(fine_class_of(layout.size())) } else { alloc_other(layout) };
    got.map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// What [`is_plain`] leaves: apart, so that the usual case stays short wherever it is inlined.
#[cold]
#[inline(never)]
fn alloc_other(layout: Layout) -> Option<NonNull<u8>> {
    let size = padded(layout);
    if size <= class::LARGEST {
        thread::alloc(class_of(size, layout.align()))
    } else {
        large::alloc(layout).map(|(at, _)| at)
    }
}

/// # Safety
/// As for `GlobalAlloc::dealloc`.
#[inline(always)]
unsafe fn free(at: NonNull<u8>, layout: Layout) {
    if is_plain(layout) {
        // SAFETY: the caller's duty: the layout is the one it was allocated with, so this is its class.
        unsafe { thread::free(fine_class_of(layout.size()), at) }
    } else {
        // SAFETY: the caller's duty.
        unsafe { free_other(at, layout) }
    }
}

/// # Safety
/// As for `GlobalAlloc::dealloc`.
#[cold]
#[inline(never)]
unsafe fn free_other(at: NonNull<u8>, layout: Layout) {
    let size = padded(layout);
    if size <= class::LARGEST {
        // SAFETY: the caller's duty.
        unsafe { thread::free(class_of(size, layout.align()), at) }
    } else {
        // SAFETY: the caller's duty.
        unsafe { large::free(at, layout) }
    }
}

/// Moves what lies at `from` to a block for `new`, and frees it; null, and nothing changed, if there is none.
///
/// # Safety
/// As for `GlobalAlloc::realloc`; `new` differs from `old` in size only.
#[inline(always)]
unsafe fn move_to(from: NonNull<u8>, old: Layout, new: Layout) -> *mut u8 {
    let moved = alloc(new);
    if !moved.is_null() {
        // SAFETY: both are live and distinct, and as large as the smaller of the two sizes.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), moved, old.size().min(new.size())) };
        // SAFETY: the caller's duty; its bytes were moved.
        unsafe { free(from, old) };
    }
    moved
}

/// `realloc` where one of the layouts isn't [plain](is_plain).
///
/// # Safety
/// As for [`move_to`].
#[cold]
#[inline(never)]
unsafe fn realloc_other(at: NonNull<u8>, old: Layout, new: Layout) -> *mut u8 {
    let (from, to) = (padded(old), padded(new));
    if from <= class::LARGEST && to <= class::LARGEST {
        if class_of(from, old.align()) == class_of(to, new.align()) {
            return at.as_ptr();
        }
    } else if from > class::LARGEST && to > class::LARGEST {
        // SAFETY: the caller's duty: allocated with this layout.
        if let Some(at) = unsafe { large::resize(at, old, new) } {
            return at.as_ptr();
        }
    }
    // SAFETY: the caller's duty.
    unsafe { move_to(at, old, new) }
}

// SAFETY: blocks are live until they are freed, as large and as aligned as their layout asks (the classes' and the
// reserve's tests), and nothing here unwinds.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duty: what `alloc` returned for this layout is not null.
        let at = unsafe { NonNull::new_unchecked(ptr) };
        // SAFETY: the caller's duty.
        unsafe { free(at, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let size = padded(layout);
        let (at, zeroed) = if size <= class::LARGEST {
            (alloc(layout), false)
        } else {
            large::alloc(layout).map_or((ptr::null_mut(), true), |(at, zeroed)| (at.as_ptr(), zeroed))
        };
        if !zeroed && !at.is_null() {
            // SAFETY: just allocated, at least this large.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's duty: the new size, rounded up to the alignment, is at most isize::MAX.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller's duty: not null.
        let at = unsafe { NonNull::new_unchecked(ptr) };
        if !is_plain(layout) || new_size > class::FINE {
            // SAFETY: the caller's duty.
            return unsafe { realloc_other(at, layout, new) };
        }
        if fine_class_of(layout.size()) == fine_class_of(new_size) {
            return ptr;
        }
        // SAFETY: the caller's duty.
        unsafe { move_to(at, layout, new) }
    }
}
