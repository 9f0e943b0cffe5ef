//! Loom explores the pool's protocols with the real queue, sleep, room and group: what a worker does around them is a
//! loop of a few lines here.

use std::ptr::NonNull;

use super::queue::Queue;
use crate::primitive::model::explore;

#[expect(unsafe_code, reason = "looks into cells that loom watches")]
mod groups;
#[expect(unsafe_code, reason = "looks into cells that loom watches")]
mod halves;
mod queues;
mod sleepers;

/// At two preemptions.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(2, least, check);
}

/// Entries are numbers.
fn entry(number: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(number)).unwrap()
}

fn take_all(queue: &Queue<u8>, most: usize, sharers: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    queue.take(most, sharers, |entry| taken.push(entry.addr().get()));
    taken
}
