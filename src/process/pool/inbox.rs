//! Room in the segment for arguments that are too large for a slot. The parent alone gives it out.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::ground::Ground;

const PAGE: usize = 4096;
/// Bytes of free room whose pages are kept.
const KEPT: usize = 32 << 20;

/// Which ranges are free, and how far pages were taken.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Free ranges by their starts; no two touch.
    free: BTreeMap<usize, usize>,
    /// Everything below has its pages.
    warm: usize,
    /// Bytes that are given out.
    used: usize,
}

impl Inbox {
    pub(super) fn new(all: Range<usize>) -> Self {
        Self { free: BTreeMap::from([(all.start, all.end)]), warm: all.start, used: 0 }
    }

    /// Room for so many bytes, with its pages. `None`: not now.
    pub(super) fn take(&mut self, ground: &Ground, len: usize) -> io::Result<Option<Range<usize>>> {
        let len = len.next_multiple_of(PAGE);
        let Some((&start, &end)) = self.free.iter().find(|(start, end)| **end - **start >= len) else {
            return Ok(None);
        };
        let taken = start..start + len;
        if taken.end > self.warm {
            ground.take_room(self.warm.max(taken.start)..taken.end)?;
            if self.warm >= taken.start {
                self.warm = taken.end;
            }
        }
        self.used += len;
        self.free.remove(&start);
        if taken.end < end {
            self.free.insert(taken.end, end);
        }
        Ok(Some(taken))
    }

    /// Gives room back.
    pub(super) fn give(&mut self, ground: &Ground, range: Range<usize>) {
        self.used -= range.len();
        let mut range = range;
        if let Some((&start, &end)) = self.free.range(..range.start).next_back()
            && end == range.start
        {
            self.free.remove(&start);
            range.start = start;
        }
        if let Some(end) = self.free.remove(&range.end) {
            range.end = end;
        }
        // Room at the end of what has pages: more of it than is kept goes back to the system.
        if range.end >= self.warm && self.warm.saturating_sub(range.start) > KEPT {
            ground.give_room(range.start + KEPT..self.warm);
            self.warm = range.start + KEPT;
        }
        self.free.insert(range.start, range.end);
    }

    /// Bytes that are given out.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    #[test]
    fn ranges_come_apart_and_together_again() {
        let plan = Plan { workers: 1, threads: 1, lines: 1, per_line: 64, most: 1 << 20 };
        let ground = Ground::create(plan).unwrap();
        let mut inbox = Inbox::new(plan.inbox());
        let mut seed = 7_u64;
        let mut taken: Vec<Range<usize>> = Vec::new();
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = usize::try_from(seed >> 33).unwrap();
            if n.is_multiple_of(2) || taken.is_empty() {
                if let Some(range) = inbox.take(&ground, 1 + n % 200_000).unwrap() {
                    assert!(taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
                    ground.write(range.end - 8, &[1; 8]);
                    taken.push(range);
                }
            } else {
                inbox.give(&ground, taken.swap_remove(n % taken.len()));
            }
            assert_eq!(inbox.used(), taken.iter().map(ExactSizeIterator::len).sum::<usize>());
        }
        taken.drain(..).for_each(|range| inbox.give(&ground, range));
        assert_eq!(inbox.free.len(), 1, "all of it is one range again");
        assert_eq!(inbox.take(&ground, plan.inbox().len() + 1).unwrap(), None);
    }
}
