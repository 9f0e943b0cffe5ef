//! A value in shared memory that everybody reads in place.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::codec::{self, Plain};
use super::handle;
use crate::shm::ShmError;
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{BODY, Kind, Shape};

/// Plain data in shared memory: like an `Arc` between processes.
///
/// Cloning it, or sending it to another process, gives another handle to the same value, which is read in place. Nobody
/// can change it, except through atomics: a `Shared<[AtomicU64; 8]>` is eight counters that all processes have in common.
/// For a value that changes as a whole there is [`Lock`](super::Lock).
///
/// The value itself is trusted: a process that writes over shared memory can make others read nonsense from it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// let hits = millpond::ipc::Shared::new([AtomicU64::new(0), AtomicU64::new(0)])?;
/// let same = hits.clone();
/// std::thread::spawn(move || same[1].fetch_add(5, Ordering::Relaxed)).join().unwrap();
/// assert_eq!(hits[1].load(Ordering::Relaxed), 5);
/// # Ok::<(), millpond::ipc::ShmError>(())
/// ```
pub struct Shared<T> {
    inner: Arc<Hold>,
    value: PhantomData<T>,
}

// SAFETY: as an `Arc<T>`.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as an `Arc<T>`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

fn offset<T>() -> usize {
    BODY.next_multiple_of(align_of::<T>()) - BODY
}

impl<T: Plain + Sync> Shared<T> {
    /// Puts a value into shared memory.
    ///
    /// # Errors
    /// The system refused memory.
    pub fn new(value: T) -> Result<Self, ShmError> {
        codec::expect_alignable::<T>();
        let making = Making::new(offset::<T>() + size_of::<T>())?;
        // SAFETY: the body has room for the value, and nobody else can see it yet.
        unsafe { Self::place(making.body()).write(value) };
        Ok(Self::of(making.share(Shape::of::<T>(Kind::Value))?))
    }

    fn of(hold: Hold) -> Self {
        Self { inner: Arc::new(hold), value: PhantomData }
    }
}

impl<T> Shared<T> {
    fn place(body: NonNull<u8>) -> NonNull<T> {
        // SAFETY: the body was made with room for a value there.
        unsafe { body.add(offset::<T>()) }.cast()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: written before it was shared, by nobody since; the hold keeps it. Any bytes are a value.
        unsafe { Self::place(self.inner.body()).as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), value: PhantomData }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same value.
impl<T: Plain + Sync> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner, serializer)
    }
}

impl<'de, T: Plain + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        codec::expect_alignable::<T>();
        handle::deserialize(Shape::of::<T>(Kind::Value), deserializer).map(Self::of)
    }
}
