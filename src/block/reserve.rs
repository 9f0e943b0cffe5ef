//! The reserve: all address space got from the system, and the decision when memory goes back.
//!
//! One lock guards the bookkeeping of all regions; no system call that takes long is made under it. A thread that
//! holds a depot's lock may take this one, never the other way round.

use core::ptr::{self, NonNull};
use core::time::Duration;

use super::quanta::{Extent, Victims};
use super::region::{HEADER_BYTES, RegionRef};
use super::settings::{Figures, HugePages, Settings, Tenant};
use super::{HUGE_PAGE, LARGEST_IN_REGION, QUANTUM};
use crate::os::{self, ForkHold, Huge, Lock, LockGuard, Once, Ticker};
use crate::primitive::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The process's reserve: everything in Millpond gets its memory here.
pub(crate) static RESERVE: Reserve = Reserve::new();

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first: allocation fills old regions before new ones, so that new ones can empty.
    pub(super) regions: Option<RegionRef>,
    pub(super) figures: Figures,
    pub(super) dirty: usize,
    /// The most bytes in use since the heap last shrank to a quarter of it.
    pub(super) high: usize,
    /// After a search that found too little: no other before this many bytes are dirty.
    pub(super) patience: usize,
    pub(super) settings: Settings,
}

// SAFETY: the regions are reachable from here alone; whoever has the state may use them from any thread.
unsafe impl Send for State {}

/// The tick in milliseconds, if it isn't set.
const TICK_MILLIS: u64 = 100;

/// Regions and mappings. Tests make their own.
#[derive(Debug)]
pub(crate) struct Reserve {
    pub(super) state: Lock<State>,
    pub(super) ticker: Ticker,
    pub(super) tenants: [AtomicPtr<Tenant>; 2],
    pub(super) scattered: AtomicUsize,
    /// Bytes of runs in use whose pages were given back.
    pub(super) absent: AtomicUsize,
    /// Times that the heap shrank to a quarter, and how many of them the ticks have seen.
    pub(super) shrinks: AtomicUsize,
    pub(super) shrinks_seen: AtomicUsize,
    /// The settings' tick in milliseconds, for those who ask often. Relaxed: nothing else hangs on it.
    pub(super) period: AtomicU64,
}

impl Reserve {
    pub(crate) const fn new() -> Self {
        let settings = Settings {
            huge: HugePages::Growing,
            huge_after: 2 * 1024 * 1024,
            limit: isize::MAX as usize,
            surplus: 16 * 1024 * 1024,
            tick: Duration::from_millis(TICK_MILLIS),
        };
        let figures = Figures {
            reserved: 0,
            committed: 0,
            used: 0,
            waiting: 0,
            scattered: 0,
            direct: 0,
            peak: 0,
            returned: 0,
            regions: 0,
            purges: 0,
            refusals: 0,
        };
        Self {
            state: Lock::new(State { regions: None, figures, dirty: 0, high: 0, patience: 0, settings }),
            ticker: Ticker::new(),
            tenants: [const { AtomicPtr::new(ptr::null_mut()) }; 2],
            scattered: AtomicUsize::new(0),
            absent: AtomicUsize::new(0),
            shrinks: AtomicUsize::new(0),
            shrinks_seen: AtomicUsize::new(0),
            period: AtomicU64::new(TICK_MILLIS),
        }
    }

    /// The lock, if `more` bytes may be had. Free memory goes back first where it stands in the limit's way, unless the
    /// system won't have it.
    pub(super) fn admit(&self, more: usize) -> Option<LockGuard<'_, State>> {
        let mut gives = true;
        loop {
            let mut state = self.state.lock();
            let in_use = state.figures.used + state.figures.direct;
            let headers = state.figures.regions * HEADER_BYTES;
            let limit = state.settings.limit;
            if more > os::LARGEST || in_use.saturating_add(headers).saturating_add(more) > limit {
                state.figures.refusals += 1;
                return None;
            }
            if in_use + headers + state.dirty + more <= limit || !gives {
                return Some(state);
            }
            // The lock is open meanwhile, so others may have had what there was: look again.
            gives = self.give_back(state, Victims::All, 0) > 0;
        }
    }

    /// `bytes` (rounded up to quanta) at a multiple of `align`, and whether they read as zero. At most
    /// [`LARGEST_IN_REGION`] of both.
    pub(crate) fn alloc(&self, bytes: usize, align: usize) -> Option<(NonNull<u8>, bool)> {
        debug_assert!(bytes <= LARGEST_IN_REGION + super::SLOT && align <= LARGEST_IN_REGION);
        let quanta = bytes.div_ceil(QUANTUM);
        let mut state = self.admit(quanta * QUANTUM)?;
        let mut got = state.find(quanta, align);
        if got.is_none() {
            // The bookkeeping of one more region counts too.
            drop(state);
            state = self.admit(quanta * QUANTUM + HEADER_BYTES)?;
            got = state.find(quanta, align).or_else(|| {
                state.add_region(quanta + align / QUANTUM)?;
                state.find(quanta, align)
            });
        }
        if got.is_none() {
            state.figures.refusals += 1;
        }
        got
    }

    /// Takes back what [`alloc`](Self::alloc) gave.
    pub(crate) fn free(&self, at: NonNull<u8>, bytes: usize) {
        let mut state = self.state.lock();
        let mut region = RegionRef::of(at);
        let extent = Extent { start: region.quantum_of(at), len: bytes.div_ceil(QUANTUM) };
        // SAFETY: the lock is held; the region is mapped since a part of it was in use.
        unsafe { region.quanta() }.give(extent);
        let bytes = extent.len * QUANTUM;
        state.figures.used -= bytes;
        state.dirty += bytes;
        let bound = state.dirty_bound();
        let in_use = state.figures.used + state.figures.direct;
        if in_use <= state.high / 4 && state.high > state.settings.surplus {
            state.high = in_use;
            drop(state);
            self.shrinks.fetch_add(1, Ordering::Relaxed);
            self.shrink();
        } else if state.dirty > bound.max(state.patience) {
            self.give_back(state, Victims::Whole, bound / 2);
            let state = self.state.lock();
            if state.dirty > bound.max(state.patience) {
                self.give_back(state, Victims::Surplus, bound / 2);
            }
        }
    }

    /// The same, of a piece of which the system has the memory already: it just got `gone` bytes of it.
    pub(crate) fn free_clean(&self, at: NonNull<u8>, bytes: usize, gone: usize) {
        let mut state = self.state.lock();
        let mut region = RegionRef::of(at);
        let extent = Extent { start: region.quantum_of(at), len: bytes.div_ceil(QUANTUM) };
        // SAFETY: the lock is held; the region is mapped since a part of it was in use.
        let quanta = unsafe { region.quanta() };
        quanta.give_clean(extent);
        for part in extent.by_huge_page() {
            if quanta.frees_huge_page(part) {
                // It was split; what comes next may have it whole.
                let (start, len) = region.huge_page_around(region.quantum(part.start));
                os::advise_huge(start, len, Huge::Whole);
            }
        }
        state.figures.used -= extent.len * QUANTUM;
        state.figures.returned += gone as u64;
    }

    /// Makes a piece from [`alloc`](Self::alloc) longer where it is; whether the new part reads as zero.
    pub(crate) fn grow(&self, at: NonNull<u8>, old: usize, new: usize) -> Option<bool> {
        let (old, new) = (old.div_ceil(QUANTUM), new.div_ceil(QUANTUM));
        if old == new {
            return Some(false);
        }
        let mut state = self.admit((new - old) * QUANTUM)?;
        let mut region = RegionRef::of(at);
        let end = region.quantum_of(at) + old;
        // SAFETY: the lock is held; the region is mapped since a part of it is in use.
        let quanta = unsafe { region.quanta() };
        let dirty = quanta.dirty_count();
        let zeroed = quanta.extend(end, new - old)?;
        let reused = dirty - quanta.dirty_count();
        state.took((new - old) * QUANTUM, reused * QUANTUM);
        Some(zeroed)
    }

    /// Counts bytes of free blocks that lie scattered in runs: `now` where there were `before`. All there are.
    pub(crate) fn note_scattered(&self, before: usize, now: usize) -> usize {
        // Relaxed: a figure that only says when it is time to look.
        self.scattered.fetch_add(now.wrapping_sub(before), Ordering::Relaxed).wrapping_add(now).wrapping_sub(before)
    }

    /// Counts bytes of runs in use whose pages the system has: `now` where there were `before`.
    pub(crate) fn note_absent(&self, before: usize, now: usize) {
        // Relaxed: a figure.
        self.absent.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Adds one who is to be asked for free memory; once, however often this is called with it.
    pub(crate) fn add_tenant(&self, tenant: &'static Tenant) {
        let tenant = ptr::from_ref(tenant).cast_mut();
        for place in &self.tenants {
            // Release: pairs with the Acquire in `tenants`, though a constant has nothing to be seen late.
            let put = place.compare_exchange(ptr::null_mut(), tenant, Ordering::Release, Ordering::Relaxed);
            if put.is_ok() || put == Err(tenant) {
                return;
            }
        }
        debug_assert!(false, "there is no room for so many tenants");
    }

    /// Without a lock: a child of a fork may come here whatever its parent's threads were doing.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &'static Tenant> {
        // Acquire: pairs with the Release in `add_tenant`.
        let places = self.tenants.iter().map(|place| place.load(Ordering::Acquire));
        // SAFETY: null, or a reference to a constant that `add_tenant` was given.
        places.filter_map(|tenant| unsafe { tenant.as_ref() })
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.state.lock();
        let mut figures = state.figures;
        figures.waiting = state.dirty;
        figures.scattered = self.scattered.load(Ordering::Relaxed);
        figures.committed = (figures.used + figures.direct + state.dirty + figures.regions * HEADER_BYTES)
            .saturating_sub(self.absent.load(Ordering::Relaxed));
        figures
    }

    /// Milliseconds between two ticks; zero: there are none.
    pub(crate) fn period(&self) -> u64 {
        self.period.load(Ordering::Relaxed)
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state.lock().settings
    }

    pub(crate) fn configure(&self, settings: Settings) {
        let tick = settings.tick;
        // Less than a millisecond is one; only zero is never.
        let least = u64::from(!tick.is_zero());
        let period = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX).max(least);
        self.state.lock().settings = Settings { limit: settings.limit.min(isize::MAX as usize), ..settings };
        self.period.store(period, Ordering::Relaxed);
        self.ticker.restart();
    }
}

/// Has the process's reserve follow forks. Called before anything else registers for them: what registers first is
/// locked last, as the order of locks demands.
pub(crate) fn follow_forks() {
    static HOLD: ForkHold = ForkHold::new();
    extern "C" fn prepare() {
        HOLD.hold(|| RESERVE.state.acquire());
    }
    extern "C" fn after() {
        // SAFETY: `prepare` took the lock in the thread that forked, which is the one that runs this.
        HOLD.let_go(|| unsafe { RESERVE.state.release() });
    }
    static ONCE: Once = Once::new();
    ONCE.call(|| os::at_fork(prepare, after, after));
}

impl State {
    /// Free bytes that may wait for the tick: an eighth of what is in use, and never less than the setting.
    fn dirty_bound(&self) -> usize {
        self.settings.surplus.max((self.figures.used + self.figures.direct) / 8)
    }

    fn find(&mut self, quanta: usize, align: usize) -> Option<(NonNull<u8>, bool)> {
        let mut at = self.regions;
        while let Some(mut region) = at {
            // SAFETY: the reserve's lock is held by whoever has the state; the region is on its list.
            let book = unsafe { region.quanta() };
            let dirty = book.dirty_count();
            if let Some((extent, zeroed)) = book.take(quanta, (align / QUANTUM).max(1)) {
                let reused = dirty - book.dirty_count();
                self.took(quanta * QUANTUM, reused * QUANTUM);
                self.choose_pages(region, extent);
                return Some((region.quantum(extent.start), zeroed));
            }
            // SAFETY: as above.
            at = unsafe { region.next() };
        }
        None
    }

    fn took(&mut self, bytes: usize, reused: usize) {
        self.figures.used += bytes;
        self.dirty -= reused;
        self.note_peak();
    }

    pub(super) fn note_peak(&mut self) {
        let in_use = self.figures.used + self.figures.direct;
        self.high = self.high.max(in_use);
        self.figures.peak = self.figures.peak.max(in_use);
    }

    /// Once the heap has grown, the untouched rest of a region is to come in huge pages.
    fn choose_pages(&self, mut region: RegionRef, extent: Extent) {
        // SAFETY: as in `find`.
        let book = unsafe { region.quanta() };
        if self.settings.huge != HugePages::Growing
            || book.huge_from().is_some()
            || self.figures.used < self.settings.huge_after
        {
            return;
        }
        let per_huge = HUGE_PAGE / QUANTUM;
        // An extent that nobody has touched yet may lie on huge pages itself.
        let touched = if book.top() == extent.start + extent.len { extent.start } else { book.top() };
        let start = touched.next_multiple_of(per_huge);
        if start + per_huge <= book.end() {
            book.set_huge_from(start);
            os::advise_huge(region.quantum(start), (book.end() - start) * QUANTUM, Huge::Whole);
        }
    }

    fn add_region(&mut self, need: usize) -> Option<()> {
        let huge = match self.settings.huge {
            HugePages::Off => Some(Huge::Never),
            HugePages::Growing if self.figures.used >= self.settings.huge_after => Some(Huge::Whole),
            _ => None,
        };
        let mut added = RegionRef::map(need, huge)?;
        // SAFETY: just mapped, not on the list yet.
        let book = unsafe { added.quanta() };
        if huge == Some(Huge::Whole) {
            book.set_huge_from(0);
        }
        self.figures.reserved += book.end() * QUANTUM;
        self.figures.regions += 1;
        let mut last = None;
        let mut at = self.regions;
        while let Some(region) = at {
            last = Some(region);
            // SAFETY: as in `find`.
            at = unsafe { region.next() };
        }
        match last {
            // SAFETY: as in `find`.
            Some(region) => unsafe { region.set_next(Some(added)) },
            None => self.regions = Some(added),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockLayout, Runs, SLOT};
    use crate::os::fake::{Call, meanwhile, refuse, refuse_above};

    /// A reserve of a test's own.
    fn reserve() -> &'static Reserve {
        Box::leak(Box::new(Reserve::new()))
    }

    fn small(limit: usize) -> &'static Reserve {
        let reserve = reserve();
        reserve.configure(Settings { limit, tick: Duration::ZERO, ..reserve.settings() });
        reserve
    }

    #[test]
    fn a_system_that_refuses_memory_is_an_error_and_loses_nothing() {
        let reserve = reserve();
        for bytes in [QUANTUM, 5 * QUANTUM, SLOT, LARGEST_IN_REGION] {
            let refusal = refuse(Call::Map, 0);
            assert_eq!(reserve.alloc(bytes, QUANTUM), None);
            assert_eq!(reserve.map(bytes, QUANTUM), None);
            drop(refusal);
        }
        let figures = reserve.figures();
        assert_eq!((figures.used, figures.direct, figures.reserved, figures.peak), (0, 0, 0, 0));
        assert_eq!(figures.refusals, 8);
        let (at, zeroed) = reserve.alloc(SLOT, SLOT).unwrap();
        assert!(zeroed);
        reserve.free(at, SLOT);
        assert_eq!(reserve.figures().used, 0);
    }

    #[test]
    fn a_region_may_be_shorter_where_the_system_has_no_room_for_a_whole_one() {
        let reserve = reserve();
        let refusal = refuse_above(HEADER_BYTES + 40 * SLOT);
        let pieces: Vec<_> = (0..50).map_while(|_| reserve.alloc(SLOT, SLOT)).map(|(at, _)| at).collect();
        assert_eq!(pieces.len(), 50);
        assert!(reserve.alloc(60 * SLOT, SLOT).is_none(), "longer than any region can be now");
        drop(refusal);
        let figures = reserve.figures();
        assert!(figures.regions >= 2 && figures.reserved < crate::block::REGION, "{figures:?}");
        for at in pieces {
            // SAFETY: a live piece of so many bytes.
            unsafe { at.write_bytes(7, SLOT) };
            reserve.free(at, SLOT);
        }
        assert!(reserve.alloc(60 * SLOT, SLOT).is_some(), "and whole ones again");
    }

    #[test]
    fn memory_that_the_system_would_not_take_back_is_not_said_to_be_zero() {
        let reserve = small(usize::MAX);
        let (at, _) = reserve.alloc(8 * SLOT, SLOT).unwrap();
        // SAFETY: just got.
        unsafe { at.write_bytes(7, 8 * SLOT) };
        reserve.free(at, 8 * SLOT);
        let refusal = refuse(Call::Purge, 0);
        assert_eq!(reserve.purge(), 0);
        drop(refusal);
        assert_eq!(reserve.figures().waiting, 8 * SLOT);
        let (again, zeroed) = reserve.alloc(SLOT, SLOT).unwrap();
        assert!(again == at && !zeroed);
        assert_eq!(reserve.purge(), 7 * SLOT);
        let (rest, zeroed) = reserve.alloc(7 * SLOT, SLOT).unwrap();
        assert!(zeroed);
        // SAFETY: just got, so many bytes.
        assert_eq!(unsafe { rest.read() }, 0);
        reserve.free(again, SLOT);
        reserve.free(rest, 7 * SLOT);
    }

    #[test]
    fn a_limit_is_kept_and_free_memory_makes_room_under_it() {
        let limit = HEADER_BYTES + 20 * SLOT;
        let reserve = small(limit);
        let (first, _) = reserve.alloc(15 * SLOT, SLOT).unwrap();
        // SAFETY: just got.
        unsafe { first.write_bytes(7, 15 * SLOT) };
        assert_eq!(reserve.alloc(10 * SLOT, SLOT), None, "beyond the limit");
        assert_eq!(reserve.map(10 * SLOT, SLOT), None, "beyond the limit");
        reserve.free(first, 15 * SLOT);
        // What is free counts until it has gone back.
        let mapped = reserve.map(10 * SLOT, QUANTUM).unwrap();
        let figures = reserve.figures();
        assert!(figures.committed <= limit, "{figures:?}");
        // SAFETY: mapped above.
        unsafe { reserve.unmap(mapped, 10 * SLOT) };
        assert!(reserve.alloc(20 * SLOT, SLOT).is_some(), "all of it again");
    }

    #[test]
    fn who_comes_while_free_memory_goes_back_does_not_pass_the_limit_with_who_gives_it() {
        static RESERVE: Reserve = Reserve::new();
        const LIMIT: usize = HEADER_BYTES + 40 * SLOT;
        RESERVE.configure(Settings { limit: LIMIT, tick: Duration::ZERO, ..RESERVE.settings() });
        let (at, _) = RESERVE.alloc(20 * SLOT, SLOT).unwrap();
        RESERVE.free(at, 20 * SLOT);
        let other = meanwhile(Call::Purge, || assert!(RESERVE.map(25 * SLOT, SLOT).is_some()));
        // There was room when it began.
        assert_eq!(RESERVE.map(30 * SLOT, SLOT), None);
        drop(other);
        let figures = RESERVE.figures();
        assert!(figures.committed <= LIMIT && figures.direct == 25 * SLOT, "{figures:?}");
        assert!(RESERVE.map(10 * SLOT, SLOT).is_some(), "there is room for less");
    }

    #[test]
    fn the_bookkeeping_of_a_new_region_counts_against_the_limit() {
        let reserve = small(HEADER_BYTES + 10 * SLOT);
        assert_eq!(reserve.alloc(10 * SLOT + QUANTUM, SLOT), None);
        let figures = reserve.figures();
        assert_eq!((figures.regions, figures.refusals), (0, 1), "{figures:?}");
        assert!(reserve.alloc(10 * SLOT, SLOT).is_some());
        let figures = reserve.figures();
        assert_eq!(figures.committed, HEADER_BYTES + 10 * SLOT, "{figures:?}");
    }

    #[test]
    fn what_went_back_is_what_was_not_given_back_before() {
        let reserve = small(usize::MAX);
        reserve.configure(Settings { huge_after: 0, ..reserve.settings() });
        // A few bytes on a huge page that nobody else touched.
        let (at, _) = reserve.alloc(QUANTUM, HUGE_PAGE).unwrap();
        reserve.free(at, QUANTUM);
        assert_eq!((reserve.purge(), reserve.figures().returned), (QUANTUM, QUANTUM as u64));
        // Pages between blocks in use, and later the whole run.
        let mut runs = Runs::new(BlockLayout::new(16 * 1024, 16).unwrap(), reserve, 1);
        let mut blocks = Vec::new();
        assert_eq!(runs.take(16, |block| blocks.push(block)), 16);
        let mut empties = runs.empties();
        let all = reserve.figures().committed;
        // SAFETY: taken above, each once.
        unsafe { runs.give(blocks.drain(1..), &mut empties) };
        for _ in 0..2 {
            let mut sweep = runs.begin_sweep(1, 0);
            sweep.give_pages_back();
            runs.end_sweep(sweep, &mut empties);
            let figures = reserve.figures();
            assert_eq!(
                (figures.returned, all - figures.committed),
                ((QUANTUM + 15 * 16 * 1024) as u64, 15 * 16 * 1024)
            );
            // It was looked at again: what is away cannot go again.
            while let Some(run) = runs.swept.head {
                runs.reopen(run);
            }
        }
        // SAFETY: as above.
        unsafe { runs.give(blocks.drain(..), &mut empties) };
        runs.take_empties(&mut empties);
        drop(empties);
        let figures = reserve.figures();
        assert_eq!((figures.returned, all - figures.committed), ((QUANTUM + 16 * 16 * 1024) as u64, 16 * 16 * 1024));
        // Of a run that was away but for one block, what is taken and goes again is what counts.
        let before = figures.returned;
        let mut runs = Runs::new(BlockLayout::new(1024, 16).unwrap(), reserve, 2);
        assert_eq!(runs.take(64, |block| blocks.push(block)), 64);
        let mut empties = runs.empties();
        // SAFETY: as above.
        unsafe { runs.give(blocks.drain(1..), &mut empties) };
        for _ in 0..10 {
            let mut sweep = runs.begin_sweep(1, 0);
            sweep.give_pages_back();
            runs.end_sweep(sweep, &mut empties);
            let mut one = None;
            assert_eq!(runs.take(1, |block| one = Some(block)), 1);
            // SAFETY: as above.
            unsafe { runs.give(one.into_iter(), &mut empties) };
        }
        let returned = reserve.figures().returned - before;
        assert!(returned <= (15 + 9 * 2) * 4096, "{returned} bytes went back, it says");
        // SAFETY: as above.
        unsafe { runs.take_all(&mut empties) };
    }

    #[test]
    fn pages_that_the_system_would_not_take_back_are_not_said_to_be_gone() {
        let reserve = small(usize::MAX);
        let mut runs = Runs::new(BlockLayout::new(16 * 1024, 16).unwrap(), reserve, 1);
        let mut blocks = Vec::new();
        assert_eq!(runs.take(16, |block| blocks.push(block)), 16);
        let mut empties = runs.empties();
        // SAFETY: taken above, each once.
        unsafe { runs.give(blocks.drain(1..), &mut empties) };
        let before = reserve.figures().committed;
        let refusal = refuse(Call::Purge, 0);
        let mut sweep = runs.begin_sweep(1, 0);
        sweep.give_pages_back();
        runs.end_sweep(sweep, &mut empties);
        drop(refusal);
        let figures = reserve.figures();
        assert_eq!((figures.committed, figures.returned), (before, 0));
        // SAFETY: as above.
        unsafe { runs.give(blocks.drain(..), &mut empties) };
        runs.take_empties(&mut empties);
    }

    #[test]
    fn a_free_that_crosses_the_bound_gives_back_half_of_it() {
        const MIB: usize = 1024 * 1024;
        let reserve = reserve();
        let mut pieces: Vec<_> = (0..60).map(|_| reserve.alloc(MIB, SLOT).unwrap().0).collect();
        let bound = reserve.settings().surplus;
        // Never so few in use that it counts as shrinking, so nothing but the bound gives anything back.
        while pieces.len() > 20 {
            let waiting = reserve.figures().waiting;
            reserve.free(pieces.pop().unwrap(), MIB);
            let after = reserve.figures().waiting;
            assert!(after <= bound, "{after} wait, bound {bound}");
            assert!(after == waiting + MIB || after <= bound / 2 + HUGE_PAGE, "{waiting}, then {after}");
        }
        assert!(reserve.figures().returned >= (40 * MIB - bound) as u64);
        pieces.into_iter().for_each(|piece| reserve.free(piece, MIB));
    }

    #[test]
    fn whole_regions_go_back() {
        let reserve = small(usize::MAX);
        let pieces: Vec<_> = (0..12).map(|_| reserve.alloc(LARGEST_IN_REGION, SLOT).unwrap().0).collect();
        assert!(reserve.figures().regions >= 4);
        pieces.into_iter().for_each(|piece| reserve.free(piece, LARGEST_IN_REGION));
        reserve.purge();
        let figures = reserve.figures();
        assert_eq!((figures.regions, figures.used, figures.waiting), (1, 0, 0), "{figures:?}");
    }

    #[test]
    fn a_refused_run_leaves_a_depots_blocks_as_they_were() {
        let reserve = reserve();
        let mut runs = Runs::new(BlockLayout::new(1024, 16).unwrap(), reserve, 1);
        let refusal = refuse(Call::Map, 0);
        assert_eq!(runs.take(10, |_| panic!("no block")), 0);
        drop(refusal);
        assert_eq!((runs.blocks(), runs.free_blocks()), (0, 0));
        let mut blocks = Vec::new();
        assert_eq!(runs.take(10, |block| blocks.push(block)), 10);
        let mut empties = runs.empties();
        // SAFETY: taken above, each once.
        unsafe { runs.give(blocks.into_iter(), &mut empties) };
        assert_eq!(runs.free_blocks(), runs.blocks());
    }
}
