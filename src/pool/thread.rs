//! What each thread keeps of the pools, the registry of both, and where pools keep what must not move.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::block::{BlockLayout, RESERVE, Runs};
use crate::cache::{Depot, Life, PoolKey, PoolRegistry, PoolThread, Slot, follow_forks};
use crate::os::{self, Ticker};
use crate::primitive::{AtomicBool, AtomicUsize, Ordering};

/// The shared part of a pool: it stays where it is while the handle moves.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) depot: Depot<Runs>,
}

/// All threads with slots, and all pools that have slots.
static POOLS: PoolRegistry<Runs> = PoolRegistry::new();

/// Where cores lie: blocks too.
static CORES: Depot<Runs> = Depot::new(Runs::new(
    match BlockLayout::new(size_of::<Core>(), align_of::<Core>()) {
        Ok(layout) => layout,
        Err(_) => panic!("a core is a small block"),
    },
    &RESERVE,
    OWNERS,
));

/// Numbers that mark the runs of pools: above those of the heap's classes.
const OWNERS: usize = 1 << 16;

/// When to look for idle depots again.
static TICKER: Ticker = Ticker::new();

/// Slow paths between two looks at the clock.
const PATIENCE: u32 = 64;

struct Local {
    thread: PoolThread,
    life: Life,
    patience: Cell<u32>,
    ticker: Ticker,
}

std::thread_local! {
    static LOCAL: Local = const {
        Local {
            thread: PoolThread::new(),
            life: Life::new(),
            patience: Cell::new(PATIENCE),
            ticker: Ticker::new(),
        }
    };
    static FAREWELL: Farewell = const { Farewell };
}

/// Gives the thread's blocks back when the thread ends.
struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        LOCAL.with(Local::retire);
    }
}

/// A core for a pool with this layout.
pub(super) fn new_core(layout: BlockLayout) -> Option<NonNull<Core>> {
    static NEXT: AtomicUsize = AtomicUsize::new(OWNERS + 1);
    register_for_forks();
    let place = CORES.take_one()?.cast::<Core>();
    let owner = NEXT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: a block of a core's size and alignment, just taken.
    unsafe { place.write(Core { depot: Depot::new(Runs::new(layout, &RESERVE, owner)) }) };
    Some(place)
}

/// Ends a core.
///
/// # Safety
/// From [`new_core`]; nobody has a reference to it, its registration or its source any more.
pub(super) unsafe fn free_core(core: NonNull<Core>) {
    // SAFETY: the caller's duty. A core has nothing to drop: its depot was dismantled.
    unsafe { CORES.give_one(core.cast()) }
}

/// Lets threads keep blocks of the pool. `None`: no memory.
///
/// # Safety
/// The core stays until [`unregister`] has returned.
pub(super) unsafe fn register(core: NonNull<Core>) -> Option<PoolKey> {
    // SAFETY: the core is live.
    let depot = unsafe { &core.as_ref().depot };
    // SAFETY: the caller's duty.
    unsafe { POOLS.add(NonNull::from(depot)) }
}

/// Ends that. Returns how many of its blocks threads kept: they are gone.
pub(super) fn unregister(key: PoolKey) -> usize {
    POOLS.remove(key)
}

/// How many of the pool's blocks threads keep.
pub(super) fn cached(key: PoolKey) -> usize {
    POOLS.cached(key)
}

/// A block that this thread keeps for the pool.
#[inline(always)]
pub(super) fn pop(key: PoolKey) -> Option<NonNull<u8>> {
    LOCAL.with(|local| local.thread.slot(key).and_then(Slot::pop))
}

/// Keeps a block for the pool, if there is room.
#[inline(always)]
#[must_use = "false: the block was not taken"]
pub(super) fn push(key: PoolKey, block: NonNull<u8>) -> bool {
    LOCAL.with(|local| local.thread.slot(key).is_some_and(|slot| slot.push(block)))
}

/// A block, by way of this thread's slot if it may have one.
pub(super) fn pop_slow(key: PoolKey, core: &Core, magazine: usize) -> Option<NonNull<u8>> {
    LOCAL.with(|local| match local.slot(key) {
        Some(slot) => {
            local.housekeep();
            if !slot.is_engaged() {
                slot.set_capacity(magazine);
            }
            slot.pop_slow(&core.depot)
        }
        None => core.depot.take_one(),
    })
}

/// Takes a block back, by way of this thread's slot if it may have one.
///
/// # Safety
/// The block came from this pool, and nobody uses it.
pub(super) unsafe fn push_slow(key: PoolKey, core: &Core, magazine: usize, block: NonNull<u8>) {
    LOCAL.with(|local| match local.slot(key) {
        Some(slot) if !slot.is_foreign() => {
            local.housekeep();
            if !slot.is_engaged() {
                slot.set_capacity(magazine);
            }
            // SAFETY: the caller's duty.
            unsafe { slot.push_slow(&core.depot, block) }
        }
        // SAFETY: the caller's duty.
        _ => unsafe { core.depot.give_one(block) },
    });
}

/// Gives back what this thread keeps of all pools.
pub(super) fn flush() {
    LOCAL.with(|local| POOLS.flush(&local.thread));
}

impl Local {
    /// The slot for a pool in the registry. `None`: the thread is ending, or there is no memory.
    fn slot(&self, key: PoolKey) -> Option<&Slot> {
        let active = self.life.is_active(|| {
            // SAFETY: the thread-local stays in place until the farewell has taken it out.
            unsafe { POOLS.enter(&self.thread) };
            let armed = FAREWELL.try_with(|_| ()).is_ok();
            if !armed {
                self.retire();
            }
            armed
        });
        if active { POOLS.slot_for(&self.thread, key) } else { None }
    }

    fn retire(&self) {
        self.life.end();
        POOLS.leave(&self.thread);
    }

    /// Now and then: what lay idle goes back.
    fn housekeep(&self) {
        let patience = self.patience.get();
        if patience > 0 {
            self.patience.set(patience - 1);
            return;
        }
        self.patience.set(PATIENCE);
        let now = os::milliseconds();
        let tick = RESERVE.settings().tick;
        if self.ticker.passed(now, tick) {
            POOLS.trim(&self.thread);
        }
        if TICKER.passed(now, tick) {
            POOLS.trim_depots();
            RESERVE.tick(now);
        }
    }
}

fn register_for_forks() {
    extern "C" fn prepare() {
        POOLS.hold();
        CORES.hold();
    }
    extern "C" fn parent() {
        // SAFETY: `prepare` took the locks in the thread that runs this.
        unsafe { CORES.let_go() };
        // SAFETY: as above.
        unsafe { POOLS.let_go() };
    }
    extern "C" fn child() {
        LOCAL.with(|local| {
            let survivor = local.life.began().then_some(&local.thread);
            // SAFETY: `prepare` took the lock in the thread that this one is a copy of.
            unsafe { POOLS.forget_others(survivor) };
        });
        parent();
    }
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, Ordering::Relaxed) {
        follow_forks();
        os::at_fork(prepare, parent, child);
    }
}
