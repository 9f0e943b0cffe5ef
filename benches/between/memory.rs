//! A megabyte that moves, and a megabyte that is used.

use std::hint::black_box;
use std::time::Instant;

use millpond::ipc::{Queue, SharedSlice};
use millpond::process::Process;

use crate::two::{each, pin};

const MEGABYTE: usize = 1 << 20;
const BALLS: usize = 16;
const TRIPS: usize = 200_000;
const WARM: usize = 20_000;

fn return_slices(there: Queue<SharedSlice<u8>>, back: Queue<SharedSlice<u8>>) {
    pin(1);
    while let Ok(slice) = there.get() {
        if back.put(slice).is_err() {
            break;
        }
    }
}
fn return_messages(there: Queue<[u64; 8]>, back: Queue<[u64; 8]>) {
    pin(1);
    while let Ok(message) = there.get() {
        if back.put(message).is_err() {
            break;
        }
    }
}
millpond::tasks![return_slices, return_messages];

/// Sixteen things go there and back, all at once, untouched: the time for one way of one of them.
pub fn bounce(contestant: &str) -> f64 {
    match contestant {
        "millpond-slice" => {
            let (there, back) =
                (Queue::bounded(BALLS * 2).expect("a queue"), Queue::bounded(BALLS * 2).expect("a queue"));
            let child = Process::spawn(return_slices, (there.clone(), back.clone())).expect("a process");
            let balls = (0..BALLS).map(|_| SharedSlice::<u8>::new(MEGABYTE).expect("memory")).collect();
            juggle(child, there, back, balls)
        }
        "millpond-64" => {
            let (there, back) =
                (Queue::bounded(BALLS * 2).expect("a queue"), Queue::bounded(BALLS * 2).expect("a queue"));
            let child = Process::spawn(return_messages, (there.clone(), back.clone())).expect("a process");
            juggle(child, there, back, vec![[1; 8]; BALLS])
        }
        other => panic!("no such contestant: {other}"),
    }
}

fn juggle<T: serde::Serialize + serde::de::DeserializeOwned>(
    child: Process<()>,
    there: Queue<T>,
    back: Queue<T>,
    balls: Vec<T>,
) -> f64 {
    pin(0);
    balls.into_iter().for_each(|ball| there.put(ball).expect("the other side"));
    let mut throw = |_| there.put(back.get().expect("the other side")).expect("the other side");
    (0..WARM).for_each(&mut throw);
    let start = Instant::now();
    (0..TRIPS).for_each(throw);
    let time = each(start.elapsed(), 2 * TRIPS);
    there.close();
    back.close();
    child.join().expect("it ends");
    time
}

const ROUNDS: usize = 300;

/// A megabyte is taken, written whole, read whole and given back.
pub fn fill(contestant: &str) -> f64 {
    pin(0);
    let round: &dyn Fn(usize) -> u64 = match contestant {
        "millpond-slice" => &|n| {
            let mut slice = SharedSlice::<u64>::unspecified(MEGABYTE / 8).expect("memory");
            work(&mut slice, n)
        },
        "private" => {
            // Kept, so that the comparison is with memory that is warm.
            let memory = std::cell::RefCell::new(vec![0_u64; MEGABYTE / 8]);
            &move |n| work(&mut memory.borrow_mut(), n)
        }
        other => panic!("no such contestant: {other}"),
    };
    (0..20).for_each(|n| _ = black_box(round(n)));
    let start = Instant::now();
    (0..ROUNDS).for_each(|n| _ = black_box(round(n)));
    each(start.elapsed(), ROUNDS)
}

/// Not inlined: both contestants run the same instructions.
#[inline(never)]
fn work(memory: &mut [u64], n: usize) -> u64 {
    memory.fill(black_box(n as u64));
    black_box(&*memory).iter().fold(0, |sum, word| sum ^ word)
}
