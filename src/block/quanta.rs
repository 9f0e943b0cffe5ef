//! Which quanta of one region are in use, and which free ones the system could have back. Pure bookkeeping: no
//! pointer, no system call.
//!
//! Invariants (checked in debug builds and by the tests):
//! - Q1: a quantum is dirty only while it is free; a dirty one may hold old bytes, any other free one reads as zero.
//! - Q2: aged implies dirty.
//! - Q3: `dirty_count` is the number of dirty bits, `used_count` that of used bits below `end`.
//! - Q4: `longest[w]` is the length of the longest stretch of free quanta that starts in word `w` of `used`; no stretch
//!   is longer than `most`.

use super::{HUGE_PAGE, QUANTUM, REGION, SLOT, bitmap};

/// Quanta in a region.
pub(crate) const QUANTA: usize = REGION / QUANTUM;
const WORDS: usize = QUANTA / 64;
/// Quanta in a slot.
pub(crate) const PER_SLOT: usize = SLOT / QUANTUM;
/// Quanta in a huge page.
const PER_HUGE: usize = HUGE_PAGE / QUANTUM;

/// Which free memory to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victims {
    /// All that is dirty, huge pages split where they must be.
    All,
    /// What fills whole huge pages, or long stretches of small ones, whatever its age.
    Whole,
    /// What lies on huge pages of which at least half is free, or on small ones, whatever its age.
    Surplus,
    /// The same, if it has been dirty since the last tick.
    Aged,
}

/// A range of quanta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Extent {
    const fn end(self) -> usize {
        self.start + self.len
    }

    /// Its parts, each on one huge page.
    pub(crate) fn by_huge_page(self) -> impl Iterator<Item = Self> {
        (self.start / PER_HUGE..self.end().div_ceil(PER_HUGE)).map(move |page| {
            let start = self.start.max(page * PER_HUGE);
            Self { start, len: self.end().min((page + 1) * PER_HUGE) - start }
        })
    }
}

/// The bookkeeping of one region. All-zero bytes are a region with every quantum free and clean and `end` 0.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Quanta {
    used: [u64; WORDS],
    dirty: [u64; WORDS],
    aged: [u64; WORDS],
    longest: [u16; WORDS],
    most: u32,
    /// Written once, by `open`.
    pub(super) end: u32,
    used_count: u32,
    dirty_count: u32,
    /// One more than the first quantum from which on all lie on huge pages; 0 if none do.
    huge_from: u32,
    /// The end of the highest extent ever taken: beyond it nothing was touched.
    top: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "positions are at most QUANTA, 16384")]
impl Quanta {
    #[cfg(test)]
    fn new(end: usize) -> Box<Self> {
        let mut quanta = Box::new(Self {
            used: [0; WORDS],
            dirty: [0; WORDS],
            aged: [0; WORDS],
            longest: [0; WORDS],
            most: 0,
            end: 0,
            used_count: 0,
            dirty_count: 0,
            huge_from: 0,
            top: 0,
        });
        quanta.open(0, end);
        quanta
    }

    /// Opens zeroed bookkeeping for a region of `end` quanta, of which the first `header` hold the bookkeeping.
    pub(crate) fn open(&mut self, header: usize, end: usize) {
        self.end = end as u32;
        self.top = header as u32;
        self.used_count = header as u32;
        bitmap::set(&mut self.used, 0, header);
        bitmap::set(&mut self.used, end, QUANTA);
        self.most = self.end;
        self.survey(0, WORDS - 1);
    }

    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }

    pub(crate) fn top(&self) -> usize {
        self.top as usize
    }

    pub(crate) fn used_count(&self) -> usize {
        self.used_count as usize
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty_count as usize
    }

    /// Where huge pages begin, if any do.
    pub(crate) fn huge_from(&self) -> Option<usize> {
        (self.huge_from as usize).checked_sub(1)
    }

    /// Whether the quanta from `start` on lie on a huge page, or would if the system was not told otherwise since.
    fn on_huge_page(&self, start: usize) -> bool {
        self.huge_from().is_some_and(|from| start >= from)
    }

    /// Whether the extent fills a huge page.
    pub(crate) fn is_whole_huge_page(&self, extent: Extent) -> bool {
        extent.len == PER_HUGE && self.on_huge_page(extent.start)
    }

    /// Whether the extent is a part of a huge page of which nothing is in use.
    pub(crate) fn frees_huge_page(&self, extent: Extent) -> bool {
        let start = extent.start / PER_HUGE * PER_HUGE;
        let end = start + PER_HUGE;
        end <= self.end as usize
            && extent.end() <= end
            && self.on_huge_page(start)
            && bitmap::first_set(&self.used, start, end).is_none()
    }

    pub(crate) fn set_huge_from(&mut self, start: usize) {
        self.huge_from = start as u32 + 1;
    }

    /// Takes the lowest `len` free quanta in a row that start at a multiple of `align` (a power of two). Whether the
    /// memory reads as zero comes with it.
    pub(crate) fn take(&mut self, len: usize, align: usize) -> Option<(Extent, bool)> {
        if len > self.most as usize {
            return None;
        }
        let Some(start) = self.find(len, align) else {
            if align == 1 {
                self.most = len as u32 - 1;
            }
            return None;
        };
        let extent = Extent { start, len };
        Some((extent, self.occupy(extent)))
    }

    /// The lowest place for `len` quanta at a multiple of `align`.
    fn find(&self, len: usize, align: usize) -> Option<usize> {
        let mut from = 0;
        loop {
            let word = first_at_least(&self.longest, from, len as u16)?;
            // Q4: a stretch that starts in this word is long enough, if its alignment allows.
            let low = word * 64;
            let high = (low + 64 + usize::from(self.longest[word])).min(self.end as usize);
            let found = bitmap::find_clear(&self.used, low, high, len, align);
            if found.is_some() {
                return found;
            }
            from = word + 1;
        }
    }

    /// Where the stretch of free quanta that `at` lies behind, or in, starts.
    fn stretch_start(&self, at: usize) -> usize {
        bitmap::last_set(&self.used, 0, at).map_or(0, |taken| taken + 1)
    }

    /// Where the stretch of free quanta that goes on at `at` ends.
    fn stretch_end(&self, at: usize) -> usize {
        // Beyond the top nothing was ever taken.
        bitmap::first_set(&self.used, at, self.top as usize).unwrap_or_else(|| at.max(self.end as usize))
    }

    /// Q4 for the words from `first` to `last`.
    fn survey(&mut self, first: usize, last: usize) {
        for word in first..=last.min(WORDS - 1) {
            let mut free = !self.used[word];
            if word > 0 && self.used[word - 1] >> 63 == 0 {
                // A stretch that started before goes on: adding to its lowest bit carries through all of it.
                free &= free.wrapping_add(1);
            }
            let mut longest = 0;
            while free != 0 {
                let start = free.trailing_zeros() as usize;
                let len = (free >> start).trailing_ones() as usize;
                if start + len == 64 {
                    longest = longest.max(self.stretch_end((word + 1) * 64) - word * 64 - start);
                    break;
                }
                longest = longest.max(len);
                free &= free.wrapping_add(1 << start);
            }
            self.longest[word] = longest as u16;
        }
    }

    /// Takes the quanta right behind `end_of`, if they are free; whether they read as zero.
    pub(crate) fn extend(&mut self, end_of: usize, len: usize) -> Option<bool> {
        if end_of + len > self.end as usize || bitmap::first_set(&self.used, end_of, end_of + len).is_some() {
            return None;
        }
        Some(self.occupy(Extent { start: end_of, len }))
    }

    fn occupy(&mut self, extent: Extent) -> bool {
        let dirty = bitmap::count(&self.dirty, extent.start, extent.end());
        bitmap::set(&mut self.used, extent.start, extent.end());
        if dirty > 0 {
            bitmap::clear(&mut self.dirty, extent.start, extent.end());
            bitmap::clear(&mut self.aged, extent.start, extent.end());
            self.dirty_count -= dirty as u32;
        }
        self.used_count += extent.len as u32;
        self.top = self.top.max(extent.end() as u32);
        self.survey(self.stretch_start(extent.start) / 64, extent.end() / 64);
        dirty == 0
    }

    /// Gives quanta back, as dirty ones.
    pub(crate) fn give(&mut self, extent: Extent) {
        self.give_as(extent, true);
    }

    /// Gives quanta back of which the system has the memory already.
    pub(crate) fn give_clean(&mut self, extent: Extent) {
        self.give_as(extent, false);
    }

    fn give_as(&mut self, extent: Extent, dirty: bool) {
        debug_assert_eq!(bitmap::count(&self.used, extent.start, extent.end()), extent.len, "Q3: {extent:?} was free");
        bitmap::clear(&mut self.used, extent.start, extent.end());
        self.used_count -= extent.len as u32;
        if dirty {
            bitmap::set(&mut self.dirty, extent.start, extent.end());
            self.dirty_count += extent.len as u32;
        }
        let start = self.stretch_start(extent.start);
        self.survey(start / 64, extent.end() / 64);
        self.most = self.most.max((self.stretch_end(extent.end()) - start) as u32);
    }

    /// The next free range from `from` on that `which` allows to be given back, in multiples of `page` quanta. It is
    /// taken out of circulation: [`give_clean`](Self::give_clean) it when the system has the memory, or
    /// [`give`](Self::give) it back if it refused.
    pub(crate) fn take_victim(&mut self, from: usize, page: usize, which: Victims) -> Option<Extent> {
        let mut at = from;
        while at < self.end as usize && self.dirty_count > 0 {
            let huge_start = at / PER_HUGE * PER_HUGE;
            let huge_end = (huge_start + PER_HUGE).min(self.end as usize);
            if let Some(extent) = self.victim_within(huge_start, at, huge_end, page, which) {
                self.occupy(extent);
                return Some(extent);
            }
            at = huge_end;
        }
        None
    }

    /// A victim inside one huge page's worth of quanta.
    fn victim_within(&self, low: usize, at: usize, end: usize, page: usize, which: Victims) -> Option<Extent> {
        let candidates = if which == Victims::Aged { &self.aged } else { &self.dirty };
        let count = bitmap::count(candidates, low, end);
        if count == 0 {
            return None;
        }
        let on_huge_page = self.on_huge_page(low);
        let used = bitmap::count(&self.used, low, end);
        if end - low == PER_HUGE && used == 0 {
            // Wholly free. Young dirt in it means that it's in use now and then.
            let young = which == Victims::Aged && count < bitmap::count(&self.dirty, low, end);
            return (!young && at == low).then_some(Extent { start: low, len: PER_HUGE });
        }
        let least = match which {
            Victims::All => 1,
            Victims::Whole if on_huge_page => return None,
            Victims::Whole => PER_SLOT,
            Victims::Surplus | Victims::Aged if on_huge_page && used > PER_HUGE / 2 => return None,
            Victims::Surplus | Victims::Aged => 1,
        };
        let mut from = at;
        loop {
            let start = bitmap::first_set(candidates, from, end)?;
            let stop = bitmap::first_clear(candidates, start, end).unwrap_or(end);
            let (first, last) = (start.next_multiple_of(page), stop / page * page);
            if first + least <= last {
                return Some(Extent { start: first, len: last - first });
            }
            from = stop;
        }
    }

    /// A tick has passed: what is dirty now is aged.
    pub(crate) fn age(&mut self) {
        if self.dirty_count > 0 {
            self.aged = self.dirty;
        }
    }
}

/// The first word from `from` on whose figure is at least `least`: sixteen at a time, which the compiler makes one
/// comparison of.
fn first_at_least(figures: &[u16; WORDS], from: usize, least: u16) -> Option<usize> {
    const LANES: usize = 16;
    let aligned = from.next_multiple_of(LANES).min(WORDS);
    let head = figures[from..aligned].iter().position(|figure| *figure >= least);
    if let Some(place) = head {
        return Some(from + place);
    }
    let (chunks, _) = figures[aligned..].as_chunks::<LANES>();
    let chunk = chunks.iter().position(|chunk| chunk.iter().fold(false, |any, figure| any | (*figure >= least)))?;
    let place = chunks[chunk].iter().position(|figure| *figure >= least)?;
    Some(aligned + chunk * LANES + place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(quanta: &Quanta) {
        for word in 0..WORDS {
            assert_eq!(quanta.dirty[word] & quanta.used[word], 0, "Q1");
            assert_eq!(quanta.aged[word] & !quanta.dirty[word], 0, "Q2");
        }
        assert_eq!(quanta.dirty_count(), bitmap::count(&quanta.dirty, 0, QUANTA), "Q3");
        assert_eq!(quanta.used_count(), bitmap::count(&quanta.used, 0, quanta.end()), "Q3");
        let mut longest = [0; WORDS];
        let mut at = 0;
        while let Some(start) = bitmap::first_clear(&quanta.used, at, QUANTA) {
            at = bitmap::first_set(&quanta.used, start, QUANTA).unwrap_or(QUANTA);
            longest[start / 64] = longest[start / 64].max(at - start);
        }
        assert!(longest.iter().zip(&quanta.longest).all(|(must, is)| *must == usize::from(*is)), "Q4: longest");
        assert!(longest.iter().all(|longest| *longest <= quanta.most as usize), "Q4: most");
    }

    #[derive(Debug, Clone)]
    enum Op {
        Take { len: usize, align_shift: u32 },
        Give { which: usize },
        Extend { which: usize, len: usize },
        Purge { which: Victims, granted: bool },
        Age,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (1_usize..900, prop_oneof![Just(0_u32), Just(4), 0_u32..10])
                .prop_map(|(len, align_shift)| Op::Take { len, align_shift }),
            3 => Just(Op::Take { len: PER_SLOT, align_shift: 4 }),
            5 => any::<usize>().prop_map(|which| Op::Give { which }),
            2 => (any::<usize>(), 1_usize..100).prop_map(|(which, len)| Op::Extend { which, len }),
            1 => (prop_oneof![Just(Victims::All), Just(Victims::Whole), Just(Victims::Surplus), Just(Victims::Aged)], any::<bool>())
                .prop_map(|(which, granted)| Op::Purge { which, granted }),
            1 => Just(Op::Age),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_quantum_is_handed_out_twice_and_zero_means_zero(
            ops in prop::collection::vec(op(), 1..150), end in 2_000_usize..=QUANTA, huge in any::<bool>(),
        ) {
            let mut quanta = Quanta::new(end);
            if huge { quanta.set_huge_from(PER_HUGE) }
            let mut live: Vec<Extent> = Vec::new();
            // What a region's memory would hold: false reads as zero.
            let mut written = vec![false; end];
            let mut owner = vec![false; end];
            let claim = |owner: &mut Vec<bool>, written: &mut Vec<bool>, extent: Extent, zeroed: bool| {
                for i in extent.start..extent.end() {
                    assert!(!owner[i], "handed out twice");
                    assert!(!zeroed || !written[i], "said to be zero and is not");
                    (owner[i], written[i]) = (true, true);
                }
            };
            for op in ops {
                match op {
                    Op::Take { len, align_shift } => {
                        let naive = bitmap::find_clear(&quanta.used, 0, end, len, 1 << align_shift);
                        let got = quanta.take(len, 1 << align_shift);
                        prop_assert_eq!(got.map(|(extent, _)| extent.start), naive, "lowest place first");
                        if let Some((extent, zeroed)) = got {
                            claim(&mut owner, &mut written, extent, zeroed);
                            live.push(extent);
                        }
                    }
                    Op::Give { which } if !live.is_empty() => {
                        let extent = live.swap_remove(which % live.len());
                        owner[extent.start..extent.end()].fill(false);
                        quanta.give(extent);
                    }
                    Op::Extend { which, len } if !live.is_empty() => {
                        let index = which % live.len();
                        let tail = Extent { start: live[index].end(), len };
                        if let Some(zeroed) = quanta.extend(tail.start, len) {
                            claim(&mut owner, &mut written, tail, zeroed);
                            live[index].len += len;
                        }
                    }
                    Op::Purge { which, granted } => {
                        let mut from = 0;
                        while let Some(extent) = quanta.take_victim(from, 1, which) {
                            prop_assert!(!owner[extent.start..extent.end()].contains(&true), "purged what is in use");
                            from = extent.end();
                            if granted {
                                written[extent.start..extent.end()].fill(false);
                                quanta.give_clean(extent);
                            } else {
                                quanta.give(extent);
                            }
                        }
                        if which == Victims::All && granted {
                            prop_assert_eq!(quanta.dirty_count(), 0);
                        }
                    }
                    Op::Age => quanta.age(),
                    _ => {}
                }
                check(&quanta);
            }
        }
    }

    #[test]
    fn a_huge_page_is_split_only_for_half_of_it() {
        let mut quanta = Quanta::new(QUANTA);
        quanta.set_huge_from(PER_HUGE);
        let (all, _) = quanta.take(4 * PER_HUGE, 1).unwrap();
        quanta.give(Extent { start: all.start + PER_HUGE + 300, len: 2 * PER_HUGE });
        let victim = quanta.take_victim(0, 1, Victims::Surplus).unwrap();
        assert_eq!(victim, Extent { start: 2 * PER_HUGE, len: PER_HUGE }, "whole: the first is less than half free");
        let rest = quanta.take_victim(victim.end(), 1, Victims::Surplus).unwrap();
        assert_eq!(rest, Extent { start: 3 * PER_HUGE, len: 300 }, "more than half free");
        assert_eq!(quanta.take_victim(0, 1, Victims::Surplus), None);
        assert_eq!(quanta.take_victim(0, 1, Victims::All).unwrap().len, PER_HUGE - 300);
    }

    #[test]
    fn only_whole_system_pages_are_given_back() {
        let mut quanta = Quanta::new(QUANTA);
        let (all, _) = quanta.take(64, 1).unwrap();
        quanta.give(Extent { start: all.start + 3, len: 40 });
        assert_eq!(quanta.take_victim(0, 16, Victims::All), Some(Extent { start: 16, len: 16 }));
    }

    #[test]
    fn a_piece_grows_up_to_its_neighbour_and_no_further() {
        for gap in [1, 63, 64, 65, 130] {
            let mut quanta = Quanta::new(2_000);
            let (piece, _) = quanta.take(10, 1).unwrap();
            let (between, _) = quanta.take(gap, 1).unwrap();
            let (neighbour, _) = quanta.take(1, 1).unwrap();
            quanta.give(between);
            assert_eq!(quanta.extend(piece.end(), gap + 1), None, "the last of them is the neighbour");
            assert_eq!(quanta.extend(piece.end(), gap), Some(false), "all that is between them, given back unclean");
            let rest = 2_000 - neighbour.end();
            assert_eq!(quanta.extend(neighbour.end(), rest + 1), None, "behind the end");
            assert_eq!(quanta.extend(neighbour.end(), rest), Some(true), "up to the end");
        }
    }

    #[test]
    fn all_that_is_free_can_be_taken_at_once() {
        let mut quanta = Quanta::new(2_000);
        for len in [2_000, 1_500] {
            let (all, _) = quanta.take(len, 1).expect("as many as there are in a row");
            assert_eq!(quanta.take(2_001 - len, 1), None, "one more than there are");
            quanta.give(all);
        }
    }
}
