//! Loom explores semaphores, events, conditions and barriers: every order of their steps, with two and three threads.
//!
//! A lost wake-up shows as a deadlock, which loom reports. A wait with an end may be over whenever it is scheduled.

use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::error::{BarrierError, SemaphoreError};
use super::permits::Permits;
use super::{Barrier, Condition, Event};
use crate::primitive::model::explore;
use crate::primitive::{AtomicUsize, Deadline, Mutex, MutexGuard, Ordering, unlocked};

/// At three preemptions.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(3, least, check);
}

fn some_time() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

/// What one thread at a time may touch: loom reports two without an order between them.
struct Witness(UnsafeCell<usize>);

// SAFETY: loom watches every access.
unsafe impl Sync for Witness {}

impl Witness {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn write(&self) {
        // SAFETY: loom reports it if anybody else is at it.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn read(&self) -> usize {
        // SAFETY: loom reports it if anybody writes meanwhile.
        self.0.with(|count| unsafe { *count })
    }
}

/// Lets the others run until it is so.
fn until(so: impl Fn() -> bool) {
    while !so() {
        thread::yield_now();
    }
}

#[test]
fn one_permit_lets_one_thread_at_a_time_in_and_wakes_the_next() {
    model(20, || {
        let shared = Arc::new((Permits::new(1, 1), Witness::new()));
        let enter = |shared: &(Permits, Witness)| {
            shared.0.take(1, Deadline::NEVER).unwrap();
            shared.1.write();
            shared.0.give(1);
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || enter(&shared))
            })
            .collect();
        enter(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.1.read(), 3);
        assert_eq!(shared.0.figures().available, 1, "P1");
    });
}

#[test]
fn a_permit_granted_to_one_that_gives_up_at_once_is_not_lost() {
    // Few: almost all of it happens under one lock.
    model(3, || {
        let permits = Arc::new(Permits::new(1, 1));
        permits.try_take(1).unwrap();
        let impatient = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || match permits.take(1, some_time()) {
                Ok(()) => permits.give(1),
                Err(error) => assert!(matches!(error, SemaphoreError::NoPermits { wanted: 1, .. })),
            })
        };
        permits.give(1);
        impatient.join().unwrap();
        let figures = permits.figures();
        assert_eq!((figures.available, figures.total, figures.waiting), (1, 1, 0), "P1");
    });
}

#[test]
fn one_that_gives_up_lets_those_behind_it_move_up() {
    model(20, || {
        let permits = Arc::new(Permits::new(2, 2));
        permits.try_take(1).unwrap();
        let impatient = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.take(2, some_time()).unwrap_err())
        };
        let patient = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.take(1, Deadline::NEVER).unwrap())
        };
        // Nobody gives anything back meanwhile: only the one that gives up can let the other one through (P2).
        patient.join().unwrap();
        impatient.join().unwrap();
        let figures = permits.figures();
        assert_eq!((figures.available, figures.waiting), (0, 0));
    });
}

#[test]
fn few_permits_do_not_pass_one_that_waits_for_many() {
    model(20, || {
        let permits = Arc::new(Permits::new(2, 2));
        permits.try_take(1).unwrap();
        let many = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.take(2, Deadline::NEVER).unwrap())
        };
        let few = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.try_take(1).is_ok())
        };
        until(|| permits.figures().waiting == 1 || permits.figures().available < 1);
        let queued = permits.figures().waiting == 1 && permits.figures().available == 1;
        let passed = permits.try_take(1).is_ok();
        assert!(!(queued && passed), "P3: it was passed by one that came later");
        let given = 1 + usize::from(passed) + usize::from(few.join().unwrap());
        permits.give(given);
        many.join().unwrap();
        assert_eq!(permits.figures().available, 0);
    });
}

#[test]
fn close_sends_away_all_who_wait_and_loses_no_permit() {
    for given_before in [false, true] {
        model(20, move || {
            let permits = Arc::new(Permits::new(1, 1));
            permits.try_take(1).unwrap();
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let permits = Arc::clone(&permits);
                    thread::spawn(move || match permits.take(1, Deadline::NEVER) {
                        Ok(()) => permits.give(1),
                        Err(error) => assert_eq!(error, SemaphoreError::Closed),
                    })
                })
                .collect();
            if given_before {
                permits.give(1);
            }
            permits.close();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            if !given_before {
                permits.give(1);
            }
            let figures = permits.figures();
            assert_eq!((figures.available, figures.waiting), (1, 0), "P1, P4");
        });
    }
}

#[test]
fn whoever_waits_when_it_is_set_goes_on_even_if_it_is_cleared_at_once() {
    model(4, || {
        let event = Arc::new(Event::new());
        let waiter = {
            let event = Arc::clone(&event);
            thread::spawn(move || event.wait())
        };
        until(|| event.waiting() == 1);
        event.set();
        event.clear();
        waiter.join().unwrap();
        assert!(!event.is_set() && event.waiting() == 0, "E1");
    });
}

#[test]
fn what_was_done_before_an_event_is_seen_by_all_who_find_it_set() {
    model(20, || {
        let shared = Arc::new((Event::new(), Witness::new()));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.wait();
                assert_eq!(shared.1.read(), 1, "E2");
            })
        };
        let looker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                if shared.0.is_set() {
                    assert_eq!(shared.1.read(), 1, "E2");
                }
            })
        };
        shared.1.write();
        shared.0.set();
        waiter.join().unwrap();
        looker.join().unwrap();
    });
}

#[test]
fn an_event_set_while_one_gives_up_harms_nobody() {
    model(4, || {
        let event = Arc::new(Event::new());
        let waiters = [some_time(), Deadline::NEVER].map(|end| {
            let event = Arc::clone(&event);
            thread::spawn(move || match end {
                Deadline::Never => event.wait(),
                // Either answer is true of some instant.
                Deadline::Some => drop(event.wait_timeout(Duration::from_secs(1))),
            })
        });
        event.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(event.waiting(), 0);
    });
}

type Locked = (Mutex<usize>, Condition);

fn wait(condition: &Condition, guard: &mut MutexGuard<'_, usize>) {
    condition.sleep(Deadline::NEVER, |asleep| unlocked(guard, asleep));
}

#[test]
fn a_change_under_the_lock_is_not_slept_through() {
    // Few: almost all of it happens under one lock.
    model(3, || {
        let shared: Arc<Locked> = Arc::new((Mutex::new(0), Condition::new()));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut value = shared.0.lock();
                while *value == 0 {
                    wait(&shared.1, &mut value);
                }
            })
        };
        *shared.0.lock() = 1;
        // After the lock was given back: C1.
        shared.1.notify_one();
        waiter.join().unwrap();
        assert_eq!(shared.1.waiting(), 0);
    });
}

#[test]
fn each_notification_wakes_one_and_one_to_all_wakes_all() {
    for all in [false, true] {
        model(20, move || {
            let shared: Arc<Locked> = Arc::new((Mutex::new(0), Condition::new()));
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let mut sacks = shared.0.lock();
                        while *sacks == 0 {
                            wait(&shared.1, &mut sacks);
                        }
                        *sacks -= 1;
                    })
                })
                .collect();
            if all {
                *shared.0.lock() = 2;
                shared.1.notify_all();
            } else {
                for _ in 0..2 {
                    *shared.0.lock() += 1;
                    shared.1.notify_one();
                }
            }
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!((*shared.0.lock(), shared.1.waiting()), (0, 0));
        });
    }
}

#[test]
fn nobody_passes_a_barrier_before_all_are_there_turn_after_turn() {
    model(20, || {
        let shared = Arc::new((Barrier::new(2), AtomicUsize::new(0)));
        let pass = |shared: &(Barrier, AtomicUsize)| {
            let mut led = 0;
            for turn in 1..=2 {
                // Relaxed: the barrier orders them.
                shared.1.fetch_add(1, Ordering::Relaxed);
                led += usize::from(shared.0.wait().unwrap().is_leader());
                assert!(shared.1.load(Ordering::Relaxed) >= 2 * turn, "B1: passed before all were there");
            }
            led
        };
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || pass(&shared))
        };
        let led = pass(&shared);
        assert_eq!(led + other.join().unwrap(), 2, "each turn has one leader");
    });
}

#[test]
fn a_turn_ends_the_same_for_all_that_are_in_it() {
    model(20, || {
        let barrier = Arc::new(Barrier::new(2));
        let impatient = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait_timeout(Duration::from_secs(1)))
        };
        let aborting = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.abort())
        };
        let mine = barrier.wait();
        let other = impatient.join().unwrap();
        aborting.join().unwrap();
        assert_eq!(mine.is_ok(), other.is_ok(), "B1: {mine:?}, {other:?}");
        assert!(barrier.is_broken() && barrier.waiting() == 0, "B3");
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

#[test]
fn one_that_gives_up_takes_all_of_its_turn_with_it() {
    model(4, || {
        let barrier = Arc::new(Barrier::new(3));
        let impatient = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait_timeout(Duration::from_secs(1)))
        };
        // The third never comes: nobody but the impatient one can end this wait.
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        assert!(matches!(impatient.join().unwrap(), Err(BarrierError::TimedOut { parties: 3, .. })));
        assert!(barrier.is_broken() && barrier.waiting() == 0, "B3");
    });
}

#[test]
fn a_reset_breaks_the_turn_that_fills_and_the_next_one_passes() {
    model(20, || {
        let barrier = Arc::new(Barrier::new(2));
        let wait = |barrier: &Arc<Barrier>| {
            let barrier = Arc::clone(barrier);
            thread::spawn(move || barrier.wait())
        };
        let early = wait(&barrier);
        until(|| barrier.waiting() == 1);
        barrier.reset();
        let late = wait(&barrier);
        assert!(barrier.wait().is_ok(), "as new");
        assert!(late.join().unwrap().is_ok());
        // However late it wakes, and whatever its barrier has done since (B2).
        assert_eq!(early.join().unwrap(), Err(BarrierError::Broken));
    });
}
