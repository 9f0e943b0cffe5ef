//! Tasks that may borrow, since they end before the scope does.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::panic::resume_unwind;
use std::sync::Arc;

use super::crew::Crew;
use super::group::{Group, Node};
use super::shared::Shared;
use super::{here, memory};
use crate::os::Lock;
use crate::panics::{drop_quietly, forget_payload, guarded};
use crate::task::Ran;

/// Where tasks are spawned that may borrow what lives longer than the scope: see
/// [`ThreadPool::scope`](super::ThreadPool::scope).
pub struct Scope<'scope, 'env: 'scope> {
    crew: Option<Crew>,
    shared: Arc<Shared>,
    /// The first panic of a task.
    panic: Lock<Option<Box<dyn Any + Send>>>,
    lifetimes: PhantomData<(&'scope mut &'scope (), &'env mut &'env ())>,
}

impl<'scope> Scope<'scope, '_> {
    /// Runs a closure in one of the pool's workers, before the scope ends.
    ///
    /// On a closed pool, in a forked copy, and where there is no memory for the task, it is run by the thread that has the
    /// scope: in its turn, or at once. A panic is handed on to that thread at the end of the scope.
    pub fn spawn<F>(&'scope self, f: F)
    where
        F: FnOnce() + Send + 'scope,
    {
        // Without the crew in a copy that the scope's closure forked: another thread may have its list.
        let crew = self.crew.as_ref().filter(|_| !self.shared.is_foreign());
        let Some(crew) = crew else { return self.run_here(f) };
        let Some(place) = memory::take::<ScopeTask<F>>() else { return self.run_here(f) };
        let task = ScopeTask {
            node: Node::new(ScopeTask::<F>::run),
            scope: NonNull::from(self).cast(),
            closure: ManuallyDrop::new(f),
        };
        // SAFETY: room for it, just taken.
        unsafe { place.write(task) };
        // SAFETY: live until it is run, which is before the scope ends.
        if unsafe { crew.add(place.cast()) } {
            crew.issue_ticket();
        }
    }

    fn run_here(&self, f: impl FnOnce()) {
        let ran = self.guard(f);
        self.shared.note_group_task(ran);
    }

    fn guard(&self, f: impl FnOnce()) -> Ran {
        let Err(payload) = guarded(f) else { return Ran::Task };
        let mut first = self.panic.lock();
        if first.is_none() {
            *first = Some(payload);
        } else {
            drop(first);
            forget_payload(payload);
        }
        Ran::Panicked
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("pool", &self.shared.name).finish_non_exhaustive()
    }
}

/// A task of a scope, in a block.
#[repr(C)]
struct ScopeTask<F> {
    node: Node,
    scope: NonNull<Scope<'static, 'static>>,
    closure: ManuallyDrop<F>,
}

impl<F: FnOnce()> ScopeTask<F> {
    /// # Safety
    /// `node` begins a `Self` made by `spawn`, taken from the list of `group`, whose scope lives.
    unsafe fn run(node: NonNull<Node>, group: &Group) {
        let place = node.cast::<Self>();
        // SAFETY: the caller's duty.
        let scope = unsafe { &raw const (*place.as_ptr()).scope };
        // SAFETY: written by `spawn`.
        let scope = unsafe { scope.read() };
        // SAFETY: a live task's scope lives until the task has said that it finished.
        let scope = unsafe { scope.as_ref() };
        // SAFETY: the caller's duty.
        let closure = unsafe { &raw mut (*place.as_ptr()).closure };
        // SAFETY: moved out here, once.
        let closure = ManuallyDrop::into_inner(unsafe { closure.read() });
        // SAFETY: from `memory::take`; nobody uses it any more.
        unsafe { memory::give(place) };
        let ran = here::apart(|| scope.guard(closure));
        scope.shared.note_group_task(ran);
        group.finished();
    }
}

/// See [`ThreadPool::scope`](super::ThreadPool::scope).
pub(super) fn scope<'env, F, R>(shared: &'env Arc<Shared>, f: F) -> R
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    let scope = Scope {
        crew: if shared.is_foreign() { None } else { Crew::new(shared, None, shared.workers()).ok() },
        shared: Arc::clone(shared),
        panic: Lock::new(None),
        lifetimes: PhantomData,
    };
    // Also when `f` panics, the tasks that it spawned have to end before what they borrow does.
    let result = guarded(|| f(&scope));
    let ended = scope.crew.as_ref().map_or(Ok(()), |crew| crew.wait(shared.seat().is_some()));
    if let Err(forked) = ended {
        match result {
            Ok(value) => {
                drop_quietly(value);
                panic!("a scope's tasks were left behind: {forked}")
            }
            Err(payload) => resume_unwind(payload),
        }
    }
    let panic = scope.panic.lock().take();
    match (result, panic) {
        (Ok(value), None) => value,
        // What nobody gets is dropped before the panic goes on: one in it would end the process.
        (Ok(value), Some(payload)) => {
            drop_quietly(value);
            resume_unwind(payload)
        }
        (Err(payload), of_a_task) => {
            of_a_task.into_iter().for_each(forget_payload);
            resume_unwind(payload)
        }
    }
}
