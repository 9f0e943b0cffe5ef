//! Values that own their block.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::ptr::NonNull;
use std::sync::Arc;

use super::{BlockPool, Pool};

/// A value in a block of a pool: like `Box`. It moves between threads where `T: Send`; dropping it drops the value and
/// gives the block back, on whichever thread.
///
/// ```compile_fail,E0277
/// let pool = Box::leak(Box::new(millpond::Pool::new()));
/// let boxed = pool.alloc(std::rc::Rc::new(1));
/// std::thread::spawn(move || drop(boxed)); // an `Rc` stays in its thread
/// ```
/// ```compile_fail,E0597
/// let boxed = { let pool = millpond::Pool::new(); pool.alloc(1) }; // it would outlive its pool
/// ```
/// ```compile_fail,E0505
/// let pool = millpond::Pool::new();
/// let boxed = pool.alloc(1);
/// drop(pool);
/// drop(boxed);
/// ```
#[must_use = "dropping it drops the value and gives the block back at once"]
pub struct PoolBox<'p, T: ?Sized> {
    value: NonNull<T>,
    pool: &'p BlockPool,
    owns: PhantomData<T>,
}

// SAFETY: the box owns the value; the pool takes blocks back from any thread.
unsafe impl<T: ?Sized + Send> Send for PoolBox<'_, T> {}
// SAFETY: a shared box gives only shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for PoolBox<'_, T> {}

impl<'p, T> PoolBox<'p, T> {
    /// Moves `value` into a block.
    ///
    /// # Safety
    /// `block` was taken from `pool`, fits a `T`, and is nobody else's.
    #[inline(always)]
    pub(super) unsafe fn write(pool: &'p BlockPool, block: NonNull<T>, value: T) -> Self {
        // SAFETY: the caller's duty.
        unsafe { block.write(value) };
        Self { value: block, pool, owns: PhantomData }
    }

    /// Moves the value out; the block goes back.
    #[must_use]
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: the box owns the value, and is not dropped.
        let value = unsafe { this.value.read() };
        // SAFETY: the value was moved out, and the box is not dropped.
        unsafe { this.pool.give_back(this.value.cast()) };
        value
    }
}

impl<'p, T: ?Sized> PoolBox<'p, T> {
    /// # Safety
    /// `value` lies at the start of a block that was taken from `pool` and is nobody else's.
    pub(super) unsafe fn from_parts(pool: &'p BlockPool, value: NonNull<T>) -> Self {
        Self { value, pool, owns: PhantomData }
    }

    /// Takes the value and its block out of the box: see [`from_raw`](Self::from_raw).
    #[must_use = "the value and its block would be lost"]
    pub fn into_raw(this: Self) -> (NonNull<T>, &'p BlockPool) {
        let this = ManuallyDrop::new(this);
        (this.value, this.pool)
    }

    /// Puts it back.
    ///
    /// # Safety
    /// Both come from [`into_raw`](Self::into_raw) of one box, and this is used once for it.
    pub unsafe fn from_raw(value: NonNull<T>, pool: &'p BlockPool) -> Self {
        Self { value, pool, owns: PhantomData }
    }

    /// Never drops the value nor gives the block back: a reference for as long as the pool is borrowed.
    #[must_use]
    pub fn leak(this: Self) -> &'p mut T {
        let this = ManuallyDrop::new(this);
        // SAFETY: nobody else owns the value, and its block stays taken: a pool with a block out leaks its memory.
        unsafe { &mut *this.value.as_ptr() }
    }
}

impl<V> PoolBox<'_, [V]> {
    /// # Safety
    /// So many values are initialised.
    pub(super) unsafe fn set_len(&mut self, len: usize) {
        self.value = NonNull::slice_from_raw_parts(self.value.cast(), len);
    }
}

impl<T: ?Sized> PoolBox<'static, T> {
    /// Pins the value. Only for pools that live for ever: the memory of a pinned value that is forgotten must never be
    /// used again.
    #[must_use = "dropping it drops the value and gives the block back at once"]
    pub fn into_pin(self) -> Pin<Self> {
        // SAFETY: the value does not move while the box lives; a forgotten box's block is never handed out again.
        unsafe { Pin::new_unchecked(self) }
    }
}

impl<T: ?Sized> Drop for PoolBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the block back even if the value's drop panics.
        struct GiveBack<'p>(&'p BlockPool, NonNull<u8>);
        impl Drop for GiveBack<'_> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the box owned the block, and its value is gone.
                unsafe { self.0.give_back(self.1) }
            }
        }
        let _block = GiveBack(self.pool, self.value.cast());
        // SAFETY: the box owns the value and is gone after this.
        unsafe { self.value.drop_in_place() }
    }
}

/// A value in a block that keeps its pool alive: `'static` if `T` is, for threads and async tasks. See
/// [`Pool::alloc_owned`].
#[must_use = "dropping it drops the value and gives the block back at once"]
pub struct OwnedPoolBox<T> {
    /// Dropped by hand, before the pool. Its lifetime is the pool's, which the `Arc` keeps.
    boxed: ManuallyDrop<PoolBox<'static, T>>,
    pool: Arc<Pool<T>>,
}

impl<T> OwnedPoolBox<T> {
    pub(super) fn new(boxed: PoolBox<'_, T>, pool: Arc<Pool<T>>) -> Self {
        let (value, blocks) = PoolBox::into_raw(boxed);
        let blocks: *const BlockPool = blocks;
        // SAFETY: the pool lies in the `Arc`, which this value keeps for as long as the box; `drop` orders them.
        let blocks: &'static BlockPool = unsafe { &*blocks };
        // SAFETY: just taken out of a box.
        Self { boxed: ManuallyDrop::new(unsafe { PoolBox::from_raw(value, blocks) }), pool }
    }

    /// The pool that its block comes from.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool<T>> {
        &self.pool
    }

    /// Moves the value out; the block goes back.
    #[must_use]
    pub fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the box is taken once.
        let value = unsafe { ManuallyDrop::take(&mut this.boxed) }.into_inner();
        // SAFETY: as above for the `Arc`, after the box.
        drop(unsafe { core::ptr::read(&raw const this.pool) });
        value
    }

    /// Pins the value.
    #[must_use = "dropping it drops the value and gives the block back at once"]
    pub fn into_pin(self) -> Pin<Self> {
        // SAFETY: the value does not move while the box lives; if it is forgotten, the pool is never dropped.
        unsafe { Pin::new_unchecked(self) }
    }
}

impl<T> Drop for OwnedPoolBox<T> {
    fn drop(&mut self) {
        // SAFETY: not used after this; the pool goes later, as a field. If the value's drop panics, it goes as well.
        unsafe { ManuallyDrop::drop(&mut self.boxed) }
    }
}

impl<T: ?Sized> Deref for PoolBox<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the box owns the value.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for PoolBox<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns the value and is borrowed uniquely.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Deref for OwnedPoolBox<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.boxed
    }
}

impl<T> DerefMut for OwnedPoolBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.boxed
    }
}

/// What a box does as its value does.
macro_rules! like_its_value {
    ([$($generics:tt)*] $name:ty, $value:ty) => {
        impl<$($generics)*> Unpin for $name {}
        impl<$($generics)*> AsRef<$value> for $name {
            fn as_ref(&self) -> &$value {
                self
            }
        }
        impl<$($generics)*> AsMut<$value> for $name {
            fn as_mut(&mut self) -> &mut $value {
                self
            }
        }
        impl<$($generics)*> core::borrow::Borrow<$value> for $name {
            fn borrow(&self) -> &$value {
                self
            }
        }
        impl<$($generics)*> fmt::Debug for $name where $value: fmt::Debug {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
        impl<$($generics)*> fmt::Display for $name where $value: fmt::Display {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
        impl<$($generics)*> PartialEq for $name where $value: PartialEq {
            fn eq(&self, other: &Self) -> bool {
                **self == **other
            }
        }
        impl<$($generics)*> Eq for $name where $value: Eq {}
        impl<$($generics)*> PartialOrd for $name where $value: PartialOrd {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                (**self).partial_cmp(&**other)
            }
        }
        impl<$($generics)*> Ord for $name where $value: Ord {
            fn cmp(&self, other: &Self) -> Ordering {
                (**self).cmp(&**other)
            }
        }
        impl<$($generics)*> Hash for $name where $value: Hash {
            fn hash<H: Hasher>(&self, state: &mut H) {
                (**self).hash(state);
            }
        }
    };
}

like_its_value!(['p, T: ?Sized] PoolBox<'p, T>, T);
like_its_value!([T] OwnedPoolBox<T>, T);
