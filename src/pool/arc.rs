//! Values that share their block.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

use super::BlockPool;
use super::owners::Owners;

/// What lies in a shared block.
#[repr(C)]
pub(super) struct ArcInner<T> {
    owners: Owners,
    value: T,
}

/// A value in a block of a pool that several owners share: like `Arc`, without weak references. The last owner drops
/// the value and gives the block back.
///
/// ```
/// use millpond::Pool;
/// static NAMES: Pool<String> = Pool::new();
/// let one = NAMES.alloc_arc("mill".to_owned());
/// let two = one.clone();
/// std::thread::spawn(move || assert_eq!(*two, "mill")).join().unwrap();
/// assert_eq!(millpond::PoolArc::strong_count(&one), 1);
/// ```
#[must_use = "dropping the last one drops the value"]
pub struct PoolArc<'p, T> {
    inner: NonNull<ArcInner<T>>,
    pool: &'p BlockPool,
    owns: PhantomData<T>,
}

// SAFETY: as for `Arc`: owners on several threads share the value, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for PoolArc<'_, T> {}
// SAFETY: as above: a shared owner can be cloned.
unsafe impl<T: Send + Sync> Sync for PoolArc<'_, T> {}

impl<T> Unpin for PoolArc<'_, T> {}

impl<'p, T> PoolArc<'p, T> {
    /// Moves `value` into a block.
    ///
    /// # Safety
    /// `block` was taken from `pool`, fits, and is nobody else's.
    pub(super) unsafe fn write(pool: &'p BlockPool, block: NonNull<ArcInner<T>>, value: T) -> Self {
        // SAFETY: the caller's duty.
        unsafe { block.write(ArcInner { owners: Owners::one(), value }) };
        Self { inner: block, pool, owns: PhantomData }
    }

    fn inner(&self) -> &ArcInner<T> {
        // SAFETY: an owner keeps the block.
        unsafe { self.inner.as_ref() }
    }

    /// How many owners there are, as `Arc::strong_count`; others may come and go meanwhile.
    #[must_use]
    pub fn strong_count(this: &Self) -> usize {
        this.inner().owners.count()
    }

    /// Whether both are owners of one value.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.inner == other.inner
    }

    /// The value, if this is its only owner.
    #[must_use]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if this.inner().owners.is_one() {
            // SAFETY: the only owner is borrowed uniquely, and comes after all others (O1); without weak references no other can appear.
            Some(unsafe { &mut (*this.inner.as_ptr()).value })
        } else {
            None
        }
    }

    /// Moves the value out, if this is its only owner.
    ///
    /// # Errors
    /// Gives the owner back, if there are others.
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        if !this.inner().owners.is_one() {
            return Err(this);
        }
        let this = ManuallyDrop::new(this);
        // SAFETY: the only owner (O1), which is not dropped.
        let inner = unsafe { this.inner.read() };
        // SAFETY: the value was moved out.
        unsafe { this.pool.give_back(this.inner.cast()) };
        Ok(inner.value)
    }
}

impl<T> Clone for PoolArc<'_, T> {
    fn clone(&self) -> Self {
        self.inner().owners.more();
        Self { inner: self.inner, pool: self.pool, owns: PhantomData }
    }
}

impl<T> Drop for PoolArc<'_, T> {
    fn drop(&mut self) {
        if !self.inner().owners.leave() {
            return;
        }
        struct GiveBack<'p>(&'p BlockPool, NonNull<u8>);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                // SAFETY: the last owner had the block, and its value is gone.
                unsafe { self.0.give_back(self.1) }
            }
        }
        let _block = GiveBack(self.pool, self.inner.cast());
        // SAFETY: the last owner (O1, O2).
        unsafe { self.inner.drop_in_place() }
    }
}

impl<T> Deref for PoolArc<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> AsRef<T> for PoolArc<'_, T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for PoolArc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for PoolArc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
