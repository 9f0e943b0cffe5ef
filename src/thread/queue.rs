//! A queue of pointers: many put in, many take out, first in first out, with two locks and no allocation of its own.
//!
//! Segments of a block each are linked in one direction. Who puts in holds the lock of the back, who takes out that of
//! the front; they meet only in two counters. (Two locks: Michael and Scott, PODC 1996.)
//!
//! Q1. What was put in is taken out once, in the order of the back's lock.
//! Q2. `put` is the number of entries that lie in their slots; a front that reads it with Acquire sees them.
//! Q3. Nothing is put in after `close` has returned.
//! Q4. A segment is given back by the front, after the back has linked its successor.
//! Q5. Of the entries that count no more than the bound are in it; those that were put in beside it do not count.

use core::ptr::{self, NonNull};
use std::collections::VecDeque;

use super::segments::{self, SLOTS, Segment};
use crate::os::Lock;
use crate::primitive::{AtomicUsize, Ordering};

/// The end at which entries are put in.
#[derive(Debug)]
struct Back<T> {
    segment: *mut Segment<T>,
    at: usize,
    closed: bool,
    /// What `put` was for each entry that was put in beside the bound. Those that were taken out are forgotten when the
    /// queue seems full.
    beside: VecDeque<usize>,
}

/// The end at which they are taken out.
#[derive(Debug)]
struct Front<T> {
    segment: *mut Segment<T>,
    at: usize,
    /// What the news were when the queue was weeded last.
    news: usize,
}

/// A cache line, or two that are fetched together, for itself.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<V>(V);

/// Why nothing was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Closed,
    Full,
    NoMemory,
}

#[derive(Debug)]
struct BackSide<T> {
    end: Lock<Back<T>>,
    /// How many were ever put in; written under the back's lock.
    put: AtomicUsize,
}

#[derive(Debug)]
struct FrontSide<T> {
    end: Lock<Front<T>>,
    /// How many were ever taken out; written under the front's lock.
    taken: AtomicUsize,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<T> {
    back: Apart<BackSide<T>>,
    front: Apart<FrontSide<T>>,
    /// The most entries that count.
    bound: usize,
}

// SAFETY: pointers are handed from thread to thread; whoever puts them in answers for what they point to.
unsafe impl<T> Send for Queue<T> {}
// SAFETY: both ends are under their locks.
unsafe impl<T> Sync for Queue<T> {}

impl<T> Queue<T> {
    /// An empty queue for at most `bound` entries that count. It takes its first segment when it is first used.
    pub(super) fn new(bound: usize) -> Self {
        let segment = ptr::null_mut();
        Self {
            back: Apart(BackSide {
                end: Lock::new(Back { segment, at: SLOTS, closed: false, beside: VecDeque::new() }),
                put: AtomicUsize::new(0),
            }),
            front: Apart(FrontSide { end: Lock::new(Front { segment, at: 0, news: 0 }), taken: AtomicUsize::new(0) }),
            bound,
        }
    }

    /// Puts an entry in.
    #[inline(always)]
    pub(super) fn push(&self, entry: NonNull<T>) -> Result<(), Refusal> {
        let BackSide { end, put } = &self.back.0;
        let mut back = end.lock();
        if back.closed {
            return Err(Refusal::Closed);
        }
        let count = put.load(Ordering::Relaxed);
        // SeqCst: a submitter that waits for room looks here after it has said so (`room.rs`).
        if self.bound != usize::MAX
            && count.wrapping_sub(self.front.0.taken.load(Ordering::SeqCst)) >= self.bound
            && self.is_full(&mut back, count)
        {
            return Err(Refusal::Full);
        }
        self.append(&mut back, count, entry)
    }

    /// Puts an entry in that does not count (Q5).
    pub(super) fn push_beside(&self, entry: NonNull<T>) -> Result<(), Refusal> {
        let mut back = self.back.0.end.lock();
        if back.closed {
            return Err(Refusal::Closed);
        }
        let count = self.back.0.put.load(Ordering::Relaxed);
        self.forget_taken(&mut back);
        back.beside.try_reserve(1).map_err(|_| Refusal::NoMemory)?;
        self.append(&mut back, count, entry)?;
        back.beside.push_back(count);
        Ok(())
    }

    /// Whether no entry that counts may be put in (Q5). As many as the bound are there, or were a moment ago.
    #[cold]
    #[inline(never)]
    fn is_full(&self, back: &mut Back<T>, count: usize) -> bool {
        let taken = self.forget_taken(back);
        count.wrapping_sub(taken).wrapping_sub(back.beside.len()) >= self.bound
    }

    /// Forgets what was put in beside the bound and taken out. Returns how many entries were ever taken out.
    fn forget_taken(&self, back: &mut Back<T>) -> usize {
        // SeqCst: see `push`.
        let taken = self.front.0.taken.load(Ordering::SeqCst);
        // Those that are still there are at most the whole queue's entries from here.
        let there = self.back.0.put.load(Ordering::Relaxed).wrapping_sub(taken);
        while back.beside.front().is_some_and(|at| at.wrapping_sub(taken) >= there) {
            back.beside.pop_front();
        }
        taken
    }

    /// Puts an entry in at the end.
    #[inline(always)]
    fn append(&self, back: &mut Back<T>, count: usize, entry: NonNull<T>) -> Result<(), Refusal> {
        let put = &self.back.0.put;
        if back.at == SLOTS {
            self.extend(back)?;
        }
        // SAFETY: the back's segment is live (Q4), and its lock is held.
        unsafe { Segment::set(back.segment, back.at, entry.as_ptr()) };
        back.at += 1;
        // Release: Q2. SeqCst: between this and looking for sleepers (`sleep.rs`).
        put.store(count.wrapping_add(1), Ordering::SeqCst);
        Ok(())
    }

    /// A new segment at the back.
    #[cold]
    fn extend(&self, back: &mut Back<T>) -> Result<(), Refusal> {
        let new = segments::take().ok_or(Refusal::NoMemory)?;
        if back.segment.is_null() {
            // Nobody takes anything out yet, since nothing was put in.
            self.front.0.end.lock().segment = new.as_ptr();
        } else {
            // SAFETY: the back's segment is live (Q4); the lock is held.
            unsafe { Segment::link(back.segment, new.as_ptr()) };
        }
        back.segment = new.as_ptr();
        back.at = 0;
        Ok(())
    }

    /// Takes up to `most` entries out, but not more than their share among `sharers` (and at least one, if there is any).
    /// Returns how many. `each` is called under the front's lock: not for what a stranger may make long.
    #[inline]
    pub(super) fn take(&self, most: usize, sharers: usize, mut each: impl FnMut(NonNull<T>)) -> usize {
        if self.is_empty() {
            return 0;
        }
        let FrontSide { end, taken } = &self.front.0;
        let mut front = end.lock();
        let count = taken.load(Ordering::Relaxed);
        // Acquire: Q2; pairs with the Release in `push`.
        let there = self.back.0.put.load(Ordering::Acquire).wrapping_sub(count);
        let want = there.div_ceil(sharers).min(most);
        for _ in 0..want {
            // SAFETY: the lock is held, and so many entries are there.
            let entry = unsafe { Self::pass(&mut front) };
            if let Some(entry) = NonNull::new(entry) {
                each(entry);
            }
        }
        // SeqCst: between this and looking for submitters that wait for room (`room.rs`).
        taken.store(count.wrapping_add(want), Ordering::SeqCst);
        want
    }

    /// Takes out, wherever they lie, the entries that are over; nothing if there are no news since that was done last. The
    /// others move up, in their order. What was put in beside the bound is never over.
    #[cold]
    pub(super) fn weed(&self, news: usize, is_over: impl Fn(NonNull<T>) -> bool) -> Vec<NonNull<T>> {
        let (mut kept, mut over) = (Vec::new(), Vec::new());
        let mut back = self.back.0.end.lock();
        let FrontSide { end, taken } = &self.front.0;
        let mut front = end.lock();
        let count = taken.load(Ordering::Relaxed);
        let there = self.back.0.put.load(Ordering::Relaxed).wrapping_sub(count);
        if front.news == news || kept.try_reserve(there).is_err() || over.try_reserve(there).is_err() {
            return over;
        }
        front.news = news;
        let mut place = (front.segment, front.at);
        for index in 0..there {
            // SAFETY: the entry is there, and both locks are held.
            let (segment, at) = unsafe { Self::step(&mut place) };
            // SAFETY: live, and the slot was filled (Q2).
            match NonNull::new(unsafe { Segment::get(segment, at) }) {
                Some(entry) if is_over(entry) => over.push(entry),
                Some(entry) => kept.push((index, entry)),
                None => {}
            }
        }
        let gone = there - kept.len();
        for _ in 0..gone {
            // SAFETY: the lock is held, and so many entries are there.
            unsafe { Self::pass(&mut front) };
        }
        let mut place = (front.segment, front.at);
        for (_, entry) in &kept {
            // SAFETY: an entry was there, and both locks are held.
            let (segment, at) = unsafe { Self::step(&mut place) };
            // SAFETY: live, and the lock is held.
            unsafe { Segment::set(segment, at, entry.as_ptr()) };
        }
        for at in &mut back.beside {
            let before = kept.binary_search_by_key(&at.wrapping_sub(count), |(index, _)| *index);
            *at = before.map_or(*at, |index| count.wrapping_add(gone + index));
        }
        // SeqCst: as in `take`.
        taken.store(count.wrapping_add(gone), Ordering::SeqCst);
        over
    }

    /// The slot at a place, which moves on.
    ///
    /// # Safety
    /// An entry lies there, and both locks are held.
    unsafe fn step(place: &mut (*mut Segment<T>, usize)) -> (*mut Segment<T>, usize) {
        if place.1 == SLOTS {
            // SAFETY: the segment is live, and linked, since its successor holds an entry (Q4).
            *place = (unsafe { Segment::next(place.0) }, 0);
        }
        place.1 += 1;
        (place.0, place.1 - 1)
    }

    /// Passes a slot of the front, and gives the segment back that the front leaves.
    ///
    /// # Safety
    /// The front's lock is held, and an entry is there.
    #[inline(always)]
    unsafe fn pass(front: &mut Front<T>) -> *mut T {
        if front.at == SLOTS {
            // SAFETY: the segment is live, and the back has linked its successor, since it holds what we take (Q4).
            let next = unsafe { Segment::next(front.segment) };
            // SAFETY: live, and the back has left it.
            unsafe { segments::give(front.segment) };
            front.segment = next;
            front.at = 0;
        }
        front.at += 1;
        // SAFETY: the front's segment is live, and the slot was filled (Q2).
        unsafe { Segment::get(front.segment, front.at - 1) }
    }

    /// How many are in it: a moment's figure.
    pub(super) fn len(&self) -> usize {
        // SeqCst: whoever is about to sleep has said so before it looks (`sleep.rs`).
        let taken = self.front.0.taken.load(Ordering::SeqCst);
        self.back.0.put.load(Ordering::SeqCst).wrapping_sub(taken)
    }

    /// Whether nothing is in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were ever put in.
    pub(super) fn ever_put(&self) -> usize {
        self.back.0.put.load(Ordering::Relaxed)
    }

    /// Whether nothing can be put in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.back.0.end.lock().closed
    }

    /// Takes nothing more (Q3).
    pub(super) fn close(&self) {
        self.back.0.end.lock().closed = true;
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // What is still in it is leaked, not run: pools empty their queues first.
        let front = self.front.0.end.lock();
        let mut segment = front.segment;
        while !segment.is_null() {
            // SAFETY: nobody else has the queue; its segments are live and linked up to the last.
            let next = unsafe { Segment::next(segment) };
            // SAFETY: as above.
            unsafe { segments::give(segment) };
            segment = next;
        }
    }
}
