//! What each thread keeps of the pools, the registry of both, and where pools keep what must not move.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::NonNull;

use super::builder::Config;
use crate::block::settings::Tenant;
use crate::block::{BlockLayout, RESERVE, Runs};
use crate::cache::{Depot, Life, PoolKey, PoolRegistry, PoolThread, Slot, follow_forks};
use crate::os::{self, ExitHook, ForkHold, Once, Ticker};
use crate::primitive::{AtomicUsize, Ordering};

/// The shared part of a pool: it stays where it is while the handle moves.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) depot: Depot<Runs>,
    /// Every pool is in the registry, so that forks find its lock; `None` if there was no room in it.
    key: Option<PoolKey>,
}

/// All threads with slots, and all pools that have slots.
static POOLS: PoolRegistry<Runs> = PoolRegistry::new();

/// Where cores lie: blocks too.
static CORES: Depot<Runs> = Depot::new(
    Runs::new(
        match BlockLayout::new(size_of::<Core>(), align_of::<Core>()) {
            Ok(layout) => layout,
            Err(_) => panic!("a core is a small block"),
        },
        &RESERVE,
        OWNERS,
    ),
    1,
);

/// Numbers that mark the runs of pools: above those of the heap's classes.
const OWNERS: usize = 1 << 16;

/// Slow paths between two looks at the clock.
const PATIENCE: u32 = 4;

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
}

/// Gives the thread's blocks back when the thread ends.
static FAREWELL: ExitHook = ExitHook::new(farewell);

unsafe extern "C" fn farewell(_: *mut c_void) {
    LOCAL.with(Local::retire);
}

/// A core for a pool with these settings.
pub(super) fn new_core(config: &Config) -> Option<NonNull<Core>> {
    static NEXT: AtomicUsize = AtomicUsize::new(OWNERS + 1);
    register();
    let place = CORES.take_one()?.cast::<Core>();
    let runs = Runs::new(config.layout, &RESERVE, NEXT.fetch_add(1, Ordering::Relaxed));
    let core = Core { depot: Depot::new(runs, config.magazine), key: None };
    core.depot.set_limit(config.limit);
    // SAFETY: a block of a core's size and alignment, just taken.
    unsafe { place.write(core) };
    // SAFETY: just written.
    let depot = NonNull::from(unsafe { &place.as_ref().depot });
    // SAFETY: a core stays where it is until `free_core`, which takes it out.
    let key = unsafe { POOLS.add(depot) };
    // SAFETY: nobody else knows the core's key yet.
    unsafe { (*place.as_ptr()).key = key };
    Some(place)
}

impl Core {
    /// The pool's key; none if threads can't keep blocks of it.
    pub(super) fn key(&self) -> Option<PoolKey> {
        self.key
    }

    /// Takes it out of the registry. Returns how many of its blocks threads kept: they are gone.
    pub(super) fn unregister(&self) -> usize {
        self.key.map_or(0, |key| POOLS.remove(key))
    }
}

/// Ends a core.
///
/// # Safety
/// From [`new_core`]; it is not in the registry, and nobody has a reference to it or its source any more.
pub(super) unsafe fn free_core(core: NonNull<Core>) {
    // SAFETY: the caller's duty. A core has nothing to drop: its depot was dismantled, or never used.
    unsafe { CORES.give_one(core.cast()) }
}

/// How many of the pool's blocks threads keep.
pub(super) fn cached(key: PoolKey) -> usize {
    POOLS.cached(key)
}

/// The calling thread's slot for the pool, if it has one. The closure is this small so that `with` is inlined.
#[inline(always)]
fn slot<'t>(key: PoolKey) -> Option<&'t Slot> {
    let local = LOCAL.with(|local| &raw const *local);
    // SAFETY: a thread-local without a destructor is there as long as its thread; the reference stays in this module.
    let local: &Local = unsafe { &*local };
    local.thread.slot(key)
}

/// A block that this thread keeps for the pool.
#[inline(always)]
pub(super) fn pop(key: PoolKey) -> Option<NonNull<u8>> {
    slot(key).and_then(Slot::pop)
}

/// Keeps a block for the pool, if there is room.
#[inline(always)]
#[must_use = "false: the block was not taken"]
pub(super) fn push(key: PoolKey, block: NonNull<u8>) -> bool {
    slot(key).is_some_and(|slot| slot.push(block))
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
    register();
    LOCAL.with(|local| POOLS.flush(&local.thread));
}

/// For pools without caches: notices ticks all the same.
pub(super) fn housekeep() {
    LOCAL.with(Local::housekeep);
}

impl Local {
    /// The slot for a pool in the registry. `None`: the thread is ending, or there is no memory.
    fn slot(&self, key: PoolKey) -> Option<&Slot> {
        let active = self.life.is_active(|| {
            // SAFETY: the thread-local stays in place until the farewell has taken it out.
            unsafe { POOLS.enter(&self.thread) };
            let armed = FAREWELL.arm();
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
        if self.ticker.passed(now, RESERVE.period()) {
            POOLS.trim(&self.thread);
            RESERVE.tick(now);
        }
    }
}

/// Has the pools follow forks, and be asked for what they have free: to be called before any of their locks is taken.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call(follow);
}

/// What [`register`] does. A child that was forked in the middle of it does it again.
fn follow() {
    static HOLD: ForkHold = ForkHold::new();
    extern "C" fn prepare() {
        HOLD.hold(|| {
            POOLS.hold();
            CORES.hold();
        });
    }
    extern "C" fn parent() {
        HOLD.let_go(|| {
            // SAFETY: `prepare` took the locks in the thread that runs this.
            unsafe { CORES.let_go() };
            // SAFETY: as above.
            unsafe { POOLS.let_go() };
        });
    }
    extern "C" fn child() {
        LOCAL.with(|local| {
            let survivor = local.life.began().then_some(&local.thread);
            // SAFETY: `prepare` took the lock in the thread that this one is a copy of.
            unsafe { POOLS.forget_others(survivor) };
        });
        parent();
    }
    fn purge() {
        flush();
        POOLS.each_depot(Depot::purge);
    }
    fn trim(shrank: bool) {
        POOLS.each_depot(|depot| depot.trim(shrank));
    }
    static TENANT: Tenant = Tenant { purge, trim };
    follow_forks();
    os::at_fork(prepare, parent, child);
    RESERVE.add_tenant(&TENANT);
}
