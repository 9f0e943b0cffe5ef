//! Descriptions of runs as pointers into their regions' headers, and lists of them.
//!
//! For `run.rs`, `ready.rs` and `sweep.rs` alone, whose `Runs` owns the runs that it has pointers to and uses them under its depot's lock.

use core::ptr::NonNull;

use super::descriptor::Run;
use super::region::RegionRef;
use super::{QUANTUM, SLOT};

/// A list of runs linked through their descriptions.
#[derive(Debug)]
pub(super) struct RunList {
    pub(super) head: Option<NonNull<Run>>,
}

/// What can be asked of a run's description.
pub(super) trait RunPtr: Copy {
    fn get<'a>(self) -> &'a mut Run;
    fn base(self) -> NonNull<u8>;
    fn word<'a>(self, index: usize) -> &'a mut u64;
    fn words<'a>(self, len: usize) -> &'a [u64];
}

impl RunPtr for NonNull<Run> {
    #[inline]
    fn get<'a>(mut self) -> &'a mut Run {
        // SAFETY: only `Runs` makes these pointers, for runs it owns; its methods take `&mut self`, use one such
        // reference at a time, and the region stays mapped while a run is in use.
        unsafe { self.as_mut() }
    }

    fn base(self) -> NonNull<u8> {
        let region = RegionRef::of(self.cast());
        region.quantum(region.slot_of(self) * (SLOT / QUANTUM))
    }

    #[inline]
    fn word<'a>(self, index: usize) -> &'a mut u64 {
        let region = RegionRef::of(self.cast());
        let bits = region.bits(region.slot_of(self));
        // SAFETY: `index` is below the words of the run's slots, whose bits lie one after the other in the header.
        let mut word = unsafe { bits.add(index) };
        // SAFETY: as for `get`: the bits of a run belong to its `Runs`.
        unsafe { word.as_mut() }
    }

    fn words<'a>(self, len: usize) -> &'a [u64] {
        let region = RegionRef::of(self.cast());
        let bits = region.bits(region.slot_of(self));
        // SAFETY: as for `word`, for the first `len` words of the run.
        unsafe { core::slice::from_raw_parts(bits.as_ptr(), len) }
    }
}

impl RunList {
    pub(super) fn push(&mut self, run: NonNull<Run>) {
        let this = run.get();
        (this.next, this.prev) = (self.head, None);
        if let Some(head) = self.head {
            head.get().prev = Some(run);
        }
        self.head = Some(run);
    }

    pub(super) fn remove(&mut self, run: NonNull<Run>) {
        let (next, prev) = (run.get().next, run.get().prev);
        match prev {
            Some(prev) => prev.get().next = next,
            None => self.head = next,
        }
        if let Some(next) = next {
            next.get().prev = prev;
        }
    }

    pub(super) fn pop(&mut self) -> Option<NonNull<Run>> {
        let run = self.head?;
        self.remove(run);
        Some(run)
    }
}
