//! The lock, the semaphore, the event and the barrier.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::shm::flag::{Arrival, Flag, Parties};
use crate::shm::lock::{Found, Holder, LockWord};
use crate::shm::permits::{Accounts, NoPermit, Permits};

// ── the lock ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn holder(me: u16) -> Holder {
    Holder::new(me, 1)
}

fn lock(word: &LockWord, me: u16) -> Found {
    word.try_lock(holder(me)).unwrap_or_else(|| {
        word.lock_slow(holder(me), 0, || Ok::<_, ()>(core::time::Duration::ZERO)).unwrap_or(Found::Poisoned)
    })
}

#[test]
fn a_lock_has_one_holder_and_wakes_the_next() {
    model(50, || {
        let (word, value) = (Arc::new(LockWord::new()), Arc::new(UnsafeCell::new(0_u32)));
        let lockers: Vec<_> = (1..=2)
            .map(|me| {
                let (word, value) = (Arc::clone(&word), Arc::clone(&value));
                thread::spawn(move || {
                    assert_eq!(lock(&word, me), Found::Clean);
                    // SAFETY: loom reports it if anybody else is at it.
                    value.with_mut(|value| unsafe { *value += 1 });
                    word.unlock(false);
                })
            })
            .collect();
        assert_eq!(lock(&word, 3), Found::Clean);
        // SAFETY: as above.
        value.with_mut(|value| unsafe { *value += 1 });
        word.unlock(false);
        lockers.into_iter().for_each(|locker| locker.join().unwrap());
        // SAFETY: all are joined.
        assert_eq!(value.with(|value| unsafe { *value }), 3, "L1");
    });
}

/// One dies with the lock, another waits for it, a third sweeps: exactly one is told of the death.
#[test]
fn the_holders_death_is_told_to_one_who_waits() {
    model(50, || {
        let (word, value) = (Arc::new(LockWord::new()), Arc::new(UnsafeCell::new(0_u32)));
        let change = |value: &UnsafeCell<u32>| {
            // SAFETY: loom reports it if anybody else is at it, also one that died.
            value.with_mut(|value| unsafe { *value += 1 });
        };
        let dying = {
            let (word, value) = (Arc::clone(&word), Arc::clone(&value));
            thread::spawn(move || {
                let held = lock(&word, 1) == Found::Clean;
                change(&value);
                held
            })
        };
        let waiter = {
            let (word, value) = (Arc::clone(&word), Arc::clone(&value));
            thread::spawn(move || {
                let found = lock(&word, 2);
                change(&value);
                word.unlock(found != Found::Clean);
                found
            })
        };
        let held = dying.join().unwrap();
        word.sweep(holder(1));
        let found = waiter.join().unwrap();
        assert!(held);
        // It had the lock before the dead one did, or after: then it was told.
        let after = lock(&word, 3);
        let told = [found, after].iter().filter(|found| **found == Found::Died).count();
        assert_eq!(told, 1, "L2: {found:?}, then {after:?}");
        if found == Found::Died {
            assert_eq!(after, Found::Poisoned, "L3");
        }
        word.mend();
        word.unlock(false);
        assert_eq!(lock(&word, 3), Found::Clean);
    });
}

/// Waits for the lock, and gives it back: what it found.
fn waiter(word: &Arc<LockWord>) -> thread::JoinHandle<Found> {
    let word = Arc::clone(word);
    thread::spawn(move || {
        let found = lock(&word, 2);
        word.unlock(false);
        found
    })
}

/// One that was woken dies before it takes the lock: the sweep wakes the other.
#[test]
fn a_wake_up_that_a_dead_one_got_reaches_another() {
    model(50, || {
        let word = Arc::new(LockWord::new());
        assert_eq!(lock(&word, 3), Found::Clean);
        let waiter = waiter(&word);
        let dying = {
            let word = Arc::clone(&word);
            // Sleeps once, wakes up, and is dead.
            thread::spawn(move || {
                let mut sleeps = 0;
                let _ = word.try_lock(holder(1)).map_or_else(
                    || {
                        word.lock_slow(holder(1), 0, || {
                            sleeps += 1;
                            if sleeps > 1 { Err(()) } else { Ok(core::time::Duration::ZERO) }
                        })
                    },
                    Ok,
                );
            })
        };
        word.unlock(false);
        dying.join().unwrap();
        word.sweep(holder(1));
        assert_ne!(waiter.join().unwrap(), Found::Poisoned, "L4");
    });
}

/// One of two sleepers is woken, finds the lock taken again, and its time is over: the other is woken by the next unlock.
#[test]
fn who_gives_up_after_a_wake_up_leaves_none_asleep_beside_a_free_lock() {
    let met = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let ends = std::sync::Arc::clone(&met);
    model(50, move || {
        let word = Arc::new(LockWord::new());
        assert_eq!(lock(&word, 3), Found::Clean);
        let waiter = waiter(&word);
        let hurried = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                let mut sleeps = 0;
                let wait = || {
                    sleeps += 1;
                    if sleeps > 1 { Err(()) } else { Ok(core::time::Duration::ZERO) }
                };
                let found = word.lock_slow(holder(1), 0, wait);
                if found.is_ok() {
                    word.unlock(false);
                }
                found
            })
        };
        word.unlock(false);
        // Quicker than the one that was just woken, at times.
        let again = word.try_lock(holder(3));
        if again.is_some() {
            word.unlock(false);
        }
        assert_eq!(waiter.join().unwrap(), Found::Clean, "L4");
        ends.lock().unwrap().insert((again.is_some(), hurried.join().unwrap().is_ok()));
    });
    let met = met.lock().unwrap();
    assert!([(true, false), (true, true), (false, true)].iter().all(|end| met.contains(end)), "it met {met:?} only");
}

// ── the semaphore ──────────────────────────────────────────────────────────────────────────────────────────────────

struct Seats {
    word: AtomicU64,
    accounts: [AtomicU64; 4],
    forgotten: [AtomicU32; 4],
}

impl Accounts for &Seats {
    fn account(&self, member: u16) -> &AtomicU64 {
        &self.accounts[usize::from(member) % 4]
    }

    fn forgotten(&self, member: u16) -> &AtomicU32 {
        &self.forgotten[usize::from(member) % 4]
    }
}

impl Seats {
    fn new(permits: u32) -> Arc<Self> {
        let seats = Self {
            word: AtomicU64::new(0),
            accounts: [(); 4].map(|()| AtomicU64::new(0)),
            forgotten: [(); 4].map(|()| AtomicU32::new(0)),
        };
        seats.permits().add(permits, 0).unwrap();
        Arc::new(seats)
    }

    fn permits(&self) -> Permits<'_, &Self> {
        Permits { word: &self.word, accounts: self }
    }
}

/// One takes a permit and dies at some step on the way; the others take and give; the sweep gets back what it had.
#[test]
fn a_dead_ones_permits_come_back() {
    for dies_after_its_deed in [false, true] {
        model(50, move || {
            let seats = Seats::new(2);
            let dying = {
                let seats = Arc::clone(&seats);
                thread::spawn(move || {
                    if dies_after_its_deed {
                        // The deed, and not the entry into its account: that is what others do for it.
                        seats.permits().take_unsettled(1).unwrap();
                    } else {
                        seats.permits().take(1).unwrap();
                    }
                })
            };
            let living = {
                let seats = Arc::clone(&seats);
                thread::spawn(move || {
                    let took = seats.permits().take(2);
                    if took.is_ok() {
                        seats.permits().give(2).unwrap();
                    }
                    took
                })
            };
            dying.join().unwrap();
            seats.permits().sweep(1);
            assert!(matches!(living.join().unwrap(), Ok(()) | Err(NoPermit::NotNow)));
            assert_eq!(seats.permits().left(), 2, "P1: a permit was lost, or made");
            assert_eq!([1, 2].map(|member| seats.permits().held(member)), [0, 0], "P2");
        });
    }
}

// ── the event and the barrier ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_event_lets_go_whoever_waited_though_it_is_cleared() {
    model(15, || {
        let (flag, value) = (Arc::new(Flag::new()), Arc::new(UnsafeCell::new(0_u32)));
        let waiter = {
            let (flag, value) = (Arc::clone(&flag), Arc::clone(&value));
            let seen = flag.look();
            thread::spawn(move || {
                while !flag.passed(seen) {
                    let announced = flag.signal().announce();
                    if flag.passed(seen) {
                        break;
                    }
                    flag.signal().sleep(announced, None);
                }
                // SAFETY: loom reports it if the other is still at it.
                assert_eq!(value.with(|value| unsafe { *value }), 1, "what came before it was set is seen");
            })
        };
        // SAFETY: as above.
        value.with_mut(|value| unsafe { *value = 1 });
        flag.set();
        flag.clear();
        waiter.join().unwrap();
    });
}

/// One says that there is something by setting what is set already; the other clears it, looks, and waits.
#[test]
fn nothing_is_missed_that_was_there_before_an_event_was_set_again() {
    model(15, || {
        let (flag, there) = (Arc::new(Flag::new()), Arc::new(AtomicU32::new(0)));
        flag.set();
        let other = {
            let (flag, there) = (Arc::clone(&flag), Arc::clone(&there));
            thread::spawn(move || {
                // Relaxed, here and below: the event is to order it.
                there.store(1, Ordering::Relaxed);
                flag.set();
            })
        };
        flag.clear();
        while there.load(Ordering::Relaxed) == 0 {
            let seen = flag.look();
            while !Flag::is_set(seen) && !flag.passed(seen) {
                let announced = flag.signal().announce();
                if flag.passed(seen) {
                    break;
                }
                flag.signal().sleep(announced, None);
            }
            assert_eq!(there.load(Ordering::Relaxed), 1, "it was set again");
        }
        other.join().unwrap();
    });
}

#[test]
fn a_barrier_lets_both_through_twice() {
    model(20, || {
        let (parties, values) = (Arc::new(Parties::new()), Arc::new([UnsafeCell::new(0_u32), UnsafeCell::new(0)]));
        let wait = |parties: &Parties| match parties.arrive(2) {
            Arrival::Last => true,
            Arrival::Broken => panic!("nobody broke it"),
            Arrival::Waits(turn) => {
                while parties.passed(turn).is_none() {
                    let announced = parties.signal().announce();
                    if parties.passed(turn).is_some() {
                        break;
                    }
                    parties.signal().sleep(announced, None);
                }
                false
            }
        };
        // Writes its own value, and after the first turn reads the other's.
        let pass = move |parties: &Parties, values: &[UnsafeCell<u32>; 2], me: usize| {
            // SAFETY: loom reports it if the other is at it.
            values[me].with_mut(|value| unsafe { *value = 1 });
            let first = wait(parties);
            // SAFETY: as above.
            assert_eq!(values[1 - me].with(|value| unsafe { *value }), 1, "what came before a turn is seen after it");
            [first, wait(parties)]
        };
        let other = {
            let (parties, values) = (Arc::clone(&parties), Arc::clone(&values));
            thread::spawn(move || pass(&parties, &values, 1))
        };
        let mine = pass(&parties, &values, 0);
        let theirs = other.join().unwrap();
        assert!((0..2).all(|round| mine[round] != theirs[round]), "one leads each round");
    });
}

/// Waits for a turn's end as `ipc::Barrier` does; the last has nothing to wait for.
fn arrive(parties: &Parties) -> (Arrival, Option<Result<(), ()>>) {
    let arrival = parties.arrive(2);
    let Arrival::Waits(turn) = arrival else { return (arrival, None) };
    loop {
        let announced = parties.signal().announce();
        if let Some(end) = parties.passed(turn) {
            break (arrival, Some(end));
        }
        parties.signal().sleep(announced, None);
    }
}

#[test]
fn a_reset_tells_who_waits_and_nobody_else() {
    model(3, || {
        let parties = Arc::new(Parties::new());
        let other = {
            let parties = Arc::clone(&parties);
            thread::spawn(move || arrive(&parties))
        };
        parties.reset();
        // Who arrived before the reset is not there any more.
        let mine = parties.arrive(2);
        match (mine, other.join().unwrap()) {
            (Arrival::Last, (Arrival::Waits(_), end)) => assert_eq!(end, Some(Ok(())), "both came after the reset"),
            (Arrival::Waits(_), (Arrival::Waits(_), end)) => assert_eq!(end, Some(Err(())), "nobody came"),
            (Arrival::Waits(_), (Arrival::Last, _)) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn who_gives_up_breaks_no_other_turn() {
    model(3, || {
        let parties = Arc::new(Parties::new());
        let Arrival::Waits(turn) = parties.arrive(2) else { panic!("it is the first") };
        let other = {
            let parties = Arc::clone(&parties);
            thread::spawn(move || parties.arrive(2))
        };
        let end = parties.give_up(turn);
        match other.join().unwrap() {
            Arrival::Last => assert_eq!((end, parties.is_broken()), (Some(Ok(())), false), "the turn had ended"),
            Arrival::Broken => assert_eq!((end, parties.is_broken()), (None, true), "it gave up before"),
            other @ Arrival::Waits(_) => panic!("{other:?}"),
        }
    });
}
