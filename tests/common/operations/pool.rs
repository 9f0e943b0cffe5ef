//! Programs for block pools made at run time, several at once, and for typed pools.

use core::alloc::Layout;
use core::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::Allocator;
use arbitrary::Arbitrary;
use millpond::{Block, BlockPool, Heap, HeapConfig, MemoryError, OwnedBlock, Pool, PoolStats};

use super::Operation;
use super::crew::{self, MEMBERS, Turn, World};
use super::draw::Size;
use super::forks;
use super::shadow::{Shadow, assert_zero};
use super::values::{Keep, Ledger, Mark, Nothing, Plain, Value, Wide, keep};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// The largest block of a pool, and its largest alignment.
const LARGEST_BLOCK: usize = 16 * MIB;
/// The most blocks of a magazine.
const MAGAZINE: usize = 127;
/// Pools of one program.
const POOLS: usize = 6;
/// Bytes in blocks of one program, in blocks that a call reserves, and in those of one burst.
const BUDGET: usize = 48 * MIB;
const RESERVE: usize = 8 * MIB;
const BURST: usize = 768 * KIB;
/// Blocks of one program.
const BLOCKS: usize = 3000;
/// The limit of a program's own typed pools.
const OWNED: usize = 40;
/// Pools that a process may leak.
const ABANDONED: usize = 64;
/// A level of `Tighten` from which on a child is forked instead.
const FORKS: u8 = 240;
/// Memory that a process with no block in use may still have: bookkeeping, and blocks that hold pools.
const BARE: usize = 8 * MIB;

/// What a pool is to be like; much of it is nonsense.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Spec {
    size: Size,
    align: u8,
    limit: u8,
    reserve: u8,
    magazine: u8,
    flags: u8,
}

impl Spec {
    fn size(self) -> usize {
        self.size.bytes_or_none()
    }

    fn align(self) -> usize {
        match self.align {
            250.. => [0, 3, 24, usize::MAX, 1 << 63, 6][usize::from(self.align) - 250],
            128.. => 1 << (self.align % 14),
            _ => 16,
        }
    }

    fn limit(self) -> Option<usize> {
        let limit = usize::from(self.limit);
        (limit >= 128).then(|| if limit < 200 { limit - 128 } else { (limit - 199) * 50 })
    }

    fn reserve(self) -> usize {
        match self.reserve {
            0..128 => 0,
            128..252 => reservable((usize::from(self.reserve) - 127).pow(2) * 4, self.size()),
            _ => usize::MAX >> (self.reserve % 4),
        }
    }

    fn magazine(self) -> Option<usize> {
        match self.magazine {
            0..160 => None,
            160..251 => Some(usize::from(self.magazine) - 159),
            _ => Some([1, 127, 128, 0, usize::MAX][usize::from(self.magazine) - 251]),
        }
    }

    fn exact(self) -> Option<bool> {
        [None, Some(false), Some(true), None][usize::from(self.flags / 2 % 4)]
    }

    fn zeroed(self) -> bool {
        self.flags.is_multiple_of(2)
    }

    /// Whether no such pool can be.
    fn is_nonsense(self) -> bool {
        let (size, align) = (self.size(), self.align());
        size == 0
            || !align.is_power_of_two()
            || size.max(align) > LARGEST_BLOCK
            || size.next_multiple_of(align.max(16)) > LARGEST_BLOCK
            || self.limit().is_some_and(|limit| self.reserve() > limit)
            || self.reserve() >= usize::MAX >> 4
            || self.magazine().is_some_and(|blocks| !(1..=MAGAZINE).contains(&blocks))
    }

    fn build(self) -> Result<BlockPool, MemoryError> {
        let mut builder = BlockPool::builder().block_size(self.size()).block_align(self.align());
        builder = builder.reserve(self.reserve()).zeroed(self.zeroed()).name(format!("{self:?}"));
        if let Some(limit) = self.limit() {
            builder = builder.limit(limit);
        }
        if let Some(exact) = self.exact() {
            builder = builder.exact_limit(exact);
        }
        if let Some(blocks) = self.magazine() {
            builder = builder.magazine_size(blocks);
        }
        builder.build()
    }
}

/// As many of the blocks as one call may reserve: now and then enough for a hundred runs.
fn reservable(blocks: usize, size: usize) -> usize {
    let bytes = if blocks.is_multiple_of(8) { RESERVE } else { RESERVE / 16 };
    blocks.min(bytes / size.max(16))
}

/// One step of a program. Pools, blocks and values are chosen by number, modulo those that there are.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Op {
    Build {
        spec: Spec,
    },
    Take {
        pool: u8,
        how: u8,
    },
    Burst {
        pool: u8,
        how: u8,
        count: u8,
    },
    GiveBack {
        which: u16,
        how: u8,
    },
    Sweep {
        from: u16,
        how: u8,
        count: u8,
        step: u8,
    },
    Check {
        which: u16,
    },
    /// By the `Allocator` trait: in place, or refused.
    Resize {
        which: u16,
        from: u16,
        to: u16,
    },
    /// A vector that lives in a block.
    Fill {
        pool: u8,
        len: u16,
    },
    /// A slice of values that are to be dropped.
    Slice {
        pool: u8,
        len: u8,
    },
    Reserve {
        pool: u8,
        blocks: u16,
    },
    Purge {
        pool: u8,
    },
    PurgeHeap,
    Statistics,
    /// Ends a pool: in order, while owned blocks keep it, or with raw blocks out.
    Drop {
        pool: u8,
        how: u8,
    },
    Keep {
        kind: u8,
        how: u8,
    },
    Share {
        which: u8,
    },
    End {
        which: u8,
        how: u8,
    },
    /// What the system may give from now on.
    Tighten {
        level: u8,
    },
    Go {
        member: u8,
    },
    Leave,
    Late {
        count: u8,
        used: bool,
    },
}

impl Operation for Op {
    fn run(program: Vec<Self>) {
        crew::run(PoolWorld::new(), program).finish();
    }
}

/// Which pool a block is of, with its guard if that keeps the pool.
#[derive(Debug)]
struct Held {
    pool: u64,
    guard: Option<OwnedBlock>,
}

/// A pool and what is known of it.
struct Shelf {
    pool: Arc<BlockPool>,
    number: u64,
    spec: Spec,
    /// Blocks that it keeps, in use or not.
    reserved: usize,
}

impl Shelf {
    fn limit(&self) -> usize {
        self.spec.limit().unwrap_or(usize::MAX)
    }

    /// Whether no thread keeps blocks of it.
    fn is_exact(&self) -> bool {
        self.spec.exact().unwrap_or(self.limit() <= 1024)
    }

    fn layout(&self) -> Layout {
        Layout::from_size_align(self.pool.block_size(), self.pool.block_align()).expect("a pool has a block layout")
    }
}

/// Values of one type: the program's own pool, and how many values lie where.
struct Typed<T: 'static> {
    owned: Arc<Pool<T>>,
    /// Live blocks of the pool that lives for ever, before the program: of boxes, and counted ones.
    before: (usize, usize),
}

impl<T: Value> Typed<T> {
    fn new() -> Self {
        let forever = T::forever();
        Self {
            owned: Arc::new(Pool::builder().limit(OWNED).build().expect("a pool of a few values")),
            before: (forever.stats().live, forever.arc_stats().live),
        }
    }

    /// Asserts how many blocks are live: of boxes, counted ones, and those in the program's own pool.
    fn check(&self, boxed: usize, shared: usize, owned: usize) {
        let forever = T::forever();
        let live = (forever.stats().live - self.before.0, forever.arc_stats().live - self.before.1);
        assert_eq!(live, (boxed, shared), "live boxes and counted values of one type");
        assert_eq!(self.owned.stats().live, owned, "live owned boxes of one type");
    }
}

/// A value and its type.
struct Valued {
    keep: Box<dyn Keep>,
    kind: usize,
}

/// The pools under test, and the model of them.
struct PoolWorld {
    forks: usize,
    shelves: Vec<Shelf>,
    /// Pools that only their owned blocks keep: number, and how many.
    blocks: Shadow<Held>,
    plain: Typed<Plain>,
    wide: Typed<Wide>,
    nothing: Typed<Nothing>,
    values: Vec<Valued>,
    ledger: Arc<Ledger>,
    numbers: u64,
    nothings_before: usize,
    leaked: usize,
    limit: usize,
    committed_before: usize,
    threads: usize,
}

static ABANDONED_SO_FAR: AtomicUsize = AtomicUsize::new(0);

fn purge_all() {
    fn purge<T: Value>() {
        T::forever().purge();
    }
    purge::<Plain>();
    purge::<Wide>();
    purge::<Nothing>();
    Heap::purge();
}

impl PoolWorld {
    fn new() -> Self {
        HeapConfig::new().hard_limit(usize::MAX).apply();
        purge_all();
        Self {
            forks: 0,
            shelves: Vec::new(),
            blocks: Shadow::new(),
            plain: Typed::new(),
            wide: Typed::new(),
            nothing: Typed::new(),
            values: Vec::new(),
            ledger: Arc::default(),
            numbers: 0,
            nothings_before: Nothing::count(),
            leaked: BlockPool::leaked_bytes(),
            limit: usize::MAX,
            committed_before: Heap::stats().committed,
            threads: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn choose(&self, which: u8) -> Option<usize> {
        (!self.shelves.is_empty()).then(|| usize::from(which) % self.shelves.len())
    }

    /// Live blocks of a pool, by the model.
    fn live(&self, number: u64) -> usize {
        self.blocks.blocks().iter().filter(|block| block.tag.pool == number).count()
    }

    fn build(&mut self, spec: Spec) {
        if self.shelves.len() == POOLS {
            return;
        }
        let number = self.number();
        let built = if spec.is_nonsense() { self.build_nonsense(spec) } else { spec.build() };
        match built {
            Ok(pool) => {
                assert!(!spec.is_nonsense(), "{spec:?} made a pool");
                let size = spec.size().next_multiple_of(spec.align().max(16));
                assert_eq!((pool.block_size(), pool.block_align()), (size, spec.align().max(16)));
                let stats = pool.stats();
                assert!(stats.free >= spec.reserve(), "{stats} for a reserve of {}", spec.reserve());
                let reserved = if spec.reserve() > 0 { stats.blocks } else { 0 };
                self.shelves.push(Shelf { pool: Arc::new(pool), number, spec, reserved });
            }
            Err(error @ MemoryError::OutOfMemory { .. }) if !spec.is_nonsense() => {
                let size = spec.size().next_multiple_of(spec.align().max(16));
                self.out_of_memory(error, size, spec.reserve());
            }
            Err(error) => {
                assert!(spec.is_nonsense(), "{spec:?} is refused: {error}");
                assert!(!error.to_string().is_empty());
            }
        }
    }

    /// Nonsense is refused before much memory was got for it; the limit saves the machine if it isn't.
    fn build_nonsense(&self, spec: Spec) -> Result<BlockPool, MemoryError> {
        let before = Heap::stats();
        HeapConfig::new().hard_limit(self.limit.min(before.committed + 8 * RESERVE)).apply();
        let built = spec.build();
        HeapConfig::new().hard_limit(self.limit).apply();
        let peak = Heap::stats().peak;
        assert!(peak <= before.peak.max(before.committed + 2 * RESERVE), "{peak} bytes were got for {spec:?}");
        built
    }

    /// The reserve had no memory: that must be the limit's doing.
    fn out_of_memory(&self, error: MemoryError, size: usize, blocks: usize) {
        assert!(self.limit < usize::MAX, "{error}, without a limit");
        Heap::purge();
        // Runs with blocks in use count as a whole, also when the system has the pages of their free blocks.
        let counted = self.shelves.iter().map(|shelf| shelf.pool.stats().committed).sum::<usize>()
            + BlockPool::leaked_bytes()
            + Heap::stats().committed;
        // A run, and a frame.
        let run = if size > MIB { size } else { (8 * size).max(512 * KIB) } + 96 * KIB;
        let need = run + blocks * size / 8 * 9;
        assert!(counted + need > self.limit, "{error}, with {counted} bytes in use of {}", self.limit);
    }

    fn take_once(shelf: &Shelf, how: u8) -> Result<(NonNull<u8>, Option<OwnedBlock>), MemoryError> {
        Ok(match how % 3 {
            0 => (shelf.pool.take_raw()?, None),
            1 => {
                let mut block = shelf.pool.take()?;
                assert!(block.len() == shelf.pool.block_size() && ptr::eq(block.pool(), Arc::as_ptr(&shelf.pool)));
                assert!(block.first_mut().is_some() && !format!("{block:?}").is_empty());
                (block.into_raw(), None)
            }
            _ => {
                let mut block = shelf.pool.take_owned()?;
                assert!(Arc::ptr_eq(block.pool(), &shelf.pool));
                assert!(block.first_mut().is_some() && !format!("{block:?}").is_empty());
                (NonNull::new(block.as_ptr()).expect("a block is somewhere"), Some(block))
            }
        })
    }

    /// False if there was no block to take.
    fn take(&mut self, index: usize, how: u8) -> bool {
        let shelf = &self.shelves[index];
        let layout = shelf.layout();
        if self.blocks.bytes() + layout.size() > BUDGET || self.blocks.blocks().len() == BLOCKS {
            return false;
        }
        let taken = match Self::take_once(shelf, how) {
            Ok(taken) => taken,
            Err(error) => {
                self.not_taken(index, error);
                return false;
            }
        };
        self.adopt(index, taken);
        true
    }

    fn adopt(&mut self, index: usize, (at, guard): (NonNull<u8>, Option<OwnedBlock>)) {
        let shelf = &self.shelves[index];
        if shelf.spec.zeroed() {
            // SAFETY: a block just taken.
            unsafe { assert_zero(at, shelf.pool.block_size()) };
        }
        // SAFETY: as above.
        unsafe { self.blocks.adopt(at, shelf.layout(), Held { pool: shelf.number, guard }) };
        assert!(shelf.limit() == usize::MAX || self.live(shelf.number) <= shelf.limit(), "more than the limit");
    }

    /// Taking failed: by the limit, and then a block given back can be taken again.
    fn not_taken(&mut self, index: usize, error: MemoryError) {
        let shelf = &self.shelves[index];
        let MemoryError::LimitReached { limit, block_size } = error else {
            return self.out_of_memory(error, shelf.pool.block_size(), 0);
        };
        assert_eq!((limit, block_size), (shelf.limit(), shelf.pool.block_size()));
        let (live, stats) = (self.live(shelf.number), shelf.pool.stats());
        assert_eq!(stats.live, live);
        assert_eq!(stats.stored, 0, "free blocks in the depot are for everybody: {stats}");
        // What is missing lies in other threads' caches.
        let others = if shelf.is_exact() { 0 } else { self.threads.saturating_sub(1) * 2 * MAGAZINE };
        assert!(live + others >= limit, "the limit is reached with {live} blocks: {stats}");
        assert_eq!(live + stats.cached, limit, "{stats}");
        let number = shelf.number;
        if let Some(held) = self.blocks.blocks().iter().position(|block| block.tag.pool == number) {
            self.give_back(held, 0);
            match Self::take_once(&self.shelves[index], 0) {
                Ok(taken) => self.adopt(index, taken),
                Err(error) => panic!("a block was given back, and yet: {error}"),
            }
        }
    }

    fn shelf_of(&self, number: u64) -> Option<&Shelf> {
        self.shelves.iter().find(|shelf| shelf.number == number)
    }

    fn give_back(&mut self, which: usize, how: u8) {
        let block = self.blocks.disown(which);
        if let Some(guard) = block.tag.guard {
            return drop(guard);
        }
        let shelf = self.shelf_of(block.tag.pool).expect("raw blocks are given back before their pool goes");
        match how % 4 {
            // SAFETY: taken from this pool, not given back since.
            0 => unsafe { shelf.pool.give_back(block.at) },
            // SAFETY: as above.
            1 => drop(unsafe { Block::from_raw(&shelf.pool, block.at) }),
            // SAFETY: as above.
            2 => drop(unsafe { OwnedBlock::from_raw(Arc::clone(&shelf.pool), block.at) }),
            // SAFETY: as above; the layout is one that fits.
            _ => unsafe { shelf.pool.deallocate(block.at, shelf.layout()) },
        }
    }

    fn resize(&mut self, which: usize, from: usize, to: usize) {
        let Some(which) = self.blocks.choose(which) else { return };
        let block = &self.blocks.blocks()[which];
        let Some(shelf) = self.shelf_of(block.tag.pool) else { return };
        let (size, align) = (shelf.pool.block_size(), shelf.pool.block_align());
        // Beyond the block by as much as half of it.
        let of = |part: usize| (part % (size + size / 2)).max(1);
        let layout = |size: usize| Layout::from_size_align(size, align).expect("no larger than one and a half blocks");
        let (old, new) = (layout(of(from).min(size)), layout(of(to)));
        let got = if new.size() < old.size() {
            // SAFETY: the block is live, the old layout fits it, and the new size is smaller.
            unsafe { shelf.pool.shrink(block.at, old, new) }
        } else {
            // SAFETY: as above, but the new size is no smaller.
            unsafe { shelf.pool.grow(block.at, old, new) }
        };
        assert_eq!(got.is_ok(), new.size() <= size, "{old:?} to {new:?} in a block of {size}");
        if let Ok(got) = got {
            assert_eq!((got.cast(), got.len()), (block.at, size), "in place");
        }
        self.blocks.check(which);
    }

    /// A vector in a block: it grows up to the block, and no further.
    fn fill(&self, index: usize, len: usize) {
        let pool = &*self.shelves[index].pool;
        let len = len % (pool.block_size() + 2);
        let mut vec = allocator_api2::vec::Vec::new_in(pool);
        let could = vec.try_reserve_exact(len).is_ok();
        if len > pool.block_size() {
            return assert!(!could, "a vector of {len} bytes in {pool:?}");
        }
        if !could || len == 0 {
            return;
        }
        vec.extend((0..len).map(|at| at.to_le_bytes()[0]));
        assert!(vec.try_reserve(pool.block_size() - len + 1).is_err(), "past the block of {pool:?}");
        vec.shrink_to_fit();
        self.blocks.check_all();
        assert!(vec.iter().enumerate().all(|(at, byte)| *byte == at.to_le_bytes()[0]), "the vector's bytes changed");
    }

    fn slice(&mut self, index: usize, len: usize) {
        let first = self.numbers;
        self.numbers += len as u64;
        let pool = Arc::clone(&self.shelves[index].pool);
        let before = self.ledger.count();
        let got = pool.alloc_slice(len, |at| Mark::new(first + at as u64 + 1, &self.ledger));
        let fits = len * size_of::<Mark>() <= pool.block_size();
        match got {
            Ok(slice) => {
                assert!(fits && slice.len() == len);
                assert_eq!(self.ledger.count(), before + len);
                for (at, mark) in slice.iter().enumerate() {
                    mark.check(first + at as u64 + 1);
                }
            }
            Err(MemoryError::TooLarge { .. }) => assert!(!fits, "{len} values do not fit {pool:?}"),
            Err(error) => self.not_taken(index, error),
        }
        assert_eq!(self.ledger.count(), before, "each value of a slice is dropped with it");
    }

    fn reserve(&mut self, index: usize, blocks: usize) {
        let shelf = &mut self.shelves[index];
        let blocks = reservable(blocks, shelf.pool.block_size());
        match shelf.pool.reserve(blocks) {
            Ok(()) => {
                assert!(blocks <= shelf.limit());
                let stats = shelf.pool.stats();
                assert!(stats.free >= blocks, "{blocks} reserved: {stats}");
                if blocks > 0 {
                    shelf.reserved = shelf.reserved.max(stats.blocks);
                }
            }
            Err(MemoryError::ReserveAboveLimit { reserve, limit }) => {
                assert!((reserve, limit) == (blocks, shelf.limit()) && reserve > limit);
            }
            Err(error) => {
                let size = shelf.pool.block_size();
                self.out_of_memory(error, size, blocks);
            }
        }
    }

    /// All threads of the program rest, so the figures are exact.
    fn check_pool(&self, shelf: &Shelf) -> PoolStats {
        let stats = shelf.pool.stats();
        assert_eq!(stats.live, self.live(shelf.number), "live blocks: {stats}");
        assert_eq!(stats.live + stats.cached + stats.stored + stats.free, stats.blocks, "{stats}");
        assert!(stats.blocks >= shelf.reserved, "{} reserved: {stats}", shelf.reserved);
        assert!(stats.committed >= stats.blocks * stats.block_size, "{stats}");
        assert!(stats.peak >= stats.live && stats.peak <= shelf.limit(), "{stats}");
        assert_eq!(stats.limit, shelf.spec.limit());
        let magazine = shelf.spec.magazine().unwrap_or(MAGAZINE);
        let most = if shelf.is_exact() { 0 } else { self.threads * 2 * magazine };
        assert!(stats.cached <= most, "{} threads keep {} blocks: {stats}", self.threads, stats.cached);
        stats
    }

    fn check_statistics(&self) {
        for shelf in &self.shelves {
            self.check_pool(shelf);
        }
        let mut counts = [[0; 3]; 3];
        for value in &self.values {
            counts[value.kind][if value.keep.is_owned() { 2 } else { usize::from(value.keep.is_shared()) }] += 1;
        }
        // Several owners of a value share a block.
        let blocks_of = |kind: usize| {
            let of_kind = self.values.iter().filter(|value| value.kind == kind && value.keep.is_shared());
            of_kind.map(|value| value.keep.at()).collect::<std::collections::BTreeSet<_>>().len()
        };
        self.plain.check(counts[0][0], blocks_of(0), counts[0][2]);
        self.wide.check(counts[1][0], blocks_of(1), counts[1][2]);
        self.nothing.check(counts[2][0], blocks_of(2), counts[2][2]);
        let heap = Heap::stats();
        assert!(heap.committed <= heap.reserved);
    }

    fn drop_pool(&mut self, index: usize, how: usize) {
        let number = self.shelves[index].number;
        let may_leak = ABANDONED_SO_FAR.load(Ordering::Relaxed) < ABANDONED;
        let small = self.shelves[index].pool.stats().committed <= 256 * KIB;
        let (keep_owned, leak) = (how % 4 == 1, how % 4 == 2 && may_leak && small);
        for which in (0..self.blocks.blocks().len()).rev() {
            let held = &self.blocks.blocks()[which].tag;
            if held.pool != number || (held.guard.is_some() && keep_owned) {
                continue;
            }
            if held.guard.is_none() && leak {
                self.blocks.abandon(which);
            } else {
                self.give_back(which, 0);
            }
        }
        let shelf = self.shelves.swap_remove(index);
        let stats = shelf.pool.stats();
        assert_eq!(Arc::strong_count(&shelf.pool), 1 + self.live(number));
        if stats.live > self.live(number) {
            ABANDONED_SO_FAR.fetch_add(1, Ordering::Relaxed);
            self.leaked += stats.committed;
        }
        drop(shelf);
        assert_eq!(BlockPool::leaked_bytes(), self.leaked, "bytes of pools that were dropped with blocks out");
    }

    fn keep(&mut self, kind: usize, how: usize) {
        if self.values.len() >= 400 {
            return;
        }
        let (id, kind) = (self.number(), kind % 3);
        let kept = match kind {
            0 => keep(id, &self.ledger, &self.plain.owned, how),
            1 => keep(id, &self.ledger, &self.wide.owned, how),
            _ => keep(id, &self.ledger, &self.nothing.owned, how),
        };
        let Some(keep) = kept else {
            let owned = self.values.iter().filter(|value| value.kind == kind && value.keep.is_owned()).count();
            return assert_eq!(owned, OWNED, "the limit of an owned pool");
        };
        self.blocks.ranges.claim(keep.at(), keep.size());
        self.values.push(Valued { keep, kind });
    }

    fn end(&mut self, which: usize, how: usize) {
        let Valued { keep, .. } = self.values.swap_remove(which);
        keep.check();
        let at = keep.at();
        if keep.end(how) {
            self.blocks.ranges.release(at);
        }
    }

    /// In a child every block is as it was, each pool counts as before, takes its blocks back and hands others out.
    fn fork(&mut self) {
        if self.forks == forks::MOST {
            return;
        }
        self.forks += 1;
        let before: Vec<_> = self.shelves.iter().map(|shelf| shelf.pool.stats()).collect();
        forks::in_a_child(|| {
            self.blocks.check_all();
            for (shelf, before) in self.shelves.iter().zip(&before) {
                let stats = shelf.pool.stats();
                assert_eq!(stats.live, self.live(shelf.number), "live blocks of a child: {stats}");
                // What other threads had in their caches is lost to a child, and nothing else.
                let counted = stats.live + stats.cached + stats.stored + stats.free;
                assert!((stats.blocks - before.cached..=stats.blocks).contains(&counted), "{before}, and then {stats}");
                if let Ok(block) = shelf.pool.take_raw() {
                    // SAFETY: a block just taken.
                    unsafe { block.write_bytes(7, shelf.pool.block_size()) };
                    // SAFETY: taken from this pool, not given back since.
                    unsafe { shelf.pool.give_back(block) };
                }
                let mut raw = self.blocks.blocks().iter();
                // The last thing for this pool: the model does not know of it.
                if let Some(block) = raw.find(|block| block.tag.pool == shelf.number && block.tag.guard.is_none()) {
                    // SAFETY: as above; the model of this child's parent knows nothing of it.
                    unsafe { shelf.pool.give_back(block.at) };
                    let again = shelf.pool.take_raw().expect("a block was given back");
                    let kept = self.blocks.blocks().iter().all(|other| other.at != again || other.at == block.at);
                    assert!(kept, "a block of the parent's was handed out in a child");
                    // SAFETY: just taken.
                    unsafe { shelf.pool.give_back(again) };
                }
                shelf.pool.purge();
            }
        });
        self.blocks.check_all();
    }

    fn tighten(&mut self, level: usize) {
        Heap::purge();
        let room = [0, 256 * KIB, 4 * MIB].get(level % 8);
        self.limit = room.map_or(usize::MAX, |room| Heap::stats().committed + room);
        HeapConfig::new().hard_limit(self.limit).apply();
    }

    /// Ends everything: what is left must be what was there before.
    fn finish(mut self) {
        HeapConfig::new().hard_limit(usize::MAX).apply();
        self.limit = usize::MAX;
        self.threads = 1;
        self.blocks.check_all();
        self.check_statistics();
        while !self.values.is_empty() {
            self.end(0, 2);
        }
        assert_eq!(self.ledger.count(), 0, "values that nobody dropped");
        assert_eq!(Nothing::count(), self.nothings_before, "values of size zero that nobody dropped");
        while let Some(which) = self.blocks.choose(0) {
            self.give_back(which, 0);
        }
        for shelf in &self.shelves {
            shelf.pool.purge();
            let stats = self.check_pool(shelf);
            assert!(!stats.to_string().is_empty());
            assert_eq!((stats.cached, stats.stored), (0, 0), "nobody else has caches: {stats}");
            assert!(stats.blocks == shelf.reserved, "{} kept: {stats}", shelf.reserved);
        }
        while !self.shelves.is_empty() {
            self.drop_pool(0, 0);
        }
        self.check_statistics();
        drop((self.plain, self.wide, self.nothing));
        purge_all();
        let committed = Heap::stats().committed;
        let bound = self.committed_before.max(BARE) + MIB;
        assert!(committed <= bound, "{committed} bytes committed, and {} before", self.committed_before);
    }
}

impl World for PoolWorld {
    type Op = Op;

    fn step(&mut self, op: &Op) -> Turn {
        match *op {
            Op::Build { spec } => self.build(spec),
            Op::Take { pool, how } => {
                if let Some(index) = self.choose(pool) {
                    self.take(index, how);
                }
            }
            Op::Burst { pool, how, count } => {
                if let Some(index) = self.choose(pool) {
                    let count = usize::from(count).min(BURST / self.shelves[index].pool.block_size());
                    for _ in 0..count {
                        if !self.take(index, how) {
                            break;
                        }
                    }
                }
            }
            Op::GiveBack { which, how } => {
                if let Some(which) = self.blocks.choose(which.into()) {
                    self.give_back(which, how);
                }
            }
            Op::Sweep { from, how, count, step } => {
                let mut at = usize::from(from);
                for _ in 0..count {
                    let Some(which) = self.blocks.choose(at) else { break };
                    self.give_back(which, how);
                    at = which + usize::from(step);
                }
            }
            Op::Check { which } => {
                if let Some(which) = self.blocks.choose(which.into()) {
                    self.blocks.check(which);
                }
            }
            Op::Resize { which, from, to } => self.resize(which.into(), from.into(), to.into()),
            Op::Fill { pool, len } => {
                if let Some(index) = self.choose(pool) {
                    self.fill(index, len.into());
                }
            }
            Op::Slice { pool, len } => {
                if let Some(index) = self.choose(pool) {
                    self.slice(index, len.into());
                }
            }
            Op::Reserve { pool, blocks } => {
                if let Some(index) = self.choose(pool) {
                    self.reserve(index, blocks.into());
                }
            }
            Op::Purge { pool } => {
                if let Some(index) = self.choose(pool) {
                    self.shelves[index].pool.purge();
                    self.check_pool(&self.shelves[index]);
                }
            }
            Op::PurgeHeap => {
                Heap::purge();
                self.blocks.check_all();
            }
            Op::Statistics => self.check_statistics(),
            Op::Drop { pool, how } => {
                if let Some(index) = self.choose(pool) {
                    self.drop_pool(index, how.into());
                }
            }
            Op::Keep { kind, how } if self.limit == usize::MAX => self.keep(kind.into(), how.into()),
            // Without memory, most of these panic, as they say.
            Op::Keep { .. } => {}
            Op::Share { which } if !self.values.is_empty() => {
                let value = &self.values[usize::from(which) % self.values.len()];
                if let Some(keep) = value.keep.share() {
                    self.values.push(Valued { keep, kind: value.kind });
                }
            }
            Op::Share { .. } => {}
            Op::End { which, how } if !self.values.is_empty() => {
                self.end(usize::from(which) % self.values.len(), how.into());
            }
            Op::End { .. } => {}
            Op::Tighten { level: FORKS.. } => self.fork(),
            Op::Tighten { level } => self.tighten(level.into()),
            Op::Go { member } => return Turn::Go(usize::from(member) % MEMBERS),
            Op::Leave => return Turn::End,
            Op::Late { count, used } => return Turn::Late { count: usize::from(count) % 16, used },
        }
        Turn::Stay
    }

    fn touch(&mut self) {
        let pool = BlockPool::new(64, 16);
        assert_eq!(pool.take().map(|block| block.len()).unwrap_or(64), 64);
    }

    fn threads(&mut self, alive: usize) {
        self.threads = alive;
    }
}
