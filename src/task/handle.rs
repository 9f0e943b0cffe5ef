//! A handle to a task that runs somewhere else.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Finished, Outcome, State, TaskError};
use crate::os::Futex;
use crate::panics::{forget_payload, guarded};
use crate::primitive::UnsafeCell;

/// A pool's own way to sleep until a task is done. An error: this process never hears of its end.
pub(crate) type Sleep = unsafe fn(NonNull<Core>, Option<Instant>) -> Result<bool, TaskError>;
/// How a pool is told that a waker is in its place. An error: as above.
pub(crate) type Watch = unsafe fn(NonNull<Core>) -> Result<(), TaskError>;

/// What a handle asks of the pool that has its task.
#[repr(C)]
pub(crate) struct HandleTable {
    /// First, so that a core can begin with a pointer to it: what the pool's own queues need of a task.
    pub(crate) queue: unsafe fn(NonNull<Core>, Wanted) -> Ran,
    /// Second: whether a task that lies in a queue need not lie there any more.
    pub(crate) is_over: unsafe fn(NonNull<Core>) -> bool,
    /// Moves the outcome to `MaybeUninit<Result<R, TaskError>>`. The core is done, and TAKEN is the caller's.
    pub(crate) take: unsafe fn(NonNull<Core>, NonNull<()>),
    /// Before a wait: the pool may do the task here and now, if this thread is one of its own.
    pub(crate) help: unsafe fn(NonNull<Core>),
    /// Sleeps until the outcome is there, or by mistake; false: the deadline has passed. None: on the core's own word.
    pub(crate) sleep: Option<Sleep>,
    /// A waker is in its place: whoever finishes the task is to hear of it without anybody waiting. None: it is so anyway.
    pub(crate) watch: Option<Watch>,
    /// The outcome may be there and not taken in yet: takes it in. None: it never is.
    pub(crate) look: Option<Watch>,
    /// Has it never start, if it has not; where a pool can, also ends it while it runs. True: it gives no value.
    pub(crate) cancel: unsafe fn(NonNull<Core>) -> bool,
    /// Frees the core's memory, and drops an outcome that nobody took.
    pub(crate) free: unsafe fn(NonNull<Core>),
}

/// What a queue wants done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "thread"), allow(dead_code, reason = "thread pools make them"))]
pub(crate) enum Wanted {
    /// Run it.
    Run,
    /// The pool terminates: don't.
    Discard,
    /// It was never accepted: don't.
    Refuse,
}

/// What became of an entry that was run or discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "thread"), allow(dead_code, reason = "thread pools make them"))]
pub(crate) enum Ran {
    /// A task was run.
    Task,
    /// A task was run, and panicked.
    Panicked,
    /// Its task was cancelled, or is discarded now.
    Cancelled,
    /// Its task was run by somebody who waited for it, and is counted there.
    Helped,
    /// It was no task, but a pointer to where tasks are.
    Ticket,
}

/// What a handle sees of its task. It is the first field of whatever a pool keeps for a task.
#[repr(C)]
pub(crate) struct Core {
    table: &'static HandleTable,
    pub(crate) state: State,
    /// The number of the pool, for `help`.
    pub(crate) owner: u32,
    /// A box, so that a task that nobody awaits has no room for it.
    waker: UnsafeCell<MaybeUninit<Box<Waker>>>,
}

impl Core {
    pub(crate) fn new(table: &'static HandleTable, owner: u32) -> Self {
        Self { table, state: State::new(), owner, waker: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Whether somebody has the closure, or had it.
    ///
    /// # Safety
    /// `this` is a live core.
    pub(crate) unsafe fn is_claimed(this: NonNull<Self>) -> bool {
        // SAFETY: the caller's duty.
        unsafe { this.as_ref() }.state.is_started()
    }

    /// Says that the outcome is in its place, wakes who waits, and frees the block if nobody else has it. With
    /// `release`, the runner's pointer is given up too.
    ///
    /// # Safety
    /// `this` is a live core, claimed by the caller; the outcome fits what is in its place. With `release`, the caller
    /// has the runner's pointer and does not use it any more.
    #[inline]
    pub(crate) unsafe fn finish(this: NonNull<Self>, outcome: Outcome, release: bool) {
        // SAFETY: the caller's duty: live until the runner's pointer is given up.
        let core = unsafe { this.as_ref() };
        let (free, word) = (core.table.free, core.state.word() as *const Futex);
        let Finished { slept, waker, mut last } = core.state.finish(outcome, release);
        // Before the waker, which may want what a sleeper holds.
        if slept {
            Futex::wake_all_at(word);
        }
        if waker {
            // SAFETY: the state says that the place holds a waker, which is ours now; the pointer is still counted.
            let waker = unsafe { core.waker.get().cast::<Box<Waker>>().read() };
            if release {
                last = core.state.drop_queue();
            }
            // Somebody else's code; if it panics, nobody is harmed but its own task.
            if let Err(payload) = guarded(|| waker.wake()) {
                forget_payload(payload);
            }
        }
        if last {
            // SAFETY: nobody else has a pointer (T2).
            unsafe { free(this) }
        }
    }
}

/// A task that was handed to a pool: its result, and what can still be done about it.
///
/// Dropping the handle detaches the task: it runs all the same, and its result is dropped.
///
/// `join` may be called from anywhere, also from within a task of the same pool. Such a wait never runs a stranger's
/// task: if the awaited task has not started, the waiting thread runs just that one; if another worker is at it, the
/// thread sleeps. So tasks that wait for each other's handles end (unless they wait in a circle), and a thread that
/// holds a lock while it waits never meets a task that wants the same lock, other than the one it waits for.
///
/// A handle is a [`Future`]; polled by a worker of the task's own pool it may run the task there and then. Its waker is called
/// by the thread that ends the task, which may be one that cancels it, or that runs it since it waits for it.
///
/// ```
/// use millpond::thread::ThreadPool;
///
/// let pool = ThreadPool::builder().workers(2).build()?;
/// let handle = pool.apply_async(|| 6 * 7)?;
/// assert_eq!(handle.join()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a handle detaches its task; `spawn` says so more plainly"]
pub struct TaskHandle<R> {
    core: NonNull<Core>,
    result: PhantomData<R>,
}

// SAFETY: the core's steps are atomic; the result is moved out or dropped by one thread, which may be any.
unsafe impl<R: Send> Send for TaskHandle<R> {}
// SAFETY: through a shared handle the result is moved out once, never borrowed.
unsafe impl<R: Send> Sync for TaskHandle<R> {}
impl<R> Unpin for TaskHandle<R> {}

impl<R> TaskHandle<R> {
    /// The handle of a core.
    ///
    /// # Safety
    /// The core is live, its state says that a handle lives, no other one does, and its table's `take` writes an `R`.
    pub(crate) unsafe fn from_core(core: NonNull<Core>) -> Self {
        Self { core, result: PhantomData }
    }

    fn core(&self) -> &Core {
        // SAFETY: live as long as its handle (T2).
        unsafe { self.core.as_ref() }
    }

    /// The outcome, which is there, unless it was taken before.
    fn take(&self) -> Result<R, TaskError> {
        if !self.core().state.take() {
            return Err(TaskError::AlreadyJoined);
        }
        let mut place = MaybeUninit::<Result<R, TaskError>>::uninit();
        // SAFETY: done, and TAKEN is ours; the place is of the type that the table writes (`from_core`).
        unsafe { (self.core().table.take)(self.core, NonNull::from(&mut place).cast()) };
        // SAFETY: just written.
        unsafe { place.assume_init() }
    }

    #[inline]
    fn help(&self) {
        if !self.core().state.is_started() {
            // SAFETY: the core is live.
            unsafe { (self.core().table.help)(self.core) }
        }
    }

    /// Sleeps until the task is done, or by mistake. False: the deadline has passed.
    fn sleep(&self, deadline: Option<Instant>) -> Result<bool, TaskError> {
        match self.core().table.sleep {
            None => Ok(self.core().state.sleep(deadline)),
            // SAFETY: the core is live.
            Some(sleep) => unsafe { sleep(self.core, deadline) },
        }
    }

    /// The core, for its own pool.
    #[cfg(feature = "process")]
    pub(crate) fn core_pointer(&self) -> NonNull<Core> {
        self.core
    }

    /// Waits until the task is done, and leaves its result where it is.
    #[cfg(feature = "process")]
    pub(crate) fn wait(&self) -> Result<(), TaskError> {
        while !self.is_done() {
            self.sleep(None)?;
        }
        Ok(())
    }

    /// The same, until the deadline at most.
    #[cfg(feature = "process")]
    pub(crate) fn wait_until(&self, deadline: Instant) -> Result<(), TaskError> {
        while !self.is_done() && self.sleep(Some(deadline))? {}
        Ok(())
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`TaskError::Panicked`] if the task did, [`TaskError::Cancelled`] if it never started, [`TaskError::AlreadyJoined`]
    /// if the result was taken before; a process pool has more.
    pub fn join(&self) -> Result<R, TaskError> {
        if !self.is_done() {
            self.help();
            while !self.is_done() {
                self.sleep(None)?;
            }
        }
        self.take()
    }

    /// Waits for the result, but not longer than this. The handle can be joined again afterwards.
    ///
    /// A worker of the task's own pool that waits for a task which has not started runs it, for as long as it takes.
    ///
    /// # Errors
    /// [`TaskError::TimedOut`] if the task has not ended by then (it goes on), else as for [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        if !self.is_done() {
            self.help();
            let deadline = Instant::now().checked_add(timeout);
            while !self.is_done() {
                if !self.sleep(deadline)? && !self.is_done() {
                    return Err(TaskError::TimedOut);
                }
            }
        }
        self.take()
    }

    /// Has the task never start. True if that worked; false if it has started, or ended, already.
    ///
    /// The task's closure is dropped here; `join` then gives [`TaskError::Cancelled`]. A process pool's task is ended
    /// also while it runs: its worker is killed, and another takes its place.
    #[expect(clippy::must_use_candidate, reason = "trying is enough for most")]
    pub fn cancel(&self) -> bool {
        // SAFETY: the core is live.
        unsafe { (self.core().table.cancel)(self.core) }
    }

    /// Whether `join` would return at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if self.is_done() {
            return true;
        }
        // SAFETY: the core is live.
        let looked = self.core().table.look.map(|look| unsafe { look(self.core) });
        looked.is_some_and(|looked| looked.is_err() || self.is_done())
    }

    /// The same, as far as is known here: without looking for it.
    pub(crate) fn is_done(&self) -> bool {
        self.core().state.outcome().is_some()
    }

    /// Puts a waker in its place. False: the task is done.
    fn register(&self, waker: &Waker) -> bool {
        let core = self.core();
        let Some(old) = core.state.clear_waker() else { return false };
        let place = core.waker.get().cast::<Box<Waker>>();
        if old {
            // SAFETY: the state said that it holds one, which is ours since we cleared the bit; polls need `&mut self`.
            unsafe { place.drop_in_place() };
        }
        // SAFETY: the bit is clear, so the place is ours.
        unsafe { place.write(Box::new(waker.clone())) };
        if core.state.set_waker() {
            return true;
        }
        // SAFETY: the finisher did not see the bit, so the waker is still ours.
        unsafe { place.drop_in_place() };
        false
    }
}

impl<R> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_done() {
            self.help();
            if !self.is_done() && self.register(context.waker()) {
                if let Some(watch) = self.core().table.watch {
                    // SAFETY: the core is live.
                    unsafe { watch(self.core)? }
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }
}

impl<R> Drop for TaskHandle<R> {
    #[inline]
    fn drop(&mut self) {
        if self.core().state.drop_handle() {
            // SAFETY: nobody else has a pointer (T2).
            unsafe { (self.core().table.free)(self.core) }
        }
    }
}

impl<R> fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("state", &self.core().state).finish()
    }
}
