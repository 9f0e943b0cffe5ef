//! Two closures, perhaps at once: work is promoted lazily, at a heartbeat.
//!
//! A fork puts a pointer to its second half on a list of its own thread and runs the first half: no atomic step, no
//! queue. Now and then (at first, then after so many forks, then after so much time) it looks whether anybody is idle,
//! and if so hands over the *oldest* half on the list, which is likely to be the largest. (Heartbeat scheduling: Acar,
//! Charguéraud, Guatto, Rainey, Sieczkowski, PLDI 2018.)
//!
//! F1. A frame on the list at or above `promoted` is its own thread's alone.
//! F2. A promoted frame is run once: by whoever takes it from its group, or by its own thread, which takes it back.
//! F3. A frame is left only when nobody else has a pointer to it: never promoted, taken back, or finished.
//! F4. A thread that waits for its promoted half runs only halves of the same tree.

use core::cell::Cell;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::group::{Group, Node};
use super::job::guarded;
use super::shared::Shared;
use crate::primitive::{AtomicU32, Ordering, UnsafeCell};

/// Forks of one thread that can be open at once and have a frame each.
const DEPTH: usize = 128;
/// Frames that wait to be promoted: the oldest forks' are the largest, so a few are enough. Forks that nest deeper have
/// no frame, until one of these was promoted: they cost a counter.
const OFFERED: usize = 4;
/// The shortest time between two promotions of a thread in the long run.
const BEAT: Duration = Duration::from_micros(30);
/// Forks between two looks at the clock, at most.
const PATIENCE: u32 = 128;

/// What a thread has of a tree of forks.
struct Tree {
    shared: *const Shared,
    depth: Cell<usize>,
    promoted: Cell<usize>,
    /// The depth at which there are enough frames: follows from `promoted`.
    full: Cell<usize>,
    countdown: Cell<u32>,
    patience: Cell<u32>,
    looked: Cell<Option<Instant>>,
    frames: [Cell<MaybeUninit<NonNull<Node>>>; DEPTH],
    owner: NonNull<Arc<Shared>>,
    crew: UnsafeCell<Option<Crew>>,
}

std::thread_local! {
    /// The tree that this thread is in.
    static TREE: Cell<*const Tree> = const { Cell::new(ptr::null()) };
    /// When the next promotion would be due if each came a beat after the one before.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The second half of a fork.
#[repr(C)]
struct Frame<B, R> {
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
    fn new(b: B) -> Self {
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

    fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `run`.
        self.stage.load(Ordering::Acquire) != WAITING
    }

    /// Runs the half here.
    ///
    /// # Safety
    /// The closure is in its place, and nobody else has a pointer to the frame.
    #[inline]
    unsafe fn run_here(self) -> R {
        // SAFETY: the caller's duty.
        let closure = unsafe { self.half.into_inner().closure };
        ManuallyDrop::into_inner(closure)()
    }

    /// What another thread's run came to.
    ///
    /// # Safety
    /// `is_done` was true, and nobody looks again.
    unsafe fn outcome(&self) -> Result<R, Box<dyn Any + Send>> {
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
}

impl Tree {
    fn new(owner: &Arc<Shared>, crew: Option<Crew>) -> Self {
        Self {
            shared: Arc::as_ptr(owner),
            depth: Cell::new(0),
            promoted: Cell::new(0),
            full: Cell::new(OFFERED),
            countdown: Cell::new(1),
            patience: Cell::new(1),
            looked: Cell::new(None),
            frames: [const { Cell::new(MaybeUninit::uninit()) }; DEPTH],
            owner: NonNull::from(owner),
            crew: UnsafeCell::new(crew),
        }
    }

    fn set_promoted(&self, promoted: usize) {
        self.promoted.set(promoted);
        self.full.set((promoted + OFFERED).min(DEPTH));
    }

    fn crew(&self) -> Option<&Crew> {
        // SAFETY: set once, by this thread (`promote`), before it is looked at.
        unsafe { (*self.crew.get()).as_ref() }
    }

    /// The heartbeat: if it is time, the oldest half goes.
    ///
    /// Whether somebody is idle is not asked: whoever becomes idle later finds it then, and what nobody took is taken back
    /// for the price of a lock.
    #[cold]
    #[inline(never)]
    fn beat(&self) {
        let now = Instant::now();
        // Looks at the clock come about eight to a beat.
        let quick = self.looked.get().is_some_and(|last| now - last < BEAT / 8);
        self.looked.set(Some(now));
        let patience = self.patience.get();
        let patience = if quick { (patience * 2).min(PATIENCE) } else { (patience / 2).max(1) };
        self.patience.set(patience);
        self.countdown.set(patience);
        // SAFETY: the pool outlives the tree, which is on the stack of a call on the pool.
        let workers = unsafe { &*self.shared }.workers();
        let due = DUE.get().unwrap_or(now).max(now);
        let credit = BEAT * u32::try_from(workers).unwrap_or(u32::MAX);
        if due - now <= credit && self.promote() {
            DUE.set(Some(due + BEAT));
        }
    }

    /// Hands the oldest half over. False: there is none, or no memory.
    fn promote(&self) -> bool {
        let oldest = self.promoted.get();
        if oldest >= self.depth.get() {
            return false;
        }
        if self.crew().is_none() {
            // SAFETY: the pool's handle outlives the tree.
            let owner = unsafe { self.owner.as_ref() };
            let Ok(crew) = Crew::new(owner, true, owner.workers()) else { return false };
            // SAFETY: this thread's, and nobody has a reference into `None`.
            unsafe { *self.crew.get() = Some(crew) };
        }
        let Some(crew) = self.crew() else { return false };
        self.set_promoted(oldest + 1);
        // SAFETY: below `depth`, so it was written, and the frame lives (F1).
        let node = unsafe { self.frames[oldest].get().assume_init() };
        // SAFETY: live until it is run or taken back (F3), and in no list: promoted once.
        if unsafe { crew.list_node(node) } {
            crew.issue_ticket();
        }
        true
    }
}

impl Tree {
    /// The fork at this depth was promoted and its first half has ended: takes the second one back, if nobody has it.
    #[cold]
    fn take_back(&self, depth: usize, node: NonNull<Node>) -> bool {
        // What lay above is gone.
        self.set_promoted(depth);
        self.crew().is_some_and(|crew| crew.take_back(node))
    }

    /// Waits for a half that somebody else runs, and runs others of the tree meanwhile (F4).
    #[cold]
    fn wait(&self, over: &dyn Fn() -> bool) {
        if let Some(crew) = self.crew() {
            crew.wait_until(true, over);
        }
    }
}

/// Runs what does not belong to this thread's tree.
pub(super) fn apart<R>(work: impl FnOnce() -> R) -> R {
    let _outer = Entered(TREE.replace(ptr::null()));
    work()
}

/// See [`ThreadPool::fork_join`](super::ThreadPool::fork_join).
#[inline]
pub(super) fn fork_join<A, B, RA, RB>(shared: &Arc<Shared>, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    let tree = TREE.get();
    // SAFETY: a tree is there as long as this thread's pointer to it.
    match unsafe { tree.as_ref() } {
        Some(tree) if ptr::eq(tree.shared, Arc::as_ptr(shared)) => fork(tree, a, b),
        _ => root(shared, a, b),
    }
}

/// The first fork of a tree.
#[cold]
#[inline(never)]
fn root<A, B, RA, RB>(shared: &Arc<Shared>, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    let tree = Tree::new(shared, None);
    let _outer = Entered::new(&tree);
    fork(&tree, a, b)
}

/// Runs `work`, which runs a half that was taken from a group, in a tree of this thread's own: its forks may be promoted.
pub(super) fn as_thief(crew: &Crew, work: impl FnOnce()) {
    let tree = Tree::new(crew.shared(), Some(crew.clone()));
    let _outer = Entered::new(&tree);
    work();
}

/// Puts the thread's former tree back.
struct Entered(*const Tree);

impl Entered {
    fn new(tree: &Tree) -> Self {
        Self(TREE.replace(tree))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        TREE.set(self.0);
    }
}

#[inline]
fn fork<A, B, RA, RB>(tree: &Tree, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    let countdown = tree.countdown.get() - 1;
    tree.countdown.set(countdown);
    let depth = tree.depth.get();
    if countdown != 0 && depth >= tree.full.get() {
        return (a(), b());
    }
    offer(tree, countdown == 0, a, b)
}

/// A fork with a frame, unless there are enough.
#[inline(never)]
fn offer<A, B, RA, RB>(tree: &Tree, beat: bool, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    let depth = tree.depth.get();
    if depth >= tree.full.get() {
        tree.beat();
        return (a(), b());
    }
    let frame = Frame::new(b);
    let node = NonNull::from(&frame).cast();
    tree.frames[depth].set(MaybeUninit::new(node));
    tree.depth.set(depth + 1);
    if beat {
        tree.beat();
    }
    let open = Open { tree, depth, frame: &frame };
    let first = a();
    core::mem::forget(open);
    tree.depth.set(depth);
    if tree.promoted.get() <= depth || tree.take_back(depth, node) {
        // SAFETY: never promoted, or taken back: the closure is there, and the frame is ours (F3).
        return (first, unsafe { frame.run_here() });
    }
    tree.wait(&|| frame.is_done());
    // SAFETY: it is done.
    match unsafe { frame.outcome() } {
        Ok(second) => (first, second),
        Err(payload) => {
            super::job::drop_quietly(first);
            resume_unwind(payload)
        }
    }
}

/// A fork whose first half runs: if that panics, the second one is not run, or waited for.
struct Open<'a, B: FnOnce() -> R, R> {
    tree: &'a Tree,
    depth: usize,
    frame: &'a Frame<B, R>,
}

impl<B: FnOnce() -> R, R> Drop for Open<'_, B, R> {
    #[cold]
    fn drop(&mut self) {
        let Self { tree, depth, frame } = *self;
        tree.depth.set(depth);
        if tree.promoted.get() <= depth || tree.take_back(depth, NonNull::from(frame).cast()) {
            // SAFETY: the closure is there, and ours; it is dropped once.
            let closure = unsafe { frame.half.get().cast::<ManuallyDrop<B>>().read() };
            super::job::drop_quietly(ManuallyDrop::into_inner(closure));
            return;
        }
        tree.wait(&|| frame.is_done());
        // SAFETY: it is done. The first panic is the one that goes on.
        match unsafe { frame.outcome() } {
            Ok(value) => drop(super::job::drop_quietly(value)),
            Err(payload) => super::job::forget_payload(payload),
        }
    }
}
