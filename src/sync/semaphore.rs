//! Semaphores: so many at a time, in order of arrival.

use core::fmt;
use core::mem;
use std::time::Duration;

use super::error::SemaphoreError;
use super::permits::Permits;
use crate::primitive::Deadline;

/// Lets so many at a time go on: a number of permits, each taken before something is done and given back after it.
///
/// ```
/// use millpond::sync::Semaphore;
///
/// static DOWNLOADS: Semaphore = Semaphore::bounded(3);
///
/// let permit = DOWNLOADS.acquire()?;
/// assert_eq!(DOWNLOADS.available(), 2);
/// drop(permit); // given back, also by a panic
/// assert!(DOWNLOADS.try_acquire_many(3).is_ok());
/// # Ok::<(), millpond::sync::SemaphoreError>(())
/// ```
///
/// Fair: permits go to threads in the order in which they came, and one that wants many is not passed by others that
/// want few, not even by [`try_acquire`](Self::try_acquire). So everybody's wait is bounded by what those ahead take.
///
/// [`bounded`](Self::bounded) guards a resource: there are never more permits than it was made with. [`new`](Self::new)
/// counts: [`release`](Self::release) makes new permits, so one thread can tell another how much there is to do.
///
/// Each operation takes one short lock; one that waits allocates its place in the queue.
pub struct Semaphore {
    permits: Permits,
}

impl Semaphore {
    /// A semaphore of this many free permits, to which more may be released. It may start with none.
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        Self { permits: Permits::new(permits, usize::MAX) }
    }

    /// A semaphore of this many free permits, and never more: a release beyond it is an error, and so is an attempt to
    /// take more at once than it has.
    #[must_use]
    pub const fn bounded(permits: usize) -> Self {
        Self { permits: Permits::new(permits, permits) }
    }

    /// Takes one permit; waits until it is free.
    ///
    /// # Errors
    /// [`Closed`](SemaphoreError::Closed), before or while it waits; [`TooMany`](SemaphoreError::TooMany) if it is
    /// bounded by 0.
    pub fn acquire(&self) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_many(1)
    }

    /// Takes so many permits at once; waits until all of them are free. None are taken while it waits.
    ///
    /// # Errors
    /// [`Closed`](SemaphoreError::Closed), before or while it waits; [`TooMany`](SemaphoreError::TooMany) if there can
    /// never be so many.
    pub fn acquire_many(&self, permits: usize) -> Result<Permit<'_>, SemaphoreError> {
        self.permits.take(permits, Deadline::NEVER)?;
        Ok(Permit { semaphore: self, permits })
    }

    /// Takes one permit if it is free now and nobody waits for one.
    ///
    /// # Errors
    /// [`NoPermits`](SemaphoreError::NoPermits), and those of [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Permit<'_>, SemaphoreError> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if all are free now and nobody waits for any.
    ///
    /// # Errors
    /// [`NoPermits`](SemaphoreError::NoPermits), and those of [`acquire_many`](Self::acquire_many).
    pub fn try_acquire_many(&self, permits: usize) -> Result<Permit<'_>, SemaphoreError> {
        self.permits.try_take(permits)?;
        Ok(Permit { semaphore: self, permits })
    }

    /// Takes one permit; waits for it, but not longer than this.
    ///
    /// # Errors
    /// [`TimedOut`](SemaphoreError::TimedOut), and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Takes so many permits; waits for them, but not longer than this. Whoever gives up leaves the queue, and those
    /// behind move up.
    ///
    /// # Errors
    /// [`TimedOut`](SemaphoreError::TimedOut), and those of [`acquire_many`](Self::acquire_many).
    pub fn acquire_many_timeout(&self, permits: usize, timeout: Duration) -> Result<Permit<'_>, SemaphoreError> {
        match self.permits.take(permits, Deadline::after(timeout)) {
            Ok(()) => Ok(Permit { semaphore: self, permits }),
            Err(SemaphoreError::NoPermits { wanted, .. }) => Err(SemaphoreError::TimedOut { wanted, waited: timeout }),
            Err(error) => Err(error),
        }
    }

    /// Adds free permits: those of forgotten [`Permit`]s, or, if it is not bounded, new ones.
    ///
    /// # Errors
    /// [`AboveLimit`](SemaphoreError::AboveLimit) if there would be more than the bound; then none are added.
    pub fn release(&self, permits: usize) -> Result<(), SemaphoreError> {
        self.permits.add(permits)
    }

    /// Gives no permits any more: whoever waits is told so at once, and so is whoever comes. Permits that are out can
    /// still be dropped. Closing twice does nothing.
    pub fn close(&self) {
        self.permits.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.permits.figures().closed
    }

    /// How many permits are free.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.figures().available
    }

    /// How many threads wait for permits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.permits.figures().waiting
    }

    /// The most permits there can be: `usize::MAX` if it is not bounded.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.permits.limit()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.permits.figures();
        let mut shown = f.debug_struct("Semaphore");
        shown.field("available", &figures.available).field("taken", &(figures.total - figures.available));
        shown.field("waiting", &figures.waiting).field("closed", &figures.closed).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], given back when this is dropped.
#[must_use = "dropping it gives the permits back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Permit<'_> {
    /// How many permits.
    #[must_use]
    pub const fn permits(&self) -> usize {
        self.permits
    }

    /// Does not give the permits back: they are gone until somebody calls [`Semaphore::release`].
    pub fn forget(self) {
        self.semaphore.permits.forget(self.permits);
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.permits.give(self.permits);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({})", self.permits)
    }
}
