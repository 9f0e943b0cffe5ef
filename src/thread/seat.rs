//! A worker's place in its pool, as its own thread finds it: the tasks that it keeps, its figures, its number.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use crossbeam_deque::Worker as Deque;

use super::entry::Entry;
use super::room::Room;
use super::stats::Tally;
use crate::task::Ran;

/// What a worker has of its own. It outlives the time for which it is the thread's (`Seat::taken`).
#[derive(Debug)]
pub(super) struct Seat {
    pool: u32,
    index: usize,
    deque: Deque<Entry>,
    /// In the pool, which the worker keeps alive.
    tally: NonNull<Tally>,
    /// In the pool, if it is a bounded one.
    room: Option<NonNull<Room>>,
}

// SAFETY: the deque may be sent, and tally and room are shared by design: what changes in them is atomic.
unsafe impl Send for Seat {}

std::thread_local! {
    /// The seat of the worker that this thread is.
    static CURRENT: Cell<*const Seat> = const { Cell::new(ptr::null()) };
    /// The pool whose worker this thread is or was, also while its thread-locals are dropped.
    static POOL: Cell<u32> = const { Cell::new(0) };
    /// Where drawing goes on.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

#[inline]
fn current<'a>() -> Option<&'a Seat> {
    let seat = CURRENT.get();
    // SAFETY: set by `taken` for as long as the seat lives, on its own thread; the reference is used up before the function
    // that asked for it returns to the worker's loop.
    unsafe { seat.as_ref() }
}

/// The seat of this thread, if it is a worker of the pool with this number.
#[inline]
pub(super) fn of<'a>(pool: u32) -> Option<&'a Seat> {
    current().filter(|seat| seat.pool == pool)
}

/// Whether this thread is a worker of the pool with this number.
pub(super) fn is_of(pool: u32) -> bool {
    of(pool).is_some()
}

/// Whether this thread is a worker of the pool with this number, or was and has not ended.
pub(super) fn is_or_was_of(pool: u32) -> bool {
    POOL.get() == pool
}

/// This thread is the copy of one that forked: it is nobody's worker.
pub(super) fn leave() {
    CURRENT.set(ptr::null());
}

/// Counts what this thread, a worker, ran while it waited.
pub(super) fn note(ran: Ran) {
    if let Some(seat) = current() {
        seat.tally().count(ran);
    }
}

/// This thread, a worker, does a task that it waits for: the task's entry lies in a queue of its pool for nothing.
pub(super) fn task_over() {
    if let Some(room) = current().and_then(|seat| seat.room) {
        // SAFETY: it outlives the seat, as `new` demands.
        unsafe { room.as_ref() }.task_over();
    }
}

/// The number of this thread's worker, if it is one.
pub(super) fn index() -> Option<usize> {
    current().map(Seat::index)
}

/// A number drawn by this thread (xorshift, from the address of its own state).
pub(super) fn draw() -> usize {
    DRAWN.with(|drawn| {
        let mut state = drawn.get();
        if state == 0 {
            state = (&raw const *drawn).addr() as u64 | 1;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        drawn.set(state);
        (state >> 16) as usize
    })
}

impl Seat {
    /// # Safety
    /// The tally and the room outlive the seat.
    pub(super) unsafe fn new(
        pool: u32,
        index: usize,
        deque: Deque<Entry>,
        tally: NonNull<Tally>,
        room: Option<NonNull<Room>>,
    ) -> Self {
        Self { pool, index, deque, tally, room }
    }

    /// This thread is the worker while `work` runs, which does not unwind.
    pub(super) fn taken(&self, work: impl FnOnce()) {
        CURRENT.set(self);
        POOL.set(self.pool);
        work();
        CURRENT.set(ptr::null());
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn deque(&self) -> &Deque<Entry> {
        &self.deque
    }

    pub(super) fn tally(&self) -> &Tally {
        // SAFETY: it outlives the seat, as `new` demands.
        unsafe { self.tally.as_ref() }
    }

    /// Keeps an entry that this worker itself submitted.
    #[inline]
    pub(super) fn keep(&self, entry: Entry) {
        self.deque.push(entry);
        self.tally().accept();
    }
}
