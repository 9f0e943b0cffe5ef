//! A bounded channel for any number of senders and receivers. It is plain on purpose, and carries large batches, so
//! that what is measured is the allocator and not the channel.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

/// At most so many items wait in a channel.
const CAPACITY: usize = 16;

/// A first-in-first-out queue of at most [`CAPACITY`] items.
#[derive(Debug)]
pub struct Channel<T> {
    state: Mutex<State<T>>,
    room: Condvar,
    items: Condvar,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
}

impl<T> Channel<T> {
    /// An empty channel that ends when each of so many senders has finished.
    pub fn new(senders: usize) -> Self {
        let queue = VecDeque::with_capacity(CAPACITY);
        Self { state: Mutex::new(State { queue, senders }), room: Condvar::new(), items: Condvar::new() }
    }

    /// Puts an item in, waiting for room.
    pub fn send(&self, item: T) {
        let state = self.state.lock().unwrap();
        let mut state = self.room.wait_while(state, |state| state.queue.len() == CAPACITY).unwrap();
        state.queue.push_back(item);
        drop(state);
        self.items.notify_one();
    }

    /// One sender has finished.
    pub fn finish(&self) {
        self.state.lock().unwrap().senders -= 1;
        self.items.notify_all();
    }

    /// Takes the oldest item out, waiting for one; nothing once all senders have finished and the channel is empty.
    pub fn receive(&self) -> Option<T> {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut State<T>| state.queue.is_empty() && state.senders > 0;
        let item = self.items.wait_while(state, waits).unwrap().queue.pop_front();
        self.room.notify_one();
        item
    }
}
