//! The second half of a fork, on the stack of the fork's thread: a closure, then what another thread's run came to.
//!
//! F2. A promoted frame is run once: by whoever takes it from its group, or by its own thread, which takes it back.
//! F3. A frame is left only when nobody else has a pointer to it: never promoted, taken back, or finished.

use core::any::Any;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use super::group::{Group, Node};
use crate::panics::{drop_quietly, guarded};
use crate::primitive::{AtomicU32, Ordering, UnsafeCell};

/// The second half of a fork.
#[repr(C)]
pub(super) struct Frame<B, R> {
    node: Node,
    /// What is in `half`.
    stage: AtomicU32,
    half: UnsafeCell<Half<B, R>>,
}

/// The closure is there: nobody ran it yet.
const WAITING: u32 = 0;
/// Another thread ran it: its value is there.
const VALUE: u32 = 1;
/// Another thread ran it: what it panicked with is there.
const PANICKED: u32 = 2;

/// Each lies at the beginning.
#[repr(C)]
union Half<B, R> {
    closure: ManuallyDrop<B>,
    value: ManuallyDrop<R>,
    payload: ManuallyDrop<Box<dyn Any + Send>>,
}

impl<B: FnOnce() -> R, R> Frame<B, R> {
    #[inline]
    pub(super) fn new(b: B) -> Self {
        let half = UnsafeCell::new(Half { closure: ManuallyDrop::new(b) });
        Self { node: Node::new(Self::run), stage: AtomicU32::new(WAITING), half }
    }

    /// Runs a promoted half on the thread that took it.
    ///
    /// # Safety
    /// `node` begins a `Self` that was taken from the list of `group`.
    unsafe fn run(node: NonNull<Node>, group: &Group) {
        // SAFETY: the caller's duty: live until the stage says that it is done (F3).
        let frame = unsafe { node.cast::<Self>().as_ref() };
        let half = frame.half.get();
        // SAFETY: taken from the list, so ours, with the closure in it (F2).
        let closure = unsafe { half.cast::<ManuallyDrop<B>>().read() };
        let (stage, next) = match guarded(ManuallyDrop::into_inner(closure)) {
            Ok(value) => (VALUE, Half { value: ManuallyDrop::new(value) }),
            Err(payload) => (PANICKED, Half { payload: ManuallyDrop::new(payload) }),
        };
        // SAFETY: ours until the stage is stored; the closure was moved out.
        unsafe { half.write(next) };
        // Release: the result is seen by whoever sees the stage; pairs with the Acquire in `is_done`. The frame may be
        // gone from here on.
        frame.stage.store(stage, Ordering::Release);
        group.ring();
    }

    pub(super) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `run`.
        self.stage.load(Ordering::Acquire) != WAITING
    }

    /// Runs the half here.
    ///
    /// # Safety
    /// The closure is in its place, and nobody else has a pointer to the frame.
    #[inline]
    pub(super) unsafe fn run_here(self) -> R {
        // SAFETY: the caller's duty.
        let closure = unsafe { self.half.into_inner().closure };
        ManuallyDrop::into_inner(closure)()
    }

    /// What another thread's run came to.
    ///
    /// # Safety
    /// `is_done` was true, and nobody looks again.
    pub(super) unsafe fn outcome(&self) -> Result<R, Box<dyn Any + Send>> {
        let half = self.half.get();
        // Relaxed: seen with Acquire by `is_done`.
        if self.stage.load(Ordering::Relaxed) == VALUE {
            // SAFETY: the stage says so, and it is moved out once.
            Ok(ManuallyDrop::into_inner(unsafe { half.cast::<ManuallyDrop<R>>().read() }))
        } else {
            // SAFETY: as above.
            Err(ManuallyDrop::into_inner(unsafe { half.cast::<ManuallyDrop<Box<dyn Any + Send>>>().read() }))
        }
    }

    /// Drops the half instead of running it.
    ///
    /// # Safety
    /// As for `run_here`, and the frame is not used any more.
    pub(super) unsafe fn discard(&self) {
        // SAFETY: the caller's duty: the closure is there, and it is moved out once.
        let closure = unsafe { self.half.get().cast::<ManuallyDrop<B>>().read() };
        drop_quietly(ManuallyDrop::into_inner(closure));
    }
}
