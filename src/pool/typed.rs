//! Pools of values of one type.

use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::ptr::NonNull;
use std::sync::Arc;

use super::arc::{ArcInner, PoolArc};
use super::boxed::{OwnedPoolBox, PoolBox};
use super::{BlockPool, BlockPoolBuilder, PoolStats};
use crate::block::MemoryError;

/// A pool of values of one type: `alloc` is what `Box::new` is to the heap, in blocks of just that size.
///
/// ```
/// use millpond::Pool;
///
/// #[derive(Default)]
/// struct Node { left: u32, right: u32 }
///
/// static NODES: Pool<Node> = Pool::new();
///
/// let mut node = NODES.alloc(Node::default());
/// node.left = 7;
/// std::thread::spawn(move || drop(node)).join().unwrap(); // from any thread, freed on any thread
/// ```
///
/// `Sync` for every `T`: the pool holds memory, not values. Dropping it follows [`BlockPool`]'s rules. A zero-sized `T`
/// takes a block too. Costs are those of [`BlockPool::take`].
pub struct Pool<T> {
    blocks: BlockPool,
    /// For values that are counted: their blocks are a word larger.
    counted: BlockPool,
    values: PhantomData<fn() -> T>,
}

/// There was no block for a value: here it is again, with the reason.
pub struct TryAllocError<T> {
    /// What was to be moved into a block.
    pub value: T,
    /// Why there was none.
    pub error: MemoryError,
}

impl<T> fmt::Debug for TryAllocError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryAllocError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TryAllocError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no block for a value of type {}: {}", core::any::type_name::<T>(), self.error)
    }
}

impl<T> std::error::Error for TryAllocError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Blocks for values of type `V`; a zero-sized one takes the smallest block.
const fn blocks_for<V>() -> BlockPool {
    let size = if size_of::<V>() == 0 { 1 } else { size_of::<V>() };
    BlockPool::new(size, align_of::<V>())
}

#[cold]
#[inline(never)]
fn fail(error: MemoryError, type_name: &str) -> ! {
    panic!("no block for a value of type {type_name}: {error}")
}

impl<T> Pool<T> {
    /// A pool without settings; `const`, so that it can be a static.
    ///
    /// # Panics
    /// If a `T` with a word in front of it, which a [`PoolArc`] needs, is larger than 16 MiB: in a `static` or `const` that
    /// is a compile-time error. [`Pool::builder`] gives an error instead.
    #[must_use]
    pub const fn new() -> Self {
        Self { blocks: blocks_for::<T>(), counted: blocks_for::<ArcInner<T>>(), values: PhantomData }
    }

    /// A pool with settings.
    pub fn builder() -> PoolBuilder<T> {
        let of = |size: usize, align| BlockPool::builder().block_size(size.max(1)).block_align(align);
        PoolBuilder {
            blocks: of(size_of::<T>(), align_of::<T>()),
            counted: of(size_of::<ArcInner<T>>(), align_of::<ArcInner<T>>()),
            values: PhantomData,
        }
    }

    /// Moves `value` into a block.
    ///
    /// # Panics
    /// If there is no block: the limit is reached, or the system has no memory. [`try_alloc`](Self::try_alloc) gives
    /// an error instead.
    #[inline]
    #[must_use = "dropping it gives the block back at once"]
    pub fn alloc(&self, value: T) -> PoolBox<'_, T> {
        match self.blocks.take_raw() {
            // SAFETY: a block for a `T`, just taken from this pool.
            Ok(block) => unsafe { PoolBox::write(&self.blocks, block.cast(), value) },
            Err(error) => fail(error, core::any::type_name::<T>()),
        }
    }

    /// Moves `value` into a block.
    ///
    /// # Errors
    /// [`TryAllocError`] with the value in it, if there is no block.
    #[inline]
    pub fn try_alloc(&self, value: T) -> Result<PoolBox<'_, T>, TryAllocError<T>> {
        match self.blocks.take_raw() {
            // SAFETY: a block for a `T`, just taken from this pool.
            Ok(block) => Ok(unsafe { PoolBox::write(&self.blocks, block.cast(), value) }),
            Err(error) => Err(TryAllocError { value, error }),
        }
    }

    /// Moves `value` into a block which keeps this pool alive: for threads and async tasks.
    ///
    /// # Panics
    /// As for [`alloc`](Self::alloc).
    #[inline]
    #[must_use = "dropping it gives the block back at once"]
    pub fn alloc_owned(self: &Arc<Self>, value: T) -> OwnedPoolBox<T> {
        match self.try_alloc_owned(value) {
            Ok(owned) => owned,
            Err(failed) => fail(failed.error, core::any::type_name::<T>()),
        }
    }

    /// Moves `value` into a block which keeps this pool alive.
    ///
    /// # Errors
    /// [`TryAllocError`] with the value in it, if there is no block.
    #[inline]
    pub fn try_alloc_owned(self: &Arc<Self>, value: T) -> Result<OwnedPoolBox<T>, TryAllocError<T>> {
        let boxed = self.try_alloc(value)?;
        Ok(OwnedPoolBox::new(boxed, Arc::clone(self)))
    }

    /// Moves `value` into a block where it stays until it is dropped. Only for pools that live for ever: memory of a
    /// pinned value that is forgotten must never be used again.
    ///
    /// ```compile_fail,E0597
    /// let pool = millpond::Pool::new();
    /// let pinned = pool.alloc_pin(1);
    /// ```
    ///
    /// # Panics
    /// As for [`alloc`](Self::alloc).
    #[must_use = "dropping it gives the block back at once"]
    pub fn alloc_pin(&'static self, value: T) -> Pin<PoolBox<'static, T>> {
        self.alloc(value).into_pin()
    }

    /// Moves `value` into a block that several owners share, like an `Arc`. Such blocks are a word larger, and counted
    /// apart: limit, reserve and statistics of the two kinds don't mix.
    ///
    /// # Panics
    /// As for [`alloc`](Self::alloc).
    #[must_use = "dropping it gives the block back at once"]
    pub fn alloc_arc(&self, value: T) -> PoolArc<'_, T> {
        match self.try_alloc_arc(value) {
            Ok(shared) => shared,
            Err(failed) => fail(failed.error, core::any::type_name::<T>()),
        }
    }

    /// Moves `value` into a block that several owners share.
    ///
    /// # Errors
    /// [`TryAllocError`] with the value in it, if there is no block.
    pub fn try_alloc_arc(&self, value: T) -> Result<PoolArc<'_, T>, TryAllocError<T>> {
        match self.counted.take_raw() {
            // SAFETY: a block for a counted `T`, just taken from this pool.
            Ok(block) => Ok(unsafe { PoolArc::write(&self.counted, block.cast(), value) }),
            Err(error) => Err(TryAllocError { value, error }),
        }
    }

    /// Makes at least `blocks` blocks ready.
    ///
    /// # Errors
    /// As for [`BlockPool::reserve`].
    pub fn reserve(&self, blocks: usize) -> Result<(), MemoryError> {
        self.blocks.reserve(blocks)
    }

    /// Figures of the blocks that boxes use.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.blocks.stats()
    }

    /// Figures of the blocks that [`PoolArc`]s use.
    #[must_use]
    pub fn arc_stats(&self) -> PoolStats {
        self.counted.stats()
    }

    /// Gives free memory back, this thread's too: see [`BlockPool::purge`].
    pub fn purge(&self) {
        self.blocks.purge();
        self.counted.purge();
    }
}

impl BlockPool {
    /// Fills a block with `len` values, as many as fit: like a boxed slice in a pool.
    ///
    /// ```
    /// use millpond::BlockPool;
    /// let pool = BlockPool::new(256, 8);
    /// let squares = pool.alloc_slice(10, |n| n * n)?;
    /// assert_eq!(squares[9], 81);
    /// assert!(pool.alloc_slice(1_000, |n| n).is_err());
    /// # Ok::<(), millpond::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] if they don't fit a block, and those of [`take`](Self::take).
    pub fn alloc_slice<V>(
        &self,
        len: usize,
        mut each: impl FnMut(usize) -> V,
    ) -> Result<PoolBox<'_, [V]>, MemoryError> {
        let bytes = len.saturating_mul(size_of::<V>());
        if bytes > self.block_size() || align_of::<V>() > self.block_align() {
            return Err(MemoryError::TooLarge { size: bytes, align: align_of::<V>(), max: self.block_size() });
        }
        let block: NonNull<V> = self.take_raw()?.cast();
        // SAFETY: a block just taken; no value yet.
        let mut slice = unsafe { PoolBox::from_parts(self, NonNull::slice_from_raw_parts(block, 0)) };
        for index in 0..len {
            let value = each(index);
            // SAFETY: `len` values fit the block.
            let place = unsafe { block.add(index) };
            // SAFETY: as above.
            unsafe { place.write(value) };
            // SAFETY: so many values were written: if `each` panics, just these are dropped.
            unsafe { slice.set_len(index + 1) };
        }
        Ok(slice)
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("of", &core::any::type_name::<T>()).field("blocks", &self.blocks).finish()
    }
}

/// Sets up a [`Pool`]: see [`Pool::builder`]. The settings are [`BlockPoolBuilder`]'s; each holds for the blocks of
/// boxes and for those of [`PoolArc`]s alike, but only boxes' blocks are reserved.
#[derive(Debug)]
#[must_use = "a builder makes a pool with `build`"]
pub struct PoolBuilder<T> {
    blocks: BlockPoolBuilder,
    counted: BlockPoolBuilder,
    values: PhantomData<fn() -> T>,
}

impl<T> PoolBuilder<T> {
    fn both(self, set: impl Fn(BlockPoolBuilder) -> BlockPoolBuilder) -> Self {
        Self { blocks: set(self.blocks), counted: set(self.counted), values: PhantomData }
    }

    /// See [`BlockPoolBuilder::reserve`].
    pub fn reserve(mut self, blocks: usize) -> Self {
        self.blocks = self.blocks.reserve(blocks);
        self
    }

    /// See [`BlockPoolBuilder::limit`].
    pub fn limit(self, blocks: usize) -> Self {
        self.both(|builder| builder.limit(blocks))
    }

    /// See [`BlockPoolBuilder::exact_limit`].
    pub fn exact_limit(self, exact: bool) -> Self {
        self.both(|builder| builder.exact_limit(exact))
    }

    /// See [`BlockPoolBuilder::magazine_size`].
    pub fn magazine_size(self, blocks: usize) -> Self {
        self.both(|builder| builder.magazine_size(blocks))
    }

    /// See [`BlockPoolBuilder::name`].
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.both(|builder| builder.name(name.clone()))
    }

    /// Makes the pool.
    ///
    /// # Errors
    /// As for [`BlockPoolBuilder::build`]. Too large is a `T` that is larger than 16 MiB with a word in front of it, which
    /// a [`PoolArc`] needs.
    pub fn build(self) -> Result<Pool<T>, MemoryError> {
        Ok(Pool { blocks: self.blocks.build()?, counted: self.counted.build()?, values: PhantomData })
    }
}
