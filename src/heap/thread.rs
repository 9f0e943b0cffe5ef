//! What each thread keeps of the heap.
//!
//! The hot thread-local has a constant initialiser and no destructor: its fast path is a load and an add away. A
//! second one with a destructor is armed by the first slow path. A thread's life: `Fresh`, then `Active`, and `Dead`
//! once its caches were given back; whatever its other destructors still allocate goes straight to the depots.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::NonNull;

use super::class::{self, CLASSES};
use super::depots::{self, DEPOTS, LARGEST_MAGAZINE};
use crate::block::settings::Tenant;
use crate::block::{RESERVE, announce};
use crate::cache::{CAPACITY, Depot, Life, Member, Roster, RosterLink, Slot, follow_forks};
use crate::os::{self, ExitHook, ForkHold, Once, Ticker};
use crate::primitive::{AtomicUsize, Ordering};

/// All threads with caches.
pub(super) static THREADS: Roster<HeapThread> = Roster::new();

/// The most bytes that a thread's slots may hold together.
pub(super) static CACHE_BYTES: AtomicUsize = AtomicUsize::new(1024 * 1024);

/// Bytes of a class's first magazine.
const FIRST_MAGAZINE: usize = 4096;
/// Blocks of it.
#[expect(clippy::cast_possible_truncation, reason = "at most 32")]
static FIRST: [u8; CLASSES] = {
    let mut first = [1; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        first[class] = match FIRST_MAGAZINE / class::block_size(class) {
            0 => 1,
            blocks @ 1..32 => blocks as u8,
            _ => 32,
        };
        class += 1;
    }
    first
};
/// Slow paths between two looks at the clock.
const PATIENCE: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct HeapThread {
    slots: [Slot; CLASSES],
    link: RosterLink<Self>,
    life: Life,
    /// Bytes that the slots' magazines could hold.
    room: Cell<usize>,
    /// Slots with a capacity.
    engaged: Cell<usize>,
    /// Bytes that each of their magazines may have.
    share: Cell<usize>,
    patience: Cell<u32>,
    /// When to look for idle slots again.
    ticker: Ticker,
    /// The reserve's shrinks when it last did.
    shrinks: Cell<usize>,
}

impl Member for HeapThread {
    fn link(&self) -> &RosterLink<Self> {
        &self.link
    }
}

std::thread_local! {
    static THREAD: HeapThread = const {
        HeapThread {
            slots: [const { Slot::new() }; CLASSES],
            link: RosterLink::new(),
            life: Life::new(),
            room: Cell::new(0),
            engaged: Cell::new(0),
            share: Cell::new(0),
            patience: Cell::new(PATIENCE),
            ticker: Ticker::new(),
            shrinks: Cell::new(0),
        }
    };
}

/// Retires the thread's caches when the thread ends.
static FAREWELL: ExitHook = ExitHook::new(farewell);

unsafe extern "C" fn farewell(_: *mut c_void) {
    THREAD.with(HeapThread::retire);
}

/// The calling thread's slot for the class. The closure is this small so that `with` is inlined wherever the
/// allocator is.
#[inline(always)]
fn slot<'t>(class: usize) -> &'t Slot {
    let thread = THREAD.with(|thread| &raw const *thread);
    // SAFETY: a thread-local without a destructor is there as long as its thread; the reference stays in this module.
    let thread: &HeapThread = unsafe { &*thread };
    // SAFETY: `class_of` gives numbers below CLASSES.
    unsafe { thread.slots.get_unchecked(class) }
}

/// A block of the class. `None`: no memory.
#[inline(always)]
pub(super) fn alloc(class: usize) -> Option<NonNull<u8>> {
    let block = match slot(class).pop() {
        Some(block) => Some(block),
        None => alloc_slow(class),
    };
    #[cfg(debug_assertions)]
    if let (Some(block), true) = (block, class != NOTHING) {
        crate::block::guard::hand_out(block);
    }
    if let (Some(block), true) = (block, announce::IS_ON && class != NOTHING) {
        announce::handed_out(block, class::block_size(class));
    }
    block
}

/// Takes a block of the class back.
///
/// # Safety
/// It came from [`alloc`] of this class, and nobody uses it.
#[inline(always)]
pub(super) unsafe fn free(class: usize, block: NonNull<u8>) {
    #[cfg(debug_assertions)]
    if class != NOTHING {
        use crate::block::guard;
        let expected = guard::Expected { size: class::block_size(class), owner: class + 1 };
        if let Err(fault) = guard::take_back(block, expected) {
            os::fatal(&[fault.text(), " (by dealloc; the layout must be the one it was allocated with)\n"]);
        }
    }
    if announce::IS_ON && class != NOTHING {
        announce::taken_back(block, class::block_size(class));
    }
    if !slot(class).push(block) {
        // SAFETY: the caller's duty.
        unsafe { free_slow(class, block) }
    }
}

/// The class of a size of 0: its slot is never loaded, so that every request comes to the slow paths.
const NOTHING: usize = 0;

/// What a size of 0 gets: no memory, at a multiple of every alignment that a layout in a class can have.
const NOWHERE: NonNull<u8> = match NonNull::new(core::ptr::without_provenance_mut(1 << (usize::BITS - 18))) {
    Some(place) => place,
    None => panic!("not null"),
};

#[cold]
#[inline(never)]
fn alloc_slow(class: usize) -> Option<NonNull<u8>> {
    if class == NOTHING {
        return Some(NOWHERE);
    }
    THREAD.with(|thread| {
        if !thread.is_active() {
            return DEPOTS[class].take_one().or_else(|| {
                RESERVE.purge();
                DEPOTS[class].take_one()
            });
        }
        thread.housekeep();
        thread.widen(class);
        let got = thread.slots[class].pop_slow(&DEPOTS[class]);
        if got.is_some() {
            return got;
        }
        // The system has no more: what is kept of other sizes may help.
        RESERVE.purge();
        thread.widen(class);
        thread.slots[class].pop_slow(&DEPOTS[class])
    })
}

#[cold]
#[inline(never)]
unsafe fn free_slow(class: usize, block: NonNull<u8>) {
    if class == NOTHING {
        return;
    }
    THREAD.with(|thread| {
        let slot = &thread.slots[class];
        if slot.is_foreign() || !thread.is_active() {
            // SAFETY: the caller's duty.
            return unsafe { DEPOTS[class].give_one(block) };
        }
        thread.housekeep();
        thread.widen(class);
        // SAFETY: the caller's duty.
        unsafe { slot.push_slow(&DEPOTS[class], block) }
    });
}

/// Gives this thread's blocks to the depots.
pub(super) fn flush() {
    THREAD.with(HeapThread::flush);
}

/// Gives all that is free back to the reserve, this thread's blocks too.
fn purge() {
    flush();
    DEPOTS.iter().for_each(Depot::purge);
}

/// In a forked child: the other threads are no more, and what they kept is lost.
///
/// # Safety
/// The locks of [`THREADS`] and of all [`DEPOTS`] are held for the fork, by the thread that this one is a copy of.
unsafe fn forget_others() {
    let lose = |thread: &HeapThread| {
        for (slot, depot) in thread.slots.iter().zip(&DEPOTS) {
            // SAFETY: the caller's duty.
            unsafe { depot.lose(slot.cached()) };
        }
    };
    THREAD.with(|thread| {
        let survivor = thread.life.began().then_some(thread);
        // SAFETY: the caller's duty.
        unsafe { THREADS.forget_others(survivor, lose) };
    });
}

/// Blocks of each class in threads' slots.
pub(super) fn cached() -> [usize; CLASSES] {
    let mut cached = [0; CLASSES];
    THREADS.each(|thread| {
        for (sum, slot) in cached.iter_mut().zip(&thread.slots) {
            *sum += slot.cached();
        }
    });
    cached
}

/// For what never comes to a slot's slow path: notices ticks all the same.
pub(super) fn housekeep() {
    THREAD.with(HeapThread::housekeep);
}

impl HeapThread {
    /// Whether the thread may keep blocks; arms its farewell the first time.
    fn is_active(&self) -> bool {
        self.life.is_active(|| {
            register();
            // SAFETY: the thread-local stays in place until the farewell has taken it off the roster.
            unsafe { THREADS.enter(self) };
            let armed = FAREWELL.arm();
            if !armed {
                self.retire();
            }
            armed
        })
    }

    fn retire(&self) {
        self.flush();
        self.life.end();
        THREADS.leave(self);
    }

    fn flush(&self) {
        for (slot, depot) in self.slots.iter().zip(&DEPOTS) {
            // SAFETY: a slot's blocks come from the depot of its class.
            unsafe { slot.flush(depot) };
        }
        self.room.set(0);
        self.engaged.set(0);
    }

    /// Gives the class's slot room for more: magazines double with use, up to an equal share of the thread's bytes.
    fn widen(&self, class: usize) {
        let slot = &self.slots[class];
        let size = class::block_size(class);
        let now = slot.capacity();
        // The usual case first, without a division.
        if now == CAPACITY || (now > 0 && (now + 1) * size > self.share.get()) {
            return;
        }
        let budget = CACHE_BYTES.load(Ordering::Relaxed);
        let sharers = self.engaged.get() + usize::from(now == 0);
        let share = (budget / (2 * sharers)).min(LARGEST_MAGAZINE);
        let mut want = if now == 0 { FIRST[class].into() } else { (now * 2).min(CAPACITY) };
        if want * size > share {
            want = (share / size).max(now).max(1);
        }
        slot.set_capacity(want);
        self.engaged.set(sharers);
        self.share.set(share);
        // Two magazines.
        self.room.set(self.room.get() + (want - now) * size * 2);
        if self.room.get() > budget {
            self.narrow(share, class);
        }
    }

    /// Brings every other slot down to `share` bytes a magazine.
    fn narrow(&self, share: usize, but: usize) {
        for (class, slot) in self.slots.iter().enumerate() {
            let size = class::block_size(class);
            if class != but && slot.capacity() > 1 && slot.capacity() * size > share {
                self.disengage(class);
            }
        }
    }

    /// Gives all of a slot's blocks back; it starts again from nothing.
    fn disengage(&self, class: usize) {
        let slot = &self.slots[class];
        self.room.set(self.room.get() - slot.capacity() * class::block_size(class) * 2);
        self.engaged.set(self.engaged.get() - 1);
        // SAFETY: a slot's blocks come from the depot of its class.
        unsafe { slot.flush(&DEPOTS[class]) };
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
            self.trim();
            RESERVE.tick(now);
        }
    }

    /// Gives back what slots hold that have not been to their depot since the last time, or all, if the heap shrank.
    fn trim(&self) {
        let shrinks = RESERVE.shrinks();
        let shrank = self.shrinks.replace(shrinks) != shrinks;
        for (class, slot) in self.slots.iter().enumerate() {
            if slot.is_engaged() && (slot.idle() || shrank) {
                self.disengage(class);
            }
        }
    }
}

/// Has the heap follow forks, and be asked for what it has free: to be called before any of its locks is taken.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call(follow);
}

/// What [`register`] does. A child that was forked in the middle of it does it again.
fn follow() {
    static HOLD: ForkHold = ForkHold::new();
    static TENANT: Tenant = Tenant { purge, trim: depots::trim };
    extern "C" fn prepare() {
        HOLD.hold(|| {
            THREADS.hold();
            DEPOTS.iter().for_each(Depot::hold);
        });
    }
    extern "C" fn parent() {
        HOLD.let_go(|| {
            // SAFETY: `prepare` took the locks in the thread that runs this.
            DEPOTS.iter().for_each(|depot| unsafe { depot.let_go() });
            // SAFETY: as above.
            unsafe { THREADS.let_go() };
        });
    }
    extern "C" fn child() {
        // SAFETY: `prepare` took the locks in the thread that this one is a copy of.
        unsafe { forget_others() };
        parent();
    }
    follow_forks();
    os::at_fork(prepare, parent, child);
    RESERVE.add_tenant(&TENANT);
}

#[cfg(test)]
mod tests {
    use core::alloc::{GlobalAlloc, Layout};

    use crate::Heap;

    /// A child that was forked between two steps of the registration has its handlers twice.
    #[test]
    fn handlers_that_are_registered_twice_let_a_fork_and_its_child_go_on() {
        let works = || {
            [16, 5_000, 100_000].iter().all(|size| {
                let layout = Layout::from_size_align(*size, 16).unwrap();
                // SAFETY: not of size 0.
                let at = unsafe { Heap.alloc(layout) };
                if !at.is_null() {
                    // SAFETY: just allocated with this layout.
                    unsafe { Heap.dealloc(at, layout) };
                }
                !at.is_null()
            })
        };
        assert!(works());
        super::follow();
        super::follow();
        for _ in 0..3 {
            // SAFETY: the child allocates, and ends.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: sets a timer, so that a child that hangs ends too.
                unsafe { libc::alarm(20) };
                let status = i32::from(!works());
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(status) };
            }
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(ended, pid, "{}", std::io::Error::last_os_error());
            assert!(libc::WIFEXITED(status), "signal {} (14: it hung)", libc::WTERMSIG(status));
            assert_eq!(libc::WEXITSTATUS(status), 0);
        }
        assert!(works());
    }
}
