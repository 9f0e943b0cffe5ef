//! A lock that processes share.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use millpond::ipc::{Barrier, Lock};
use millpond::process::Process;

use crate::bare::shared;
use crate::two::{Forked, each, pin};

const TIMES: usize = 1_000_000;

fn hammer(lock: Lock<u64>, start: Barrier, processor: usize, times: usize) {
    pin(processor);
    start.wait().expect("all come");
    (0..times).for_each(|_| *lock.lock().expect("the lock") += 1);
    start.wait().expect("all come");
}
millpond::tasks![hammer];

#[repr(C)]
struct Robust {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    value: UnsafeCell<u64>,
    arrived: AtomicU32,
    left: AtomicU32,
}
// SAFETY: the mutex guards the value.
unsafe impl Sync for Robust {}

impl Robust {
    fn new() -> &'static Self {
        let robust: &Self = shared();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the attributes.
        unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
        // SAFETY: initialised.
        unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: initialised.
        unsafe { libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) };
        // SAFETY: initialises the mutex, which nobody uses yet.
        unsafe { libc::pthread_mutex_init(robust.mutex.get().cast(), attributes.as_ptr()) };
        robust
    }

    fn add(&self) {
        let mutex = self.mutex.get().cast();
        // SAFETY: initialised.
        assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
        // SAFETY: locked.
        unsafe { *self.value.get() += 1 };
        // SAFETY: locked by this thread.
        unsafe { libc::pthread_mutex_unlock(mutex) };
    }

    fn meet(&self, word: &AtomicU32, all: u32) {
        word.fetch_add(1, Ordering::SeqCst);
        while word.load(Ordering::SeqCst) < all {
            std::thread::yield_now();
        }
    }
}

/// So many processes lock and unlock, as many times altogether whatever their number: the time for one.
pub fn run(contestant: &str, processes: usize) -> f64 {
    let times = TIMES / processes;
    match contestant {
        "millpond" => {
            let (lock, start) = (Lock::new(0).expect("a lock"), Barrier::new(processes).expect("a barrier"));
            let others: Vec<_> = (1..processes)
                .map(|n| Process::spawn(hammer, (lock.clone(), start.clone(), n, times)).expect("a process"))
                .collect();
            pin(0);
            start.wait().expect("all come");
            let clock = Instant::now();
            (0..times).for_each(|_| *lock.lock().expect("the lock") += 1);
            start.wait().expect("all come");
            let time = each(clock.elapsed(), times * processes);
            others.iter().for_each(|other| other.join().expect("it ends"));
            assert_eq!(*lock.lock().expect("the lock"), (times * processes) as u64);
            time
        }
        "pthread-robust" => {
            let robust = Robust::new();
            let all = processes as u32;
            let hammer = move || {
                robust.meet(&robust.arrived, all);
                let clock = Instant::now();
                (0..times).for_each(|_| robust.add());
                robust.meet(&robust.left, all);
                clock.elapsed()
            };
            let others: Vec<_> = (1..processes)
                .map(|n| {
                    Forked::new(move || {
                        pin(n);
                        hammer();
                    })
                })
                .collect();
            pin(0);
            let time = each(hammer(), times * processes);
            others.into_iter().for_each(Forked::wait);
            time
        }
        other => panic!("no such contestant: {other}"),
    }
}
