//! When memory goes back to the system, and how.

use crate::os::{self, Huge, LockGuard};
use crate::primitive::Ordering;

use super::quanta::Victims;
use super::region::{HEADER_BYTES, RegionRef};
use super::reserve::{Reserve, State};
use super::settings::HugePages;
use super::{HUGE_PAGE, QUANTUM};

/// Free bytes that a shrinking heap keeps for its next needs.
const SHRUNK: usize = 4 * 1024 * 1024;

impl Reserve {
    /// Gives all free memory back to the system, the tenants' too; returns the bytes.
    pub(crate) fn purge(&self) -> usize {
        self.tenants().for_each(|tenant| (tenant.purge)());
        self.give_back(self.state.lock(), Victims::All, 0)
    }

    /// Called now and then by whoever is on a slow path, with the time: once in each period, what has been idle for one
    /// goes back, the tenants' first.
    pub(crate) fn tick(&self, now: u64) {
        if !self.ticker.passed(now, self.period()) {
            return;
        }
        let shrinks = self.shrinks();
        let shrank = self.shrinks_seen.swap(shrinks, Ordering::Relaxed) != shrinks;
        self.tenants().for_each(|tenant| (tenant.trim)(shrank));
        let mut state = self.state.lock();
        state.patience = 0;
        if state.dirty > 0 {
            self.give_back(state, Victims::Aged, 0);
            self.state.lock().age();
        }
    }

    /// Gives victims back until no more than `target` bytes are dirty. The lock is open while the system works: a
    /// victim is marked as used meanwhile, which also keeps its region mapped.
    pub(super) fn give_back<'a>(&'a self, mut state: LockGuard<'a, State>, which: Victims, target: usize) -> usize {
        let page = os::page_size().div_ceil(QUANTUM);
        let mut returned = 0;
        let mut at = state.regions;
        while let Some(mut region) = at {
            let mut from = 0;
            while state.dirty > target {
                // SAFETY: the lock is held, and the region is on the list: it was when the lock was last taken.
                let quanta = unsafe { region.quanta() };
                let before = quanta.dirty_count();
                let Some(victim) = quanta.take_victim(from, page, which) else { break };
                state.dirty -= (before - quanta.dirty_count()) * QUANTUM;
                from = victim.start + victim.len;
                let bytes = victim.len * QUANTUM;
                let place = region.quantum(victim.start);
                let (huge, len) = region.huge_page_around(place);
                let whole = quanta.is_whole_huge_page(victim);
                let tell = state.settings.huge == HugePages::Growing;
                drop(state);
                if !whole && tell {
                    // Or the system's own daemon makes it whole again, with all the memory that was given back.
                    os::advise_huge(huge, len, Huge::Never);
                }
                // SAFETY: the victim was free and is marked as used, so nobody else has it.
                let granted = unsafe { os::purge(place, bytes) };
                if whole && tell {
                    os::advise_huge(huge, len, Huge::Whole);
                }
                state = self.state.lock();
                // SAFETY: the lock is held, and the region is still mapped: a part of it was in use.
                let quanta = unsafe { region.quanta() };
                if granted {
                    quanta.give_clean(victim);
                    returned += bytes;
                } else {
                    quanta.give(victim);
                    state.dirty += bytes;
                    break;
                }
            }
            // SAFETY: the lock is held and was held since the region was last used.
            at = unsafe { region.next() };
        }
        // What is left lies on huge pages in use: don't look again for every free.
        if which != Victims::Whole {
            state.patience = if state.dirty > target { state.dirty + HUGE_PAGE } else { 0 };
        }
        if returned > 0 {
            state.figures.purges += 1;
            state.figures.returned += returned as u64;
        }
        let mut unused = state.take_unused();
        drop(state);
        while let Some(region) = unused {
            // SAFETY: off the reserve's list, so it's ours alone.
            unused = unsafe { region.next() };
            // SAFETY: nothing in it is used.
            unsafe { region.unmap() };
        }
        returned
    }

    /// How often the heap shrank to a quarter of what it was: what threads and depots keep is no measure of what they will
    /// need then. Relaxed: a figure.
    pub(crate) fn shrinks(&self) -> usize {
        self.shrinks.load(Ordering::Relaxed)
    }

    /// The heap is shrinking: what is free goes back down to half of what is in use.
    pub(crate) fn shrink(&self) {
        let state = self.state.lock();
        let target = SHRUNK.max((state.figures.used + state.figures.direct) / 2);
        if state.dirty > target {
            self.give_back(state, Victims::Surplus, target);
            // What is left need not wait for two ticks.
            self.state.lock().age();
        }
    }
}

impl State {
    /// A tick has passed in every region.
    pub(super) fn age(&mut self) {
        let mut at = self.regions;
        while let Some(mut region) = at {
            // SAFETY: as in `find`.
            unsafe { region.quanta() }.age();
            // SAFETY: as in `find`.
            at = unsafe { region.next() };
        }
    }

    /// The regions that are free and clean from end to end, as a list of their own; the first region stays.
    fn take_unused(&mut self) -> Option<RegionRef> {
        let mut unused = None;
        let mut before = self.regions?;
        // SAFETY: as in `find`, here and below.
        while let Some(mut region) = unsafe { before.next() } {
            // SAFETY: as above.
            let book = unsafe { region.quanta() };
            if book.used_count() * QUANTUM == HEADER_BYTES && book.dirty_count() == 0 {
                self.figures.reserved -= book.end() * QUANTUM;
                self.figures.regions -= 1;
                // SAFETY: as above.
                let next = unsafe { region.next() };
                // SAFETY: as above.
                unsafe { before.set_next(next) };
                // SAFETY: as above.
                unsafe { region.set_next(unused) };
                unused = Some(region);
            } else {
                before = region;
            }
        }
        unused
    }
}
