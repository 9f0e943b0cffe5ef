//! What a depot keeps, and how much of it: its full magazines, the bound on them, and what goes back to the source.
//!
//! Used under the depot's lock. Its invariants are the depot's.

use super::magazine::{CAPACITY, Magazine, MagazineList, stock};
use super::source::Source;

/// Empty magazines that a depot keeps for itself.
const SPARES: usize = 4;
/// Bytes of full magazines that a depot may hold: an eighth of its runs', within these.
const BOUND: core::ops::Range<usize> = 256 * 1024..2 * 1024 * 1024;
/// Bytes of full magazines that a depot may hold even if nothing is in use: a run's worth.
pub(super) const LEAST: usize = 64 * 1024;
/// To what that may grow where drained blocks are soon asked for again.
const MOST: usize = 1024 * 1024;

/// Figures of a depot, in blocks where not said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DepotFigures {
    /// Out of the source: with users, in threads' slots, in full magazines.
    pub(crate) out: usize,
    /// The most that `out` ever was.
    pub(crate) peak: usize,
    /// In full magazines.
    pub(crate) stored: usize,
    /// Magazines filled from the source, ever.
    pub(crate) refills: u64,
    /// Magazines drained to the source, ever.
    pub(crate) drains: u64,
    /// Magazines that changed hands whole, ever.
    pub(crate) exchanges: u64,
}

#[derive(Debug)]
pub(super) struct State<S> {
    pub(super) full: MagazineList,
    pub(super) spare: MagazineList,
    pub(super) limit: usize,
    /// Blocks of a magazine that is put together here.
    pub(super) magazine: usize,
    /// Blocks that were in the slots of threads which a fork left behind.
    pub(super) lost: usize,
    pub(super) figures: DepotFigures,
    /// Whether somebody took or gave blocks since the last tick.
    pub(super) visited: bool,
    /// Bytes of full magazines that it may hold whatever is in use: doubled when a magazine has to be filled although one
    /// was drained since the last one was. Blocks that go from thread to thread come in waves: what is drained on the
    /// crest is filled again in the trough.
    pub(super) slack: usize,
    /// `figures.drains` when a magazine was last filled.
    pub(super) drains_then: u64,
    pub(super) source: S,
}

impl<S: Source> State<S> {
    pub(super) const fn new(source: S, magazine: usize) -> Self {
        let figures = DepotFigures { out: 0, peak: 0, stored: 0, refills: 0, drains: 0, exchanges: 0 };
        Self {
            full: MagazineList::new(),
            spare: MagazineList::new(),
            limit: usize::MAX,
            magazine,
            lost: 0,
            figures,
            visited: false,
            slack: LEAST,
            drains_then: 0,
            source,
        }
    }

    pub(super) fn refill(&mut self, magazine: &mut Magazine, want: usize) {
        let want = want.clamp(1, CAPACITY).min(self.room());
        if want == 0 {
            return;
        }
        if self.drains_then != self.figures.drains {
            self.drains_then = self.figures.drains;
            self.slack = (self.slack * 2).min(self.source.bytes() / 2).clamp(LEAST, MOST);
        }
        let source = &mut self.source;
        magazine.fill(want, |want, each| source.take(want, each));
        self.figures.out += magazine.len();
        self.figures.peak = self.figures.peak.max(self.figures.out);
        self.figures.refills += 1;
    }

    /// Puts a magazine on the list, or drains it and gives it back.
    ///
    /// # Safety
    /// The blocks came from this depot, and nobody uses them.
    pub(super) unsafe fn store(&mut self, mut magazine: Magazine, empties: &mut S::Empties) -> Option<Magazine> {
        let count = magazine.len();
        if count == 0 {
            return Some(magazine);
        }
        if (self.figures.stored + count) * self.source.block_size() <= self.bound() {
            self.figures.stored += count;
            // What ending threads leave is often little: together it makes fewer, fuller magazines.
            if let Some(mut top) = self.full.pop() {
                let absorbed = top.absorb(&mut magazine, self.magazine);
                self.full.push(top);
                if absorbed {
                    return Some(magazine);
                }
            }
            self.full.push(magazine);
            return None;
        }
        self.drain(&mut magazine, empties);
        self.drain_surplus(empties);
        Some(magazine)
    }

    /// How many more blocks the limit allows.
    pub(super) fn room(&self) -> usize {
        self.limit - self.figures.out.saturating_sub(self.lost).min(self.limit)
    }

    /// Blocks with users and in threads' slots.
    pub(super) fn in_use(&self) -> usize {
        self.figures.out - self.figures.stored
    }

    /// Bytes that full magazines may hold: no more than half of what is in use, or they would keep runs from getting
    /// empty after most blocks were freed.
    pub(super) fn bound(&self) -> usize {
        let in_use = self.in_use() * self.source.block_size();
        (in_use / 2).min((self.source.bytes() / 8).clamp(BOUND.start, BOUND.end)).max(self.slack)
    }

    /// Drains what is stored beyond the bound, which falls with what is in use.
    pub(super) fn drain_surplus(&mut self, empties: &mut S::Empties) {
        while self.figures.stored * self.source.block_size() > self.bound() {
            let Some(mut full) = self.full.pop() else { break };
            self.figures.stored -= full.len();
            self.drain(&mut full, empties);
            self.put_spare(full);
        }
    }

    pub(super) fn drain(&mut self, magazine: &mut Magazine, empties: &mut S::Empties) {
        self.figures.out -= magazine.len();
        self.figures.drains += 1;
        // SAFETY: D1: the blocks of a magazine of this depot came from its source, and are in no other place.
        unsafe { self.source.give(magazine.blocks(), empties) };
        magazine.forget_blocks();
    }

    pub(super) fn drain_all(&mut self, empties: &mut S::Empties) {
        while let Some(mut full) = self.full.pop() {
            self.figures.stored -= full.len();
            self.drain(&mut full, empties);
            self.put_spare(full);
        }
    }

    pub(super) fn take_spare(&mut self) -> Option<Magazine> {
        self.spare.pop().or_else(stock::take)
    }

    pub(super) fn put_spare(&mut self, magazine: Magazine) {
        if self.spare.len() < SPARES { self.spare.push(magazine) } else { stock::give(magazine) }
    }
}
