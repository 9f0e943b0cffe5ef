//! Between threads.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, Write};
use std::thread;

use millpond::sync::{Barrier, Condition, Lock, ReentrantLock, RwLock};

const PRINTERS: usize = 10;
const LINES: usize = 3;

pub(crate) fn run(out: &mut (impl Write + Send), updates: &[u32]) -> Result<(), Box<dyn Error>> {
    writeln!(out, "Lock: two threads put in and take out, each time the same.")?;
    for &times in updates {
        balanced(times, out)?;
    }
    writeln!(out, "Lock: {PRINTERS} threads print {LINES} lines each, letter by letter, under one lock.")?;
    print_in_turn(out)?;
    again_by_its_holder(out)?;
    many_readers(out)?;
    until_it_is_so(out)
}

/// Two threads × so many balanced updates under a lock leave the balance at 0.
fn balanced(times: u32, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let balance = Lock::new(0_i64);
    let change_it = |amount: i64| {
        for _ in 0..times {
            let mut balance = balance.lock();
            *balance += amount;
            *balance -= amount;
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| change_it(5));
        scope.spawn(|| change_it(8));
    });
    let left = *balance.lock();
    writeln!(out, "  2 × {times} updates: the balance is {left}.")?;
    expect(left == 0, "balanced updates leave nothing")
}

/// Ten threads that print under one lock never interleave.
fn print_in_turn(out: &mut (impl Write + Send)) -> Result<(), Box<dyn Error>> {
    let printed = Lock::new(out);
    thread::scope(|scope| {
        let printers: Vec<_> = (0..PRINTERS)
            .map(|printer| {
                let printed = &printed;
                scope.spawn(move || -> io::Result<()> {
                    for line in 0..LINES {
                        let mut out = printed.lock();
                        for letter in format!("  printer {printer} writes line {line}\n").into_bytes() {
                            out.write_all(&[letter])?;
                            thread::yield_now(); // Anybody else may run, but not print.
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        printers
            .into_iter()
            .try_for_each(|printer| printer.join().map_err(|_| "a printer panicked")?.map_err(Into::into))
    })
}

fn again_by_its_holder(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    /// Takes the lock again on each level.
    fn grind(ground: &ReentrantLock<Cell<u32>>, sacks: u32) {
        let inside = ground.lock();
        if sacks > 0 {
            inside.set(inside.get() + 1);
            grind(ground, sacks - 1);
        }
    }
    let ground = ReentrantLock::new(Cell::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| grind(&ground, 100));
        }
    });
    let ground = ground.into_inner().get();
    writeln!(out, "ReentrantLock: two threads took it 101 times over: {ground} sacks are ground.")?;
    expect(ground == 200, "its holder may take it again")
}

fn many_readers(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let price = RwLock::new(3);
    let inside = Barrier::new(4);
    let prices = thread::scope(|scope| {
        let readers = [(); 4].map(|()| {
            scope.spawn(|| {
                let price = price.read();
                // Nobody passes unless all four read at the same time.
                inside.wait().map(|_| *price)
            })
        });
        readers.map(|reader| reader.join())
    });
    *price.write() = 5;
    let agreed = prices.into_iter().all(|price| matches!(price, Ok(Ok(3))));
    writeln!(out, "RwLock: four threads read at the same time; then one writes: {}.", price.read())?;
    expect(agreed && *price.read() == 5, "readers share")
}

fn until_it_is_so(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    const SACKS: u32 = 1_000;
    // At most one sack in the mill: each thread waits for the other.
    let (mill, changed) = (Lock::new(None), Condition::new());
    let sum = thread::scope(|scope| {
        scope.spawn(|| {
            for sack in 1..=SACKS {
                let mut place = mill.lock();
                changed.wait_while(&mut place, |place| place.is_some());
                *place = Some(sack);
                changed.notify_one();
            }
        });
        let mut sum = 0;
        for _ in 0..SACKS {
            let mut place = mill.lock();
            changed.wait_while(&mut place, |place| place.is_none());
            sum += place.take().unwrap_or(0);
            changed.notify_one();
        }
        sum
    });
    writeln!(out, "Condition: {SACKS} sacks went through a mill with room for one; their numbers add up to {sum}.")?;
    expect(sum == SACKS * (SACKS + 1) / 2, "each sack goes through once")
}

fn expect(kept: bool, promise: &str) -> Result<(), Box<dyn Error>> {
    if kept { Ok(()) } else { Err(format!("a promise was broken: {promise}").into()) }
}
