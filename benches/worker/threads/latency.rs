//! From submission to result while the workers sleep.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use workloads::{Sample, timed};

use crate::pinning::{pin, start_on};
use crate::pool::Pool;

const ROUNDS: usize = 600;
/// Long enough for a worker to fall asleep, whatever it does before.
const NAP: Duration = Duration::from_micros(300);

/// What `round` takes, each time after a nap.
fn measure(mut round: impl FnMut()) -> Sample {
    let mut times = Vec::with_capacity(ROUNDS);
    let sample = timed(ROUNDS as u64, || {
        for _ in 0..ROUNDS {
            thread::sleep(NAP);
            let start = Instant::now();
            round();
            times.push(start.elapsed());
        }
    });
    times.sort();
    let at = |part: usize| times[ROUNDS * part / 100].as_nanos() as u64;
    sample.note("p50", at(50)).note("p99", at(99))
}

/// A pool's, with the submitter on one core and the workers on another, or all on one.
pub fn asleep<P: Pool>(workers: usize, two_cores: bool) -> Sample {
    let pool = start_on::<P>(usize::from(two_cores), workers);
    pin(0);
    measure(|| assert_eq!(pool.apply(|| 7), 7))
}

/// Two threads that wake each other, and nothing else: what it takes at least.
pub fn futex(two_cores: bool) -> Sample {
    static WORD: AtomicU32 = AtomicU32::new(ASLEEP);
    const ASLEEP: u32 = 0;
    const ASKED: u32 = 1;
    const ANSWERED: u32 = 2;
    pin(0);
    thread::spawn(move || {
        pin(usize::from(two_cores));
        loop {
            match WORD.load(Ordering::Acquire) {
                ASKED => {
                    WORD.store(ANSWERED, Ordering::Release);
                    wake(&WORD);
                }
                other => wait(&WORD, other),
            }
        }
    });
    measure(|| {
        WORD.store(ASKED, Ordering::Release);
        wake(&WORD);
        while WORD.load(Ordering::Acquire) == ASKED {
            wait(&WORD, ASKED);
        }
    })
}

fn wait(word: &AtomicU32, value: u32) {
    let time = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel reads the word, which lives for ever.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, time) };
}

fn wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the address as a key.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}
