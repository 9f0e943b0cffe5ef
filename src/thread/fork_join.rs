//! Two closures, perhaps at once: work is promoted lazily, at a heartbeat.
//!
//! A fork puts a pointer to its second half on a list of its own thread and runs the first half: no atomic step, no
//! queue. Now and then (at first, then after so many forks, then after so much time) it looks whether anybody is idle,
//! and if so hands over the *oldest* half on the list, which is likely to be the largest. (Heartbeat scheduling: Acar,
//! Charguéraud, Guatto, Rainey, Sieczkowski, PLDI 2018.)
//!
//! F1. A frame on the list at or above `promoted` is its own thread's alone.
//! (F2 and F3 are the frame's: `frame.rs`.)
//! F4. A thread that waits for its promoted half runs only halves of the same tree.

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::frame::Frame;
use super::group::Node;
use super::here::{Entered, HERE};
use super::shared::Shared;
use crate::panics::{drop_quietly, forget_payload};
use crate::primitive::UnsafeCell;
use crate::task::PoolError;

/// Forks of one thread that can be open at once and have a frame each.
const DEPTH: usize = 128;
/// Frames that wait to be promoted: the oldest forks' are the largest, so a few are enough. Forks that nest deeper have
/// no frame, until one of these was promoted: they cost a counter.
const OFFERED: usize = 4;
/// The shortest time between two promotions of a thread in the long run.
const BEAT: Duration = Duration::from_micros(30);
/// Forks between two looks at the clock, at most.
const PATIENCE: u32 = 1024;

/// What a thread has of a tree of forks.
struct Tree {
    depth: Cell<usize>,
    promoted: Cell<usize>,
    /// The depth at which there are enough frames: follows from `promoted`.
    full: Cell<usize>,
    /// Forks to the next look at the clock, while forks are counted here.
    left: Cell<u32>,
    patience: Cell<u32>,
    looked: Cell<Option<Instant>>,
    frames: [Cell<MaybeUninit<NonNull<Node>>>; DEPTH],
    owner: NonNull<Arc<Shared>>,
    crew: UnsafeCell<Option<Crew>>,
}

std::thread_local! {
    /// When the next promotion would be due if each came a beat after the one before.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Tree {
    fn new(owner: &Arc<Shared>, crew: Option<Crew>) -> Self {
        Self {
            depth: Cell::new(0),
            promoted: Cell::new(0),
            full: Cell::new(OFFERED),
            left: Cell::new(1),
            patience: Cell::new(1),
            looked: Cell::new(None),
            frames: [const { Cell::new(MaybeUninit::uninit()) }; DEPTH],
            owner: NonNull::from(owner),
            crew: UnsafeCell::new(crew),
        }
    }

    /// Says how many forks may pass without a look at the tree: none while there is room for frames.
    #[inline]
    fn count(&self) {
        let room = self.depth.get() < self.full.get();
        HERE.with(|here| here.countdown.set(if room { 1 } else { self.left.get() }));
    }

    /// The fork at this depth closes: there is room for a frame again.
    #[inline]
    fn leave(&self, depth: usize) {
        self.depth.set(depth);
        let left = HERE.with(|here| here.countdown.replace(1));
        // 1 is left by the forks that got frames: those counted in `left`.
        if left > 1 {
            self.left.set(left);
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
        self.left.set(patience);
        // SAFETY: the pool's handle outlives the tree, which is on the stack of a call on the pool.
        let workers = unsafe { self.owner.as_ref() }.workers();
        let due = DUE.get().unwrap_or(now).max(now);
        let credit = BEAT * u32::try_from(workers).unwrap_or(u32::MAX);
        if due - now <= credit && self.promote() {
            DUE.set(Some(due + BEAT));
        }
    }

    /// Hands the oldest half over. False: there is none, or no memory, or nobody to take it: this is a forked copy.
    fn promote(&self) -> bool {
        let oldest = self.promoted.get();
        // SAFETY: the pool's handle outlives the tree.
        let owner = unsafe { self.owner.as_ref() };
        if oldest >= self.depth.get() || owner.is_foreign() {
            return false;
        }
        if self.crew().is_none() {
            let Ok(crew) = Crew::new(owner, Some(as_thief), owner.workers()) else { return false };
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
    ///
    /// # Errors
    /// This process is a copy, forked meanwhile: nobody runs the half here.
    #[cold]
    fn wait(&self, over: &dyn Fn() -> bool) -> Result<(), PoolError> {
        self.crew().map_or(Ok(()), |crew| crew.wait_for_half(over))
    }
}

/// See [`ThreadPool::fork_join`](super::ThreadPool::fork_join).
#[inline]
pub(super) fn fork_join<A, B, RA, RB>(shared: &Arc<Shared>, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    let (inside, countdown) = HERE.with(|here| {
        let countdown = here.countdown.get().wrapping_sub(1);
        here.countdown.set(countdown);
        (ptr::eq(here.pool.get(), Arc::as_ptr(shared).cast()), countdown)
    });
    if !inside {
        return root(shared, a, b);
    }
    if countdown != 0 {
        return (a(), b());
    }
    offer(a, b)
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
    let _outer = Entered::new(Arc::as_ptr(shared).cast(), (&raw const tree).cast());
    let _end = End(&tree);
    offer(a, b)
}

/// Says that the tree has ended, however it did.
struct End<'a>(&'a Tree);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if let Some(crew) = self.0.crew() {
            crew.end();
        }
    }
}

/// Runs `work`, which runs a half that was taken from a group, in a tree of this thread's own: its forks may be promoted.
fn as_thief(crew: &Crew, work: &mut dyn FnMut()) {
    let tree = Tree::new(crew.shared(), Some(crew.clone()));
    let _outer = Entered::new(Arc::as_ptr(crew.shared()).cast(), (&raw const tree).cast());
    work();
}

/// A fork with a frame, unless there are enough. Called inside a tree.
#[inline(never)]
fn offer<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    // SAFETY: the thread is in a tree, which is there as long as its pointer to it.
    let tree = unsafe { &*HERE.with(|here| here.tree.get().cast::<Tree>()) };
    let depth = tree.depth.get();
    if depth >= tree.full.get() {
        tree.beat();
        tree.count();
        return (a(), b());
    }
    let frame = Frame::new(b);
    let node = NonNull::from(&frame).cast();
    tree.frames[depth].set(MaybeUninit::new(node));
    tree.depth.set(depth + 1);
    tree.left.set(tree.left.get() - 1);
    if tree.left.get() == 0 {
        tree.beat();
    }
    tree.count();
    let open = Open { tree, depth, frame: &frame };
    let first = a();
    core::mem::forget(open);
    tree.leave(depth);
    if tree.promoted.get() <= depth || tree.take_back(depth, node) {
        // SAFETY: never promoted, or taken back: the closure is there, and the frame is ours (F3).
        return (first, unsafe { frame.run_here() });
    }
    if let Err(forked) = tree.wait(&|| frame.is_done()) {
        drop_quietly(first);
        panic!("the second half of a fork was left behind: {forked}");
    }
    // SAFETY: it is done.
    match unsafe { frame.outcome() } {
        Ok(second) => (first, second),
        Err(payload) => {
            drop_quietly(first);
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
        tree.leave(depth);
        if tree.promoted.get() <= depth || tree.take_back(depth, NonNull::from(frame).cast()) {
            // SAFETY: the closure is there, and the frame ours, for the last time.
            return unsafe { frame.discard() };
        }
        if tree.wait(&|| frame.is_done()).is_err() {
            // A half that another thread is at, in another process: nobody's to drop.
            return;
        }
        // SAFETY: it is done. The first panic is the one that goes on.
        match unsafe { frame.outcome() } {
            Ok(value) => drop(drop_quietly(value)),
            Err(payload) => forget_payload(payload),
        }
    }
}
