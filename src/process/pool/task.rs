//! A task as its pool's parent keeps it: what it is given, who waits for it, and what came of it.

use core::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::super::codec::{self, Arrived};
use super::desk::Desk;
use super::forked::expect_not_forked;
use crate::primitive::{AtomicU32, Ordering, UnsafeCell};
use crate::shm::object::Hold;
use crate::task::{Core, HandleTable, Outcome, Payload, Ran, TaskError, TaskHandle, Wanted};

/// What came of a task: its value in bytes, or why there is none.
pub(super) type Ending = Result<Arrived, TaskError>;

/// Called with what came of a task.
pub(super) type Callback = Box<dyn FnOnce(Ending) + Send>;

/// Whom a task's end is told to.
pub(super) enum Claimant {
    Nobody,
    Handle(JobRef),
    Call(Callback),
    Channel(std::sync::mpsc::Sender<Ending>),
}

impl core::fmt::Debug for Claimant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Handle(_) => "Handle",
            Self::Call(_) => "Call",
            Self::Channel(_) => "Channel",
        })
    }
}

/// How long a task may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Then it is asked to stop.
    pub(super) soft: Option<Duration>,
    /// Then its worker is killed.
    pub(super) hard: Option<Duration>,
}

impl Limits {
    /// How long a task may run until something is to be done about it.
    pub(super) fn first(self) -> Option<Duration> {
        self.soft.into_iter().chain(self.hard).min()
    }
}

/// What the handles in a task's arguments are.
#[derive(Debug)]
pub(super) enum Handles {
    /// None, or references to these objects, in their order: they can be passed on again.
    Refer(Vec<Hold>),
    /// Some move, so the task can't run twice.
    Move,
}

impl Handles {
    pub(super) fn are_none(&self) -> bool {
        matches!(self, Self::Refer(objects) if objects.is_empty())
    }
}

/// A task that has not ended.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) claimant: Claimant,
    /// The function's place in the table, and its path.
    pub(super) function: u32,
    pub(super) path: &'static str,
    /// Whether it is many calls in one.
    pub(super) many: bool,
    /// Its arguments, with the handles in them, as long as they may be needed again.
    pub(super) arguments: Arrived,
    pub(super) handles: Handles,
    pub(super) retries: u32,
    pub(super) limits: Limits,
    /// The parent's own thread is to hear of its end.
    pub(super) watched: bool,
}

impl Task {
    /// Makes its arguments, of at most so many bytes, good for another worker than the one that died with them. False: they can't be.
    pub(super) fn renew(&mut self, most: usize) -> bool {
        let Handles::Refer(objects) = &self.handles else { return false };
        if !objects.is_empty() {
            let Ok(bytes) = codec::pass_on_again(self.arguments.bytes(), objects) else { return false };
            // What of the old ones nobody has claimed is released.
            self.arguments = Arrived::new(bytes);
        }
        self.arguments.bytes().len() <= most
    }
}

/// A task with a handle: the part that the handle sees.
#[repr(C)]
pub(super) struct Job {
    core: Core,
    desk: Arc<Desk>,
    number: u64,
    path: &'static str,
    /// The line that it waits in.
    pub(super) line: AtomicU32,
    /// Its slot, or beyond all.
    pub(super) slot: AtomicU32,
    ending: UnsafeCell<Option<Ending>>,
}

/// The desk's pointer to a job; there is one for each job until it has ended.
#[derive(Debug)]
pub(super) struct JobRef(NonNull<Job>);

// SAFETY: the job's shared words are atomic; its ending is written once, by whoever has this, before DONE.
unsafe impl Send for JobRef {}

impl JobRef {
    /// A job of a task with this number, and its handle.
    pub(super) fn new<R: DeserializeOwned>(desk: &Arc<Desk>, number: u64, path: &'static str) -> (Self, TaskHandle<R>) {
        let job = Job {
            core: Core::new(&Typed::<R>::TABLE, 0),
            desk: Arc::clone(desk),
            number,
            path,
            line: AtomicU32::new(0),
            slot: AtomicU32::new(u32::MAX),
            ending: UnsafeCell::new(None),
        };
        let job = NonNull::from(Box::leak(Box::new(job)));
        // SAFETY: live, its state says that a handle lives, this is the only one, and `take` writes an R.
        let handle = unsafe { TaskHandle::from_core(job.cast()) };
        (Self(job), handle)
    }

    pub(super) fn job(&self) -> &Job {
        // SAFETY: live until `end`, which takes this.
        unsafe { self.0.as_ref() }
    }

    /// Says what came of it, and wakes whoever waits.
    pub(super) fn end(self, ending: Ending) {
        let place = self.job().ending.get();
        // SAFETY: nobody reads it before DONE, and nobody else writes it (one JobRef).
        unsafe { place.write(Some(ending)) };
        let core: NonNull<Core> = self.0.cast();
        // Nothing has claimed it: in this pool a task is claimed by its word in the segment.
        self.job().core.state.start();
        // SAFETY: live; the outcome is in its place; the desk's pointer ends here.
        unsafe { Core::finish(core, Outcome::Value, true) };
    }
}

impl Job {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_done(&self) -> bool {
        self.core.state.outcome().is_some()
    }

    /// Sleeps in this process, until it is done or by mistake. False: the deadline has passed.
    pub(super) fn sleep(&self, deadline: Option<Instant>) -> bool {
        self.core.state.sleep(deadline)
    }

    pub(super) fn is_in(&self) -> (usize, u32) {
        // Relaxed: changed under the desk's lock, which the caller holds.
        (self.line.load(Ordering::Relaxed) as usize, self.slot.load(Ordering::Relaxed))
    }
}

/// The handle's way to a job whose value is an R.
struct Typed<R>(core::marker::PhantomData<fn() -> R>);

impl<R: DeserializeOwned> Typed<R> {
    const TABLE: HandleTable = HandleTable {
        queue: never_queued,
        is_over: Core::is_claimed,
        take: Self::take,
        help: nothing,
        sleep: Some(sleep),
        watch: Some(watch),
        look: Some(look),
        cancel,
        free,
    };

    unsafe fn take(core: NonNull<Core>, place: NonNull<()>) {
        // SAFETY: a job begins with its core.
        let job = unsafe { core.cast::<Job>().as_ref() };
        // SAFETY: done, and TAKEN is the caller's, so nobody else is at the ending.
        let ending = unsafe { (*job.ending.get()).take() };
        let value: Result<R, TaskError> = match ending {
            Some(Ok(bytes)) => {
                bytes.decode().map_err(|reason| TaskError::Decode { what: Payload::Result, task: job.path, reason })
            }
            Some(Err(error)) => Err(error),
            None => Err(TaskError::AlreadyJoined),
        };
        // SAFETY: the caller's place, for this type.
        unsafe { place.cast::<Result<R, TaskError>>().write(value) };
    }
}

unsafe fn never_queued(_: NonNull<Core>, _: Wanted) -> Ran {
    Ran::Helped
}

unsafe fn nothing(_: NonNull<Core>) {}

/// In a forked copy a task's end is nobody's to hear of, and the desk's lock may be a thread's that there is no more.
unsafe fn sleep(core: NonNull<Core>, deadline: Option<Instant>) -> Result<bool, TaskError> {
    expect_not_forked()?;
    // SAFETY: the handle lives, so the job does; it begins with its core.
    let job = unsafe { core.cast::<Job>().as_ref() };
    Ok(job.desk.wait_for(job, deadline))
}

unsafe fn watch(core: NonNull<Core>) -> Result<(), TaskError> {
    expect_not_forked()?;
    // SAFETY: as in `sleep`.
    let job = unsafe { core.cast::<Job>().as_ref() };
    job.desk.watch(job);
    Ok(())
}

unsafe fn look(core: NonNull<Core>) -> Result<(), TaskError> {
    expect_not_forked()?;
    // SAFETY: as in `sleep`.
    let job = unsafe { core.cast::<Job>().as_ref() };
    job.desk.look(job);
    Ok(())
}

unsafe fn cancel(core: NonNull<Core>) -> bool {
    // SAFETY: as in `sleep`.
    let job = unsafe { core.cast::<Job>().as_ref() };
    job.desk.cancel(job, true)
}

/// Has a task of a process pool never start, if it has not.
pub(super) fn cancel_waiting<R>(handle: &TaskHandle<R>) {
    // SAFETY: in this room all handles are of jobs, made by `JobRef::new`; the handle lives, so the job does.
    let job = unsafe { handle.core_pointer().cast::<Job>().as_ref() };
    job.desk.cancel(job, false);
}

unsafe fn free(core: NonNull<Core>) {
    // SAFETY: made by `JobRef::new` from a box, and nobody else has a pointer.
    drop(unsafe { Box::from_raw(core.cast::<Job>().as_ptr()) });
}
