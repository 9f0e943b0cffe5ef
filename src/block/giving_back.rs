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
    /// Gives all free memory back to the system, the tenants' too; returns the bytes that went meanwhile, whoever gave
    /// them.
    pub(crate) fn purge(&self) -> usize {
        let before = self.state.lock().figures.returned;
        self.tenants().for_each(|tenant| (tenant.purge)());
        self.give_back(self.state.lock(), Victims::All, 0);
        usize::try_from(self.state.lock().figures.returned - before).unwrap_or(usize::MAX)
    }

    /// Counts bytes of runs in use that went back.
    pub(super) fn note_returned(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.figures.purges += 1;
        state.figures.returned += bytes as u64;
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
                // The rest of the victim is clean: the system has it already.
                let dirty = (before - quanta.dirty_count()) * QUANTUM;
                state.dirty -= dirty;
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
                    returned += dirty;
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

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use super::*;
    use crate::block::settings::Settings;
    use crate::block::{BlockLayout, Runs, SLOT};

    /// A reserve of a test's own, all of it on huge pages.
    fn reserve() -> &'static Reserve {
        let reserve: &'static Reserve = Box::leak(Box::new(Reserve::new()));
        reserve.configure(Settings { huge_after: 0, tick: core::time::Duration::ZERO, ..reserve.settings() });
        reserve
    }

    /// What the system was last told of huge pages for the memory at an address: for them, against them, or nothing.
    fn told(at: NonNull<u8>) -> &'static str {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((Ok(from), Ok(to))) =
                range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)))
            {
                inside = (from..to).contains(&at.addr().get());
            } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
                let has = |flag| flags.split(' ').any(|one| one == flag);
                return if has("nh") {
                    "against"
                } else if has("hg") {
                    "for"
                } else {
                    "nothing"
                };
            }
        }
        panic!("{at:?} is not mapped");
    }

    /// Systems that have no huge pages take no advice.
    fn has_huge_pages() -> bool {
        std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists()
    }

    fn fill(at: NonNull<u8>, bytes: usize) {
        // SAFETY: the tests fill what they have just got.
        unsafe { at.write_bytes(7, bytes) };
    }

    #[test]
    fn the_rest_of_a_huge_page_of_which_a_part_went_back_stays_small_until_all_of_it_is_free() {
        if !has_huge_pages() {
            return;
        }
        let reserve = reserve();
        // The first huge page holds the region's bookkeeping.
        let start = reserve.alloc(HUGE_PAGE, HUGE_PAGE).unwrap().0;
        let next = reserve.alloc(HUGE_PAGE, HUGE_PAGE).unwrap().0;
        fill(start, HUGE_PAGE);
        fill(next, HUGE_PAGE);
        assert_eq!((told(start), told(next)), ("for", "for"));
        // SAFETY: inside the piece.
        let part = unsafe { start.add(HUGE_PAGE / 2) };
        reserve.free(part, HUGE_PAGE / 2);
        assert_eq!(reserve.purge(), HUGE_PAGE / 2);
        assert_eq!((told(start), told(part), told(next)), ("against", "against", "for"), "split");
        reserve.free(start, HUGE_PAGE / 2);
        assert!(reserve.purge() >= HUGE_PAGE / 2);
        assert_eq!((told(start), told(part), told(next)), ("for", "for", "for"), "whole again");
        reserve.free(next, HUGE_PAGE);
    }

    #[test]
    fn all_huge_pages_of_a_long_run_that_was_swept_stay_small_until_it_is_free() {
        if !has_huge_pages() {
            return;
        }
        let reserve = reserve();
        let pad = reserve.alloc(HUGE_PAGE, HUGE_PAGE).unwrap().0;
        let mut runs = Runs::new(BlockLayout::new(1 << 20, 16).unwrap(), reserve, 1);
        let mut blocks = Vec::new();
        assert_eq!(runs.take(8, |block| blocks.push(block)), 8);
        let (first, last) = (blocks[0], blocks[7]);
        blocks.iter().for_each(|block| fill(*block, 1 << 20));
        let kept = blocks.remove(3);
        let before = reserve.figures().committed;
        let mut empties = runs.empties();
        // SAFETY: taken above, each once.
        unsafe { runs.give(blocks.into_iter(), &mut empties) };
        let mut sweep = runs.begin_sweep(1, 0);
        sweep.give_pages_back();
        assert_eq!([first, kept, last].map(told), ["against"; 3]);
        runs.end_sweep(sweep, &mut empties);
        assert_eq!(before - reserve.figures().committed, 7 << 20);
        // SAFETY: a live block, filled above.
        assert_eq!(unsafe { core::slice::from_raw_parts(kept.as_ptr(), 1 << 20) }, [7; 1 << 20]);
        // SAFETY: as above.
        unsafe { runs.give(core::iter::once(kept), &mut empties) };
        runs.take_empties(&mut empties);
        drop(empties);
        assert_eq!([first, kept, last].map(told), ["for"; 3], "nothing is left of it");
        reserve.free(pad, HUGE_PAGE);
    }

    #[test]
    fn a_huge_page_with_swept_runs_stays_small_until_all_of_it_is_free() {
        if !has_huge_pages() {
            return;
        }
        let reserve = reserve();
        // So that there is more than runs on huge pages.
        let pad = reserve.alloc(HUGE_PAGE, 1).unwrap().0;
        let mut runs = Runs::new(BlockLayout::new(1024, 16).unwrap(), reserve, 1);
        let mut blocks = Vec::new();
        while blocks.len() < 4 * HUGE_PAGE / 1024 {
            assert!(runs.take(1_000, |block| blocks.push(block)) > 0);
        }
        let kept = blocks[blocks.len() / 2];
        assert_eq!(told(kept), "for");
        let mut empties = runs.empties();
        let given = blocks.iter().copied().filter(|block| block.addr().get() / SLOT != kept.addr().get() / SLOT);
        // SAFETY: taken above, each once.
        unsafe { runs.give(given, &mut empties) };
        let near = blocks.iter().copied().filter(|block| block.addr().get() / SLOT == kept.addr().get() / SLOT);
        // SAFETY: as above.
        unsafe { runs.give(near.filter(|block| *block != kept), &mut empties) };
        let mut sweep = runs.begin_sweep(1, 6);
        sweep.give_pages_back();
        assert_eq!(told(kept), "against", "its run was swept");
        runs.end_sweep(sweep, &mut empties);
        // SAFETY: as above.
        unsafe { runs.give(core::iter::once(kept), &mut empties) };
        runs.take_empties(&mut empties);
        drop(empties);
        reserve.purge();
        assert_eq!(told(kept), "for", "nothing is left on it");
        reserve.free(pad, HUGE_PAGE);
    }
}
