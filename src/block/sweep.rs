//! Sweeps: of runs that are mostly free, the pages between the blocks in use go back to the system.
//!
//! Three steps, of which only the first and the last are under the depot's lock: the runs are chosen and taken off the
//! lists, their free pages are given back, and they are put on the swept list (R2).

use core::ptr::NonNull;

use super::SLOT;
use super::bitmap;
use super::descriptor::{Place, Run};
use super::region::RegionRef;
use super::run::{EmptyRuns, Runs};
use super::run_list::{RunList, RunPtr};
use super::settings::HugePages;
use crate::os::{self, Huge};

/// A bit for each page of a run; in a long run for several.
type FreePages = u128;
/// Pages of the longest run that is swept page by page.
pub(crate) const MOST_PAGES: usize = FreePages::BITS as usize;
/// Runs that one sweep takes at a time.
const SWEEP_BATCH: usize = 64;
/// Changes in bytes that the reserve is told of.
const NOTEWORTHY: usize = 16 * 1024;
/// Bytes of scattered free blocks that are left in peace, of one size and of all together.
const SWEEP_LEAST: usize = 32 * 1024;
/// Of runs that are longer than a mask has pages, so many: a wave of a few blocks is to find its memory again.
const LONG_RUNS: usize = 4;
const SWEEP_LEAST_EVERYWHERE: usize = 4 * 1024 * 1024;

/// Runs on no list, whose free pages are on their way to the system. Blocks may come back to them meanwhile, but none
/// is taken from them.
#[derive(Debug)]
#[must_use = "end it, or the runs are lost"]
pub(crate) struct Sweep {
    runs: RunList,
    /// Where the runs start, and what to give back of each; then what the system took of it.
    targets: [Option<(NonNull<u8>, FreePages)>; SWEEP_BATCH],
    len: usize,
    /// Bytes of what a bit stands for.
    unit: usize,
    run_bytes: usize,
    /// Whether the system is told about huge pages.
    tell: bool,
}

impl Sweep {
    /// Whether there may be more where these came from.
    pub(crate) fn is_full_batch(&self) -> bool {
        self.len == SWEEP_BATCH
    }

    /// Gives the free pages back: to be called with the depot's lock open.
    pub(crate) fn give_pages_back(&mut self) {
        let unit = self.unit;
        let mut split = None;
        for (base, taken) in self.targets.iter_mut().flatten() {
            let (base, mut pages) = (*base, *taken);
            let region = RegionRef::of(base);
            let (huge, _) = region.huge_page_around(base);
            // SAFETY: the run's last byte.
            let (last, len) = region.huge_page_around(unsafe { base.add(self.run_bytes - 1) });
            if self.tell && pages != 0 && split != Some((huge, last)) {
                // Or the system's own daemon makes it whole again, with all the memory that was given back.
                os::advise_huge(huge, last.addr().get() + len - huge.addr().get(), Huge::Never);
                split = Some((huge, last));
            }
            let mut from = 0;
            while pages != 0 {
                let start = from + pages.trailing_zeros() as usize;
                pages >>= pages.trailing_zeros();
                let len = pages.trailing_ones() as usize;
                pages = pages.checked_shr(pages.trailing_ones()).unwrap_or(0);
                from = start + len;
                // SAFETY: inside the run.
                let first = unsafe { base.add(start * unit) };
                // SAFETY: every block on these pages was free when the run was taken off the lists, and none has been
                // taken since.
                if !unsafe { os::purge(first, len * unit) } {
                    // The memory stays, no harm.
                    *taken &= !((FreePages::MAX >> (MOST_PAGES - len)) << start);
                }
            }
        }
    }
}

impl Runs {
    /// Whether so few blocks are in use, and so many free ones scattered among them, here and in all other runs of the
    /// reserve, that a sweep is worth its while: at each halving of what is in use, so that the work is a few passes
    /// however many blocks are freed.
    pub(crate) fn wants_sweep(&mut self, in_use: usize) -> bool {
        self.mark = self.mark.max(in_use);
        let scattered = (self.free - self.swept_free).saturating_sub(self.present) * self.layout.size();
        if scattered.abs_diff(self.scattered) < NOTEWORTHY {
            return false;
        }
        let everywhere = self.reserve.note_scattered(self.scattered, scattered);
        self.scattered = scattered;
        in_use <= self.mark / 2
            && scattered >= 3 * in_use * self.layout.size()
            && scattered >= SWEEP_LEAST
            && (self.layout.run_bytes() <= MOST_PAGES * os::page_size()
                || scattered >= LONG_RUNS * self.layout.run_bytes())
            && everywhere >= SWEEP_LEAST_EVERYWHERE
    }

    /// Chooses up to [`SWEEP_BATCH`] runs, of which at least `share` eighths are free, to be swept outside the lock.
    pub(crate) fn begin_sweep(&mut self, in_use: usize, share: usize) -> Sweep {
        self.mark = in_use;
        let tell = self.reserve.settings().huge == HugePages::Growing;
        let run_bytes = self.layout.run_bytes();
        let pages = run_bytes / os::page_size();
        // A power of two, so that a run, which is so many slots, is so many of these.
        let unit = pages.div_ceil(MOST_PAGES).next_power_of_two() * os::page_size();
        let list = RunList { head: None };
        let mut sweep = Sweep { runs: list, targets: [None; SWEEP_BATCH], len: 0, unit, run_bytes, tell };
        // Longer runs are of one block each: there is nothing between blocks.
        if pages == 0 || unit > SLOT {
            return sweep;
        }
        let mut at = self.open.head;
        while let Some(run) = at {
            at = run.get().next;
            // What is ready stays so.
            if !run.get().present && run.get().free as usize * 8 >= self.layout.per_run() as usize * share {
                self.open.remove(run);
                sweep.runs.push(run);
                run.get().place = Place::InSweep;
                sweep.targets[sweep.len] = Some((run.base(), self.free_pages(run, unit)));
                sweep.len += 1;
                self.in_sweep += run.get().free as usize;
                if sweep.len == SWEEP_BATCH {
                    break;
                }
            }
        }
        sweep
    }

    /// The pages of a run, or stretches of `page` bytes, on which no block in use lies.
    fn free_pages(&self, run: NonNull<Run>, page: usize) -> FreePages {
        let pages = self.layout.run_bytes() / page;
        let blocks = self.layout.per_run() as usize;
        let words = run.words(blocks.div_ceil(64));
        (0..pages).fold(0, |mask, index| {
            let first = (index * page / self.layout.size()).min(blocks);
            let end = ((index + 1) * page).div_ceil(self.layout.size()).min(blocks);
            let free = bitmap::count(words, first, end) == end - first;
            mask | FreePages::from(free) << index
        })
    }

    /// Takes the runs back.
    pub(crate) fn end_sweep(&mut self, mut sweep: Sweep, empties: &mut EmptyRuns) {
        let mut gone = 0;
        while let Some(run) = sweep.runs.pop() {
            // The last one that was pushed.
            sweep.len -= 1;
            self.in_sweep -= run.get().free as usize;
            let taken = sweep.targets[sweep.len].map_or(0, |(_, pages)| pages.count_ones() as usize * sweep.unit);
            gone += taken.saturating_sub(run.get().absent as usize);
            self.set_absent(run, taken);
            run.get().place = Place::Swept;
            run.get().was_swept = true;
            self.swept.push(run);
            self.swept_free += run.get().free as usize;
            let needless = !run.get().kept && self.blocks > self.layout.per_run() as usize;
            if run.get().free == self.layout.per_run() && needless {
                // It got empty meanwhile, and there are others.
                self.reopen(run);
                self.detach(run, empties);
            }
        }
        if gone > 0 {
            self.reserve.note_returned(gone);
        }
    }
}
