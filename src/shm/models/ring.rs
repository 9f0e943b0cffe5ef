//! The ring, and who sleeps at it.

use std::collections::BTreeSet;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use crate::primitive::{AtomicU64, Ordering};
use crate::shm::ring::{Fence, NoSlot, Ring, Slots};
use crate::shm::wake::Signal;

// ── the ring ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Two slots, with a witness each.
pub(super) struct Two {
    words: [AtomicU64; 2],
    values: [UnsafeCell<u32>; 2],
    head: AtomicU64,
    tail: AtomicU64,
}

impl Slots for &Two {
    fn count(&self) -> usize {
        2
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }
}

impl Two {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            words: [AtomicU64::new(0), AtomicU64::new(0)],
            values: [UnsafeCell::new(0), UnsafeCell::new(0)],
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
        })
    }

    fn ring(&self) -> Ring<'_, &Self> {
        Ring { slots: self, head: &self.head, tail: &self.tail }
    }

    fn put(&self, me: u16, value: u32) -> Result<(), NoSlot> {
        self.put_with(me, value, Fence::Sleepers)
    }

    pub(super) fn put_with(&self, me: u16, value: u32, fence: Fence) -> Result<(), NoSlot> {
        let claim = self.ring().claim_empty(me)?;
        // SAFETY: loom reports it if anybody else is at the slot.
        self.values[claim.index].with_mut(|at| unsafe { *at = value });
        self.ring().publish(claim, 0, fence);
        Ok(())
    }

    pub(super) fn get(&self, me: u16) -> Result<u32, NoSlot> {
        let claim = self.ring().claim_full(me, || ())?;
        // SAFETY: as above.
        let value = self.values[claim.index].with(|at| unsafe { *at });
        self.ring().release(claim, Fence::Sleepers);
        Ok(value)
    }
}

/// What came of the orders that were explored: a model in which two never meet shows nothing.
#[derive(Clone, Default)]
struct Met(std::sync::Arc<std::sync::Mutex<BTreeSet<usize>>>);

impl Met {
    fn note(&self, outcome: usize) {
        self.0.lock().unwrap().insert(outcome);
    }

    fn check(&self, outcomes: usize) {
        let met = self.0.lock().unwrap();
        assert_eq!(*met, (0..outcomes).collect(), "not every outcome was met");
    }
}

// Who writes goes first, in the model's own thread. Loom remembers one access to a word, the last: of a thread that looked
// before another looked and wrote it knows nothing any more, and so never tries it the other way round.

#[test]
fn each_value_is_got_once_by_whoever_comes() {
    let met = Met::default();
    let early = met.clone();
    model(100, move || {
        let ring = Two::new();
        let consumer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (0..2).filter_map(|_| ring.get(3).ok()).collect::<Vec<u32>>())
        };
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.put(2, 2).unwrap())
        };
        ring.put(1, 1).unwrap();
        producer.join().unwrap();
        let mut all = consumer.join().unwrap();
        early.note(all.len());
        all.extend(std::iter::from_fn(|| ring.get(3).ok()));
        all.sort_unstable();
        assert_eq!(all, [1, 2], "R1: lost, or got twice");
    });
    met.check(3);
}

#[test]
fn a_ring_goes_round_with_two_consumers() {
    let met = Met::default();
    let early = met.clone();
    model(70, move || {
        let ring = Two::new();
        ring.put(1, 1).unwrap();
        ring.put(1, 2).unwrap();
        assert_eq!(ring.put(1, 3), Err(NoSlot::NotNow));
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.put(1, 3).is_ok())
        };
        let consumer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.get(3).ok())
        };
        let mut all: Vec<u32> = ring.get(2).into_iter().collect();
        all.extend(consumer.join().unwrap());
        let third = producer.join().unwrap();
        early.note(usize::from(third));
        if !third {
            ring.put(1, 3).unwrap();
        }
        all.extend(std::iter::from_fn(|| ring.get(4).ok()));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3], "R1: lost, or got twice");
    });
    met.check(2);
}

/// A producer and a consumer, each of whom may die with the slot it has claimed; they are swept, and the ring works on.
#[test]
fn a_dead_ones_slot_goes_on() {
    for (producer_dies, consumer_dies) in [(true, false), (false, true), (true, true)] {
        model(50, move || {
            let ring = Two::new();
            ring.put(9, 7).unwrap();
            let producer = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    if producer_dies {
                        let claim = ring.ring().claim_empty(1).unwrap();
                        // SAFETY: loom reports it if anybody else is at the slot.
                        ring.values[claim.index].with_mut(|at| unsafe { *at = 0 });
                    } else {
                        ring.put(1, 8).unwrap();
                    }
                })
            };
            let consumer = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    if consumer_dies {
                        _ = ring.ring().claim_full(2, || ());
                        0
                    } else {
                        ring.get(2).unwrap_or(0)
                    }
                })
            };
            // The third goes on all the while.
            let mut got: Vec<u32> = ring.get(3).into_iter().collect();
            producer.join().unwrap();
            got.push(consumer.join().unwrap());
            for dead in [1, 2] {
                ring.ring().sweep(dead, |_, _| ());
            }
            got.extend(std::iter::from_fn(|| ring.get(3).ok()));
            got.retain(|value| *value != 0);
            got.sort_unstable();
            let mut expected: Vec<u32> = if producer_dies { vec![7] } else { vec![7, 8] };
            if consumer_dies {
                // One value is undetermined.
                assert!(expected.len() - got.len() <= 1, "R3");
                expected.retain(|value| got.contains(value));
            }
            assert_eq!(got, expected, "R2");
            // Both slots can be used again.
            ring.put(4, 1).unwrap();
            ring.put(4, 2).unwrap();
            assert_eq!([ring.get(4), ring.get(4)], [Ok(1), Ok(2)], "R4: a slot was lost");
        });
    }
}

/// A slot that was skipped has room for the next turn, whether or not a consumer has come to it; and of two producers and a
/// consumer that meet there, each has it once.
#[test]
fn a_skipped_slot_has_room_for_the_next_turn() {
    let met = Met::default();
    let early = met.clone();
    model(70, move || {
        let ring = Two::new();
        let claim = ring.ring().claim_empty(9).unwrap();
        // SAFETY: loom reports it if anybody else is at the slot.
        ring.values[claim.index].with_mut(|at| unsafe { *at = 0 });
        ring.put(1, 1).unwrap();
        assert!(ring.ring().sweep(9, |_, _| ()));
        let consumer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (0..2).filter_map(|_| ring.get(3).ok()).collect::<Vec<u32>>())
        };
        let producer = {
            let ring = Arc::clone(&ring);
            // The only place is the skipped one, until the consumer has read the other.
            thread::spawn(move || ring.put(2, 3))
        };
        let mine = ring.put(1, 2);
        let theirs = producer.join().unwrap();
        let mut all = consumer.join().unwrap();
        assert!(mine.is_ok() || theirs.is_ok(), "R4: the skipped slot is lost until somebody reads");
        assert_eq!(all.first(), Some(&1), "R1: it was put first");
        early.note(all.len() - 1);
        all.extend(std::iter::from_fn(|| ring.get(3).ok()));
        let put = [(1, true), (2, mine.is_ok()), (3, theirs.is_ok())];
        let expected: Vec<u32> = put.into_iter().filter_map(|(value, was)| was.then_some(value)).collect();
        all.sort_unstable();
        assert_eq!(all, expected, "R1: lost, or got twice");
    });
    met.check(2);
}

/// A slow consumer puts the hint back behind a slot that is skipped: the next one takes no value of the same turn for read.
#[test]
fn a_skipped_slot_does_not_hide_what_was_put_before_it() {
    let met = Met::default();
    let early = met.clone();
    model(3, move || {
        let ring = Two::new();
        for value in [1, 2] {
            ring.put(1, value).unwrap();
            assert_eq!(ring.get(2), Ok(value));
        }
        ring.put(1, 3).unwrap();
        let claim = ring.ring().claim_empty(9).unwrap();
        assert_eq!(claim.index, 1);
        // Behind the first value: who got it stores its hint only now.
        ring.head.store(1, Ordering::Relaxed);
        assert!(ring.ring().sweep(9, |_, _| ()));
        let producer = {
            let ring = Arc::clone(&ring);
            // In the third value's place, once that is read.
            thread::spawn(move || ring.put(1, 4))
        };
        assert_eq!(ring.get(3), Ok(3), "R2: it was put before the slot that was skipped");
        let put = producer.join().unwrap();
        early.note(usize::from(put.is_ok()));
        assert_eq!(ring.get(3), put.map(|()| 4));
    });
    met.check(2);
}

// ── sleeping and waking ────────────────────────────────────────────────────────────────────────────────────────────

/// Nobody sleeps over a value: two consumers sleep until there is one, two producers put one each.
#[test]
fn no_value_waits_while_a_consumer_sleeps() {
    model(100, || {
        let (ring, signal) = (Two::new(), Arc::new(Signal::new()));
        let consumers: Vec<_> = (1..=2)
            .map(|me| {
                let (ring, signal) = (Arc::clone(&ring), Arc::clone(&signal));
                thread::spawn(move || {
                    loop {
                        if let Ok(value) = ring.get(me) {
                            return value;
                        }
                        let announced = signal.announce();
                        if let Ok(value) = ring.get(me) {
                            return value;
                        }
                        signal.sleep(announced, None);
                    }
                })
            })
            .collect();
        for value in 1..=2 {
            ring.put(3, value).unwrap();
            signal.wake_one_unfenced();
        }
        let mut got: Vec<u32> = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2], "W1");
    });
}

/// Values that are published in another order than their places have: whoever was woken for the second found nothing yet.
/// Those who waited pass on that there is more, as a queue's `get` does.
#[test]
fn a_value_behind_a_late_one_is_got_by_who_sleeps() {
    model(100, || {
        let (ring, signal) = (Two::new(), Arc::new(Signal::new()));
        let late = ring.ring().claim_empty(4).unwrap();
        let consumers: Vec<_> = (1..=2)
            .map(|me| {
                let (ring, signal) = (Arc::clone(&ring), Arc::clone(&signal));
                thread::spawn(move || {
                    let value = loop {
                        let announced = signal.announce();
                        if let Ok(value) = ring.get(me) {
                            break value;
                        }
                        signal.sleep(announced, None);
                    };
                    if ring.ring().has_full() {
                        signal.wake_one();
                    }
                    value
                })
            })
            .collect();
        ring.put(3, 2).unwrap();
        signal.wake_one_unfenced();
        // SAFETY: loom reports it if anybody else is at the slot.
        ring.values[late.index].with_mut(|at| unsafe { *at = 1 });
        ring.ring().publish(late, 0, Fence::Sleepers);
        signal.wake_one_unfenced();
        let mut got: Vec<u32> = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2], "W1");
    });
}

/// The sleeper of a pipe, of which there is one; and that of a queue whose slots are given on by an exchange.
#[test]
fn the_only_sleeper_is_woken() {
    one_sleeper(Signal::wake_only_fenced);
    one_sleeper(Signal::wake_one_fenced);
}

fn one_sleeper(wake: fn(&Signal)) {
    model(20, move || {
        let (ring, signal) = (Two::new(), Arc::new(Signal::new()));
        let consumer = {
            let (ring, signal) = (Arc::clone(&ring), Arc::clone(&signal));
            thread::spawn(move || {
                let mut got = Vec::new();
                while got.len() < 2 {
                    if let Ok(value) = ring.get(1) {
                        got.push(value);
                        continue;
                    }
                    let announced = signal.announce();
                    if let Ok(value) = ring.get(1) {
                        got.push(value);
                        continue;
                    }
                    signal.sleep(announced, None);
                }
                got
            })
        };
        for value in 1..=2 {
            ring.put_with(3, value, Fence::Mine).unwrap();
            wake(&signal);
        }
        assert_eq!(consumer.join().unwrap(), [1, 2], "W1");
    });
}
