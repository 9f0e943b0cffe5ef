//! What lies in a queue: a pointer to a job. A job begins with a pointer to a function that knows the rest.

use core::ptr::NonNull;

use crate::task::{Ran, Wanted};

/// The first word of everything that can be queued.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Job {
    table: &'static JobTable,
}

/// What can be done with a job: once, and then the queue's pointer to it is gone.
#[repr(C)]
#[derive(Debug)]
pub(super) struct JobTable {
    pub(super) run: unsafe fn(NonNull<Job>, Wanted) -> Ran,
    /// Whether nobody need run it any more, though it is queued: `run` would only give the pointer up.
    pub(super) is_over: unsafe fn(NonNull<Job>) -> bool,
}

/// For a job that only its queue can run.
///
/// # Safety
/// None is needed.
pub(super) unsafe fn never(_: NonNull<Job>) -> bool {
    false
}

impl Job {
    pub(super) const fn new(table: &'static JobTable) -> Self {
        Self { table }
    }
}

/// A queue's pointer to a job. Whoever holds it runs it or discards it, or the job is leaked.
#[derive(Debug)]
#[must_use = "a job that is forgotten never ends"]
#[repr(transparent)]
pub(super) struct Entry(NonNull<Job>);

// SAFETY: what can be queued was `Send` when the job was made.
unsafe impl Send for Entry {}

impl Entry {
    /// # Safety
    /// The job is live until it is run or discarded through this entry, which is the only one for it (a group has as many
    /// as it counts), and what it runs may run on another thread.
    #[inline]
    pub(super) unsafe fn new(job: NonNull<Job>) -> Self {
        Self(job)
    }

    /// The pointer, for a queue: once it is in, the entry is forgotten (it has nothing to drop).
    #[inline]
    pub(super) fn as_raw(&self) -> NonNull<Job> {
        self.0
    }

    /// What a queue of jobs held: it was put there by `as_raw`, and comes out once (Q1).
    #[inline]
    pub(super) fn from_queue(raw: NonNull<Job>) -> Self {
        Self(raw)
    }

    /// Runs the job, or discards it. Never unwinds.
    #[inline]
    pub(super) fn run(self, wanted: Wanted) -> Ran {
        // SAFETY: live, as `new` demands.
        let run = unsafe { self.0.as_ref() }.table.run;
        // SAFETY: the entry is used up here.
        unsafe { run(self.0, wanted) }
    }

    /// Whether the job is over, and nothing is left but to give this entry up.
    pub(super) fn is_over(&self) -> bool {
        // SAFETY: live, as `new` demands.
        let is_over = unsafe { self.0.as_ref() }.table.is_over;
        // SAFETY: as above.
        unsafe { is_over(self.0) }
    }

    /// Has the processor fetch the job.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(self.0.as_ptr());
    }
}

#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
