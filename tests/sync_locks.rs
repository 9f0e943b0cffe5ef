//! What locks promise: one at a time at the value, or many that read; nothing stays locked; nobody waits for ever.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::sync::{Barrier, Event, Lock, LockGuard, ReentrantLock, RwLock, WriteGuard};

/// Long enough for any thread to get its turn.
const AGES: Duration = Duration::from_secs(60);
/// Nobody will come in this time.
const MOMENT: Duration = Duration::from_millis(5);

/// Lets the others run until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < AGES, "never happened: {what}");
        thread::yield_now();
    }
}

/// Two threads × `times` updates that each leave the balance as it was, unless another one comes in between.
fn balanced(times: u32) {
    let balance = Lock::new(0_i64);
    let change_it = |amount: i64| {
        for _ in 0..times {
            let mut balance = balance.lock();
            let seen = std::hint::black_box(*balance);
            *balance = seen + amount;
            let seen = std::hint::black_box(*balance);
            *balance = seen - amount;
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| change_it(5));
        scope.spawn(|| change_it(8));
    });
    assert_eq!(balance.into_inner(), 0);
}

#[test]
fn ten_thousand_balanced_updates_by_two_threads_leave_nothing() {
    (0..10).for_each(|_| balanced(10_000));
}

#[test]
fn ten_million_balanced_updates_by_two_threads_leave_nothing() {
    balanced(10_000_000);
}

#[test]
fn ten_threads_that_print_under_one_lock_never_interleave() {
    static PRINTED: Lock<Vec<u8>> = Lock::new(Vec::new());
    thread::scope(|scope| {
        for printer in 0..10 {
            scope.spawn(move || {
                for line in 0..20 {
                    let mut out = PRINTED.lock();
                    for letter in format!("printer {printer} line {line}\n").into_bytes() {
                        out.push(letter);
                        thread::yield_now();
                    }
                }
            });
        }
    });
    let printed = String::from_utf8(PRINTED.lock().clone()).unwrap();
    for printer in 0..10 {
        // Each printer's lines are whole, and in its order.
        let start = format!("printer {printer} ");
        let lines: Vec<_> = printed.lines().filter(|line| line.starts_with(&start)).collect();
        let expected: Vec<_> = (0..20).map(|line| format!("printer {printer} line {line}")).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(printed.lines().count(), 200);
}

#[test]
fn a_held_lock_is_refused_at_once_or_after_the_time_and_taken_when_it_is_free() {
    let lock = Lock::new(1);
    let held = lock.lock();
    assert!(lock.is_locked() && lock.try_lock().is_none());
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_lock().is_none());
            assert!(lock.lock_timeout(Duration::ZERO).is_none());
            let start = Instant::now();
            assert!(lock.lock_timeout(MOMENT).is_none());
            assert!(start.elapsed() >= MOMENT, "it waited");
        });
    });
    thread::scope(|scope| {
        let waiter = scope.spawn(|| *lock.lock_timeout(Duration::MAX).expect("for ever"));
        drop(held);
        assert_eq!(waiter.join().unwrap(), 1);
    });
    assert!(!lock.is_locked() && lock.try_lock().is_some());
    assert!(lock.lock_timeout(Duration::ZERO).is_some(), "it is free");
}

#[test]
fn a_panic_of_the_holder_frees_every_kind_of_lock() {
    let (lock, reentrant, shared) = (Lock::new(0), ReentrantLock::new(Cell::new(0)), RwLock::new(0));
    for _ in 0..3 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut held = lock.lock();
            let (again, twice) = (reentrant.lock(), reentrant.lock());
            let mut written = shared.write();
            *held += 1;
            twice.set(again.get() + 1);
            *written += 1;
            panic!("while all are held");
        }));
        assert!(panicked.is_err());
        let read = catch_unwind(AssertUnwindSafe(|| {
            let _reading = shared.read();
            panic!("while it is read");
        }));
        assert!(read.is_err());
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(*lock.try_lock().expect("free"), 3, "not poisoned: the value is as the panic left it");
            assert_eq!(reentrant.try_lock().expect("free").get(), 3);
            assert_eq!(*shared.try_write().expect("free"), 3);
        });
    });
}

#[test]
fn a_fair_unlock_hands_the_lock_to_the_one_that_waits() {
    let (lock, waits) = (Lock::new(Vec::new()), AtomicBool::new(false));
    let mut held = lock.lock();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waits.store(true, Ordering::SeqCst);
            lock.lock().push("waiter");
        });
        until("the waiter comes", || waits.load(Ordering::SeqCst));
        // Whether it sleeps by now is not known; either way each hand-over lets it in.
        let start = Instant::now();
        while held.is_empty() && start.elapsed() < AGES {
            LockGuard::unlock_fair(held);
            held = lock.lock();
        }
        assert_eq!(*held, ["waiter"]);
        drop(held);
        waiter.join().unwrap();
    });
}

#[test]
fn nobody_waits_for_ever_behind_threads_that_take_it_again_and_again() {
    // Two threads that hardly ever let it go; a third takes it a hundred times all the same.
    let (lock, stop) = (Lock::new(0_u64), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut held = lock.lock();
                    (0..100).for_each(|_| *held = std::hint::black_box(*held + 1));
                }
            });
        }
        let taken = (0..100).filter(|_| lock.lock_timeout(AGES).is_some()).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(taken, 100);
    });
}

#[test]
fn a_reentrant_lock_is_free_for_others_only_when_every_guard_is_dropped() {
    let lock = ReentrantLock::new(Cell::new(0));
    let free_elsewhere = || {
        thread::scope(|scope| scope.spawn(|| lock.try_lock().map(|_| assert!(lock.is_held_here())).is_some()).join())
    };
    let first = lock.lock();
    let second = lock.try_lock().expect("mine already");
    let third = lock.lock_timeout(Duration::ZERO).expect("mine already");
    third.set(7);
    assert_eq!((first.get(), lock.is_held_here(), lock.is_locked()), (7, true, true));
    drop(first);
    assert!(!free_elsewhere().unwrap());
    drop(third);
    assert!(!free_elsewhere().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!lock.is_held_here());
            assert!(lock.lock_timeout(MOMENT).is_none());
        });
    });
    drop(second);
    assert!(free_elsewhere().unwrap());
    assert!(!lock.is_locked() && !lock.is_held_here());
    assert_eq!(lock.into_inner().get(), 7);
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let (shared, inside, meet) = (RwLock::new(0_u64), AtomicUsize::new(0), Barrier::new(3));
    thread::scope(|scope| {
        // Three readers are inside at the same time, or this never ends.
        for _ in 0..3 {
            scope.spawn(|| {
                let value = shared.read();
                meet.wait_timeout(AGES).unwrap();
                assert!(shared.try_write().is_none() && shared.is_locked());
                meet.wait_timeout(AGES).unwrap();
                assert_eq!(*value, 0);
            });
        }
    });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let mut value = shared.write();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two writers");
                    *value += 1;
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let value = shared.read();
                    assert_eq!(inside.load(Ordering::SeqCst), 0, "a writer beside a reader");
                    drop(value);
                }
            });
        }
    });
    assert_eq!(shared.into_inner(), 4_000);
}

#[test]
fn a_waiting_writer_comes_before_new_readers_but_not_before_one_that_reads_again() {
    let shared = RwLock::new(0);
    let reading = shared.read();
    thread::scope(|scope| {
        let writer = scope.spawn(|| *shared.write() = 1);
        // As soon as it waits, new readers are refused.
        until("the writer waits", || shared.try_read().is_none());
        assert!(shared.read_timeout(MOMENT).is_none(), "the writer waits before it");
        assert_eq!(*shared.read_again(), 0, "a thread that reads may read again");
        drop(reading);
        writer.join().unwrap();
    });
    assert_eq!(*shared.read(), 1);
}

#[test]
fn a_written_value_can_be_read_on_without_a_gap() {
    let shared = RwLock::new(1);
    let mut written = shared.write();
    assert!(shared.try_read().is_none() && shared.try_write().is_none());
    assert!(shared.read_timeout(MOMENT).is_none() && shared.write_timeout(MOMENT).is_none());
    *written = 2;
    let read = WriteGuard::downgrade(written);
    assert_eq!((*read, *shared.try_read().expect("readers share")), (2, 2));
    assert!(shared.try_write().is_none() && shared.write_timeout(MOMENT).is_none());
    drop(read);
    *shared.write_timeout(AGES).unwrap() = 3;
    assert_eq!(shared.read_timeout(AGES).map(|value| *value), Some(3));
}

#[test]
fn locks_are_shown_without_waiting_and_can_be_statics() {
    static LOCK: Lock<i32> = Lock::new(1);
    static REENTRANT: ReentrantLock<Cell<i32>> = ReentrantLock::new(Cell::new(2));
    static SHARED: RwLock<i32> = RwLock::new(3);
    assert_eq!(format!("{LOCK:?} {REENTRANT:?} {SHARED:?}"), "Lock(1) ReentrantLock(Cell { value: 2 }) RwLock(3)");
    let (lock, _reentrant, shared) = (LOCK.lock(), REENTRANT.lock(), SHARED.write());
    assert_eq!(format!("{lock} {lock:?} {shared} {shared:?}"), "1 1 3 3");
    let shown = thread::spawn(|| format!("{LOCK:?} {REENTRANT:?} {SHARED:?}")).join().unwrap();
    assert_eq!(shown, "Lock(held) ReentrantLock(held) RwLock(written)");
    // Unsized values, defaults, conversions.
    let slice: &Lock<[u8]> = &Lock::new([1, 2, 3]);
    assert_eq!(slice.lock().len(), 3);
    let mut text = Lock::from("mill".to_owned());
    text.get_mut().push_str("pond");
    assert_eq!(text.into_inner(), "millpond");
    assert_eq!(*Lock::<u8>::default().lock() + *RwLock::<u8>::default().read(), 0);
    assert_eq!(*ReentrantLock::<u8>::default().lock(), 0);
    let (mut shared, mut reentrant) = (RwLock::from(1), ReentrantLock::from(1));
    (*shared.get_mut(), *reentrant.get_mut()) = (2, 2);
    assert_eq!(*shared.read(), *reentrant.lock());
}

#[test]
fn what_may_be_sent_and_shared_is() {
    fn both<T: Send + Sync>() {}
    both::<Lock<Cell<u8>>>();
    both::<ReentrantLock<Cell<u8>>>();
    both::<RwLock<Vec<u8>>>();
    both::<millpond::sync::Semaphore>();
    both::<Event>();
    both::<millpond::sync::Condition>();
    both::<Barrier>();
    fn shared<T: Sync>() {}
    shared::<LockGuard<'_, u8>>();
    fn sent<T: Send>() {}
    sent::<millpond::sync::Permit<'_>>();
}
