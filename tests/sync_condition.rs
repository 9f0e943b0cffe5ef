//! What a condition promises: a change under the lock is never slept through, and a time limit is kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::sync::{Condition, Lock};

/// Long enough for any thread to get its turn.
const AGES: Duration = Duration::from_secs(60);
/// Nobody will come in this time.
const MOMENT: Duration = Duration::from_millis(5);

/// Lets the others run until so many wait.
fn until_waiting(condition: &Condition, threads: usize) {
    let start = Instant::now();
    while condition.waiting() != threads {
        assert!(start.elapsed() < AGES, "{} wait, not {threads}", condition.waiting());
        thread::yield_now();
    }
}

#[test]
fn sacks_go_through_a_mill_with_room_for_one() {
    let (mill, filled, emptied) = (Lock::new(None), Condition::new(), Condition::new());
    let ground = Lock::new(vec![0_u8; 4 * 500]);
    thread::scope(|scope| {
        for farmer in 0..4 {
            let (mill, filled, emptied) = (&mill, &filled, &emptied);
            scope.spawn(move || {
                for sack in 0..500 {
                    let mut place = mill.lock();
                    emptied.wait_while(&mut place, |place| place.is_some());
                    *place = Some(farmer * 500 + sack);
                    drop(place);
                    // After the lock was given back.
                    filled.notify_one();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let mut place = mill.lock();
                    filled.wait_while(&mut place, |place| place.is_none());
                    let sack: usize = place.take().unwrap();
                    // While it is held.
                    emptied.notify_one();
                    drop(place);
                    ground.lock()[sack] += 1;
                }
            });
        }
    });
    assert!(ground.into_inner().iter().all(|times| *times == 1), "each sack is ground once");
    assert_eq!((filled.waiting(), emptied.waiting()), (0, 0));
}

#[test]
fn one_notification_wakes_one_and_one_to_all_wakes_all() {
    let (sacks, changed, taken) = (Lock::new(0), Condition::new(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut sacks = sacks.lock();
                changed.wait_while(&mut sacks, |sacks| *sacks == 0);
                *sacks -= 1;
                taken.fetch_add(1, Ordering::SeqCst);
            });
        }
        until_waiting(&changed, 4);
        *sacks.lock() += 1;
        changed.notify_one();
        until_waiting(&changed, 3);
        *sacks.lock() += 3;
        changed.notify_all();
    });
    assert_eq!((sacks.into_inner(), taken.into_inner(), changed.waiting()), (0, 4, 0));
}

#[test]
fn a_bare_wait_lets_go_of_the_lock_and_has_it_again() {
    let (value, changed) = (Lock::new(0), Condition::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            until_waiting(&changed, 1);
            *value.lock() = 1;
            changed.notify_one();
        });
        let mut guard = value.lock();
        while *guard == 0 {
            changed.wait(&mut guard);
        }
        assert!(value.try_lock().is_none(), "it has the lock again");
        *guard = 2;
    });
    assert_eq!(value.into_inner(), 2);
}

#[test]
fn a_time_limit_is_kept_and_told() {
    let (value, changed) = (Lock::new(0), Condition::new());
    let mut guard = value.lock();
    let start = Instant::now();
    assert!(!changed.wait_while_timeout(&mut guard, MOMENT, |value| *value == 0), "it still holds");
    assert!(start.elapsed() >= MOMENT);
    assert!(!changed.wait_while_timeout(&mut guard, Duration::ZERO, |value| *value == 0));
    assert!(changed.wait_while_timeout(&mut guard, Duration::ZERO, |value| *value == 1), "it never held");
    assert!(!changed.wait_timeout(&mut guard, Duration::ZERO));
    thread::scope(|scope| {
        scope.spawn(|| {
            until_waiting(&changed, 1);
            *value.lock() = 1;
            changed.notify_all();
        });
        assert!(changed.wait_while_timeout(&mut guard, Duration::MAX, |value| *value == 0), "for ever");
        assert_eq!(*guard, 1);
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            // Again and again, as a wait may be late, or end for no reason.
            until_waiting(&changed, 1);
            *value.lock() = 2;
            changed.notify_one();
        });
        let mut notified = true;
        while *guard == 1 && notified {
            notified = changed.wait_timeout(&mut guard, AGES);
        }
        assert!(notified && *guard == 2);
    });
}

#[test]
fn threads_under_different_locks_wait_for_the_same_condition() {
    // The usual condition variables panic at this, or do worse.
    let (one, other, changed) = (Lock::new(false), Lock::new(0), Condition::new());
    thread::scope(|scope| {
        scope.spawn(|| changed.wait_while(&mut one.lock(), |go| !*go));
        scope.spawn(|| changed.wait_while(&mut other.lock(), |go| *go == 0));
        until_waiting(&changed, 2);
        *one.lock() = true;
        *other.lock() = 1;
        changed.notify_all();
    });
    assert_eq!(changed.waiting(), 0);
}

#[test]
fn a_question_that_panics_leaves_the_lock_free() {
    let (value, changed) = (Lock::new(1), Condition::default());
    let panicked = thread::scope(|scope| {
        scope
            .spawn(|| changed.wait_while(&mut value.lock(), |value| if *value == 1 { panic!("odd") } else { false }))
            .join()
    });
    assert!(panicked.is_err());
    assert_eq!((value.try_lock().map(|value| *value), changed.waiting()), (Some(1), 0));
}

#[test]
fn notifying_nobody_does_nothing_and_a_condition_can_be_a_static() {
    static CHANGED: Condition = Condition::new();
    CHANGED.notify_one();
    CHANGED.notify_all();
    assert_eq!(format!("{CHANGED:?}"), "Condition { waiting: 0 }");
    let lock = Lock::new(());
    assert!(!CHANGED.wait_timeout(&mut lock.lock(), Duration::ZERO), "earlier notifications don't count");
}
