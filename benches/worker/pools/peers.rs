//! The pools of other crates, each used as its documentation shows.

use std::cell::RefCell;
use std::sync::Mutex;

use crossbeam_queue::ArrayQueue;
use lockfree_object_pool::{LinearObjectPool, LinearReusable};
use opool::{Pool, PoolAllocator, RefGuard};
use slab::Slab;

use crate::store::{Payload, Store};

/// Room for every object that a workload has in flight, for pools of a fixed size.
const CAPACITY: usize = 32_768;

/// `slab` in one thread, which no other can use.
#[derive(Default)]
pub struct OwnSlab<const WORDS: usize>(RefCell<Slab<Payload<WORDS>>>);

/// A place in an [`OwnSlab`].
pub struct OwnSlot<'a, const WORDS: usize>(&'a OwnSlab<WORDS>, usize);

impl<const WORDS: usize> Store for OwnSlab<WORDS> {
    type Held<'a> = OwnSlot<'a, WORDS>;

    #[inline]
    fn hold(&self, word: u64) -> OwnSlot<'_, WORDS> {
        OwnSlot(self, self.0.borrow_mut().insert(Payload::new(word)))
    }
}

impl<const WORDS: usize> Drop for OwnSlot<'_, WORDS> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(self.1);
    }
}

/// `slab` as a pool that threads share: it leaves the lock to its user.
#[derive(Default)]
pub struct SharedSlab<const WORDS: usize>(Mutex<Slab<Payload<WORDS>>>);

/// A place in a [`SharedSlab`].
pub struct SharedSlot<'a, const WORDS: usize>(&'a SharedSlab<WORDS>, usize);

impl<const WORDS: usize> Store for SharedSlab<WORDS> {
    type Held<'a> = SharedSlot<'a, WORDS>;

    #[inline]
    fn hold(&self, word: u64) -> SharedSlot<'_, WORDS> {
        SharedSlot(self, self.0.lock().unwrap().insert(Payload::new(word)))
    }
}

impl<const WORDS: usize> Drop for SharedSlot<'_, WORDS> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.lock().unwrap().remove(self.1);
    }
}

/// `sharded-slab`.
#[derive(Default)]
pub struct ShardedSlab<const WORDS: usize>(sharded_slab::Slab<Payload<WORDS>>);

/// A place in a [`ShardedSlab`].
pub struct ShardedSlot<'a, const WORDS: usize>(&'a ShardedSlab<WORDS>, usize);

impl<const WORDS: usize> Store for ShardedSlab<WORDS> {
    type Held<'a> = ShardedSlot<'a, WORDS>;

    #[inline]
    fn hold(&self, word: u64) -> ShardedSlot<'_, WORDS> {
        ShardedSlot(self, self.0.insert(Payload::new(word)).expect("room in the slab"))
    }
}

impl<const WORDS: usize> Drop for ShardedSlot<'_, WORDS> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.remove(self.1);
    }
}

/// How `opool` makes an object.
pub struct Maker;

impl<const WORDS: usize> PoolAllocator<Payload<WORDS>> for Maker {
    fn allocate(&self) -> Payload<WORDS> {
        Payload::new(0)
    }
}

/// `opool`.
pub fn opool<const WORDS: usize>() -> Pool<Maker, Payload<WORDS>> {
    Pool::new(CAPACITY, Maker)
}

impl<const WORDS: usize> Store for Pool<Maker, Payload<WORDS>> {
    type Held<'a> = RefGuard<'a, Maker, Payload<WORDS>>;

    #[inline]
    fn hold(&self, word: u64) -> Self::Held<'_> {
        let mut object = self.get();
        object.write(word);
        object
    }
}

/// `object-pool`.
pub fn object_pool<const WORDS: usize>() -> object_pool::Pool<Payload<WORDS>> {
    object_pool::Pool::new(1_000, || Payload::new(0))
}

impl<const WORDS: usize> Store for object_pool::Pool<Payload<WORDS>> {
    type Held<'a> = object_pool::Reusable<'a, Payload<WORDS>>;

    #[inline]
    fn hold(&self, word: u64) -> Self::Held<'_> {
        let mut object = self.pull(|| Payload::new(0));
        object.write(word);
        object
    }
}

/// `lockfree-object-pool`, the one of its pools that it recommends.
pub fn lockfree_object_pool<const WORDS: usize>() -> LinearObjectPool<Payload<WORDS>> {
    LinearObjectPool::new(|| Payload::new(0), |_| {})
}

impl<const WORDS: usize> Store for LinearObjectPool<Payload<WORDS>> {
    type Held<'a> = LinearReusable<'a, Payload<WORDS>>;

    #[inline]
    fn hold(&self, word: u64) -> Self::Held<'_> {
        let mut object = self.pull();
        object.write(word);
        object
    }
}

/// A pool as people write it themselves: `crossbeam`'s `ArrayQueue` of boxes.
pub struct QueuePool<const WORDS: usize>(ArrayQueue<Box<Payload<WORDS>>>);

impl<const WORDS: usize> Default for QueuePool<WORDS> {
    fn default() -> Self {
        Self(ArrayQueue::new(CAPACITY))
    }
}

/// An object out of a [`QueuePool`].
pub struct Queued<'a, const WORDS: usize>(&'a QueuePool<WORDS>, Option<Box<Payload<WORDS>>>);

impl<const WORDS: usize> Store for QueuePool<WORDS> {
    type Held<'a> = Queued<'a, WORDS>;

    #[inline]
    fn hold(&self, word: u64) -> Queued<'_, WORDS> {
        let mut object = self.0.pop().unwrap_or_else(|| Box::new(Payload::new(0)));
        object.write(word);
        Queued(self, Some(object))
    }
}

impl<const WORDS: usize> Drop for Queued<'_, WORDS> {
    #[inline]
    fn drop(&mut self) {
        if let Some(object) = self.1.take() {
            // A full queue frees the object.
            let _ = self.0.0.push(object);
        }
    }
}
