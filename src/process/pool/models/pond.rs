//! A process pool's segment in small, for models and schedules.

use loom::sync::Arc;

use super::beds::{Beds, Bits};
use super::line::{self, Apart, Ends};
use super::slot;
use crate::os::Futex;
use crate::primitive::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Few where every order is tried.
pub(super) const HANDS: u16 = if cfg!(millpond_shuttle) { 3 } else { 2 };
pub(super) const SLOTS: usize = if cfg!(millpond_shuttle) { 4 } else { 2 };

/// One line, its slots and its hands.
pub(super) struct Pond {
    pub(super) ends: Ends,
    pub(super) places: [AtomicU64; SLOTS],
    pub(super) words: [AtomicU64; SLOTS],
    /// Arguments, then the result: read and written without an order, so whoever reads them without one may see old ones.
    rooms: [AtomicU32; SLOTS],
    pub(super) beds: Beds,
    pub(super) sleep: [Futex; HANDS as usize],
    pub(super) ran: AtomicUsize,
    /// The same, for the parent to sleep on.
    pub(super) done: Futex,
    /// The pool is at its end.
    pub(super) leave: AtomicUsize,
}

impl Pond {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            ends: Ends { head: Apart(AtomicU64::new(0)), tail: Apart(AtomicU64::new(0)) },
            places: core::array::from_fn(|_| AtomicU64::new(0)),
            words: core::array::from_fn(|_| AtomicU64::new(0)),
            rooms: core::array::from_fn(|_| AtomicU32::new(0)),
            beds: Beds { asleep: Bits::new(), searching: Bits::new() },
            sleep: core::array::from_fn(|_| Futex::new(0)),
            ran: AtomicUsize::new(0),
            done: Futex::new(0),
            leave: AtomicUsize::new(0),
        })
    }

    pub(super) fn set(&self, slot: usize, value: u32) {
        self.rooms[slot].store(value, Ordering::Relaxed);
    }

    pub(super) fn get(&self, slot: usize) -> u32 {
        self.rooms[slot].load(Ordering::Relaxed)
    }

    /// The parent puts a task into a slot and a line, and wakes somebody.
    pub(super) fn submit(&self, slot: u32, generation: u32, tail: u64, flags: u64) {
        self.set(slot as usize, 7);
        slot::queue(&self.words[slot as usize], generation, flags);
        assert!(line::put(&self.ends, &self.places, tail, &mut 0, line::ticket(slot, generation)));
        line::publish(&self.ends, tail + 1);
        self.call();
    }

    pub(super) fn call(&self) {
        if let Some(hand) = self.beds.pick(0..HANDS) {
            self.wake(hand);
        }
    }

    pub(super) fn wake(&self, hand: u16) {
        let bed = &self.sleep[hand as usize];
        bed.swap(0, Ordering::Release);
        bed.wake_one();
    }

    #[cfg(not(millpond_shuttle))]
    pub(super) fn take(&self, hand: u16) -> Option<(u32, u32)> {
        line::get(&self.ends, &self.places, |slot, generation| slot::take(&self.words[slot as usize], generation, hand))
    }
}
