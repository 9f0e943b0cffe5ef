//! Programs for several threads at once: each runs its own part while the others run theirs, and what one has taken,
//! another gives back.
//!
//! Other than in [`heap`](super::heap) and [`pool`](super::pool), where threads take turns, the order of the parts is
//! the system's: a run is not the same each time, but what must hold, must hold in every order.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use arbitrary::Arbitrary;
use millpond::{BlockPool, Heap, OwnedBlock, Pool};

use super::Operation;
use super::draw::{Align, Size};
use super::shadow::{Lived, Ranges, Shadow};
use super::values::{Keep, Ledger, Plain, Value, Wide, keep};

/// Threads of one program.
const THREADS: usize = 3;
/// The largest block, and what a thread may hold of them.
const LARGEST: usize = 48 * 1024;
const BUDGET: usize = 4 * 1024 * 1024;
/// Blocks of a thread, and of one burst.
const BLOCKS: usize = 400;
const BURST: usize = 48;
/// The limit of the pool of a program that has no caches.
const FEW: usize = 60;

/// One step of one thread.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Step {
    Alloc {
        size: Size,
        align: Align,
    },
    Take {
        pool: u8,
        how: u8,
    },
    Burst {
        pool: u8,
        count: u8,
    },
    Keep {
        wide: bool,
        how: u8,
    },
    /// Something of this thread goes to whoever wants it.
    Offer {
        which: u16,
    },
    OfferValue {
        which: u8,
    },
    /// Something that somebody offered is this thread's now.
    Fetch {
        count: u8,
    },
    Free {
        which: u16,
    },
    Sweep {
        count: u8,
    },
    End {
        which: u8,
        how: u8,
    },
    Check {
        which: u16,
    },
    Flush,
    Purge {
        pool: u8,
    },
    /// Another thread does the next steps, and ends.
    Branch {
        count: u8,
    },
    Figures {
        pool: u8,
    },
}

/// A step, and whose it is.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) struct Op {
    thread: u8,
    step: Step,
}

/// Whose block it is.
#[derive(Debug)]
enum Home {
    Heap,
    Raw(usize),
    Owned(OwnedBlock),
}

/// What somebody has put out for others: blocks, and things that live in pools.
type Offered = (Vec<Lived<Home>>, Vec<Box<dyn Keep>>);

/// What threads have in common.
struct Town {
    pools: [Arc<BlockPool>; 3],
    plain: Arc<Pool<Plain>>,
    wide: Arc<Pool<Wide>>,
    ledger: Arc<Ledger>,
    /// Every block that somebody holds: two that overlap are found when the second is taken.
    taken: Mutex<Ranges>,
    offered: Mutex<Offered>,
    numbers: Mutex<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Town {
    fn new() -> Self {
        let pool = |builder: millpond::BlockPoolBuilder| Arc::new(builder.build().expect("a small pool"));
        Self {
            pools: [
                pool(BlockPool::builder().block_size(64)),
                pool(BlockPool::builder().block_size(3000).block_align(64).magazine_size(4)),
                pool(BlockPool::builder().block_size(200).limit(FEW).exact_limit(true)),
            ],
            plain: Arc::new(Pool::builder().build().expect("a pool of values")),
            wide: Arc::new(Pool::builder().limit(FEW).build().expect("a pool of few values")),
            ledger: Arc::default(),
            taken: Mutex::default(),
            offered: Mutex::default(),
            numbers: Mutex::new(0),
        }
    }

    fn number(&self) -> u64 {
        let mut numbers = locked(&self.numbers);
        *numbers += 1;
        *numbers
    }
}

/// A thread's own things.
struct Walker {
    town: Arc<Town>,
    blocks: Shadow<Home>,
    values: Vec<Box<dyn Keep>>,
}

impl Walker {
    fn new(town: Arc<Town>) -> Self {
        // No two walkers fill blocks alike.
        let first = town.number() << 32;
        Self { town, blocks: Shadow::stamped_from(first), values: Vec::new() }
    }

    fn adopt(&mut self, at: NonNull<u8>, layout: Layout, home: Home) {
        locked(&self.town.taken).claim(at, layout.size());
        // SAFETY: just taken with this layout, or handed over by a thread that had it so.
        unsafe { self.blocks.adopt(at, layout, home) };
    }

    fn room_for(&self, bytes: usize) -> bool {
        self.blocks.blocks().len() < BLOCKS && self.blocks.bytes() + bytes <= BUDGET
    }

    fn alloc(&mut self, size: usize, align: usize) {
        let layout = Layout::from_size_align(size.min(LARGEST), align.min(4096)).expect("small");
        if !self.room_for(layout.size().max(layout.align())) {
            return;
        }
        // SAFETY: the size isn't zero.
        let at = NonNull::new(unsafe { Heap.alloc(layout) }).expect("there is memory");
        self.adopt(at, layout, Home::Heap);
    }

    fn take(&mut self, which: usize, how: u8) {
        let which = which % self.town.pools.len();
        let pool = Arc::clone(&self.town.pools[which]);
        if !self.room_for(pool.block_size()) {
            return;
        }
        let taken = if how.is_multiple_of(2) {
            pool.take_raw().map(|at| (at, Home::Raw(which)))
        } else {
            pool.take_owned().map(|block| (NonNull::new(block.as_ptr()).expect("somewhere"), Home::Owned(block)))
        };
        match taken {
            Ok((at, home)) => {
                let layout = Layout::from_size_align(pool.block_size(), pool.block_align()).expect("a pool has one");
                self.adopt(at, layout, home);
            }
            Err(error) => assert!(which == 2, "only the pool of few blocks refuses any: {error}"),
        }
    }

    fn free(&mut self, index: usize) {
        let block = self.blocks.disown(index);
        // Before it can be somebody else's.
        locked(&self.town.taken).release(block.at);
        match block.tag {
            // SAFETY: allocated by the heap with this layout, by whichever thread.
            Home::Heap => unsafe { Heap.dealloc(block.at.as_ptr(), block.layout) },
            // SAFETY: taken from this pool, by whichever thread.
            Home::Raw(pool) => unsafe { self.town.pools[pool].give_back(block.at) },
            Home::Owned(guard) => drop(guard),
        }
    }

    fn offer(&mut self, which: usize) {
        let Some(index) = self.blocks.choose(which) else { return };
        let block = self.blocks.disown(index);
        locked(&self.town.offered).0.push(block);
    }

    fn fetch(&mut self, count: usize) {
        for _ in 0..count {
            let (block, value) = {
                let mut offered = locked(&self.town.offered);
                (offered.0.pop(), offered.1.pop())
            };
            if let Some(block) = block {
                // On its way nobody wrote into it.
                block.verify();
                locked(&self.town.taken).release(block.at);
                self.adopt(block.at, block.layout, block.tag);
            }
            if let Some(value) = value {
                value.check();
                self.values.push(value);
            }
        }
    }

    /// Takes a value out, if there is one.
    fn value(&mut self, which: u8) -> Option<Box<dyn Keep>> {
        let last = self.values.len().checked_sub(1)?;
        let value = self.values.swap_remove(usize::from(which) % (last + 1));
        value.check();
        Some(value)
    }

    fn run(&mut self, steps: &[Step]) {
        let mut steps = steps.iter();
        while let Some(step) = steps.next() {
            match *step {
                Step::Alloc { size, align } => self.alloc(size.bytes(), align.bytes()),
                Step::Take { pool, how } => self.take(pool.into(), how),
                Step::Burst { pool, count } => {
                    (0..usize::from(count) % BURST).for_each(|n| self.take(pool.into(), u8::from(n % 5 == 0)));
                }
                Step::Keep { wide, how } if self.values.len() < BLOCKS => {
                    let (id, town) = (self.town.number(), &self.town);
                    let kept = if wide {
                        keep(id, &town.ledger, &town.wide, how.into())
                    } else {
                        keep(id, &town.ledger, &town.plain, how.into())
                    };
                    self.values.extend(kept);
                }
                Step::Keep { .. } => {}
                Step::Offer { which } => self.offer(which.into()),
                Step::OfferValue { which } => {
                    if let Some(value) = self.value(which) {
                        locked(&self.town.offered).1.push(value);
                    }
                }
                Step::Fetch { count } => self.fetch(usize::from(count) % 8),
                Step::Free { which } => {
                    if let Some(index) = self.blocks.choose(which.into()) {
                        self.free(index);
                    }
                }
                Step::Sweep { count } => {
                    (0..count).for_each(|n| {
                        if let Some(index) = self.blocks.choose(usize::from(n) * 7) {
                            self.free(index);
                        }
                    });
                }
                Step::End { which, how } => {
                    if let Some(value) = self.value(which) {
                        value.end(how.into());
                    }
                }
                Step::Check { which } => {
                    if let Some(index) = self.blocks.choose(which.into()) {
                        self.blocks.check(index);
                    }
                }
                Step::Flush => Heap::flush_thread(),
                Step::Purge { pool } if pool < 128 => self.town.pools[usize::from(pool) % 3].purge(),
                Step::Purge { .. } => _ = Heap::purge(),
                Step::Branch { count } => {
                    let (now, later) = steps.as_slice().split_at(usize::from(count).min(steps.len()));
                    steps = later.iter();
                    // What it has when it ends, it leaves to this one.
                    let mut branch = Self::new(Arc::clone(&self.town));
                    let left = thread::scope(|scope| {
                        let run = move || {
                            branch.run(now);
                            branch
                        };
                        scope.spawn(run).join()
                    });
                    self.inherit(left);
                }
                Step::Figures { pool } => {
                    let stats = self.town.pools[usize::from(pool) % 3].stats();
                    assert!(stats.limit.is_none_or(|limit| stats.live <= limit), "{stats}");
                    // Others go on meanwhile: figures of the heap need not fit each other.
                    assert!(Heap::stats().to_string().contains("live"));
                }
            }
        }
    }

    fn inherit(&mut self, left: thread::Result<Self>) {
        let mut left = left.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
        while let Some(index) = left.blocks.choose(0) {
            let block = left.blocks.disown(index);
            locked(&self.town.taken).release(block.at);
            self.adopt(block.at, block.layout, block.tag);
        }
        self.values.append(&mut left.values);
    }
}

impl Operation for Op {
    fn run(program: Vec<Self>) {
        Heap::flush_thread();
        let before = Heap::stats().live_blocks;
        let forever = || {
            let live = |pool: &Pool<Plain>| pool.stats().live + pool.arc_stats().live;
            live(Plain::forever())
        };
        let values_before = forever();
        let town = Arc::new(Town::new());
        let mut parts = [const { Vec::new() }; THREADS];
        for op in program {
            parts[usize::from(op.thread) % THREADS].push(op.step);
        }
        let threads = parts.map(|part| {
            let mut walker = Walker::new(Arc::clone(&town));
            thread::spawn(move || {
                walker.run(&part);
                walker
            })
        });
        // All at once until here; what they leave comes together in one.
        let mut rest = Walker::new(Arc::clone(&town));
        threads.into_iter().map(thread::JoinHandle::join).for_each(|left| rest.inherit(left));
        let left = {
            let offered = locked(&town.offered);
            offered.0.len().max(offered.1.len())
        };
        rest.fetch(left);
        rest.blocks.check_all();
        while let Some(index) = rest.blocks.choose(0) {
            rest.free(index);
        }
        rest.values.drain(..).for_each(|value| {
            value.check();
            value.end(2);
        });
        assert_eq!(town.ledger.count(), 0, "values that nobody dropped");
        for pool in &town.pools {
            assert_eq!(pool.stats().live, 0, "{}", pool.stats());
        }
        assert_eq!((town.plain.stats().live, town.wide.stats().live, forever()), (0, 0, values_before));
        Heap::flush_thread();
        assert_eq!(Heap::stats().live_blocks, before, "blocks of the heap are lost, or counted twice");
    }
}
