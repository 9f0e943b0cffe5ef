//! Whole lives of a pool in long random schedules: threads that come, take, hand over and end, while the pool is swept and
//! dropped. Loom tries every order of a few steps; this tries few orders of many.
//!
//! `RUSTFLAGS="--cfg millpond_loom --cfg millpond_shuttle" cargo test --release --no-default-features --features thread --lib
//! schedules`; `MILLPOND_SCHEDULES` says how many. Every step is in one order here: what a weaker ordering does, only loom and ThreadSanitizer see.

use std::collections::BTreeSet;
use std::ptr::NonNull;

use loom::rand::{Rng, thread_rng};
use loom::sync::{Arc, Barrier, Mutex};
use loom::thread;

use super::depot::Depot;
use super::registry::{PoolKey, PoolRegistry, PoolThread};
use super::slot::Slot;
use super::source::Source;
use crate::primitive::schedules;

const BLOCKS: usize = 40;

/// Where numbered blocks come from.
#[derive(Debug)]
struct Numbers {
    free: BTreeSet<usize>,
}

impl Numbers {
    fn new() -> Self {
        Self { free: (1..=BLOCKS).collect() }
    }
}

impl Source for Numbers {
    type Empties = ();

    fn empties(&self) {}

    fn take(&mut self, want: usize, each: &mut dyn FnMut(NonNull<u8>)) -> usize {
        let mut taken = 0;
        while taken < want
            && let Some(number) = self.free.pop_last()
        {
            each(NonNull::new(std::ptr::without_provenance_mut(number * 16)).unwrap());
            taken += 1;
        }
        taken
    }

    unsafe fn give(&mut self, blocks: impl Iterator<Item = NonNull<u8>>, _: &mut ()) {
        for block in blocks {
            assert!(self.free.insert(block.addr().get() / 16), "D1: a block came back twice");
        }
    }

    fn block_size(&self) -> usize {
        // One full magazine is kept, the next is drained.
        64 * 1024
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// A block on its way between threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel(NonNull<u8>);
// SAFETY: a number.
unsafe impl Send for Parcel {}

/// A block by way of the slot. Here a slot without a frame points nowhere, so that it is not looked into.
fn take(slot: &Slot, depot: &Depot<Numbers>) -> Option<NonNull<u8>> {
    if slot.cached() > 0 { slot.pop() } else { None }.or_else(|| slot.pop_slow(depot))
}

struct Town {
    depot: Depot<Numbers>,
    registry: PoolRegistry<Numbers>,
    key: Mutex<Option<PoolKey>>,
    /// Blocks that somebody holds.
    held: Mutex<BTreeSet<Parcel>>,
    offered: Mutex<Vec<Parcel>>,
}

impl Town {
    fn new() -> Arc<Self> {
        let town = Arc::new(Self {
            depot: Depot::new(Numbers::new()),
            registry: PoolRegistry::new(),
            key: Mutex::new(None),
            held: Mutex::new(BTreeSet::new()),
            offered: Mutex::new(Vec::new()),
        });
        // SAFETY: the depot outlives the registration.
        *town.key.lock().unwrap() = unsafe { town.registry.add(NonNull::from(&town.depot)) };
        town
    }

    fn key(&self) -> PoolKey {
        self.key.lock().unwrap().expect("the registry has room")
    }

    fn taken(&self, block: NonNull<u8>) {
        assert!(self.held.lock().unwrap().insert(Parcel(block)), "D1: handed out twice");
    }

    /// A thread's life: takes, gives, offers, fetches, now and then flushes; and ends with its slots full.
    fn live(&self, steps: usize) {
        let local = PoolThread::new();
        // SAFETY: it leaves below.
        unsafe { self.registry.enter(&local) };
        let mut mine = Vec::new();
        for _ in 0..steps {
            let slot = self.registry.slot_for(&local, self.key()).expect("its pool is there");
            match thread_rng().gen_range(0..6) {
                0..3 => {
                    if !slot.is_engaged() {
                        slot.set_capacity(2);
                    }
                    if let Some(block) = take(slot, &self.depot) {
                        self.taken(block);
                        mine.push(block);
                    }
                }
                3 => {
                    if let Some(block) = mine.pop() {
                        self.give(&local, block);
                    }
                }
                4 => {
                    let parcel = mine.pop().map(Parcel);
                    self.offered.lock().unwrap().extend(parcel);
                    let fetched = self.offered.lock().unwrap().pop();
                    mine.extend(fetched.map(|parcel| parcel.0));
                }
                _ => self.registry.flush(&local),
            }
        }
        while let Some(block) = mine.pop() {
            self.give(&local, block);
        }
        self.registry.leave(&local);
    }

    fn give(&self, local: &PoolThread, block: NonNull<u8>) {
        // Before it can be somebody else's.
        assert!(self.held.lock().unwrap().remove(&Parcel(block)), "given by one who does not hold it");
        let slot = self.registry.slot_for(local, self.key()).expect("its pool is there");
        if !slot.is_engaged() {
            slot.set_capacity(2);
        }
        if !slot.push(block) {
            // SAFETY: taken from this depot.
            unsafe { slot.push_slow(&self.depot, block) }
        }
    }
}

#[test]
fn threads_come_and_go_and_every_block_is_home_in_the_end() {
    schedules(|| {
        let town = Town::new();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let town = Arc::clone(&town);
                // Two lives each, the second after the first has ended.
                thread::spawn(move || (0..2).for_each(|_| town.live(8)))
            })
            .collect();
        town.depot.drain();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for Parcel(block) in town.offered.lock().unwrap().drain(..) {
            town.held.lock().unwrap().remove(&Parcel(block));
            // SAFETY: taken from this depot, and nobody has it.
            unsafe { town.depot.give_one(block) };
        }
        assert!(town.held.lock().unwrap().is_empty());
        assert_eq!(town.depot.figures().out, town.depot.figures().stored, "D2");
        town.depot.drain();
        assert_eq!(town.depot.with_source(|numbers| numbers.free.len()), BLOCKS, "D1: every block is home, once");
        assert_eq!(town.registry.remove(town.key()), 0);
    });
}

#[test]
fn a_pool_is_dropped_while_threads_end() {
    schedules(|| {
        let town = Town::new();
        let key = town.key();
        let all_have = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (town, all_have) = (Arc::clone(&town), Arc::clone(&all_have));
                thread::spawn(move || {
                    let local = PoolThread::new();
                    // SAFETY: it leaves below.
                    unsafe { town.registry.enter(&local) };
                    // Nobody uses a pool that may be dropped: only what they keep of it is left.
                    if let Some(slot) = town.registry.slot_for(&local, key) {
                        slot.set_capacity(2);
                        let blocks: Vec<_> = (0..3).filter_map(|_| take(slot, &town.depot)).collect();
                        for block in blocks {
                            if !slot.push(block) {
                                // SAFETY: taken from this depot.
                                unsafe { slot.push_slow(&town.depot, block) }
                            }
                        }
                    }
                    all_have.wait();
                    if thread_rng().gen_range(0..2) == 0 {
                        town.registry.flush(&local);
                    }
                    town.registry.leave(&local);
                })
            })
            .collect();
        all_have.wait();
        let cached = town.registry.remove(key);
        let (mut rest, stored) = town.depot.dismantle();
        assert_eq!(rest.out(), cached + stored, "G2: a block is nowhere, or in two places");
        let home = rest.source().free.len();
        drop(rest);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(town.depot.with_source(|numbers| numbers.free.len()), home, "a block came after the drop");
    });
}
