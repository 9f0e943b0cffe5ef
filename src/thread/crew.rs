//! A group in a block, and the tickets that make workers come to it.

use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

use super::group::Group;
use super::job::{Entry, Job, JobTable, Ran};
use super::memory;
use super::shared::Shared;
use crate::primitive::{AtomicUsize, Ordering};
use crate::task::{PoolError, Wanted};

/// Tasks that one ticket runs before it goes to the back of the queue: other tasks want their turn.
const SHIFT: usize = 64;

#[repr(C)]
struct Inner {
    job: Job,
    pointers: AtomicUsize,
    shared: Arc<Shared>,
    /// The tasks are halves of forks.
    forks: bool,
    group: Group,
}

/// A counted pointer to a group, and to its pool.
pub(super) struct Crew(NonNull<Inner>);

// SAFETY: a group is shared between threads; the count is atomic.
unsafe impl Send for Crew {}
// SAFETY: as above.
unsafe impl Sync for Crew {}

const TABLE: JobTable = JobTable { run: come };

impl Crew {
    /// A group whose tasks the pool's workers run, at most `workers` of them at once.
    pub(super) fn new(shared: &Arc<Shared>, forks: bool, workers: usize) -> Result<Self, PoolError> {
        let place = memory::take::<Inner>().ok_or(PoolError::OutOfMemory)?;
        let inner = Inner {
            job: Job::new(&TABLE),
            pointers: AtomicUsize::new(1),
            shared: Arc::clone(shared),
            forks,
            group: Group::new(workers),
        };
        // SAFETY: room for it, just taken.
        unsafe { place.write(inner) };
        Ok(Self(place))
    }

    fn inner(&self) -> &Inner {
        // SAFETY: counted.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.inner().shared
    }

    /// Makes a worker come; a ticket is counted in the group already.
    pub(super) fn issue_ticket(&self) {
        core::mem::forget(self.clone());
        // SAFETY: counted just now; it is given up when the ticket is used.
        let entry = unsafe { Entry::new(self.0.cast()) };
        if let Err(entry) = self.shared().submit_ticket(entry) {
            let _ = entry.run(Wanted::Discard);
        }
    }
}

impl Deref for Crew {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.inner().group
    }
}

impl Clone for Crew {
    fn clone(&self) -> Self {
        // Relaxed: whoever clones has a pointer.
        self.inner().pointers.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // AcqRel: the last one sees all that was done with the group.
        if self.inner().pointers.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: nobody else has a pointer.
            unsafe { self.0.drop_in_place() };
            // SAFETY: from `memory::take::<Inner>`.
            unsafe { memory::give(self.0) };
        }
    }
}

/// What a worker does with a ticket.
///
/// # Safety
/// `job` begins an `Inner`, and one of its pointers is used up.
unsafe fn come(job: NonNull<Job>, wanted: Wanted) -> Ran {
    let crew = Crew(job.cast());
    if wanted != Wanted::Run {
        crew.give_up_ticket();
        return Ran::Ticket;
    }
    for _ in 0..SHIFT {
        let Some(node) = crew.pop_or_give_up_ticket() else { return Ran::Ticket };
        let work = || {
            // SAFETY: taken from the list, so it is live, and ours.
            let run = unsafe { node.as_ref() }.run;
            // SAFETY: as above.
            unsafe { run(node, &crew) };
        };
        if crew.inner().forks { super::fork_join::as_thief(&crew, work) } else { work() }
    }
    crew.issue_ticket();
    Ran::Ticket
}
