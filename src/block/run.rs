//! Runs: slots of a region cut into equal blocks, with a bit for each free one out of band.
//!
//! Nothing here is shared: a [`Runs`] belongs to one depot and is used under that depot's lock.
//!
//! Invariants:
//! - R1: `free` of a run is the number of its set bits.
//! - R2: a run without free blocks is on the full list; one with some is on the open list, or, if its free pages were
//!   given back to the system since a block last came back, on the swept list. One that is being swept is on none.
//! - R3: `next_word` is below the run's number of words: taking goes on where it last stopped, so that a block just
//!   given back by one thread is not the next to go to another one, beside its neighbours in one cache line.
//! - R4: `present` is the number of blocks in runs that stay present, none of which is swept; these are kept, and of runs that
//!   are kept none is given to the reserve.

use core::ptr::NonNull;

use super::descriptor::{Place, Run};
use super::region::{RegionRef, WORDS_PER_SLOT};
use super::reserve::Reserve;
use super::run_list::{RunList, RunPtr};
use super::{BlockLayout, SLOT, announce};
use crate::os;

/// Runs that nobody uses any more. Dropping it gives them to the reserve: outside the depot's lock.
#[derive(Debug)]
#[must_use = "drop it when the depot's lock is open"]
pub(crate) struct EmptyRuns {
    list: RunList,
    /// Those of which the system has most pages already: it gets the rest too.
    swept: RunList,
    run_bytes: usize,
    reserve: &'static Reserve,
}

impl Drop for EmptyRuns {
    fn drop(&mut self) {
        while let Some(run) = self.list.pop() {
            announce::cleared(run.base(), self.run_bytes);
            self.reserve.free(run.base(), self.run_bytes);
        }
        while let Some(run) = self.swept.pop() {
            announce::cleared(run.base(), self.run_bytes);
            let absent = run.get().absent as usize;
            self.reserve.note_absent(absent, 0);
            // SAFETY: nobody uses the run any more.
            if unsafe { os::purge(run.base(), self.run_bytes) } {
                self.reserve.free_clean(run.base(), self.run_bytes, self.run_bytes - absent);
            } else {
                self.reserve.free(run.base(), self.run_bytes);
            }
        }
    }
}

/// All runs of one depot.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(super) layout: BlockLayout,
    pub(super) reserve: &'static Reserve,
    pub(super) open: RunList,
    pub(super) swept: RunList,
    pub(super) full: RunList,
    /// Blocks free in swept runs.
    pub(super) swept_free: usize,
    /// Bytes of free blocks in open runs, when the reserve was last told.
    pub(super) scattered: usize,
    /// The most blocks in use since runs were last swept.
    pub(super) mark: usize,
    /// Blocks in all runs.
    pub(super) blocks: usize,
    /// Blocks free in runs.
    pub(super) free: usize,
    /// Blocks free in runs that are being swept, which nobody can take meanwhile.
    pub(super) in_sweep: usize,
    /// Blocks of runs that stay present (R4).
    pub(super) present: usize,
    /// The number written into every run, by which a foreign block is known.
    owner: usize,
}

// SAFETY: the pointers are to descriptions that only this value uses; it can be used from any thread.
unsafe impl Send for Runs {}

impl Runs {
    pub(crate) const fn new(layout: BlockLayout, reserve: &'static Reserve, owner: usize) -> Self {
        Self {
            layout,
            reserve,
            open: RunList { head: None },
            swept: RunList { head: None },
            full: RunList { head: None },
            swept_free: 0,
            scattered: 0,
            mark: 0,
            blocks: 0,
            free: 0,
            in_sweep: 0,
            present: 0,
            owner,
        }
    }

    pub(crate) const fn reserve(&self) -> &'static Reserve {
        self.reserve
    }

    pub(crate) const fn layout(&self) -> &BlockLayout {
        &self.layout
    }

    /// The number that marks its runs.
    #[cfg(debug_assertions)]
    pub(crate) const fn owner(&self) -> usize {
        self.owner
    }

    pub(crate) const fn blocks(&self) -> usize {
        self.blocks
    }

    pub(crate) const fn free_blocks(&self) -> usize {
        self.free
    }

    /// Bytes of all runs.
    pub(crate) const fn bytes(&self) -> usize {
        self.blocks / self.layout.per_run() as usize * self.layout.run_bytes()
    }

    /// Adds a run. False if the reserve has none.
    pub(crate) fn grow(&mut self) -> bool {
        let bytes = self.layout.run_bytes();
        let Some((base, _)) = self.reserve.alloc(bytes, self.layout.align().max(SLOT)) else { return false };
        let region = RegionRef::of(base);
        let first_slot = region.slot_at(base);
        #[expect(clippy::cast_possible_truncation, reason = "a region has 1024 slots; blocks are at most 16 MiB")]
        for slot in first_slot..first_slot + bytes / SLOT {
            let run = region.run(slot).get();
            run.first_slot = first_slot as u32;
            run.owner = self.owner;
            run.block_size = self.layout.size() as u32;
        }
        let run = region.run(first_slot);
        let per_run = self.layout.per_run();
        run.get().free = per_run;
        run.get().next_word = 0;
        run.get().place = Place::Open;
        run.get().was_swept = false;
        run.get().kept = false;
        run.get().present = false;
        run.get().absent = 0;
        for index in 0..bytes / SLOT * WORDS_PER_SLOT {
            let left = (per_run as usize).saturating_sub(index * 64);
            if left == 0 {
                break;
            }
            *run.word(index) = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        }
        self.blocks += per_run as usize;
        self.free += per_run as usize;
        self.open.push(run);
        true
    }

    /// Hands up to `want` free blocks to `each`, in address order within a run, growing when there are none.
    /// Returns how many there were: 0 only if the reserve has no run to give.
    pub(crate) fn take(&mut self, want: usize, mut each: impl FnMut(NonNull<u8>)) -> usize {
        let mut taken = 0;
        while taken < want {
            if let Some(run) = self.open.head {
                taken += self.take_from(run, want - taken, &mut each);
            } else if let Some(run) = self.swept.head {
                self.reopen(run);
            } else if taken > 0 || !self.grow() {
                break;
            }
        }
        taken
    }

    fn take_from(&mut self, run: NonNull<Run>, want: usize, each: &mut impl FnMut(NonNull<u8>)) -> usize {
        let base = run.base();
        let want = want.min(run.get().free as usize);
        let absent = run.get().absent as usize;
        if absent > 0 {
            // At most: the pages that so many blocks lie on.
            let page = os::page_size();
            let touched = want * (self.layout.size().div_ceil(page) + 1) * page;
            self.set_absent(run, absent.saturating_sub(touched));
        }
        let words = self.layout.per_run().div_ceil(u64::BITS) as usize;
        let mut index = run.get().next_word as usize;
        let mut left = want;
        while left > 0 {
            let word = run.word(index);
            let mut bits = *word;
            while bits != 0 && left > 0 {
                let block = index * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                left -= 1;
                // SAFETY: a set bit is a block of the run, so the offset lies inside it.
                each(unsafe { base.add(block * self.layout.size()) });
            }
            *word = bits;
            if bits == 0 {
                index = if index + 1 == words { 0 } else { index + 1 };
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a run has at most 4096 blocks")]
        {
            run.get().next_word = index as u32;
            run.get().free -= want as u32;
        }
        self.free -= want;
        if run.get().free == 0 {
            self.open.remove(run);
            self.full.push(run);
            run.get().place = Place::Full;
        }
        want
    }

    /// Counts a run as present, or as absent so far.
    pub(super) fn set_absent(&self, run: NonNull<Run>, bytes: usize) {
        self.reserve.note_absent(run.get().absent as usize, bytes);
        #[expect(clippy::cast_possible_truncation, reason = "a run has a few MiB")]
        {
            run.get().absent = bytes as u32;
        }
    }

    /// Puts a swept run back among those to take from.
    pub(super) fn reopen(&mut self, run: NonNull<Run>) {
        self.swept.remove(run);
        self.swept_free -= run.get().free as usize;
        self.open.push(run);
        run.get().place = Place::Open;
    }

    /// A place for the runs that get empty.
    pub(crate) const fn empties(&self) -> EmptyRuns {
        EmptyRuns {
            list: RunList { head: None },
            swept: RunList { head: None },
            run_bytes: self.layout.run_bytes(),
            reserve: self.reserve,
        }
    }

    /// Takes blocks back. Runs which that emptied, and which aren't needed, go to `empties`. Blocks of one run that come
    /// one after the other, as they do when a program frees in the order in which it took, cost a bit each.
    ///
    /// # Safety
    /// The blocks came out of [`take`](Self::take) of this value, each is given once, and nobody uses them.
    pub(crate) unsafe fn give(&mut self, blocks: impl Iterator<Item = NonNull<u8>>, empties: &mut EmptyRuns) {
        let mut last: Option<(usize, NonNull<Run>)> = None;
        let mut count = 0;
        for block in blocks {
            let slot = block.addr().get() / SLOT;
            let run = match last {
                Some((there, run)) if there == slot => run,
                _ => {
                    if let Some((_, run)) = last {
                        self.gave(run, count, empties);
                    }
                    count = 0;
                    let region = RegionRef::of(block);
                    let first = region.run(region.slot_at(block)).get().first_slot as usize;
                    let run = region.run(first);
                    debug_assert_eq!(run.get().owner, self.owner, "a block of another pool");
                    last = Some((slot, run));
                    run
                }
            };
            let index = self.layout.index_of(block.addr().get() - run.base().addr().get()) as usize;
            let word = run.word(index / 64);
            debug_assert_eq!(*word >> (index % 64) & 1, 0, "a block given back twice");
            *word |= 1 << (index % 64);
            count += 1;
        }
        if let Some((_, run)) = last {
            self.gave(run, count, empties);
        }
    }

    /// Blocks of the run came back, and their bits were set.
    fn gave(&mut self, run: NonNull<Run>, count: u32, empties: &mut EmptyRuns) {
        match run.get().place {
            Place::Open => {}
            Place::InSweep => self.in_sweep += count as usize,
            Place::Swept => self.reopen(run),
            Place::Full => {
                self.full.remove(run);
                self.open.push(run);
                run.get().place = Place::Open;
            }
        }
        run.get().free += count;
        self.free += count as usize;
        self.detach_if_needless(run, empties);
    }

    /// Takes an open run off the list if it is empty and neither the last with free blocks nor part of what is kept.
    fn detach_if_needless(&mut self, run: NonNull<Run>, empties: &mut EmptyRuns) {
        let per_run = self.layout.per_run() as usize;
        let empty = run.get().free as usize == per_run && run.get().place == Place::Open;
        if empty && self.free > per_run && !run.get().kept {
            self.detach(run, empties);
        }
    }

    pub(super) fn detach(&mut self, run: NonNull<Run>, empties: &mut EmptyRuns) {
        let per_run = self.layout.per_run() as usize;
        self.open.remove(run);
        self.blocks -= per_run;
        self.free -= per_run;
        run.get().owner = 0;
        if run.get().was_swept { empties.swept.push(run) } else { empties.list.push(run) }
    }

    /// Every empty run beyond what is kept, the last one too: for a purge.
    pub(crate) fn take_empties(&mut self, empties: &mut EmptyRuns) {
        while let Some(run) = self.swept.head {
            self.reopen(run);
        }
        self.take_open_empties(usize::MAX, empties);
    }

    /// The empty ones among the first `most` open runs, beyond what is kept.
    pub(crate) fn take_open_empties(&mut self, most: usize, empties: &mut EmptyRuns) {
        let per_run = self.layout.per_run();
        let mut at = self.open.head;
        for _ in 0..most {
            let Some(run) = at else { break };
            at = run.get().next;
            if run.get().free == per_run && !run.get().kept {
                self.detach(run, empties);
            }
        }
    }

    /// Every run, whoever still has blocks of them.
    ///
    /// # Safety
    /// Nobody uses a block of these runs any more.
    pub(crate) unsafe fn take_all(&mut self, empties: &mut EmptyRuns) {
        while let Some(run) = self.open.pop().or_else(|| self.swept.pop()).or_else(|| self.full.pop()) {
            run.get().owner = 0;
            self.set_absent(run, 0);
            empties.list.push(run);
        }
        self.reserve.note_scattered(self.scattered, 0);
        (self.blocks, self.free, self.swept_free, self.scattered, self.present) = (0, 0, 0, 0, 0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::block::{RESERVE, bitmap};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Checks R1 and R2 against a recount.
    pub(in crate::block) fn check(runs: &Runs) {
        let (mut free, mut blocks, mut swept, mut present) = (0, 0, 0, 0);
        for (list, place) in [(&runs.open, Place::Open), (&runs.swept, Place::Swept), (&runs.full, Place::Full)] {
            let mut at = list.head;
            while let Some(run) = at {
                let words = run.words(runs.layout.per_run().div_ceil(64) as usize);
                let set = bitmap::count(words, 0, runs.layout.per_run() as usize);
                assert_eq!(set, run.get().free as usize, "R1");
                assert_eq!(run.get().place, place, "R2");
                assert_eq!(set == 0, place == Place::Full, "R2");
                free += set;
                blocks += runs.layout.per_run() as usize;
                swept += if place == Place::Swept { set } else { 0 };
                present += if run.get().present { runs.layout.per_run() as usize } else { 0 };
                assert!(!run.get().present || run.get().kept && place != Place::Swept, "R4");
                at = run.get().next;
            }
        }
        assert_eq!((free, blocks, swept), (runs.free, runs.blocks, runs.swept_free));
        assert_eq!((present, 0), (runs.present, runs.in_sweep), "R4");
    }

    #[test]
    fn a_run_hands_out_as_many_blocks_as_it_holds() {
        // Its last word has bits that are no block.
        let mut runs = Runs::new(BlockLayout::new(5000, 16).unwrap(), &RESERVE, 78);
        let per_run = runs.layout.per_run() as usize;
        assert!(!per_run.is_multiple_of(64));
        assert_eq!(runs.take(per_run, |_| ()), per_run);
        let run = runs.full.head.expect("nothing is left in it");
        let words = run.words(per_run.div_ceil(64));
        assert!(words.iter().all(|word| *word == 0), "R1");
        let mut empties = runs.empties();
        // SAFETY: nobody uses the blocks.
        unsafe { runs.take_all(&mut empties) };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_block_is_in_one_place_and_keeps_its_bytes(
            size in prop_oneof![Just(16_usize), Just(48), Just(1024), Just(5000), 16_usize..40_000],
            ops in prop::collection::vec((0_u8..10, any::<usize>()), 1..120),
        ) {
            let mut runs = Runs::new(BlockLayout::new(size, 16).unwrap(), &RESERVE, 77);
            let mut live: BTreeMap<usize, (NonNull<u8>, u8)> = BTreeMap::new();
            let mut stamp = 0_u8;
            for (op, number) in ops {
                match op {
                    0..=4 => {
                        let want = number % 60 + 1;
                        let mut got = Vec::new();
                        prop_assert!(runs.take(want, |block| got.push(block)) >= 1);
                        for block in got {
                            stamp = stamp.wrapping_add(1);
                            // SAFETY: a block of the run, just taken.
                            unsafe { block.write_bytes(stamp, size) };
                            prop_assert!(live.insert(block.addr().get(), (block, stamp)).is_none(), "handed out twice");
                        }
                    }
                    5..=7 => {
                        let mut empties = runs.empties();
                        for _ in 0..number % 80 {
                            let place = live.keys().nth(number % live.len().max(1)).copied();
                            let Some((block, stamp)) = place.and_then(|place| live.remove(&place)) else { break };
                            // SAFETY: a live block of `size` bytes.
                            let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), size) };
                            prop_assert!(bytes.iter().all(|byte| *byte == stamp), "its bytes changed");
                            // SAFETY: taken above, given once.
                            unsafe { runs.give(core::iter::once(block), &mut empties) };
                        }
                    }
                    8 => {
                        let mut sweep = runs.begin_sweep(live.len(), number % 8);
                        sweep.give_pages_back();
                        let mut empties = runs.empties();
                        // A block that comes back meanwhile.
                        if let Some((_, (block, _))) = live.pop_first() {
                            // SAFETY: taken above, given once.
                            unsafe { runs.give(core::iter::once(block), &mut empties) };
                        }
                        runs.end_sweep(sweep, &mut empties);
                    }
                    _ if number % 5 == 0 => {
                        let ready = runs.free / 2 + number % 3;
                        while !runs.prepare(ready).unwrap().done {}
                        prop_assert!(runs.ready() >= ready, "too few are ready");
                    }
                    _ => {
                        let mut empties = runs.empties();
                        runs.take_empties(&mut empties);
                    }
                }
                check(&runs);
                prop_assert_eq!(runs.blocks - runs.free, live.len());
            }
            let mut empties = runs.empties();
            // SAFETY: the blocks end here.
            unsafe { runs.take_all(&mut empties) };
        }
    }
}
