//! The stress test of mimalloc (`test-stress.c`) in Rust: threads are started again and again; each makes arrays of
//! random sizes, frees some, swaps some with other threads through a shared array, frees the rest and dies.

use std::sync::Mutex;
use std::thread;

use crate::random::Random;
use crate::{Sample, timed};

const THREADS: u64 = 4;
const ITERATIONS: u64 = 25;
const SCALE: usize = 30;
const TRANSFERS: usize = 1_000;

/// An array of words; its content follows from its place and is checked when it is freed.
type Items = Option<Box<[usize]>>;

pub(crate) fn mstress() -> Sample {
    let transfers: Vec<Mutex<Items>> = (0..TRANSFERS).map(|_| Mutex::new(None)).collect();
    timed(ITERATIONS * THREADS, || {
        for iteration in 0..ITERATIONS {
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let transfers = &transfers;
                    scope.spawn(move || stress(thread, transfers));
                }
            });
            if (iteration + 1) % 5 == 0 {
                transfers.iter().for_each(|slot| check(slot.lock().unwrap().take()));
            }
        }
        transfers.into_iter().for_each(|slot| check(slot.into_inner().unwrap()));
    })
}

/// One thread's life.
fn stress(thread: u64, transfers: &[Mutex<Items>]) {
    let mut random = Random::new((thread + 1) * 43);
    let mut to_make = 100 * SCALE * (thread as usize % 8 + 1);
    let mut to_retain = to_make / 2;
    let mut retained = Vec::with_capacity(to_retain);
    let mut data: Vec<Items> = Vec::new();
    while to_make > 0 || to_retain > 0 {
        if to_retain == 0 || (random.chance(50) && to_make > 0) {
            to_make -= 1;
            data.push(make(1 << random.below(5), &mut random));
        } else {
            to_retain -= 1;
            retained.push(make(1 << random.below(7), &mut random));
        }
        if random.chance(66) && !data.is_empty() {
            let victim = random.below(data.len());
            check(data[victim].take());
        }
        if random.chance(25) && !data.is_empty() {
            let own = random.below(data.len());
            let shared = random.below(TRANSFERS);
            std::mem::swap(&mut data[own], &mut transfers[shared].lock().unwrap());
        }
    }
    retained.into_iter().chain(data).for_each(check);
}

/// An array of about `length` words; one in a hundred is a hundred times as long.
fn make(mut length: usize, random: &mut Random) -> Items {
    if random.chance(1) {
        length *= 100;
    }
    Some((0..length).map(|place| (length - place) ^ COOKIE).collect())
}

const COOKIE: usize = 0xbf58_476d_1ce4_e5b9;

/// Frees an array whose words must be as they were written.
fn check(items: Items) {
    if let Some(items) = items {
        let intact = items.iter().enumerate().all(|(place, word)| word ^ COOKIE == items.len() - place);
        assert!(intact, "a block of {} words was changed by somebody else", items.len());
    }
}
