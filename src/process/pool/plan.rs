//! What lies where in the pool's segment: the structures, and the numbers that decide their places.
//!
//! ```text
//! | head | posts: one a worker | hands: one a thread | lines: ends, places, done bits, slots | inbox | outboxes |
//! ```

use super::beds::Beds;
use super::line::{Apart, Ends};
use crate::primitive::{AtomicU32, AtomicU64};

/// "millpool", and the version of the layout.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"millpoo1");
/// Bytes of a message that lie in its slot.
pub(super) const INLINE: usize = 208;
pub(super) const PAGE: usize = 4096;

/// Structures of atomic words, for which any bytes are a value.
///
/// # Safety
/// `repr(C)`, nothing but atomics and bytes in cells, aligned to at most a page.
pub(super) unsafe trait Shared {}

/// What the whole pool shares.
#[repr(C)]
pub(super) struct Head {
    pub(super) magic: AtomicU64,
    pub(super) parent: AtomicU32,
    pub(super) workers: AtomicU32,
    pub(super) threads: AtomicU32,
    pub(super) lines: AtomicU32,
    pub(super) per_line: AtomicU32,
    /// What workers are to do: see `Orders`.
    pub(super) orders: AtomicU32,
    pub(super) name: [AtomicU64; 8],
    /// When the pool was made, in nanoseconds of the system's monotonic clock.
    pub(super) since: AtomicU64,
    /// What the parent has counted, for whoever looks on. See `Counts`.
    pub(super) counts: [AtomicU64; 8],
    /// The parent's thread sleeps on it.
    pub(super) bell: Bell,
    /// Tickets in a line at or below which the bell is rung when one is taken: more tasks wait in the parent's memory, or
    /// somebody waits for room. 0: nobody does.
    pub(super) low: Apart,
    pub(super) beds: Beds,
}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for Head {}

/// A word to sleep on, on cache lines of its own.
#[repr(C, align(128))]
pub(super) struct Bell(pub(super) AtomicU32);

/// A worker, as all see it.
#[repr(C, align(64))]
pub(super) struct Post {
    pub(super) pid: AtomicU32,
    /// 0 empty, 1 starting, 2 ready, 3 leaving.
    pub(super) phase: AtomicU32,
    /// How often a worker was started here.
    pub(super) incarnation: AtomicU32,
    _pad: AtomicU32,
    pub(super) since: AtomicU64,
}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for Post {}

/// A thread that runs tasks.
#[repr(C, align(128))]
pub(super) struct Hand {
    /// It sleeps on this: 1 while it does.
    pub(super) bed: AtomicU32,
    /// 1: the result in this outbox is still to be fetched.
    pub(super) full: [AtomicU32; 2],
    /// The slot of the task that it runs, plus one.
    pub(super) slot: AtomicU32,
    pub(super) ran: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) slept: AtomicU64,
    /// How often it was woken while it slept.
    pub(super) woken: AtomicU64,
}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for Hand {}

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// Arguments for one call.
    One = 1,
    /// Arguments for many calls.
    Many = 2,
    Returned = 3,
    Panicked = 4,
    Undecodable = 5,
    Unencodable = 6,
    /// A result of more bytes than there may be: their number.
    TooLarge = 7,
}

impl Kind {
    pub(super) fn of(number: u32) -> Option<Self> {
        use Kind::{Many, One, Panicked, Returned, TooLarge, Undecodable, Unencodable};
        [One, Many, Returned, Panicked, Undecodable, Unencodable, TooLarge]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// Where a task lies.
#[repr(C, align(256))]
pub(super) struct Slot {
    pub(super) word: AtomicU64,
    /// When it was taken, in nanoseconds of the monotonic clock.
    pub(super) started: AtomicU64,
    pub(super) function: AtomicU32,
    pub(super) kind: AtomicU32,
    /// Bytes of the message.
    pub(super) len: AtomicU64,
    /// Where it lies, from the segment's start; 0: in the slot.
    pub(super) at: AtomicU64,
    /// The task's number.
    pub(super) number: AtomicU64,
    pub(super) room: [AtomicU64; INLINE / 8],
}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for Slot {}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for Ends {}
// SAFETY: `repr(C)`, atomic words and arrays of them alone.
unsafe impl Shared for AtomicU64 {}

/// The numbers that decide where everything lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) threads: usize,
    pub(super) lines: usize,
    /// Slots of each line: a power of two, at least 64.
    pub(super) per_line: usize,
    /// Bytes of the largest message.
    pub(super) most: usize,
}

/// Messages of the largest size for which the inbox has room.
const INBOXES: usize = 4;

impl Plan {
    /// Where a worker's post is.
    pub(super) fn post_at(self, worker: usize) -> usize {
        size_of::<Head>().next_multiple_of(PAGE) + worker * size_of::<Post>().next_multiple_of(128)
    }

    /// Where a hand is.
    pub(super) fn hand_at(self, hand: u16) -> usize {
        self.post_at(self.workers) + usize::from(hand) * size_of::<Hand>()
    }

    pub(super) fn lines_at(self) -> usize {
        (self.post_at(self.workers) + self.hands() * size_of::<Hand>()).next_multiple_of(PAGE)
    }

    pub(super) fn line(self) -> usize {
        (self.slots_in_line() + self.per_line * size_of::<Slot>()).next_multiple_of(PAGE)
    }

    /// Where the slots of a line begin, from its start.
    pub(super) fn slots_in_line(self) -> usize {
        (size_of::<Ends>() + self.per_line * 8 + self.per_line / 8).next_multiple_of(align_of::<Slot>())
    }

    /// Where the slots of a line begin.
    pub(super) fn slots_of_line(self, line: usize) -> usize {
        self.lines_at() + line * self.line() + self.slots_in_line()
    }

    pub(super) fn hands(self) -> usize {
        self.workers * self.threads
    }

    /// Where the room for large arguments is.
    pub(super) fn inbox(self) -> core::ops::Range<usize> {
        let start = self.lines_at() + self.lines * self.line();
        start..start + INBOXES * self.largest()
    }

    pub(super) fn largest(self) -> usize {
        self.most.next_multiple_of(PAGE)
    }

    /// Where a hand puts large results: one of two places.
    pub(super) fn outbox(self, hand: u16, which: usize) -> core::ops::Range<usize> {
        let start = self.inbox().end + (2 * usize::from(hand) + which) * self.largest();
        start..start + self.largest()
    }

    pub(super) fn len(self) -> usize {
        self.inbox().end + 2 * self.hands() * self.largest()
    }

    /// The slots of all lines.
    pub(super) fn slots(self) -> usize {
        self.lines * self.per_line
    }

    /// The hands of a worker.
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024 hands")]
    pub(super) fn hands_of(self, worker: usize) -> core::ops::Range<u16> {
        (worker * self.threads) as u16..((worker + 1) * self.threads) as u16
    }

    pub(super) fn worker_of(self, hand: u16) -> usize {
        usize::from(hand) / self.threads
    }
}
