//! Three kinds of jobs: [`Spawned`], a closure and no more; [`Task`], a closure, then its outcome, with a handle; and what
//! lies on the stack of somebody who waits for it ([`StackTask`]). Tickets of a group are a fourth (`crew.rs`).

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::time::Instant;

use super::entry::{Entry, Job, JobTable, never};
use super::{bounded, forked, here, memory, seat};
use crate::os::Futex;
use crate::panics::{drop_quietly, forget_payload, guarded, message};
use crate::primitive::{Ordering, UnsafeCell};
use crate::task::{Core, HandleTable, Outcome, Ran, TaskError, TaskHandle, Wanted};

/// A closure in a block, without a handle.
#[repr(C)]
pub(super) struct Spawned<F> {
    job: Job,
    closure: ManuallyDrop<F>,
}

impl<F: FnOnce()> Spawned<F> {
    const TABLE: JobTable = JobTable { run: Self::run, is_over: never };

    /// An entry for the closure, which goes back to the caller if there is no memory.
    ///
    /// # Safety
    /// The entry is run or discarded while all that the closure borrows lives, and the closure may run on another thread.
    #[inline]
    pub(super) unsafe fn entry(closure: F) -> Result<Entry, F> {
        let Some(place) = memory::take::<Self>() else { return Err(closure) };
        // SAFETY: room for a `Self`, just taken.
        unsafe { place.write(Self { job: Job::new(&Self::TABLE), closure: ManuallyDrop::new(closure) }) };
        // SAFETY: live until it is run; the rest is the caller's duty.
        Ok(unsafe { Entry::new(place.cast()) })
    }

    /// # Safety
    /// `job` begins a `Self` made by `entry`; it is used up.
    unsafe fn run(job: NonNull<Job>, wanted: Wanted) -> Ran {
        let place = job.cast::<Self>();
        // SAFETY: the caller's duty: live.
        let at = unsafe { &raw mut (*place.as_ptr()).closure };
        // SAFETY: the closure is moved out here, once.
        let closure = unsafe { ManuallyDrop::into_inner(at.read()) };
        // The block first: what the closure submits finds it warm.
        // SAFETY: made by `entry`; nobody uses it any more.
        unsafe { memory::give(place) };
        match wanted {
            Wanted::Run => match guarded(closure) {
                Ok(()) => Ran::Task,
                Err(payload) => {
                    forget_payload(payload);
                    Ran::Panicked
                }
            },
            Wanted::Discard | Wanted::Refuse => {
                drop_quietly(closure);
                Ran::Cancelled
            }
        }
    }
}

/// What a panic said.
struct Message(String);

/// A closure, then its outcome: each lies at the beginning.
#[repr(C)]
union Body<F, R> {
    closure: ManuallyDrop<F>,
    value: ManuallyDrop<R>,
    /// Boxed, so that it doesn't make the body of a small task larger.
    message: ManuallyDrop<Box<Message>>,
}

/// A task with a handle: both share the block.
#[repr(C)]
pub(super) struct Task<F, R> {
    core: Core,
    body: UnsafeCell<Body<F, R>>,
}

impl<F: FnOnce() -> R, R> Task<F, R> {
    const TABLE: HandleTable = HandleTable {
        queue: Self::run,
        is_over: Core::is_claimed,
        take: Self::take,
        help: Self::help,
        sleep: Some(Self::sleep),
        watch: Some(Self::watch),
        look: None,
        cancel: Self::cancel,
        free: Self::free,
    };

    /// An entry and a handle for the closure; the closure goes back to the caller if there is no memory.
    ///
    /// # Safety
    /// The closure and its result may be used, and dropped, on other threads, and borrow nothing that ends.
    #[inline]
    pub(super) unsafe fn entry(closure: F, owner: u32) -> Result<(Entry, TaskHandle<R>), F> {
        let Some(place) = memory::take::<Self>() else { return Err(closure) };
        let body = UnsafeCell::new(Body { closure: ManuallyDrop::new(closure) });
        // SAFETY: room for a `Self`, just taken.
        unsafe { place.write(Self { core: Core::new(&Self::TABLE, owner), body }) };
        // SAFETY: a core's first word is a pointer to a table whose first words are functions of these shapes; live until
        // it is run.
        let entry = unsafe { Entry::new(place.cast()) };
        // SAFETY: a new core with a handle; `take` writes a `Result<R, _>`.
        let handle = unsafe { TaskHandle::from_core(place.cast()) };
        Ok((entry, handle))
    }

    /// # Safety
    /// `core` begins a live `Self`.
    unsafe fn body(core: NonNull<Core>) -> *mut Body<F, R> {
        // SAFETY: the caller's duty.
        unsafe { (*core.cast::<Self>().as_ptr()).body.get() }
    }

    /// What a queue does with the task.
    ///
    /// # Safety
    /// `core` begins a live `Self`, and the queue's pointer is given up.
    unsafe fn run(core: NonNull<Core>, wanted: Wanted) -> Ran {
        // SAFETY: the caller's duty.
        let state = &unsafe { core.as_ref() }.state;
        if !state.start() {
            let cancelled = state.is_cancelled();
            if state.drop_queue() {
                // SAFETY: nobody else has a pointer.
                unsafe { Self::free(core) }
            }
            return if cancelled { Ran::Cancelled } else { Ran::Helped };
        }
        match wanted {
            // SAFETY: claimed just now.
            Wanted::Run => unsafe { Self::execute(core, true) },
            Wanted::Discard | Wanted::Refuse => {
                // SAFETY: as above.
                unsafe { Self::discard(core, true) };
                Ran::Cancelled
            }
        }
    }

    /// # Safety
    /// `core` begins a live `Self` that the caller claimed; with `release` the queue's pointer is given up.
    unsafe fn execute(core: NonNull<Core>, release: bool) -> Ran {
        // SAFETY: the caller's duty.
        let body = unsafe { Self::body(core) };
        // SAFETY: claimed, so the closure is there, and ours.
        let closure = unsafe { ManuallyDrop::into_inner(body.cast::<ManuallyDrop<F>>().read()) };
        let (outcome, next) = match guarded(closure) {
            Ok(value) => (Outcome::Value, Body { value: ManuallyDrop::new(value) }),
            Err(payload) => {
                (Outcome::Panicked, Body { message: ManuallyDrop::new(Box::new(Message(message(payload)))) })
            }
        };
        // SAFETY: the closure was moved out, and nobody looks before `finish`.
        unsafe { body.write(next) };
        // SAFETY: claimed, the outcome is in its place.
        unsafe { Core::finish(core, outcome, release) };
        if outcome == Outcome::Panicked { Ran::Panicked } else { Ran::Task }
    }

    /// # Safety
    /// As for `execute`.
    unsafe fn discard(core: NonNull<Core>, release: bool) {
        // SAFETY: the caller's duty.
        let body = unsafe { Self::body(core) };
        // SAFETY: claimed, so the closure is there, and ours.
        let closure = unsafe { ManuallyDrop::into_inner(body.cast::<ManuallyDrop<F>>().read()) };
        drop_quietly(closure);
        // SAFETY: claimed; this outcome has nothing in its place.
        unsafe { Core::finish(core, Outcome::Cancelled, release) };
    }

    /// # Safety
    /// `core` begins a live `Self` whose handle is the caller's.
    unsafe fn help(core: NonNull<Core>) {
        // SAFETY: the caller's duty.
        let shared = unsafe { core.as_ref() };
        if seat::is_of(shared.owner) && shared.state.start() {
            seat::task_over();
            // SAFETY: claimed. The queue's pointer stays.
            let ran = here::apart(|| unsafe { Self::execute(core, false) });
            seat::note(ran);
        }
    }

    /// # Safety
    /// `core` begins a live `Self` whose handle is the caller's.
    unsafe fn cancel(core: NonNull<Core>) -> bool {
        // SAFETY: the caller's duty.
        let shared = unsafe { core.as_ref() };
        if !shared.state.start_cancelling() {
            return false;
        }
        let owner = shared.owner;
        // SAFETY: claimed. The queue's pointer stays.
        unsafe { Self::discard(core, false) };
        bounded::task_over(owner);
        true
    }

    /// # Safety
    /// `core` begins a live `Self`.
    unsafe fn sleep(core: NonNull<Core>, deadline: Option<Instant>) -> Result<bool, TaskError> {
        // SAFETY: the caller's duty.
        let shared = unsafe { core.as_ref() };
        forked::expect_own(shared.owner)?;
        Ok(shared.state.sleep(deadline))
    }

    /// Whoever finishes the task wakes the waker, if there is anybody to finish it.
    ///
    /// # Safety
    /// As for `sleep`.
    unsafe fn watch(core: NonNull<Core>) -> Result<(), TaskError> {
        // SAFETY: the caller's duty.
        Ok(forked::expect_own(unsafe { core.as_ref() }.owner)?)
    }

    /// # Safety
    /// `core` begins a live `Self`, done, whose outcome is the caller's; `out` has room for a `Result<R, TaskError>`.
    unsafe fn take(core: NonNull<Core>, out: NonNull<()>) {
        // SAFETY: the caller's duty.
        let body = unsafe { Self::body(core) };
        // SAFETY: as above.
        let result = match unsafe { core.as_ref() }.state.outcome() {
            // SAFETY: a value is in its place, and moved out once (T4).
            Some(Outcome::Value) => Ok(unsafe { ManuallyDrop::into_inner(body.cast::<ManuallyDrop<R>>().read()) }),
            Some(Outcome::Panicked) => {
                // SAFETY: a message is in its place, and moved out once.
                let message = unsafe { ManuallyDrop::into_inner(body.cast::<ManuallyDrop<Box<Message>>>().read()) };
                Err(TaskError::Panicked { message: message.0 })
            }
            Some(Outcome::Cancelled) | None => Err(TaskError::Cancelled),
        };
        // SAFETY: room for it, says the caller.
        unsafe { out.cast::<Result<R, TaskError>>().write(result) };
    }

    /// # Safety
    /// `core` begins a `Self` that nobody else has a pointer to.
    unsafe fn free(core: NonNull<Core>) {
        // SAFETY: the caller's duty.
        let body = unsafe { Self::body(core) };
        // SAFETY: as above.
        match unsafe { core.as_ref() }.state.untaken() {
            Some(Outcome::Value) => {
                // SAFETY: a value is in its place, and nobody took it.
                let value = unsafe { ManuallyDrop::into_inner(body.cast::<ManuallyDrop<R>>().read()) };
                if core::mem::needs_drop::<R>() {
                    drop_quietly(value);
                }
            }
            Some(Outcome::Panicked) => {
                // SAFETY: a message is in its place, and nobody took it.
                drop(ManuallyDrop::into_inner(unsafe { body.cast::<ManuallyDrop<Box<Message>>>().read() }));
            }
            Some(Outcome::Cancelled) | None => {}
        }
        // SAFETY: made by `entry`; nobody uses it any more.
        unsafe { memory::give(core.cast::<Self>()) };
    }
}

/// A task on the stack of a thread that waits for it.
#[repr(C)]
pub(super) struct StackTask<F, R> {
    job: Job,
    /// 0, or `SLEPT`, then `DONE`.
    word: Futex,
    stage: UnsafeCell<Stage<F, R>>,
}

enum Stage<F, R> {
    Queued(F),
    Started,
    Value(R),
    Panicked(String),
    Discarded,
}

const SLEPT: u32 = 1;
const DONE: u32 = 2;

impl<F: FnOnce() -> R, R> StackTask<F, R> {
    const TABLE: JobTable = JobTable { run: Self::run, is_over: never };

    pub(super) fn new(closure: F) -> Self {
        let stage = UnsafeCell::new(Stage::Queued(closure));
        Self { job: Job::new(&Self::TABLE), word: Futex::new(0), stage }
    }

    /// Its entry.
    ///
    /// # Safety
    /// The task stays where it is until `wait` has returned, or the entry never got into a queue; one entry is made. The
    /// closure and its result may be used on other threads.
    pub(super) unsafe fn entry(&self) -> Entry {
        // The whole task's address, not the first field's alone.
        // SAFETY: the caller's duty.
        unsafe { Entry::new(NonNull::from(self).cast()) }
    }

    /// Sleeps until the task was run or discarded.
    pub(super) fn wait(&self) {
        // Acquire: pairs with the Release in `run`: the outcome is seen.
        while self.word.load(Ordering::Acquire) != DONE {
            let seen = self.word.compare_exchange(0, SLEPT, Ordering::Relaxed, Ordering::Relaxed);
            if seen != Err(DONE) {
                self.word.wait(SLEPT);
            }
        }
    }

    /// The outcome, after `wait`.
    pub(super) fn into_result(self) -> Result<R, TaskError> {
        match self.stage.into_inner() {
            Stage::Value(value) => Ok(value),
            Stage::Panicked(message) => Err(TaskError::Panicked { message }),
            Stage::Queued(_) | Stage::Started | Stage::Discarded => Err(TaskError::Cancelled),
        }
    }

    /// # Safety
    /// `job` begins a `Self` whose owner waits.
    unsafe fn run(job: NonNull<Job>, wanted: Wanted) -> Ran {
        let place = job.cast::<Self>();
        // SAFETY: the caller's duty: live until DONE.
        let this = unsafe { place.as_ref() };
        let word = &raw const this.word;
        // SAFETY: the one entry is used up here, and the owner looks after DONE.
        let stage = unsafe { &mut *this.stage.get() };
        let mut ran = Ran::Task;
        if let Stage::Queued(closure) = core::mem::replace(stage, Stage::Started) {
            *stage = match wanted {
                Wanted::Run => match guarded(closure) {
                    Ok(value) => Stage::Value(value),
                    Err(payload) => {
                        ran = Ran::Panicked;
                        Stage::Panicked(message(payload))
                    }
                },
                Wanted::Discard | Wanted::Refuse => {
                    drop_quietly(closure);
                    ran = Ran::Cancelled;
                    Stage::Discarded
                }
            };
        }
        // Release: pairs with the Acquire in `wait`. From here on the task may be gone.
        if this.word.swap(DONE, Ordering::Release) == SLEPT {
            Futex::wake_all_at(word);
        }
        ran
    }
}
