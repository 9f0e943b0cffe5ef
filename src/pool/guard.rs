//! Blocks that give themselves back.

use core::fmt;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::sync::Arc;

use super::BlockPool;

/// A block of a [`BlockPool`]: its bytes, uninitialised until written. Dropping it gives it back, on any thread.
///
/// ```compile_fail,E0505
/// let pool = millpond::BlockPool::new(64, 16);
/// let block = pool.take().unwrap();
/// drop(pool);
/// drop(block);
/// ```
#[must_use = "dropping it gives the block back at once"]
pub struct Block<'p> {
    raw: NonNull<u8>,
    pool: &'p BlockPool,
}

/// A [`Block`] that keeps its pool alive: see [`BlockPool::take_owned`].
#[must_use = "dropping it gives the block back at once"]
pub struct OwnedBlock {
    raw: NonNull<u8>,
    pool: Arc<BlockPool>,
}

impl<'p> Block<'p> {
    /// The pool that it comes from.
    #[must_use]
    pub fn pool(&self) -> &'p BlockPool {
        self.pool
    }

    /// Takes the block out of the guard: it has to be given back with [`BlockPool::give_back`] or
    /// [`from_raw`](Self::from_raw).
    #[must_use = "the block would be lost to the pool"]
    pub fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).raw
    }

    /// A guard for a block.
    ///
    /// # Safety
    /// The block was taken from this pool, is not given back, and this guard is its only owner.
    #[inline]
    pub unsafe fn from_raw(pool: &'p BlockPool, raw: NonNull<u8>) -> Self {
        Self { raw, pool }
    }
}

impl OwnedBlock {
    /// The pool that it comes from.
    #[must_use]
    pub fn pool(&self) -> &Arc<BlockPool> {
        &self.pool
    }

    /// Takes the block out of the guard, with its hold of the pool: it has to be given back with [`BlockPool::give_back`] or
    /// [`from_raw`](Self::from_raw).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use millpond::{BlockPool, OwnedBlock};
    /// let pool = Arc::new(BlockPool::new(4096, 64));
    /// let (its_pool, raw) = pool.take_owned()?.into_raw();
    /// // SAFETY: taken just now; nobody else has it.
    /// drop(unsafe { OwnedBlock::from_raw(its_pool, raw) });
    /// assert_eq!((pool.stats().live, Arc::strong_count(&pool)), (0, 1));
    /// # Ok::<(), millpond::MemoryError>(())
    /// ```
    #[must_use = "the block would be lost to the pool"]
    pub fn into_raw(self) -> (Arc<BlockPool>, NonNull<u8>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: read once; nothing drops the guard any more.
        (unsafe { core::ptr::from_ref(&this.pool).read() }, this.raw)
    }

    /// A guard for a block.
    ///
    /// # Safety
    /// The block was taken from this pool, is not given back, and this guard is its only owner.
    #[inline]
    pub unsafe fn from_raw(pool: Arc<BlockPool>, raw: NonNull<u8>) -> Self {
        Self { raw, pool }
    }
}

macro_rules! guard {
    ($name:ident $(<$life:lifetime>)?) => {
        // SAFETY: the guard owns the block's bytes; the pool takes blocks back from any thread.
        unsafe impl$(<$life>)? Send for $name$(<$life>)? {}
        // SAFETY: a shared guard gives only shared access to plain bytes.
        unsafe impl$(<$life>)? Sync for $name$(<$life>)? {}

        impl$(<$life>)? $name$(<$life>)? {
            /// The block's address.
            #[must_use]
            pub fn as_ptr(&self) -> *mut u8 {
                self.raw.as_ptr()
            }
        }

        impl$(<$life>)? Deref for $name$(<$life>)? {
            type Target = [MaybeUninit<u8>];
            #[inline]
            fn deref(&self) -> &Self::Target {
                // SAFETY: the guard owns that many bytes, and MaybeUninit asks nothing of them.
                unsafe { self.pool.as_bytes(self.raw).as_ref() }
            }
        }

        impl$(<$life>)? DerefMut for $name$(<$life>)? {
            #[inline]
            fn deref_mut(&mut self) -> &mut Self::Target {
                // SAFETY: as above, and the guard is borrowed uniquely.
                unsafe { self.pool.as_bytes(self.raw).as_mut() }
            }
        }

        impl$(<$life>)? Drop for $name$(<$life>)? {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the guard owned the block, and is gone after this.
                unsafe { self.pool.give_back(self.raw) }
            }
        }

        impl$(<$life>)? fmt::Debug for $name$(<$life>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} bytes at {:p})"), self.pool.block_size(), self.raw)
            }
        }
    };
}

guard!(Block<'p>);
guard!(OwnedBlock);
