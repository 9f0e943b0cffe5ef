//! Programs for the process's heap: `GlobalAlloc` and `Allocator` of `Heap`, its settings and its statistics.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::time::Duration;
use std::collections::BTreeMap;

use allocator_api2::alloc::Allocator;
use arbitrary::Arbitrary;
use millpond::{BlockPool, Heap, HeapConfig, HeapStats, HugePages};

use super::Operation;
use super::crew::{self, MEMBERS, Turn, World};
use super::draw::{Align, Size};
use super::forks;
use super::shadow::{Shadow, assert_zero, footprint};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What the live blocks of one program may take.
const BUDGET: usize = 96 * MIB;
/// Live blocks of one program.
const BLOCKS: usize = 5000;
/// From here on a size is big, and a program makes only so many of them.
const BIG: usize = 512 * KIB;
const BIG_ONES: usize = 10;
/// Bytes of one burst.
const BURST: usize = 512 * KIB;
/// Large sizes are counted in units of this.
const QUANTUM: usize = 4096;
/// The largest unit that a mapping of its own may be counted in: the system's pages.
const LARGEST_PAGE: usize = 64 * KIB;
/// Whether a block of this size may be of the class for so much: above 1,024 bytes there are two series of classes, and
/// blocks of the one that is for alignments of a cache line and less, and sizes up to 28 KiB, lie a line further apart.
fn may_hold(size: usize, padded: usize, align: usize) -> bool {
    let line = if padded > 1024 && padded <= 28 * KIB && align <= 64 { 64 } else { 0 };
    size >= padded + line && (padded <= 1024 || size % 256 == line)
}

/// What a refill may take at once: the largest run of a class, and frames.
const REFILL: usize = 544 * KIB;
/// What a thread keeps at first.
const CACHE_BYTES: usize = 512 * KIB;
/// Memory that a heap with nothing in it may still have: its bookkeeping.
const BARE: usize = 8 * MIB;

/// One step of a program. Blocks are chosen by number, modulo those that live.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Op {
    Alloc {
        size: Size,
        align: Align,
        zeroed: bool,
    },
    Burst {
        size: Size,
        align: Align,
        count: u8,
    },
    /// By the `Allocator` trait: the size may be zero.
    Allocate {
        size: Size,
        align: Align,
        zeroed: bool,
    },
    Free {
        which: u16,
    },
    Sweep {
        from: u16,
        count: u8,
        step: u8,
    },
    Realloc {
        which: u16,
        size: Size,
    },
    /// By the `Allocator` trait: the alignment changes too, and either size may be zero.
    Resize {
        which: u16,
        size: Size,
        align: Align,
        zeroed: bool,
    },
    /// Asks for more than there is.
    Absurd {
        which: u16,
        size: Size,
        align: Align,
        how: u8,
    },
    Check {
        which: u16,
    },
    Statistics,
    Purge,
    Flush,
    Configure {
        knob: u8,
        level: u8,
    },
    Go {
        member: u8,
    },
    End,
    Late {
        count: u8,
        used: bool,
    },
}

impl Operation for Op {
    fn run(program: Vec<Self>) {
        crew::run(HeapWorld::new(), program).finish();
    }
}

/// A level of `Configure` from which on a child is forked instead.
const FORKS: u8 = 240;

/// Purges of one program at most: each looks at everything that is cached.
const PURGES: usize = 12;

/// The heap under test, and the model of it.
struct HeapWorld {
    forks: usize,
    purges_left: usize,
    shadow: Shadow<()>,
    /// As it was before: a program that failed may have left blocks.
    before: HeapStats,
    last: HeapStats,
    big_left: usize,
    limit: usize,
    /// The most that a thread was ever allowed to keep, in this program.
    cache_bytes: usize,
    threads: usize,
}

fn defaults() -> HeapConfig {
    HeapConfig::new()
        .tick(Duration::from_millis(100))
        .huge_pages(HugePages::Growing)
        .surplus(8 * MIB)
        .cache_bytes(CACHE_BYTES)
        .hard_limit(usize::MAX)
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("sizes are drawn far below the limit")
}

/// Bytes of free blocks in runs.
fn free_bytes(stats: &HeapStats) -> usize {
    stats.classes.iter().map(|class| class.free * class.block_size).sum()
}

/// Asks the heap for a block, by `GlobalAlloc`.
fn obtain(layout: Layout, zeroed: bool) -> Option<NonNull<u8>> {
    assert!(layout.size() > 0);
    NonNull::new(if zeroed {
        // SAFETY: the size isn't zero.
        unsafe { Heap.alloc_zeroed(layout) }
    } else {
        // SAFETY: as above.
        unsafe { Heap.alloc(layout) }
    })
}

impl HeapWorld {
    fn new() -> Self {
        defaults().apply();
        let before = Heap::stats();
        Self {
            forks: 0,
            purges_left: PURGES,
            shadow: Shadow::new(),
            last: before.clone(),
            before,
            big_left: BIG_ONES,
            limit: usize::MAX,
            cache_bytes: CACHE_BYTES,
            threads: 0,
        }
    }

    /// Whether the program may have one more such block.
    fn affords(&mut self, layout: Layout) -> bool {
        let bytes = footprint(layout);
        let room = self.shadow.bytes() + bytes <= BUDGET && self.shadow.blocks().len() < BLOCKS;
        if !room || bytes < BIG {
            return room;
        }
        let left = self.big_left > 0;
        self.big_left -= usize::from(left);
        left
    }

    /// Purges the heap, unless the program has done so often enough.
    fn purge(&mut self) {
        if self.purges_left > 0 {
            self.purges_left -= 1;
            Heap::purge();
        }
    }

    /// There was no memory for the layout: that must be the limit's doing.
    fn refused(&mut self, layout: Layout) {
        assert!(self.limit < usize::MAX, "refused {layout:?} without a limit");
        // The heap has purged itself in vain, and would do so each time: a program that often gets its limit lifted.
        if self.purges_left <= PURGES / 2 {
            self.limit = usize::MAX;
            HeapConfig::new().hard_limit(self.limit).apply();
            return;
        }
        self.purge();
        let stats = Heap::stats();
        // Runs with blocks in use count as a whole, also when the system has the pages of their free blocks.
        let counted = stats.committed + free_bytes(&stats) + BlockPool::leaked_bytes();
        let need = REFILL.max(layout.pad_to_align().size().next_multiple_of(LARGEST_PAGE));
        assert!(
            counted + need > self.limit,
            "refused {layout:?} with {counted} bytes in use after a purge and a limit of {}",
            self.limit
        );
    }

    fn alloc(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = layout(size, align);
        if !self.affords(layout) {
            return;
        }
        self.adopt(obtain(layout, zeroed), layout, zeroed);
    }

    fn allocate(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = layout(size, align);
        if !self.affords(layout) {
            return;
        }
        let got = if zeroed { Heap.allocate_zeroed(layout) } else { Heap.allocate(layout) };
        let got = got.ok();
        assert!(got.is_none_or(|slice| slice.len() >= size), "{got:?} is shorter than {layout:?}");
        self.adopt(got.map(NonNull::cast), layout, zeroed);
    }

    fn adopt(&mut self, got: Option<NonNull<u8>>, layout: Layout, zeroed: bool) {
        let Some(at) = got else { return self.refused(layout) };
        if zeroed {
            // SAFETY: just allocated with this layout.
            unsafe { assert_zero(at, layout.size()) };
        }
        // SAFETY: as above.
        unsafe { self.shadow.adopt(at, layout, ()) };
    }

    fn free(&mut self, index: usize) {
        let block = self.shadow.disown(index);
        if block.layout.size() == 0 {
            // SAFETY: from `allocate` with this layout, not freed since.
            unsafe { Heap.deallocate(block.at, block.layout) }
        } else {
            // SAFETY: from `alloc` or `allocate`, which are one heap, with this layout; not freed since.
            unsafe { Heap.dealloc(block.at.as_ptr(), block.layout) }
        }
    }

    /// Frees up to `count` blocks, from one chosen on, at some distance from each other.
    fn sweep(&mut self, from: usize, count: usize, step: usize) {
        let mut at = from;
        for _ in 0..count {
            let Some(index) = self.shadow.choose(at) else { return };
            self.free(index);
            at = index + step;
        }
    }

    fn realloc(&mut self, which: usize, size: usize) {
        let Some(index) = self.shadow.choose(which) else { return };
        let (at, old) = (self.shadow.blocks()[index].at, self.shadow.blocks()[index].layout);
        let new = layout(size, old.align());
        if old.size() == 0 || (size > old.size() && !self.affords(new)) {
            return;
        }
        self.shadow.check(index);
        // SAFETY: live with this layout; the new size isn't zero and far from the largest.
        match NonNull::new(unsafe { Heap.realloc(at.as_ptr(), old, size) }) {
            // SAFETY: just resized.
            Some(at) => unsafe { self.shadow.moved(index, at, new) },
            None => {
                self.refused(new);
                self.shadow.check(index);
            }
        }
    }

    fn resize(&mut self, which: usize, size: usize, align: usize, zeroed: bool) {
        let Some(index) = self.shadow.choose(which) else { return };
        let (at, old) = (self.shadow.blocks()[index].at, self.shadow.blocks()[index].layout);
        let new = layout(size, align);
        if footprint(new) > footprint(old) && !self.affords(new) {
            return;
        }
        self.shadow.check(index);
        let got = if size < old.size() {
            // SAFETY: live with this layout, and the new size is smaller.
            unsafe { Heap.shrink(at, old, new) }
        } else if zeroed {
            // SAFETY: live with this layout, and the new size is no smaller.
            unsafe { Heap.grow_zeroed(at, old, new) }
        } else {
            // SAFETY: as above.
            unsafe { Heap.grow(at, old, new) }
        };
        let Ok(got) = got else {
            self.refused(new);
            return self.shadow.check(index);
        };
        if zeroed && size > old.size() {
            // SAFETY: inside the block just got.
            let tail = unsafe { got.cast::<u8>().add(old.size()) };
            // SAFETY: up to the block's end.
            unsafe { assert_zero(tail, size - old.size()) };
        }
        // SAFETY: just resized.
        unsafe { self.shadow.moved(index, got.cast(), new) };
    }

    /// A size that hardly any system has: null, or address space whose ends can be used. Either way nothing is lost.
    fn absurd(&mut self, which: usize, size: usize, align: usize, how: usize) {
        let before = Heap::stats();
        let Ok(layout) = Layout::from_size_align(size, align) else { return };
        match how % 3 {
            2 => self.absurd_realloc(which, size),
            zeroed => {
                if let Some(at) = obtain(layout, zeroed == 1) {
                    assert!(at.addr().get().is_multiple_of(align), "{at:p} is not aligned for {layout:?}");
                    self.shadow.ranges.claim(at, size);
                    for offset in [0, size - 1] {
                        // SAFETY: inside the block.
                        let place = unsafe { at.add(offset) };
                        // SAFETY: as above.
                        assert!(zeroed == 0 || unsafe { place.read() } == 0, "should be zero");
                        // SAFETY: as above.
                        unsafe { place.write(1) };
                    }
                    self.shadow.ranges.release(at);
                    // SAFETY: from `alloc` with this layout.
                    unsafe { Heap.dealloc(at.as_ptr(), layout) };
                } else {
                    let after = Heap::stats();
                    assert!(after.peak < before.peak + size, "what was refused is no peak: {}", after.peak);
                }
            }
        }
        self.check_statistics();
    }

    fn absurd_realloc(&mut self, which: usize, size: usize) {
        let Some(index) = self.shadow.choose(which) else { return };
        let (at, old) = (self.shadow.blocks()[index].at, self.shadow.blocks()[index].layout);
        let Ok(new) = Layout::from_size_align(size, old.align()) else { return };
        if old.size() == 0 || old.size() > BIG {
            return;
        }
        // SAFETY: live with this layout; the new size, rounded up, is no larger than a layout may be.
        let Some(far) = NonNull::new(unsafe { Heap.realloc(at.as_ptr(), old, size) }) else {
            return self.shadow.check(index);
        };
        // SAFETY: just got, with that layout.
        let back = NonNull::new(unsafe { Heap.realloc(far.as_ptr(), new, old.size()) });
        let back = back.expect("there is room for what there was room for before");
        // SAFETY: resized, and resized back.
        unsafe { self.shadow.moved(index, back, old) };
    }

    /// In a child every block is as it was, no block is lost or found, and there is memory.
    fn fork(&mut self) {
        if self.forks == forks::MOST {
            return;
        }
        self.forks += 1;
        let live = Heap::stats().live_blocks;
        forks::in_a_child(|| {
            self.shadow.check_all();
            assert_eq!(Heap::stats().live_blocks, live, "live blocks of a child");
            for size in [16, 300, 5_000, 40 * KIB, MIB] {
                let layout = Layout::from_size_align(size, 16).expect("a small layout");
                for _ in 0..20 {
                    // SAFETY: the size isn't zero.
                    let Some(at) = NonNull::new(unsafe { Heap.alloc(layout) }) else {
                        assert!(self.limit < usize::MAX, "no {size} bytes for a child");
                        break;
                    };
                    // SAFETY: so many bytes were just allocated.
                    unsafe { at.write_bytes(7, size) };
                    // SAFETY: allocated with this layout. The next one is the same block, or the one before it.
                    unsafe { Heap.dealloc(at.as_ptr(), layout) };
                }
            }
            Heap::purge();
            self.shadow.check_all();
        });
        self.shadow.check_all();
    }

    fn configure(&mut self, knob: usize, level: usize) {
        let config = HeapConfig::new();
        match knob % 5 {
            0 => config.tick(Duration::from_millis([0, 1, 100][level % 3])).apply(),
            1 => config.huge_pages([HugePages::Off, HugePages::Neutral, HugePages::Growing][level % 3]).apply(),
            2 => config.surplus([0, 256 * KIB, 8 * MIB][level % 3]).apply(),
            3 => {
                let bytes = [0, 4 * KIB, 64 * KIB, CACHE_BYTES][level % 4];
                self.cache_bytes = self.cache_bytes.max(bytes);
                config.cache_bytes(bytes).apply();
            }
            _ => {
                self.purge();
                let room = [0, 256 * KIB, 2 * MIB, 16 * MIB].get(level % 8);
                self.limit = room.map_or(usize::MAX, |room| Heap::stats().committed + room);
                config.hard_limit(self.limit).apply();
            }
        }
    }

    /// All threads of the program rest, so the figures are exact.
    fn check_statistics(&mut self) {
        let now = Heap::stats();
        let sizes: Vec<usize> = now.classes.iter().map(|class| class.block_size).collect();
        let mut expected: BTreeMap<usize, usize> = BTreeMap::new();
        for class in &self.before.classes {
            expected.insert(class.block_size, class.live);
        }
        let (mut large_blocks, mut least, mut most) = (self.before.large_blocks, 0, 0);
        for block in self.shadow.blocks().iter().filter(|block| block.layout.size() > 0) {
            let padded = block.layout.pad_to_align().size();
            // The class of a live block is in the list.
            if let Some(size) = sizes.iter().copied().find(|size| may_hold(*size, padded, block.layout.align())) {
                let waste = size - padded;
                assert!(
                    if padded <= 128 { waste < 16 } else { waste * 4 <= size },
                    "{:?} takes a block of {size}",
                    block.layout
                );
                *expected.entry(size).or_default() += 1;
            } else {
                large_blocks += 1;
                least += block.layout.size().next_multiple_of(QUANTUM);
                most += block.layout.size().next_multiple_of(if padded > 16 * MIB { LARGEST_PAGE } else { QUANTUM });
            }
        }
        for class in &now.classes {
            let live = expected.get(&class.block_size).copied().unwrap_or(0);
            assert_eq!(class.live, live, "live blocks of {} bytes", class.block_size);
        }
        assert_eq!(now.large_blocks, large_blocks, "large blocks");
        let large = now.large_bytes - self.before.large_bytes;
        assert!((least..=most).contains(&large), "{large} large bytes, not {least} to {most}");
        let of = |count: fn(&millpond::ClassStats) -> usize| -> usize {
            now.classes.iter().map(|class| count(class) * class.block_size).sum()
        };
        assert_eq!(now.live_bytes, of(|class| class.live) + now.large_bytes, "live bytes");
        assert_eq!(now.live_blocks, now.classes.iter().map(|class| class.live).sum::<usize>() + large_blocks);
        assert_eq!(now.cached_bytes, of(|class| class.cached), "cached bytes");
        assert_eq!(now.stored_bytes, of(|class| class.stored), "stored bytes");
        // Of free blocks in runs the system may have the pages.
        let held = now.live_bytes + now.cached_bytes + now.stored_bytes;
        assert!(held <= now.committed, "{held} bytes in blocks, but only {} committed", now.committed);
        assert!(now.committed <= now.reserved, "{} committed of {} reserved", now.committed, now.reserved);
        assert!(now.waiting <= now.committed, "{} waiting of {} committed", now.waiting, now.committed);
        // Whatever the setting, a thread may keep two blocks of every size that it uses.
        let bound = self.threads * (self.cache_bytes + 2 * sizes.iter().sum::<usize>());
        assert!(now.cached_bytes <= bound, "{} threads keep {} bytes", self.threads, now.cached_bytes);
        for (then, now, what) in [
            (self.last.peak as u64, now.peak as u64, "peak"),
            (self.last.returned, now.returned, "returned"),
            (self.last.purges, now.purges, "purges"),
            (self.last.refusals, now.refusals, "refusals"),
        ] {
            assert!(then <= now, "{what} went from {then} back to {now}");
        }
        self.last = now;
    }

    /// Frees everything: what is left must be what was there before.
    fn finish(mut self) {
        defaults().apply();
        self.limit = usize::MAX;
        self.shadow.check_all();
        self.check_statistics();
        while let Some(index) = self.shadow.choose(0) {
            self.free(index);
        }
        Heap::purge();
        self.check_statistics();
        let now = &self.last;
        assert_eq!((now.cached_bytes, now.stored_bytes), (0, 0), "every thread has ended or flushed its caches");
        if self.before.live_blocks == 0 {
            for class in &now.classes {
                assert_eq!(class.free, 0, "an empty run of blocks of {} bytes stayed", class.block_size);
            }
            let bound = BARE + BlockPool::leaked_bytes();
            assert!(now.committed <= bound, "{} bytes committed by an empty heap", now.committed);
        }
    }
}

impl World for HeapWorld {
    type Op = Op;

    fn step(&mut self, op: &Op) -> Turn {
        match *op {
            Op::Alloc { size, align, zeroed } => self.alloc(size.bytes(), align.bytes(), zeroed),
            Op::Burst { size, align, count } => {
                let (size, align) = (size.bytes(), align.bytes());
                for _ in 0..usize::from(count).min(BURST / footprint(layout(size, align))) {
                    self.alloc(size, align, false);
                }
            }
            Op::Allocate { size, align, zeroed } => self.allocate(size.bytes_or_none(), align.bytes(), zeroed),
            Op::Free { which } => {
                if let Some(index) = self.shadow.choose(which.into()) {
                    self.free(index);
                }
            }
            Op::Sweep { from, count, step } => self.sweep(from.into(), count.into(), step.into()),
            Op::Realloc { which, size } => self.realloc(which.into(), size.bytes()),
            Op::Resize { which, size, align, zeroed } => {
                self.resize(which.into(), size.bytes_or_none(), align.bytes(), zeroed);
            }
            Op::Absurd { which, size, align, how } => {
                self.absurd(which.into(), size.absurd(), align.bytes(), how.into());
            }
            Op::Check { which } => {
                if let Some(index) = self.shadow.choose(which.into()) {
                    self.shadow.check(index);
                }
            }
            Op::Statistics => self.check_statistics(),
            Op::Purge => {
                self.purge();
                self.shadow.check_all();
                self.check_statistics();
            }
            Op::Flush => Heap::flush_thread(),
            Op::Configure { level: FORKS.., .. } => self.fork(),
            Op::Configure { knob, level } => self.configure(knob.into(), level.into()),
            Op::Go { member } => return Turn::Go(usize::from(member) % MEMBERS),
            Op::End => return Turn::End,
            Op::Late { count, used } => return Turn::Late { count: usize::from(count) % 16, used },
        }
        Turn::Stay
    }

    fn touch(&mut self) {
        self.alloc(16, 1, false);
    }

    fn threads(&mut self, alive: usize) {
        self.threads = alive;
    }
}
