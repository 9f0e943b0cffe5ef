//! From submission to result while the workers sleep.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use workloads::{Sample, timed};

use crate::pinning::{pin, pin_workers};
use crate::pools::Pool;

const ROUNDS: usize = 600;
/// Long enough for a worker to fall asleep, whatever it does before.
const NAP: Duration = Duration::from_micros(300);

/// What `round` takes, each time after a nap.
fn measure(mut round: impl FnMut()) -> Sample {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        thread::sleep(NAP);
        let start = Instant::now();
        round();
        times.push(start.elapsed());
    }
    times.sort();
    let at = |part: usize| times[ROUNDS * part / 100].as_nanos() as u64;
    timed(ROUNDS as u64, || ()).note("p50", at(50)).note("p99", at(99))
}

/// A pool's, with the submitter on one core and the workers on another, or all on one.
pub fn asleep<P: Pool>(pool: &P, workers: usize, two_cores: bool) -> Sample {
    pin(0);
    pin_workers(pool, workers, usize::from(two_cores));
    measure(|| assert_eq!(pool.apply(|| 7), 7))
}

/// Two threads that wake each other, and nothing else: what it takes at least.
pub fn futex(two_cores: bool) -> Sample {
    static WORD: AtomicU32 = AtomicU32::new(0);
    pin(0);
    thread::spawn(move || {
        pin(usize::from(two_cores));
        loop {
            wait(&WORD, 0);
            if WORD.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                wake(&WORD);
            }
            wait(&WORD, 2);
        }
    });
    measure(|| {
        WORD.store(1, Ordering::Release);
        wake(&WORD);
        while WORD.load(Ordering::Acquire) != 2 {
            wait(&WORD, 1);
        }
        WORD.store(0, Ordering::Release);
        wake(&WORD);
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
