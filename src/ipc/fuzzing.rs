//! Ways in for the fuzz targets: programs of operations with rubbish written between them, and bytes that claim to be
//! messages. Each run has a segment of its own.

use core::time::Duration;

use super::{Event, Lock, PipeEnd, Queue, Semaphore, SharedSlice, pipe};
use crate::shm::{self, message};

const SHORT: Duration = Duration::from_micros(50);

type Parcel = (Queue<u8>, SharedSlice<u64>, PipeEnd<u8, u8>);

/// Runs a program: each byte says what is done next, and those that follow with what.
pub fn ring(program: &[u8]) {
    shm::fresh();
    let mut program = program.iter().copied();
    let (Ok(bytes), Ok(parcels), Ok(endless)) =
        (Queue::<Vec<u8>>::bounded(3), Queue::<Parcel>::bounded(2), Queue::<u64>::unbounded())
    else {
        return;
    };
    let Ok((mut near, mut far)) = pipe::<String, u32>() else { return };
    let (Ok(lock), Ok(permits)) = (Lock::new([0_u64; 2]), Semaphore::new(2)) else { return };
    let Ok(here) = shm::here() else { return };
    let mut kept = Vec::new();
    while let Some(operation) = program.next() {
        let mut next = || usize::from(program.next().unwrap_or(0));
        match operation % 14 {
            0 => _ = bytes.try_put(vec![operation; next()]),
            1 => _ = bytes.try_put(vec![operation; next() << 8]),
            2 => _ = bytes.try_get(),
            3 => {
                if let (Ok(queue), Ok(slice), Ok((end, _))) = (Queue::bounded(1), SharedSlice::new(next()), pipe()) {
                    let _ = parcels.try_put((queue, slice, end));
                }
            }
            4 => _ = parcels.try_get().map(|parcel| kept.push(parcel)),
            5 => _ = endless.put_timeout(next() as u64, SHORT),
            6 => _ = endless.try_get(),
            7 => _ = near.send_timeout("x".repeat(next()), SHORT),
            8 => _ = far.recv_timeout(SHORT),
            9 => _ = lock.lock_timeout(SHORT).map(|mut pair| pair[0] += 1),
            10 => _ = permits.acquire_timeout(SHORT).map(super::Permit::forget),
            11 => kept.clear(),
            12 => {
                if let Ok(member) = shm::enlist() {
                    shm::member_died(member);
                }
            }
            _ => {
                // A word somewhere becomes something else.
                let place = next() << 8 | next();
                let value = (0..8).fold(0, |value, _| value << 8 | next() as u64);
                here.segment.scribble_at(place, value);
            }
        }
    }
    let _ = (format!("{bytes:?} {endless:?} {near:?} {lock:?} {permits:?}"), super::stats());
}

/// Decodes bytes as a message with every kind of handle in it.
pub fn decode(bytes: &[u8]) {
    shm::fresh();
    // Something that numbers can hit.
    let (Ok(queue), Ok(member)) = (Queue::<u8>::bounded(1), shm::here().map(|here| here.member())) else { return };
    let value = (queue.clone(), SharedSlice::<u8>::new(4).ok());
    let Ok(packet) = message::encode(&value) else { return };
    let good = packet.send_to(member, |_| true).expect("the slice is still here");
    drop(value);
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
