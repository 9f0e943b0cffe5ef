//! `Allocator` for [`Heap`] and for pools, once for each version of the trait that people use.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use crate::{BlockPool, Heap};

/// What all versions of the trait ask for.
trait Serve {
    fn serve(&self, layout: Layout) -> Option<NonNull<[u8]>>;
    /// # Safety
    /// `at` is live, from `serve` of the same value, with a layout that fits.
    unsafe fn release(&self, at: NonNull<u8>, layout: Layout);
    /// Changes the size; what is kept is the smaller of both.
    ///
    /// # Safety
    /// As for `release`; on success the old pointer is nobody's.
    unsafe fn resize(&self, at: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>>;

    fn serve_zeroed(&self, layout: Layout) -> Option<NonNull<[u8]>> {
        let got = self.serve(layout)?;
        // SAFETY: just taken, so many bytes.
        unsafe { got.cast::<u8>().write_bytes(0, got.len()) };
        Some(got)
    }
}

fn nothing(align: usize) -> NonNull<[u8]> {
    let dangling = NonNull::new(ptr::without_provenance_mut(align)).unwrap_or(NonNull::dangling());
    NonNull::slice_from_raw_parts(dangling, 0)
}

/// Moves to a new place.
///
/// # Safety
/// As for [`Serve::resize`].
unsafe fn moved<S: Serve>(from: &S, at: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
    let got = from.serve(new)?;
    // SAFETY: both are live, distinct, and as large as the smaller of the two layouts.
    unsafe { got.cast::<u8>().copy_from_nonoverlapping(at, old.size().min(new.size())) };
    // SAFETY: the caller's duty.
    unsafe { from.release(at, old) };
    Some(got)
}

impl Serve for Heap {
    fn serve(&self, layout: Layout) -> Option<NonNull<[u8]>> {
        if layout.size() == 0 {
            return Some(nothing(layout.align()));
        }
        // SAFETY: the size isn't zero.
        let at = NonNull::new(unsafe { self.alloc(layout) })?;
        Some(NonNull::slice_from_raw_parts(at, layout.size()))
    }

    fn serve_zeroed(&self, layout: Layout) -> Option<NonNull<[u8]>> {
        if layout.size() == 0 {
            return Some(nothing(layout.align()));
        }
        // SAFETY: the size isn't zero.
        let at = NonNull::new(unsafe { self.alloc_zeroed(layout) })?;
        Some(NonNull::slice_from_raw_parts(at, layout.size()))
    }

    unsafe fn release(&self, at: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's duty; a layout that fits is the one it was allocated with.
            unsafe { self.dealloc(at.as_ptr(), layout) }
        }
    }

    unsafe fn resize(&self, at: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
        if old.align() != new.align() || old.size() == 0 || new.size() == 0 {
            // SAFETY: the caller's duty.
            return unsafe { moved(self, at, old, new) };
        }
        // SAFETY: the caller's duty; neither size is zero.
        let got = NonNull::new(unsafe { self.realloc(at.as_ptr(), old, new.size()) })?;
        Some(NonNull::slice_from_raw_parts(got, new.size()))
    }
}

impl BlockPool {
    fn fits(&self, layout: Layout) -> bool {
        layout.size() <= self.block_size() && layout.align() <= self.block_align()
    }

    fn whole(&self, block: NonNull<u8>) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(block, self.block_size())
    }
}

impl Serve for BlockPool {
    fn serve(&self, layout: Layout) -> Option<NonNull<[u8]>> {
        if layout.size() == 0 {
            return Some(nothing(layout.align()));
        }
        if !self.fits(layout) {
            return None;
        }
        self.take_raw().ok().map(|block| self.whole(block))
    }

    unsafe fn release(&self, at: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's duty.
            unsafe { self.give_back(at) }
        }
    }

    unsafe fn resize(&self, at: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
        if !self.fits(new) {
            return None;
        }
        if old.size() != 0 && new.size() != 0 {
            return Some(self.whole(at));
        }
        // SAFETY: the caller's duty.
        unsafe { moved(self, at, old, new) }
    }
}

/// The trait, for both, in one of its versions.
macro_rules! implement {
    ($trait:path, $error:path) => {
        implement!(Heap, $trait, $error);
        implement!(BlockPool, $trait, $error);
    };
    ($type:ty, $trait:path, $error:path) => {
        // SAFETY: memory stays live and in place until it is given back or the pool, with all that borrows it, is
        // gone; the methods follow the trait's contracts.
        unsafe impl $trait for $type {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $error> {
                self.serve(layout).ok_or($error)
            }
            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, $error> {
                self.serve_zeroed(layout).ok_or($error)
            }
            #[inline]
            unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's duty.
                unsafe { self.release(ptr, layout) }
            }
            #[inline]
            unsafe fn grow(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, $error> {
                // SAFETY: the caller's duty.
                unsafe { self.resize(ptr, old, new) }.ok_or($error)
            }
            unsafe fn grow_zeroed(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, $error> {
                // SAFETY: the caller's duty.
                let got = unsafe { self.resize(ptr, old, new) }.ok_or($error)?;
                // SAFETY: inside what was just got.
                let tail = unsafe { got.cast::<u8>().add(old.size()) };
                // SAFETY: as above.
                unsafe { tail.write_bytes(0, got.len() - old.size()) };
                Ok(got)
            }
            #[inline]
            unsafe fn shrink(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, $error> {
                // SAFETY: the caller's duty.
                unsafe { self.resize(ptr, old, new) }.ok_or($error)
            }
        }
    };
}

#[cfg(feature = "allocator-api2")]
implement!(allocator_api2::alloc::Allocator, allocator_api2::alloc::AllocError);
#[cfg(feature = "allocator-api2-04")]
implement!(allocator_api2_04::alloc::Allocator, allocator_api2_04::alloc::AllocError);
#[cfg(feature = "nightly")]
implement!(std::alloc::Allocator, std::alloc::AllocError);

#[cfg(test)]
mod tests {
    /// The same promises in each version of the trait.
    macro_rules! keeps_its_promises {
        ($name:ident, $vec:ident) => {
            #[test]
            fn $name() {
                let pool = crate::BlockPool::new(256, 8);
                let mut bytes = $vec::with_capacity_in(200, &pool);
                bytes.extend((0..200_u8).into_iter());
                bytes.reserve_exact(56);
                assert_eq!(pool.stats().live, 1, "grew in place");
                assert!(bytes.try_reserve(100).is_err(), "beyond the block");
                assert!(bytes.iter().copied().eq(0..200));
                let nothing: $vec<u64, _> = $vec::new_in(&pool);
                assert_eq!(pool.stats().live, 1, "no block for nothing");
                drop((bytes, nothing));
                assert_eq!(pool.stats().live, 0);

                let mut words = $vec::new_in(crate::Heap);
                (0..100_000_u64).for_each(|word| words.push(word));
                words.truncate(10);
                words.shrink_to_fit();
                assert!(words.iter().copied().eq(0..10));
            }
        };
    }

    #[cfg(feature = "allocator-api2")]
    mod version_02 {
        use allocator_api2::vec::Vec;
        keeps_its_promises!(vecs_of_allocator_api2_02_live_in_pools_and_in_the_heap, Vec);
    }
    #[cfg(feature = "allocator-api2-04")]
    mod version_04 {
        use allocator_api2_04::vec::Vec;
        keeps_its_promises!(vecs_of_allocator_api2_04_live_in_pools_and_in_the_heap, Vec);
    }
    #[cfg(feature = "nightly")]
    mod nightly {
        keeps_its_promises!(vecs_of_the_standard_library_live_in_pools_and_in_the_heap, Vec);
    }
}
