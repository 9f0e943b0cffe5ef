//! Ways in for the fuzz targets: programs of operations with rubbish written between them, and bytes that claim to be
//! messages. Each run has a segment of its own.

use core::time::Duration;
use std::collections::VecDeque;

use super::{Event, Lock, PipeEnd, Queue, QueueError, Semaphore, SharedSlice, pipe};
use crate::shm::{self, message};

const SHORT: Duration = Duration::from_micros(50);

type Parcel = (Queue<u8>, SharedSlice<u64>, PipeEnd<u8, u8>);

/// Runs a program: each byte says what is done next, and those that follow with what.
///
/// Until a word is written over, everything has to be as it should: what was put comes out, in its order, and at the end
/// nothing is left. After that, errors are all that may come of it.
pub fn ring(program: &[u8]) {
    shm::fresh();
    let before = in_use();
    if run(program).is_some_and(|whole| whole) {
        assert_eq!(in_use(), before, "something is left, or gone");
    }
}

/// What is in use in the segment.
fn in_use() -> Option<[usize; 5]> {
    let stats = super::stats().ok()?;
    Some([stats.members, stats.objects, stats.owned, stats.queued, stats.tokens])
}

/// What was put and has not come out, as long as no word was written over.
#[derive(Default)]
struct Expected {
    bytes: VecDeque<Vec<u8>>,
    parcels: VecDeque<usize>,
    endless: VecDeque<u64>,
    letters: VecDeque<String>,
    added: u64,
    taken: usize,
}

/// Places of the queues, and permits.
const BYTES: usize = 3;
const PARCELS: usize = 2;
const PERMITS: usize = 2;

/// Whether no word was written over; nothing if the system refused what the program needs.
fn run(program: &[u8]) -> Option<bool> {
    let mut program = program.iter().copied();
    let bytes = Queue::<Vec<u8>>::bounded(BYTES).ok()?;
    let parcels = Queue::<Parcel>::bounded(PARCELS).ok()?;
    let endless = Queue::<u64>::unbounded().ok()?;
    let (mut near, mut far) = pipe::<String, u32>().ok()?;
    let (lock, permits) = (Lock::new([0_u64; 2]).ok()?, Semaphore::new(PERMITS).ok()?);
    let here = shm::here().ok()?;
    let (mut kept, mut expected, mut whole) = (Vec::new(), Expected::default(), true);
    while let Some(operation) = program.next() {
        let mut next = || usize::from(program.next().unwrap_or(0));
        match operation % 15 {
            kind @ (0 | 1) => {
                let value = vec![operation; next() << (8 * kind)];
                let put = bytes.try_put(value.clone());
                assert!(!whole || (put == Err(QueueError::Full)) == (expected.bytes.len() == BYTES), "{put:?}");
                expected.bytes.extend(put.is_ok().then_some(value));
            }
            2 => {
                let (got, first) = (bytes.try_get(), expected.bytes.pop_front());
                assert!(!whole || got.as_ref().ok() == first.as_ref(), "{got:?} instead of {first:?}");
            }
            3 => {
                let len = next();
                if let (Ok(queue), Ok(slice), Ok((end, _))) = (Queue::bounded(1), SharedSlice::new(len), pipe()) {
                    let put = parcels.try_put((queue, slice, end));
                    expected.parcels.extend(put.is_ok().then_some(len));
                }
            }
            4 => {
                let (got, len) = (parcels.try_get(), expected.parcels.pop_front());
                assert!(
                    !whole || got.as_ref().ok().map(|(_, slice, _)| slice.len()) == len,
                    "not what was put: {len:?}"
                );
                kept.extend(got);
            }
            5 => {
                let value = next() as u64;
                let put = endless.put_timeout(value, SHORT);
                assert!(!whole || put == Ok(()), "{put:?}");
                expected.endless.push_back(value);
            }
            6 => {
                let (got, first) = (endless.try_get(), expected.endless.pop_front());
                assert!(!whole || got.as_ref().ok() == first.as_ref(), "{got:?} instead of {first:?}");
            }
            7 => {
                let letter = "x".repeat(next());
                let sent = near.send_timeout(letter.clone(), SHORT);
                expected.letters.extend(sent.is_ok().then_some(letter));
            }
            8 => {
                let (got, first) = (far.recv_timeout(SHORT), expected.letters.pop_front());
                assert!(!whole || got.as_ref().ok() == first.as_ref(), "{got:?} instead of {first:?}");
            }
            9 => {
                let added = lock.lock_timeout(SHORT).map(|mut pair| {
                    pair[0] += 1;
                    pair[0]
                });
                expected.added += 1;
                assert!(!whole || added == Ok(expected.added), "{added:?}");
            }
            10 => {
                let took = permits.acquire_timeout(SHORT).map(super::Permit::forget).is_ok();
                assert!(!whole || took == (expected.taken < PERMITS), "{took}, {} were taken", expected.taken);
                expected.taken += usize::from(took);
            }
            11 => kept.clear(),
            12 => {
                if let Ok(member) = shm::enlist() {
                    shm::member_died(member);
                }
            }
            13 => {
                // A word somewhere becomes something else.
                whole = false;
                let place = next() << 8 | next();
                let value = (0..8).fold(0, |value, _| value << 8 | next() as u64);
                here.segment.scribble_at(place, value);
            }
            _ => {
                // Some bits of a word turn over, the rest of it still makes sense.
                whole = false;
                let (block, word, bits) = (next(), next(), next() as u64);
                here.segment.turn_at(block, word, bits << (next() % 64));
            }
        }
    }
    let _ = (format!("{bytes:?} {endless:?} {near:?} {lock:?} {permits:?}"), super::stats());
    Some(whole)
}

/// Decodes bytes as a message with every kind of handle in it.
pub fn decode(bytes: &[u8]) {
    shm::fresh();
    // Something that numbers can hit.
    let (Ok(queue), Ok(member)) = (Queue::<u8>::bounded(1), shm::here().map(|here| here.member())) else { return };
    let Ok(packet) = message::encode((queue.clone(), SharedSlice::<u8>::new(4).ok())) else { return };
    let good = packet.send_to(member, |_| true).expect("the slice is still here");
    let mut mixed = good.clone();
    for (at, byte) in bytes.iter().enumerate().take(good.len()) {
        mixed[at] ^= byte;
    }
    type Everything = (Queue<u8>, SharedSlice<u8>, Lock<u32>, Event, PipeEnd<u8, u8>, Vec<String>);
    let _ = message::decode::<Everything>(bytes);
    let _ = message::decode::<(Queue<u8>, Option<SharedSlice<u8>>)>(&mixed);
    // Whatever claimed its handles before, the good message is an error at worst; the queue is whole.
    let _ = message::decode::<(Queue<u8>, Option<SharedSlice<u8>>)>(&good);
    assert!(queue.try_put(1).is_ok() && queue.get() == Ok(1));
}
