//! A task that hands its result to a callback.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use super::entry::{Entry, Job, JobTable, never};
use super::memory;
use crate::panics::{drop_quietly, forget_payload, guarded, message};
use crate::task::{Ran, TaskError, Wanted};

/// Both closures, in a block.
#[repr(C)]
pub(super) struct Calling<F, C> {
    job: Job,
    task: ManuallyDrop<F>,
    then: ManuallyDrop<C>,
}

impl<F, R, C> Calling<F, C>
where
    F: FnOnce() -> R,
    C: FnOnce(Result<R, TaskError>),
{
    const TABLE: JobTable = JobTable { run: Self::run, is_over: never };

    /// An entry; nothing if there is no memory.
    ///
    /// # Safety
    /// Both closures and the result may be used on other threads, and borrow nothing that ends.
    pub(super) unsafe fn entry(task: F, then: C) -> Option<Entry> {
        let place = memory::take::<Self>()?;
        let (task, then) = (ManuallyDrop::new(task), ManuallyDrop::new(then));
        // SAFETY: room for it, just taken.
        unsafe { place.write(Self { job: Job::new(&Self::TABLE), task, then }) };
        // SAFETY: live until it is run; the rest is the caller's duty.
        Some(unsafe { Entry::new(place.cast()) })
    }

    /// # Safety
    /// `job` begins a `Self` made by `entry`, which is used up.
    unsafe fn run(job: NonNull<Job>, wanted: Wanted) -> Ran {
        let place = job.cast::<Self>();
        // SAFETY: the caller's duty; what is in it is moved out here, once.
        let Self { task, then, .. } = unsafe { place.read() };
        let (task, then) = (ManuallyDrop::into_inner(task), ManuallyDrop::into_inner(then));
        // SAFETY: made by `entry`; nobody uses it any more.
        unsafe { memory::give(place) };
        match wanted {
            Wanted::Refuse => {
                drop_quietly(task);
                drop_quietly(then);
                Ran::Cancelled
            }
            Wanted::Discard => {
                drop_quietly(task);
                if let Err(payload) = guarded(|| then(Err(TaskError::Cancelled))) {
                    forget_payload(payload);
                }
                Ran::Cancelled
            }
            Wanted::Run => {
                let result = guarded(task).map_err(|payload| TaskError::Panicked { message: message(payload) });
                let mut ran = if result.is_ok() { Ran::Task } else { Ran::Panicked };
                if let Err(payload) = guarded(|| then(result)) {
                    forget_payload(payload);
                    ran = Ran::Panicked;
                }
                ran
            }
        }
    }
}
