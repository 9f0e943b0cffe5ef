//! The workloads of the typed pools.

use std::hint::black_box;
use std::thread;

use workloads::channel::Channel;
use workloads::{Sample, timed};

use crate::store::Store;

/// One object, given back at once.
pub fn one<S: Store>(store: &S) -> Option<Sample> {
    const OBJECTS: u64 = 20_000_000;
    Some(timed(OBJECTS, || take_and_give_back(store, OBJECTS)))
}

/// The same in two threads at the same time, out of one pool.
pub fn two_threads<S: Store + Sync>(store: &S) -> Option<Sample> {
    const OBJECTS: u64 = 6_000_000;
    Some(timed(2 * OBJECTS, || {
        thread::scope(|scope| {
            scope.spawn(|| take_and_give_back(store, OBJECTS));
            take_and_give_back(store, OBJECTS);
        })
    }))
}

fn take_and_give_back<S: Store>(store: &S, objects: u64) {
    for word in 0..objects {
        black_box(&mut store.hold(word));
    }
}

/// Taken in one thread, given back in another; batches of 1,000 go through a channel.
pub fn handover<S: for<'a> Store<Held<'a>: Send> + Sync>(store: &S) -> Option<Sample> {
    const BATCH: u64 = 1_000;
    const BATCHES: u64 = 3_000;
    let channel = Channel::new(1);
    Some(timed(BATCH * BATCHES, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..BATCHES {
                    channel.send((0..BATCH).map(|word| store.hold(word)).collect::<Vec<_>>());
                }
                channel.finish();
            });
            while channel.receive().is_some() {}
        });
    }))
}
