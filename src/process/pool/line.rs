//! A line of tasks that wait: numbers of slots, in the order of their coming. One puts in, many take out.
//!
//! L1. The slot's word is the truth and the line is a hint: a task is taken by its word's step, and whoever finds a number
//!     that is good for nothing (taken, cancelled) moves the head on.
//! L2. A hand that dies between taking and moving the head leaves a number that is good for nothing (L1).
//! L3. The parent alone knows the tail; a place is written before the tail says so, and not again before the head has passed.

use crate::primitive::{AtomicU64, Ordering};

/// The ends of a line, each on cache lines of its own.
#[repr(C)]
pub(super) struct Ends {
    pub(super) head: Apart,
    pub(super) tail: Apart,
}

/// A word on cache lines of its own.
#[repr(C, align(128))]
pub(super) struct Apart(pub(super) AtomicU64);

/// A number as it stands in a line: slot and generation.
pub(super) fn ticket(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

#[expect(clippy::cast_possible_truncation, reason = "two halves")]
pub(super) fn parts(ticket: u64) -> (u32, u32) {
    (ticket as u32, (ticket >> 32) as u32)
}

/// The parent's end: puts a ticket at `tail`, which it knows, and will [`publish`]. False: there is no room. `seen` is where it last saw the head,
/// which hands move: it is looked at again only if there was no room then.
pub(super) fn put(ends: &Ends, places: &[AtomicU64], tail: u64, seen: &mut u64, ticket: u64) -> bool {
    let is_full = |head: u64| tail.wrapping_sub(head) >= places.len() as u64;
    if is_full(*seen) {
        // Acquire: pairs with the Release in `pass`: who moved the head had read the place.
        *seen = ends.head.0.load(Ordering::Acquire);
        // Or more than full: somebody wrote over the head. It is found out elsewhere.
        if is_full(*seen) {
            return false;
        }
    }
    places[place(places, tail)].store(ticket, Ordering::Relaxed);
    true
}

/// The parent says that there are tickets up to `tail`.
pub(super) fn publish(ends: &Ends, tail: u64) {
    // SeqCst: before the look at who sleeps (pairs with `Beds::rest`); a Release for whoever takes.
    ends.tail.0.store(tail, Ordering::SeqCst);
}

pub(super) fn place<T>(places: &[T], at: u64) -> usize {
    // Lengths are powers of two, so that counters may wrap.
    usize::try_from(at & (places.len() as u64 - 1)).unwrap_or(0)
}

/// The head has been dealt with. No matter whether somebody else says so first.
fn pass(ends: &Ends, head: u64) {
    // Release: pairs with the Acquire in `put`.
    let _ = ends.head.0.compare_exchange(head, head.wrapping_add(1), Ordering::Release, Ordering::Relaxed);
}

/// A hand's end: the first ticket that `take` gets.
pub(super) fn get(ends: &Ends, places: &[AtomicU64], mut take: impl FnMut(u32, u32) -> bool) -> Option<(u32, u32)> {
    // As many looks as there are places, and some for others' tickets: rubbish in the ends must not hold anybody for ever.
    for _ in 0..4 * places.len() {
        let head = ends.head.0.load(Ordering::Acquire);
        // SeqCst: after lying down (pairs with `put`).
        if head == ends.tail.0.load(Ordering::SeqCst) {
            return None;
        }
        let (slot, generation) = parts(places[place(places, head)].load(Ordering::Relaxed));
        let taken = take(slot, generation);
        pass(ends, head);
        if taken {
            return Some((slot, generation));
        }
    }
    None
}

/// The parent moves the head past tickets that are good for nothing.
pub(super) fn clean(ends: &Ends, places: &[AtomicU64], is_good: impl Fn(u64) -> bool) {
    for _ in 0..places.len() {
        let head = ends.head.0.load(Ordering::Acquire);
        let ticket = places[place(places, head)].load(Ordering::Relaxed);
        if head == ends.tail.0.load(Ordering::SeqCst) || is_good(ticket) {
            return;
        }
        pass(ends, head);
    }
}

/// Where the head is: all tickets before it have been dealt with.
pub(super) fn head(ends: &Ends) -> u64 {
    // Acquire: as in `put`.
    ends.head.0.load(Ordering::Acquire)
}

/// How many tickets there are, good or not.
pub(super) fn len(ends: &Ends) -> u64 {
    // SeqCst: as in `get`.
    ends.tail.0.load(Ordering::SeqCst).wrapping_sub(ends.head.0.load(Ordering::Acquire))
}
