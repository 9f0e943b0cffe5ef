//! The depot: all free blocks of one size that no thread keeps, and the way to more.
//!
//! Full magazines change hands whole, under one short lock. Behind them is a [`Source`] (the runs), from which an
//! empty magazine is filled in address order, and to which the surplus is drained. What it keeps, and when it lets go of
//! it, is in `store.rs`.
//!
//! Invariants:
//! - D1: every block that came out of the source is in exactly one place: with a user, in one thread's slot, in one
//!   full magazine here.
//! - D2: `out` is the number of those blocks; it never exceeds `limit`.
//! - D3: full magazines hold at most `bound` bytes, plus one magazine.

use core::iter::once;
use core::mem::replace;
use core::ptr::NonNull;

use super::magazine::{CAPACITY, Magazine, stock};
use super::source::Source;
use super::store::{DepotFigures, LEAST, State};
use crate::os::{Lock, LockGuard};

/// See the module.
#[derive(Debug)]
pub(crate) struct Depot<S> {
    state: Lock<State<S>>,
}

impl<S: Source> Depot<S> {
    #[cfg(not(millpond_loom))]
    pub(crate) const fn new(source: S, magazine: usize) -> Self {
        Self { state: Lock::new(State::new(source, magazine)) }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new(source: S) -> Self {
        Self { state: Lock::new(State::new(source, CAPACITY)) }
    }

    /// A full magazine, or one just filled with up to `want` blocks, for an empty one. `Err` gives that back: no
    /// memory, or the limit is reached.
    pub(crate) fn exchange_empty(&self, empty: Option<Magazine>, want: usize) -> Result<Magazine, Option<Magazine>> {
        let mut state = self.state.lock();
        state.visited = true;
        if let Some(mut full) = state.full.pop() {
            let empty = empty.or_else(|| state.take_spare());
            if let Some(mut rest) = empty {
                if full.len() > want {
                    // More than the slot may hold.
                    full.split(want, &mut rest);
                    state.full.push(rest);
                } else {
                    state.put_spare(rest);
                }
            }
            state.figures.stored -= full.len();
            state.figures.exchanges += 1;
            return Ok(full);
        }
        let Some(mut magazine) = empty.or_else(|| state.take_spare()) else { return Err(None) };
        state.refill(&mut magazine, want);
        if magazine.len() == 0 { Err(Some(magazine)) } else { Ok(magazine) }
    }

    /// An empty magazine for a full one. `None` only if there is no memory for a frame.
    ///
    /// # Safety
    /// The blocks came from this depot, and nobody uses them.
    pub(crate) unsafe fn exchange_full(&self, full: Magazine) -> Option<Magazine> {
        let mut state = self.state.lock();
        let mut empties = state.source.empties();
        // SAFETY: the caller's duty.
        let drained = unsafe { state.store(full, &mut empties) };
        state.visited = true;
        state.figures.exchanges += 1;
        let empty = drained.or_else(|| state.take_spare());
        self.finish(state, empties);
        empty
    }

    /// Opens the lock, and only then gives back what got empty, and the pages between what is left.
    fn finish(&self, mut state: LockGuard<'_, State<S>>, empties: S::Empties) {
        let in_use = state.in_use();
        let sweep = state.source.wants_sweep(in_use);
        drop(state);
        drop(empties);
        if sweep {
            S::sweep(self);
        }
    }

    /// Takes magazines back, however full, and their frames with them.
    ///
    /// # Safety
    /// As for [`exchange_full`](Self::exchange_full).
    pub(crate) unsafe fn put(&self, magazines: impl IntoIterator<Item = Magazine>) {
        let mut state = self.state.lock();
        let mut empties = state.source.empties();
        for magazine in magazines {
            // SAFETY: the caller's duty.
            if let Some(drained) = unsafe { state.store(magazine, &mut empties) } {
                state.put_spare(drained);
            }
        }
        self.finish(state, empties);
    }

    /// An empty magazine.
    pub(crate) fn take_frame(&self) -> Option<Magazine> {
        self.state.lock().take_spare()
    }

    /// One block, past all caches. `None`: no memory, or the limit is reached.
    pub(crate) fn take_one(&self) -> Option<NonNull<u8>> {
        let mut state = self.state.lock();
        state.visited = true;
        if let Some(mut full) = state.full.pop() {
            let got = full.take_last();
            state.figures.stored -= 1;
            if full.len() > 0 {
                state.full.push(full);
            } else {
                state.put_spare(full);
            }
            return got;
        }
        let mut got = None;
        if state.room() > 0 {
            state.figures.out += state.source.take(1, &mut |block| got = Some(block));
            state.figures.peak = state.figures.peak.max(state.figures.out);
        }
        got
    }

    /// One block back, past all caches.
    ///
    /// # Safety
    /// It came from this depot, and nobody uses it.
    pub(crate) unsafe fn give_one(&self, block: NonNull<u8>) {
        let mut state = self.state.lock();
        let mut empties = state.source.empties();
        state.figures.out -= 1;
        // SAFETY: the caller's duty.
        unsafe { state.source.give(once(block), &mut empties) };
        self.finish(state, empties);
    }

    /// One block back, to be the next that [`take_one`](Self::take_one) hands out: for pools without caches.
    ///
    /// # Safety
    /// As for [`give_one`](Self::give_one).
    pub(crate) unsafe fn give_one_next(&self, block: NonNull<u8>) {
        let mut state = self.state.lock();
        state.visited = true;
        let mut empties = state.source.empties();
        let fits = (state.figures.stored + 1) * state.source.block_size() <= state.bound();
        let magazine = match state.full.pop() {
            // What was freed before makes room: this one comes first.
            Some(mut top) if !fits => {
                state.figures.stored -= top.len();
                state.drain(&mut top, &mut empties);
                Some(top)
            }
            Some(top) if top.len() < CAPACITY => Some(top),
            top => {
                top.into_iter().for_each(|full| state.full.push(full));
                state.take_spare()
            }
        };
        if let Some(mut magazine) = magazine {
            magazine.put_last(block);
            state.full.push(magazine);
            state.figures.stored += 1;
        } else {
            state.figures.out -= 1;
            // SAFETY: the caller's duty.
            unsafe { state.source.give(once(block), &mut empties) };
        }
        self.finish(state, empties);
    }

    /// Drains every full magazine to the source: what it can give back, it may.
    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        let mut empties = state.source.empties();
        state.drain_all(&mut empties);
        drop(state);
        drop(empties);
    }

    /// Called each tick. If nobody came since the last: drains half of the full magazines, and lets go of the run that is
    /// kept empty. If the heap `shrank`: drains them all.
    pub(crate) fn trim(&self, shrank: bool) {
        let mut state = self.state.lock();
        let idle = !replace(&mut state.visited, false);
        if !idle && !shrank {
            return;
        }
        state.slack = LEAST;
        let mut empties = state.source.empties();
        let most = if shrank { state.full.len() } else { state.full.len().div_ceil(2) };
        for _ in 0..most {
            let Some(mut full) = state.full.pop() else { break };
            state.figures.stored -= full.len();
            state.drain(&mut full, &mut empties);
            state.put_spare(full);
        }
        state.source.release(&mut empties);
        self.finish(state, empties);
    }

    /// In a forked child, which holds the lock: so many blocks were in the slots of threads that are no more.
    ///
    /// # Safety
    /// The lock is held by [`hold`](Self::hold).
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn lose(&self, blocks: usize) {
        // SAFETY: the caller's duty.
        let state = unsafe { self.state.held() };
        state.lost = (state.lost + blocks).min(state.figures.out);
    }

    /// No more than `limit` blocks are to be out at once.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
    }

    /// Figures. Blocks lost by a fork count neither as out nor against the limit.
    pub(crate) fn figures(&self) -> DepotFigures {
        let state = self.state.lock();
        DepotFigures { out: state.figures.out.saturating_sub(state.lost), ..state.figures }
    }

    /// Lets `look` at the source, under the lock.
    pub(crate) fn with_source<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.state.lock().source)
    }

    /// Ends a depot that nobody uses any more: the frames go to the stock, the source comes out with the number of
    /// blocks that are in its full magazines.
    pub(crate) fn dismantle(&self) -> (LockedSource<'_, S>, usize) {
        let mut state = self.state.lock();
        let mut stored = 0;
        while let Some(mut full) = state.full.pop() {
            stored += full.len();
            full.forget_blocks();
            stock::give(full);
        }
        while let Some(spare) = state.spare.pop() {
            stock::give(spare);
        }
        state.figures.stored = 0;
        (LockedSource(state), stored)
    }

    /// Takes the lock for the length of a `fork`.
    #[cfg(not(millpond_loom))]
    pub(crate) fn hold(&self) {
        self.state.acquire();
    }

    /// Ends [`hold`](Self::hold), in the parent and in the child.
    ///
    /// # Safety
    /// The lock is held by `hold`.
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn let_go(&self) {
        // SAFETY: the caller's duty.
        unsafe { self.state.release() }
    }
}

#[cfg(not(millpond_loom))]
impl Depot<crate::block::Runs> {
    /// Makes blocks ready, their memory present. False if the reserve has too little.
    pub(crate) fn prepare(&self, blocks: usize) -> bool {
        loop {
            let (step, bytes) = self.with_source(|runs| (runs.prepare(blocks), runs.layout().run_bytes()));
            let Some(step) = step else { return false };
            step.runs.into_iter().flatten().for_each(|base| crate::os::populate(base, bytes));
            if step.done {
                return true;
            }
        }
    }

    /// Drains the full magazines and gives the system the pages between the blocks in use, of runs that are free for
    /// at least so many eighths.
    pub(super) fn sweep(&self, share: usize) {
        loop {
            let mut state = self.state.lock();
            let mut empties = state.source.empties();
            state.drain_all(&mut empties);
            let in_use = state.in_use();
            let mut sweep = state.source.begin_sweep(in_use, share);
            drop(state);
            drop(empties);
            sweep.give_pages_back();
            let more = sweep.is_full_batch();
            let mut state = self.state.lock();
            let mut empties = state.source.empties();
            state.source.end_sweep(sweep, &mut empties);
            drop(state);
            drop(empties);
            if !more {
                return;
            }
        }
    }

    /// Gives back all that is free.
    pub(crate) fn purge(&self) {
        self.drain();
        self.release_empties();
        self.sweep(0);
    }

    /// Gives empty runs to the reserve, the last one too.
    fn release_empties(&self) {
        let mut state = self.state.lock();
        let mut empties = state.source.empties();
        state.source.take_empties(&mut empties);
        drop(state);
        drop(empties);
    }
}

/// The source of a dismantled depot.
pub(crate) struct LockedSource<'a, S>(LockGuard<'a, State<S>>);

impl<S> LockedSource<'_, S> {
    pub(crate) fn source(&mut self) -> &mut S {
        &mut self.0.source
    }

    pub(crate) fn out(&self) -> usize {
        self.0.figures.out
    }
}
