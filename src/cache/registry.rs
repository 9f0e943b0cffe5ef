//! Which pools there are, made at run time, and which threads have caches of them.
//!
//! [`PoolRegistry`] lists pools and threads: a thread finds its slot for a pool by the pool's index, and knows by the key, which is never used twice, whether
//! the slot is still of that pool. One lock orders a thread's exit and a pool's drop:
//!
//! - G1: a thread's exit gives blocks only to pools that are in the registry while the lock is held.
//! - G2: a pool leaves the registry, under the lock, before its memory goes.
//! - G3: a slot's key is written by its own thread only. A key that isn't in the registry marks a slot whose blocks
//!   are gone; its own thread discards it.

use core::ptr::{self, NonNull};

use super::depot::Depot;
use super::roster::{Member, Members, RosterLink};
use super::slot::Slot;
use super::source::Source;
use super::table::{Table, memory};
use crate::os::{Lock, LockGuard};
use crate::primitive::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// A pool's index and its number that no other pool ever has. Zero is no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolKey(usize);

impl PoolKey {
    const INDEX_BITS: u32 = usize::BITS / 2;

    pub(crate) const fn from_bits(bits: usize) -> Self {
        Self(bits)
    }

    pub(crate) const fn to_bits(self) -> usize {
        self.0
    }

    const fn new(index: usize, number: usize) -> Self {
        Self(number << Self::INDEX_BITS | index)
    }

    #[inline]
    const fn index(self) -> usize {
        self.0 & ((1 << Self::INDEX_BITS) - 1)
    }
}

/// A thread's slot for a pool.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PoolSlot {
    key: AtomicUsize,
    slot: Slot,
}

/// One thread's slots, by the pools' indices.
#[derive(Debug)]
pub(crate) struct PoolThread {
    table: AtomicPtr<PoolSlot>,
    len: AtomicU32,
    link: RosterLink<Self>,
}

impl Member for PoolThread {
    fn link(&self) -> &RosterLink<Self> {
        &self.link
    }
}

impl PoolThread {
    #[cfg(not(millpond_loom))]
    pub(crate) const fn new() -> Self {
        Self { table: AtomicPtr::new(ptr::null_mut()), len: AtomicU32::new(0), link: RosterLink::new() }
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self { table: AtomicPtr::new(ptr::null_mut()), len: AtomicU32::new(0), link: RosterLink::new() }
    }

    fn slots(&self) -> &[PoolSlot] {
        // Relaxed: written by this thread, or read under the registry's lock, under which they are written.
        let (table, len) = (self.table.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        if table.is_null() {
            return &[];
        }
        // SAFETY: the table has `len` slots, and is replaced only by this thread, under the registry's lock.
        unsafe { core::slice::from_raw_parts(table, len as usize) }
    }

    /// This thread's slot for the pool, if it has one.
    #[inline(always)]
    pub(crate) fn slot(&self, key: PoolKey) -> Option<&Slot> {
        if key.index() >= self.len.load(Ordering::Relaxed) as usize {
            return None;
        }
        // SAFETY: below the table's length.
        let slot = unsafe { self.table.load(Ordering::Relaxed).add(key.index()) };
        // SAFETY: as above; tables are replaced by this thread alone.
        let slot = unsafe { &*slot };
        // Relaxed: this thread wrote it (G3).
        (slot.key.load(Ordering::Relaxed) == key.0).then_some(&slot.slot)
    }

    /// Empties the slot at `key`'s index, which is of no pool any more, and makes it `key`'s.
    fn claim(&self, key: PoolKey) -> Option<&Slot> {
        let slot = self.slots().get(key.index())?;
        if slot.key.load(Ordering::Relaxed) != key.0 {
            slot.slot.discard();
            slot.key.store(key.0, Ordering::Relaxed);
        }
        Some(&slot.slot)
    }
}

#[derive(Debug)]
struct Entry<S> {
    key: PoolKey,
    depot: Option<NonNull<Depot<S>>>,
}

struct Registered<S> {
    threads: Members<PoolThread>,
    /// A table of entries in memory of its own.
    entries: Table<Entry<S>>,
    /// Below it no entry is free.
    lowest_free: usize,
    next_number: usize,
}

// SAFETY: the depots can be used from any thread if the sources can be sent.
unsafe impl<S: Send> Send for Registered<S> {}

/// See the module.
pub(crate) struct PoolRegistry<S>(Lock<Registered<S>>);

impl<S: Source> PoolRegistry<S> {
    #[cfg(not(millpond_loom))]
    pub(crate) const fn new() -> Self {
        Self(Lock::new(Registered::new()))
    }

    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self(Lock::new(Registered::new()))
    }

    /// Adds a pool. `None`: no memory for the table.
    ///
    /// # Safety
    /// The depot stays where it is until [`remove`](Self::remove) has returned.
    pub(crate) unsafe fn add(&self, depot: NonNull<Depot<S>>) -> Option<PoolKey> {
        let mut state = self.0.lock();
        let from = state.lowest_free;
        let free = state.entries.as_slice().iter().skip(from).position(|entry| entry.depot.is_none());
        let index = match free {
            Some(further) => from + further,
            None => state.entries.grow(|| Entry { key: PoolKey(0), depot: None })?,
        };
        state.lowest_free = index;
        if index >> PoolKey::INDEX_BITS != 0 || state.next_number + 1 >= 1 << (usize::BITS - PoolKey::INDEX_BITS) {
            // Numbers are never used twice: the pool does without caches.
            return None;
        }
        state.next_number += 1;
        let key = PoolKey::new(index, state.next_number);
        state.entries.as_mut_slice()[index] = Entry { key, depot: Some(depot) };
        Some(key)
    }

    /// Takes a pool out (G2). Returns how many of its blocks lie in threads' slots.
    pub(crate) fn remove(&self, key: PoolKey) -> usize {
        let mut state = self.0.lock();
        let cached = state.cached(key);
        state.entries.as_mut_slice()[key.index()].depot = None;
        state.lowest_free = state.lowest_free.min(key.index());
        cached
    }

    /// How many blocks of the pool lie in threads' slots.
    pub(crate) fn cached(&self, key: PoolKey) -> usize {
        self.0.lock().cached(key)
    }

    /// Adds a thread.
    ///
    /// # Safety
    /// It stays where it is until [`leave`](Self::leave) has returned.
    pub(crate) unsafe fn enter(&self, thread: &PoolThread) {
        self.0.lock().threads.enter(thread);
    }

    /// Takes a thread out: its blocks go back to the pools that still are (G1).
    pub(crate) fn leave(&self, thread: &PoolThread) {
        let mut state = self.0.lock();
        state.flush(thread);
        state.threads.leave(thread);
        let old = thread.table.swap(ptr::null_mut(), Ordering::Relaxed);
        let len = thread.len.swap(0, Ordering::Relaxed) as usize;
        drop(state);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: made by `slot_for` with this length; nobody has it any more.
            unsafe { memory::give(old, len) };
        }
    }

    /// Gives this thread's blocks back to the pools that still are; the slots stay.
    pub(crate) fn flush(&self, thread: &PoolThread) {
        self.0.lock().flush(thread);
    }

    /// The calling thread's slot for a pool which is in the registry; made if there is none. `None`: no memory.
    pub(crate) fn slot_for<'t>(&self, thread: &'t PoolThread, key: PoolKey) -> Option<&'t Slot> {
        if thread.slots().len() <= key.index() {
            let state = self.0.lock();
            Self::lengthen(state, thread, key.index() + 1)?;
        }
        thread.claim(key)
    }

    fn lengthen(state: LockGuard<'_, Registered<S>>, thread: &PoolThread, least: usize) -> Option<()> {
        let (old, old_len) = (thread.table.load(Ordering::Relaxed), thread.len.load(Ordering::Relaxed) as usize);
        let (new, len) = memory::take::<PoolSlot>(least.max(old_len * 2))?;
        for index in 0..len {
            // SAFETY: inside the table just got.
            let place = unsafe { new.add(index) };
            let value = if index < old_len {
                // SAFETY: inside the old table.
                let slot = unsafe { old.add(index) };
                // SAFETY: moved out, once: the old table is given away below.
                unsafe { slot.read() }
            } else {
                PoolSlot { key: AtomicUsize::new(0), slot: Slot::new() }
            };
            // SAFETY: inside the table just got.
            unsafe { place.write(value) };
        }
        thread.table.store(new.as_ptr(), Ordering::Relaxed);
        thread.len.store(u32::try_from(len).ok()?, Ordering::Relaxed);
        drop(state);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: made here with this length; its slots were moved.
            unsafe { memory::give(old, old_len) };
        }
        Some(())
    }

    /// Takes the registry's lock and then every pool's, for the length of a `fork`.
    #[cfg(not(millpond_loom))]
    pub(crate) fn hold(&self) {
        self.0.acquire();
        // SAFETY: the lock was just taken and isn't given back before `let_go`.
        unsafe { self.0.held() }.each_depot(Depot::hold);
    }

    /// Ends [`hold`](Self::hold), in the parent and in the child.
    ///
    /// # Safety
    /// The locks are held by `hold`.
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn let_go(&self) {
        // SAFETY: the caller's duty.
        let state = unsafe { self.0.held() };
        // SAFETY: the caller's duty.
        state.each_depot(|depot| unsafe { depot.let_go() });
        // SAFETY: the caller's duty.
        unsafe { self.0.release() }
    }

    /// In a forked child: only `survivor` is still a thread.
    ///
    /// # Safety
    /// The lock is held by [`hold`](Self::hold).
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn forget_others(&self, survivor: Option<&PoolThread>) {
        // SAFETY: the caller's duty.
        let state = unsafe { self.0.held() };
        for entry in state.entries.as_slice() {
            let Some(depot) = entry.depot else { continue };
            let mine = survivor.and_then(|thread| thread.slot(entry.key)).map_or(0, Slot::cached);
            let lost = state.cached(entry.key) - mine;
            // SAFETY: in the registry, so the depot is there (G2).
            let depot = unsafe { depot.as_ref() };
            // SAFETY: `hold` took its lock too.
            unsafe { depot.lose(lost) };
        }
        state.threads.only(survivor);
    }

    /// Gives back what this thread's slots hold that have not been to their depot since the last time.
    #[cfg(not(millpond_loom))]
    pub(crate) fn trim(&self, thread: &PoolThread) {
        self.0.lock().give_back(thread, |slot| slot.is_engaged() && slot.idle());
    }

    /// Shows every depot to `look`.
    #[cfg(not(millpond_loom))]
    pub(crate) fn each_depot(&self, look: impl Fn(&Depot<S>)) {
        self.0.lock().each_depot(look);
    }
}

impl<S: Source> Registered<S> {
    const fn new() -> Self {
        Self { threads: Members::new(), entries: Table::new(), lowest_free: 0, next_number: 0 }
    }

    fn cached(&self, key: PoolKey) -> usize {
        let mut cached = 0;
        self.threads.each(|thread| cached += thread.slot(key).map_or(0, Slot::cached));
        cached
    }

    fn flush(&self, thread: &PoolThread) {
        self.give_back(thread, |_| true);
    }

    fn give_back(&self, thread: &PoolThread, chosen: impl Fn(&Slot) -> bool) {
        for (slot, entry) in thread.slots().iter().zip(self.entries.as_slice()) {
            match entry.depot {
                Some(depot) if slot.key.load(Ordering::Relaxed) == entry.key.0 => {
                    if chosen(&slot.slot) {
                        // SAFETY: in the registry, so the depot is there (G2).
                        let depot = unsafe { depot.as_ref() };
                        // SAFETY: the key says that the blocks are this depot's.
                        unsafe { slot.slot.flush(depot) };
                    }
                }
                _ => slot.slot.discard(),
            }
        }
    }

    #[cfg(not(millpond_loom))]
    fn each_depot(&self, look: impl Fn(&Depot<S>)) {
        for depot in self.entries.as_slice().iter().filter_map(|entry| entry.depot) {
            // SAFETY: in the registry, so the depot is there (G2).
            look(unsafe { depot.as_ref() });
        }
    }
}

impl<S> core::fmt::Debug for PoolRegistry<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PoolRegistry").finish_non_exhaustive()
    }
}
