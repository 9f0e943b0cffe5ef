//! Loom explores the refill protocol: every order of its steps, with two and three threads.
//!
//! Blocks are numbers, so a block in two places, or in none, shows as a count; frames carry a witness that loom
//! watches, so a frame used by two threads without an order between them is reported.

use std::collections::BTreeSet;
use std::ptr::NonNull;

use loom::sync::Arc;
use loom::thread;

use super::depot::Depot;
use super::registry::{PoolRegistry, PoolThread};
use super::slot::Slot;
use super::source::Source;
use crate::primitive::model::explore;

/// Where numbered blocks come from.
#[derive(Debug)]
struct Numbers {
    free: Vec<usize>,
    limit: usize,
    next: usize,
}

impl Numbers {
    fn new(limit: usize) -> Self {
        Self { free: Vec::new(), limit, next: 0 }
    }

    /// Free blocks, each once; panics on a block that came back twice.
    fn at_home(&self) -> usize {
        let unique: BTreeSet<_> = self.free.iter().collect();
        assert_eq!(unique.len(), self.free.len(), "a block came back twice");
        self.free.len() + self.limit - self.next
    }
}

fn block(number: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(number * 16)).unwrap()
}

impl Source for Numbers {
    type Empties = ();

    fn empties(&self) {}

    fn take(&mut self, want: usize, each: &mut dyn FnMut(NonNull<u8>)) -> usize {
        let mut taken = 0;
        while taken < want {
            if let Some(number) = self.free.pop() {
                each(block(number));
            } else if self.next < self.limit {
                self.next += 1;
                each(block(self.next));
            } else {
                break;
            }
            taken += 1;
        }
        taken
    }

    unsafe fn give(&mut self, blocks: impl Iterator<Item = NonNull<u8>>, _: &mut ()) {
        self.free.extend(blocks.map(|block| block.addr().get() / 16));
    }

    fn block_size(&self) -> usize {
        // One full magazine of four is kept, the next is drained.
        64 * 1024
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// At two preemptions.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(2, least, check);
}

fn take(slot: &Slot, depot: &Depot<Numbers>) -> Option<NonNull<u8>> {
    if !slot.is_engaged() {
        slot.set_capacity(2);
        return slot.pop_slow(depot);
    }
    slot.pop().or_else(|| slot.pop_slow(depot))
}

fn give(slot: &Slot, depot: &Depot<Numbers>, block: NonNull<u8>) {
    if !slot.is_engaged() {
        slot.set_capacity(2);
    } else if slot.push(block) {
        return;
    }
    // SAFETY: taken from this depot by the model.
    unsafe { slot.push_slow(depot, block) }
}

#[test]
fn exchanged_magazines_have_one_owner() {
    model(10, || {
        let depot = Arc::new(Depot::new(Numbers::new(8)));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let depot = Arc::clone(&depot);
                thread::spawn(move || {
                    let slot = Slot::new();
                    let mine: Vec<_> = (0..3).filter_map(|_| take(&slot, &depot)).collect();
                    for block in &mine {
                        give(&slot, &depot, *block);
                    }
                    let again = take(&slot, &depot);
                    let mut distinct = BTreeSet::from_iter(again);
                    again.into_iter().for_each(|block| give(&slot, &depot, block));
                    distinct.extend(&mine);
                    // SAFETY: all its blocks are this depot's.
                    unsafe { slot.flush(&depot) };
                    distinct.len()
                })
            })
            .collect();
        for worker in workers {
            assert!(worker.join().unwrap() >= 3, "8 blocks are enough for both");
        }
        assert_eq!(depot.figures().out, depot.figures().stored, "D2");
        depot.drain();
        assert_eq!(depot.with_source(|numbers| numbers.at_home()), 8, "D1: every block is home, once");
    });
}

#[test]
fn no_two_threads_hold_the_same_block() {
    model(10, || {
        let depot = Arc::new(Depot::new(Numbers::new(6)));
        let held = Arc::new(loom::sync::Mutex::new(BTreeSet::new()));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (depot, held) = (Arc::clone(&depot), Arc::clone(&held));
                thread::spawn(move || {
                    let slot = Slot::new();
                    let mine = take(&slot, &depot);
                    if let Some(block) = mine {
                        assert!(held.lock().unwrap().insert(block), "D1: handed out twice");
                        held.lock().unwrap().remove(&block);
                        give(&slot, &depot, block);
                    }
                    // SAFETY: all its blocks are this depot's.
                    unsafe { slot.flush(&depot) };
                })
            })
            .collect();
        let one = depot.take_one();
        if let Some(block) = one {
            assert!(held.lock().unwrap().insert(block), "D1: handed out twice");
            held.lock().unwrap().remove(&block);
            // SAFETY: just taken.
            unsafe { depot.give_one(block) };
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        depot.drain();
        assert_eq!(depot.with_source(|numbers| numbers.at_home()), 6);
    });
}

#[test]
fn a_threads_exit_leaves_its_blocks_to_the_one_that_adopts_them() {
    model(50, || {
        let depot = Arc::new(Depot::new(Numbers::new(6)));
        let registry = Arc::new(PoolRegistry::new());
        // SAFETY: the depot outlives the registration.
        let key = unsafe { registry.add(NonNull::from(&*depot)) }.unwrap();
        let leavers: Vec<_> = (0..2)
            .map(|_| {
                let (depot, registry) = (Arc::clone(&depot), Arc::clone(&registry));
                thread::spawn(move || {
                    let local = PoolThread::new();
                    // SAFETY: it leaves below.
                    unsafe { registry.enter(&local) };
                    let slot = registry.slot_for(&local, key).unwrap();
                    let block = take(slot, &depot).unwrap();
                    give(slot, &depot, block);
                    registry.leave(&local);
                })
            })
            .collect();
        // Adopts what the others leave, or finds what they left over: never a block that they still have.
        let slot = Slot::new();
        let mine: Vec<_> = (0..2).filter_map(|_| take(&slot, &depot)).collect();
        assert!(!mine.is_empty(), "the others hold at most two of six each");
        leavers.into_iter().for_each(|leaver| leaver.join().unwrap());
        let late: Vec<_> = (mine.len()..6).filter_map(|_| take(&slot, &depot)).collect();
        assert_eq!(mine.len() + late.len(), 6, "G1: all that the threads kept can be had");
        let distinct: BTreeSet<_> = mine.iter().chain(&late).collect();
        assert_eq!(distinct.len(), 6, "D1: each once");
        for block in mine.into_iter().chain(late) {
            give(&slot, &depot, block);
        }
        // SAFETY: all its blocks are this depot's.
        unsafe { slot.flush(&depot) };
        depot.drain();
        assert_eq!(registry.remove(key), 0);
        assert_eq!(depot.with_source(|numbers| numbers.at_home()), 6);
    });
}

/// A pool that can be dropped: what it had is poisoned then, and a block that comes later is seen.
struct Droppable {
    depot: Depot<Numbers>,
    gone: loom::cell::UnsafeCell<bool>,
}

#[test]
fn a_dropped_pool_gets_no_block_from_an_exiting_thread() {
    model(20, || {
        let registry = Arc::new(PoolRegistry::new());
        let pool = Arc::new(Droppable { depot: Depot::new(Numbers::new(6)), gone: loom::cell::UnsafeCell::new(false) });
        // SAFETY: it is removed before the pool goes.
        let key = unsafe { registry.add(NonNull::from(&pool.depot)) }.unwrap();
        // Two threads with blocks of the pool in their slots.
        let locals: Vec<_> = (0..2)
            .map(|_| {
                let local = Leaving(Box::new(PoolThread::new()));
                // SAFETY: boxed, and it leaves in its thread.
                unsafe { registry.enter(&local.0) };
                let slot = registry.slot_for(&local.0, key).unwrap();
                let block = take(slot, &pool.depot).unwrap();
                give(slot, &pool.depot, block);
                assert_eq!(slot.cached(), 2);
                local
            })
            .collect();
        // They end while the pool is dropped here.
        let leavers: Vec<_> = locals
            .into_iter()
            .map(|local| {
                let registry = Arc::clone(&registry);
                thread::spawn(move || local.leave(&registry))
            })
            .collect();
        let cached = registry.remove(key);
        let (mut rest, stored) = pool.depot.dismantle();
        // G2: whatever the order, each block is accounted for at the drop: in a slot, in the depot, or at home.
        assert_eq!(rest.out(), cached + stored, "a block is nowhere, or in two places");
        let home = rest.source().at_home();
        drop(rest);
        // SAFETY: loom reports it if anybody else is at it.
        pool.gone.with_mut(|gone| unsafe { *gone = true });
        leavers.into_iter().for_each(|leaver| leaver.join().unwrap());
        assert_eq!(pool.depot.with_source(|numbers| numbers.at_home()), home, "a block came after the drop");
    });
}

/// A thread's table on its way to the thread.
struct Leaving(Box<PoolThread>);
// SAFETY: the model hands it over before the other thread starts.
unsafe impl Send for Leaving {}

impl Leaving {
    fn leave(self, registry: &PoolRegistry<Numbers>) {
        registry.leave(&self.0);
    }
}

#[test]
fn a_stale_slot_is_discarded_and_serves_the_next_pool() {
    // Three orders is what there is: before, while, and after.
    model(2, || {
        let registry = Arc::new(PoolRegistry::new());
        let first = Depot::new(Numbers::new(4));
        // SAFETY: removed below, before it goes.
        let old = unsafe { registry.add(NonNull::from(&first)) }.unwrap();
        let local = PoolThread::new();
        // SAFETY: it leaves below.
        unsafe { registry.enter(&local) };
        let slot = registry.slot_for(&local, old).unwrap();
        let block = take(slot, &first).unwrap();
        give(slot, &first, block);
        let dropper = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.remove(old))
        };
        // The owner meanwhile gives back what it has, or finds that there is nobody to give it to.
        registry.flush(&local);
        let cached = dropper.join().unwrap();
        let (rest, stored) = first.dismantle();
        let lost = rest.out() - stored - cached;
        assert_eq!(lost, 0, "G3: a block neither given back nor counted");
        drop(rest);
        let second = Depot::new(Numbers::new(4));
        // SAFETY: removed below, before it goes.
        let new = unsafe { registry.add(NonNull::from(&second)) }.unwrap();
        assert_ne!(old, new, "keys are never used twice");
        assert!(local.slot(new).is_none(), "the old pool's slot is not the new one's");
        let slot = registry.slot_for(&local, new).unwrap();
        assert_eq!(slot.cached(), 0, "stale blocks were discarded");
        let block = take(slot, &second).unwrap();
        give(slot, &second, block);
        registry.leave(&local);
        assert_eq!(registry.remove(new), 0);
        second.drain();
        assert_eq!(second.with_source(|numbers| numbers.at_home()), 4);
    });
}

#[test]
fn a_stale_slot_gives_nothing_to_the_pool_that_has_its_index_now() {
    model(4, || {
        let registry = Arc::new(PoolRegistry::new());
        let (first, second) = (Arc::new(Depot::new(Numbers::new(4))), Arc::new(Depot::new(Numbers::new(4))));
        // SAFETY: removed below, before it goes.
        let old = unsafe { registry.add(NonNull::from(&*first)) }.unwrap();
        let local = PoolThread::new();
        // SAFETY: it leaves below.
        unsafe { registry.enter(&local) };
        let slot = registry.slot_for(&local, old).unwrap();
        let block = take(slot, &first).unwrap();
        give(slot, &first, block);
        let successor = {
            let (registry, second) = (Arc::clone(&registry), Arc::clone(&second));
            thread::spawn(move || {
                registry.remove(old);
                // SAFETY: removed below, before it goes.
                unsafe { registry.add(NonNull::from(&*second)) }.unwrap()
            })
        };
        // Before, between and after.
        registry.flush(&local);
        let new = successor.join().unwrap();
        registry.leave(&local);
        assert_eq!(registry.remove(new), 0);
        second.drain();
        assert_eq!(second.with_source(|numbers| numbers.at_home()), 4, "G3: it got another pool's block");
    });
}
