//! A semaphore between processes and threads.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::error::SemaphoreError;
use super::handle;
use super::wait::{self, Waiter};
use crate::shm::bodies::SemaphoreBody;
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::permits::{self, NoPermit};
use crate::shm::shape::{Kind, Shape};
use crate::shm::{self, Here, ShmError};

/// A number of permits: whoever wants one waits until there is one.
///
/// It keeps account of who holds them. The permits of a process that dies come back, whatever it was doing. Cloning it,
/// or sending it to another process, gives another handle to the same semaphore. It takes 16 KiB of shared memory.
///
/// ```
/// use millpond::ipc::Semaphore;
/// let seats = Semaphore::new(2)?;
/// let first = seats.acquire()?;
/// let second = seats.acquire()?;
/// assert!(seats.try_acquire().is_err());
/// drop(first);
/// let third = seats.try_acquire()?;
/// # drop((second, third));
/// # Ok::<(), millpond::ipc::SemaphoreError>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    inner: Arc<Inner>,
}

struct Inner {
    hold: Hold,
    waiter: Waiter,
}

impl Semaphore {
    /// A semaphore with so many permits, up to 1,048,575.
    ///
    /// # Errors
    /// [`TooMany`](SemaphoreError::TooMany), [`Memory`](SemaphoreError::Memory).
    pub fn new(permits: usize) -> Result<Self, SemaphoreError> {
        let making = Making::new(size_of::<SemaphoreBody>())?;
        let hold = making.share(Shape::of::<()>(Kind::Semaphore))?;
        let semaphore = Self::of(hold);
        semaphore.release(permits)?;
        Ok(semaphore)
    }

    fn of(hold: Hold) -> Self {
        Self { inner: Arc::new(Inner { hold, waiter: Waiter::new() }) }
    }

    #[inline]
    fn body(&self) -> &SemaphoreBody {
        // SAFETY: made with such a body; it is made of atomics, and the hold keeps it.
        unsafe { self.inner.hold.body().cast::<SemaphoreBody>().as_ref() }
    }

    /// Takes a permit, waiting for one.
    ///
    /// # Errors
    /// [`Memory`](SemaphoreError::Memory).
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(None)
    }

    /// Takes a permit, waiting for one for some time.
    ///
    /// # Errors
    /// [`TimedOut`](SemaphoreError::TimedOut), [`Memory`](SemaphoreError::Memory).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(wait::deadline(timeout))
    }

    /// Takes a permit if one is left at this moment.
    ///
    /// # Errors
    /// [`NoPermits`](SemaphoreError::NoPermits), [`Memory`](SemaphoreError::Memory).
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, SemaphoreError> {
        let here = shm::here()?;
        self.take(here)?;
        Ok(Permit { semaphore: self })
    }

    fn take(&self, here: Here) -> Result<(), SemaphoreError> {
        self.body().permits().take(here.me()).map_err(|no| self.error(no, 1))
    }

    fn error(&self, no: NoPermit, more: usize) -> SemaphoreError {
        match no {
            NoPermit::NotNow => SemaphoreError::NoPermits,
            NoPermit::TooMany => {
                SemaphoreError::TooMany { permits: self.available().saturating_add(more), most: permits::MOST as usize }
            }
            NoPermit::Damaged => SemaphoreError::Memory(ShmError::Damaged),
        }
    }

    fn acquire_until(&self, deadline: Option<Instant>) -> Result<Permit<'_>, SemaphoreError> {
        let here = shm::here()?;
        let attempt = || match self.take(here) {
            Err(SemaphoreError::NoPermits) => None,
            other => Some(other),
        };
        if let Some(result) = attempt() {
            result?;
        } else {
            let late = || SemaphoreError::TimedOut;
            self.inner.waiter.until(&self.body().free, &self.inner.hold, deadline, late, attempt)?;
        }
        Ok(Permit { semaphore: self })
    }

    /// Adds permits, as many as are said. Those that this process holds by [forgotten](Permit::forget) permits come back
    /// first; what is beyond them is new. A [`Permit`] that still lives comes back when it is dropped, whatever is released.
    ///
    /// # Errors
    /// [`TooMany`](SemaphoreError::TooMany), [`Memory`](SemaphoreError::Memory).
    pub fn release(&self, permits: usize) -> Result<(), SemaphoreError> {
        let here = shm::here()?;
        let body = self.body();
        let more = u32::try_from(permits).unwrap_or(u32::MAX);
        let done = body.permits().release(here.me(), more).map_err(|no| self.error(no, permits));
        // Also after an error: what came back before it is there.
        if permits > 1 {
            body.free.wake_all()
        } else {
            body.free.wake_one()
        }
        done
    }

    /// Permits that are left at this moment.
    #[must_use]
    pub fn available(&self) -> usize {
        self.body().permits().left() as usize
    }

    /// Permits that this process holds at this moment, forgotten or not.
    ///
    /// # Errors
    /// [`Memory`](SemaphoreError::Memory).
    pub fn held(&self) -> Result<usize, SemaphoreError> {
        Ok(self.body().permits().held(shm::here()?.me()) as usize)
    }

    fn give(&self) {
        let Ok(here) = shm::here() else { return };
        let body = self.body();
        if body.permits().give(here.me()).is_ok() {
            body.free.wake_one_fenced();
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish()
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same semaphore.
impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner.hold, serializer)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handle::deserialize(Shape::of::<()>(Kind::Semaphore), deserializer).map(Self::of)
    }
}

/// A permit: it comes back when this is dropped, or when its process ends.
#[must_use = "the permit comes back when this is dropped"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit until [`Semaphore::release`], or this process's end, gives it back.
    pub fn forget(self) {
        if let Ok(here) = shm::here() {
            self.semaphore.body().permits().forget(here.me(), 1);
        }
        core::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.give();
    }
}
