//! A group in a block, and the tickets that make workers come to it.

use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Entry, Job, JobTable, never};
use super::group::{Group, Node};
use super::memory;
use super::shared::Shared;
use crate::primitive::{AtomicUsize, Ordering, spin_loop};
use crate::task::{PoolError, Ran, Wanted};

/// Tasks that one ticket runs before it goes to the back of the queue: other tasks want their turn.
const SHIFT: usize = 64;

/// How long a waiter looks for halves, awake: two beats of whoever runs the half that it waits for.
const AWAKE: Duration = Duration::from_micros(60);
/// Pauses of the processor between two looks.
const PAUSES: u32 = 16;

/// Runs the work, in surroundings of its own.
pub(super) type Around = fn(&Crew, &mut dyn FnMut());

#[repr(C)]
struct Inner {
    job: Job,
    pointers: AtomicUsize,
    shared: Arc<Shared>,
    /// What is around each task that a worker runs for a ticket.
    around: Option<Around>,
    group: Group,
}

/// A counted pointer to a group, and to its pool.
pub(super) struct Crew(NonNull<Inner>);

// SAFETY: a group is shared between threads; the count is atomic.
unsafe impl Send for Crew {}
// SAFETY: as above.
unsafe impl Sync for Crew {}

const TABLE: JobTable = JobTable { run: come, is_over: never };

impl Crew {
    /// A group whose tasks the pool's workers run, at most `workers` of them at once.
    pub(super) fn new(shared: &Arc<Shared>, around: Option<Around>, workers: usize) -> Result<Self, PoolError> {
        let place = memory::take::<Inner>().ok_or(PoolError::OutOfMemory)?;
        let inner = Inner {
            job: Job::new(&TABLE),
            pointers: AtomicUsize::new(1),
            shared: Arc::clone(shared),
            around,
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

    /// Waits until all that was added has finished. With `help`, runs what is listed meanwhile.
    ///
    /// # Errors
    /// This process is a copy, forked meanwhile: what is not over never will be.
    pub(super) fn wait(&self, help: bool) -> Result<(), PoolError> {
        self.wait_until(help, || self.has_finished())
    }

    /// Waits until `over`; whatever makes it so rings afterwards.
    ///
    /// # Errors
    /// As for `wait`.
    pub(super) fn wait_until(&self, help: bool, over: impl Fn() -> bool) -> Result<(), PoolError> {
        let is_foreign = || self.shared().is_foreign();
        // Also between two tasks that it helps with: one of them may have forked.
        self.inner().group.wait_until(help, || over() || is_foreign());
        if is_foreign() && !over() { Err(PoolError::Forked) } else { Ok(()) }
    }

    /// Takes this very task, if it is still listed. In a forked copy it stays: somebody else may have the list.
    pub(super) fn take_back(&self, node: NonNull<Node>) -> bool {
        !self.shared().is_foreign() && self.inner().group.take_back(node)
    }

    /// Waits for a half that somebody else runs, and runs others meanwhile.
    ///
    /// # Errors
    /// As for `wait`.
    pub(super) fn wait_for_half(&self, over: impl Fn() -> bool) -> Result<(), PoolError> {
        while !self.shared().is_foreign()
            && let Some(node) = self.look_awake(&over)
        {
            // SAFETY: taken from the list, so it is live, and ours.
            let run = unsafe { node.as_ref() }.run;
            // SAFETY: as above.
            unsafe { run(node, self) };
        }
        self.wait_until(true, over)
    }

    /// Looks for a half for some time, awake, since they come every few microseconds; while it does, nobody is woken for one.
    fn look_awake(&self, over: impl Fn() -> bool) -> Option<NonNull<Node>> {
        let began = Instant::now();
        let (node, issue) = self.look(over, || {
            for _ in 0..PAUSES {
                spin_loop();
            }
            std::thread::yield_now();
            began.elapsed() < AWAKE
        });
        if issue {
            self.issue_ticket();
        }
        node
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
    let inner = crew.inner();
    for _ in 0..SHIFT {
        let next = match inner.around {
            // More may come soon; but other tasks want their turn.
            Some(_) => crew.look_awake(|| inner.group.has_ended() || inner.shared.has_queued()),
            None => None,
        };
        let Some(node) = next.or_else(|| crew.pop_or_give_up_ticket()) else { return Ran::Ticket };
        let mut work = || {
            // SAFETY: taken from the list, so it is live, and ours.
            let run = unsafe { node.as_ref() }.run;
            // SAFETY: as above.
            unsafe { run(node, &crew) };
        };
        match inner.around {
            Some(around) => around(&crew, &mut work),
            None => work(),
        }
    }
    crew.issue_ticket();
    Ran::Ticket
}
