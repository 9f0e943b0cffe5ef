//! Loom explores the protocols: every order of their steps, with a process that dies at any of them.
//!
//! A death is a thread that stops: which step it stops at is chosen by the model, from all there are. What a dead one
//! leaves is swept by the code that sweeps in earnest. Payloads carry a witness that loom watches, so a slot that two use
//! at once, or without an order between them, is reported.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::block::{NOBODY, State, Word};
use super::flag::{Arrival, Flag, Parties};
use super::lock::{Found, Holder, LockWord};
use super::permits::{Accounts, NoPermit, Permits};
use super::ring::{NoSlot, Ring, Slots};
use super::wake::Signal;
use crate::primitive::{AtomicU64, Ordering};

/// The system's sleep on a word, for the models: whoever sleeps is woken, or the model hangs and loom says so.
pub(crate) mod futex {
    use core::time::Duration;

    use crate::primitive::AtomicU32;
    use crate::primitive::Ordering;

    /// Who sleeps: on which word, and what wakes it.
    type Bed = (usize, loom::sync::Arc<loom::sync::Condvar>);

    loom::lazy_static! {
        static ref BEDS: loom::sync::Mutex<Vec<Bed>> = loom::sync::Mutex::new(Vec::new());
    }

    fn key(word: &AtomicU32) -> usize {
        core::ptr::from_ref(word).addr()
    }

    /// The look at the word and the lying down are one step, as they are in the system.
    pub(crate) fn shared_wait(word: &AtomicU32, expected: u32, _: Option<Duration>) {
        let mut beds = BEDS.lock().unwrap();
        if word.load(Ordering::SeqCst) != expected {
            return;
        }
        let bed = loom::sync::Arc::new(loom::sync::Condvar::new());
        beds.push((key(word), loom::sync::Arc::clone(&bed)));
        while beds.iter().any(|(_, other)| loom::sync::Arc::ptr_eq(other, &bed)) {
            beds = bed.wait(beds).unwrap();
        }
    }

    pub(crate) fn shared_wake(word: &AtomicU32, most: i32) -> usize {
        let mut beds = BEDS.lock().unwrap();
        let mut woken = 0;
        while woken < usize::try_from(most).unwrap_or(0) {
            let Some(at) = beds.iter().position(|(at, _)| *at == key(word)) else { break };
            let (_, bed) = beds.remove(at);
            bed.notify_one();
            woken += 1;
        }
        woken
    }
}

/// Explores `check` at two preemptions (`LOOM_MAX_PREEMPTIONS` says otherwise); there must be more than `least` orders
/// to explore, or the model shows nothing.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(2);
    }
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    let orders = orders.load(std::sync::atomic::Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > least, "only {orders} orders were explored");
}

// ── a block's header ───────────────────────────────────────────────────────────────────────────────────────────────

/// Two claim the same free block, and one of them dies with it: it is swept while the other tries again.
#[test]
fn a_block_has_one_owner_and_comes_back_from_a_dead_one() {
    model(20, || {
        let header = Arc::new(AtomicU64::new(0));
        let bytes = Arc::new(UnsafeCell::new(0_u32));
        let take = |me, header: &AtomicU64, bytes: &UnsafeCell<u32>| {
            let seen = Word::load(header);
            let mine = Word::owned(me, seen.generation());
            let got = seen.state() == State::Free && seen.step(header, mine).is_ok();
            if got {
                // SAFETY: loom reports it if anybody else is at it.
                bytes.with_mut(|bytes| unsafe { *bytes += 1 });
            }
            got.then_some(mine)
        };
        let dies = {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            // Dies right after it claimed it, or finds it taken.
            thread::spawn(move || take(1, &header, &bytes).is_some())
        };
        let lives = {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            thread::spawn(move || {
                let Some(mine) = take(2, &header, &bytes) else { return 0 };
                // Passed on, claimed by anybody, given back.
                let sent = Word::queued(NOBODY, mine.generation() + 1);
                mine.step(&header, sent).unwrap();
                let claimed = Word::owned(2, sent.generation());
                sent.step(&header, claimed).unwrap();
                claimed.step(&header, Word::free(claimed.generation() + 1)).unwrap();
                1
            })
        };
        let died_with_it = dies.join().unwrap();
        // The sweep, beside the one that lives.
        let seen = Word::load(&header);
        let swept = seen.state() == State::Owned
            && seen.owner() == 1
            && seen.step(&header, Word::free(seen.generation() + 1)).is_ok();
        let used = lives.join().unwrap();
        assert_eq!(swept, died_with_it, "B1: what the dead one owned, and nothing else, is swept");
        let end = Word::load(&header);
        assert_eq!(end.state(), State::Free);
        assert_eq!(end.generation(), u32::from(died_with_it) + 2 * used, "B2: every owner leaves a new generation");
    });
}

/// A handle is sent, and two try to claim it: a slot's consumer, and the sweep that releases what goes unread.
#[test]
fn a_handle_in_transit_is_claimed_once() {
    model(5, || {
        let header = Arc::new(AtomicU64::new(0));
        Word::free(0).step(&header, Word::owned(1, 0)).unwrap();
        let sender = {
            let header = Arc::clone(&header);
            thread::spawn(move || Word::owned(1, 0).step(&header, Word::queued(NOBODY, 1)).unwrap())
        };
        let claim = |me| {
            let header = Arc::clone(&header);
            thread::spawn(move || Word::queued(NOBODY, 1).step(&header, Word::owned(me, 1)).is_ok())
        };
        let (one, other) = (claim(2), claim(3));
        sender.join().unwrap();
        let claims = usize::from(one.join().unwrap()) + usize::from(other.join().unwrap());
        assert!(claims <= 1, "B3: claimed twice");
        let end = Word::load(&header);
        assert_eq!(end.state() == State::Owned, claims == 1);
    });
}

// ── shared objects ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Holder 0 hands the object on to holder 1 by a token and lets go, while holder 1 gets hold and lets go too.
#[test]
fn an_object_is_freed_once_and_not_while_anybody_holds_it() {
    struct Object {
        header: AtomicU64,
        marks: [AtomicU64; 2],
        token: AtomicU64,
        alive: UnsafeCell<bool>,
    }
    impl Object {
        /// As `object::retire`: tokens first, then marks, then a step from the header that was looked at.
        fn retire(&self) {
            loom::sync::atomic::fence(Ordering::SeqCst);
            loop {
                let seen = Word::load(&self.header);
                if seen.state() != State::Shared {
                    return;
                }
                if self.token.load(Ordering::SeqCst) != 0
                    || self.marks.iter().any(|mark| mark.load(Ordering::SeqCst) != 0)
                {
                    return;
                }
                if seen.step(&self.header, Word::owned(9, 0)).is_ok() {
                    // SAFETY: loom reports it if anybody still uses it.
                    self.alive.with_mut(|alive| unsafe {
                        assert!(*alive, "O2: freed twice");
                        *alive = false;
                    });
                    return;
                }
            }
        }

        fn stamp(&self) {
            loop {
                let seen = Word::load(&self.header);
                if seen.state() != State::Shared || seen.step(&self.header, seen.stamped()).is_ok() {
                    return;
                }
            }
        }

        fn use_it(&self) {
            // SAFETY: loom reports it if it is freed meanwhile.
            self.alive.with(|alive| unsafe { assert!(*alive, "O1: freed while held") });
        }
    }
    model(80, || {
        let object = Arc::new(Object {
            header: AtomicU64::new(0),
            marks: [AtomicU64::new(1), AtomicU64::new(0)],
            token: AtomicU64::new(0),
            alive: UnsafeCell::new(true),
        });
        Word::free(0).step(&object.header, Word::shared(0, 0)).unwrap();
        let first = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                object.token.store(1, Ordering::SeqCst);
                object.stamp();
                object.use_it();
                object.marks[0].fetch_and(0, Ordering::SeqCst);
                object.retire();
            })
        };
        let second = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                if object.token.load(Ordering::SeqCst) == 0 {
                    return false;
                }
                object.marks[1].fetch_or(1, Ordering::SeqCst);
                object.stamp();
                object.token.store(0, Ordering::SeqCst);
                object.retire();
                object.use_it();
                object.marks[1].fetch_and(0, Ordering::SeqCst);
                object.retire();
                true
            })
        };
        first.join().unwrap();
        if !second.join().unwrap() {
            object.token.store(0, Ordering::SeqCst);
            object.retire();
        }
        assert_eq!(Word::load(&object.header).state(), State::Owned, "O3: let go by all, and never freed");
    });
}

// ── the ring ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Two slots, with a witness each.
struct Two {
    words: [AtomicU64; 2],
    values: [UnsafeCell<u32>; 2],
    head: AtomicU64,
    tail: AtomicU64,
}

impl Slots for &Two {
    fn count(&self) -> usize {
        2
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }
}

impl Two {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: [AtomicU64::new(0), AtomicU64::new(0)],
            values: [UnsafeCell::new(0), UnsafeCell::new(0)],
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
        })
    }

    fn ring(&self) -> Ring<'_, &Self> {
        Ring { slots: self, head: &self.head, tail: &self.tail }
    }

    fn put(&self, me: u16, value: u32) -> Result<(), NoSlot> {
        let claim = self.ring().claim_empty(me)?;
        // SAFETY: loom reports it if anybody else is at the slot.
        self.values[claim.index].with_mut(|at| unsafe { *at = value });
        self.ring().publish(claim, 0);
        Ok(())
    }

    fn get(&self, me: u16) -> Result<u32, NoSlot> {
        let claim = self.ring().claim_full(me, || ())?;
        // SAFETY: as above.
        let value = self.values[claim.index].with(|at| unsafe { *at });
        self.ring().release(claim);
        Ok(value)
    }
}

#[test]
fn each_value_is_got_once_by_whoever_comes() {
    model(100, || {
        let ring = Two::new();
        let puts: Vec<_> = (1..=2)
            .map(|n| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || ring.put(n, u32::from(n)).unwrap())
            })
            .collect();
        let early: Vec<u32> = (0..2).filter_map(|_| ring.get(3).ok()).collect();
        puts.into_iter().for_each(|put| put.join().unwrap());
        let late: Vec<u32> = std::iter::from_fn(|| ring.get(3).ok()).collect();
        let mut all: Vec<u32> = early.into_iter().chain(late).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2], "R1: lost, or got twice");
    });
}

#[test]
fn a_ring_goes_round_with_two_consumers() {
    model(70, || {
        let ring = Two::new();
        ring.put(1, 1).unwrap();
        ring.put(1, 2).unwrap();
        assert_eq!(ring.put(1, 3), Err(NoSlot::NotNow));
        let gets: Vec<_> = (2..=3)
            .map(|n| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || ring.get(n).ok())
            })
            .collect();
        let third = ring.put(1, 3).is_ok();
        let mut all: Vec<u32> = gets.into_iter().filter_map(|get| get.join().unwrap()).collect();
        if !third {
            ring.put(1, 3).unwrap();
        }
        all.extend(std::iter::from_fn(|| ring.get(4).ok()));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3], "R1: lost, or got twice");
    });
}

/// A producer and a consumer, each of whom may die with the slot it has claimed; they are swept, and the ring works on.
#[test]
fn a_dead_ones_slot_goes_on() {
    for (producer_dies, consumer_dies) in [(true, false), (false, true), (true, true)] {
        model(50, move || {
            let ring = Two::new();
            ring.put(9, 7).unwrap();
            let producer = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    if producer_dies {
                        let claim = ring.ring().claim_empty(1).unwrap();
                        // SAFETY: loom reports it if anybody else is at the slot.
                        ring.values[claim.index].with_mut(|at| unsafe { *at = 0 });
                    } else {
                        ring.put(1, 8).unwrap();
                    }
                })
            };
            let consumer = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    if consumer_dies {
                        _ = ring.ring().claim_full(2, || ());
                        0
                    } else {
                        ring.get(2).unwrap_or(0)
                    }
                })
            };
            // The third goes on all the while.
            let mut got: Vec<u32> = ring.get(3).into_iter().collect();
            producer.join().unwrap();
            got.push(consumer.join().unwrap());
            for dead in [1, 2] {
                ring.ring().sweep(dead, |_, _| ());
            }
            got.extend(std::iter::from_fn(|| ring.get(3).ok()));
            got.retain(|value| *value != 0);
            got.sort_unstable();
            let mut expected: Vec<u32> = if producer_dies { vec![7] } else { vec![7, 8] };
            if consumer_dies {
                // One value is undetermined.
                assert!(expected.len() - got.len() <= 1, "R3");
                expected.retain(|value| got.contains(value));
            }
            assert_eq!(got, expected, "R2");
            // Both slots can be used again.
            ring.put(4, 1).unwrap();
            ring.put(4, 2).unwrap();
            assert_eq!([ring.get(4), ring.get(4)], [Ok(1), Ok(2)], "R4: a slot was lost");
        });
    }
}

// ── sleeping and waking ────────────────────────────────────────────────────────────────────────────────────────────

/// Nobody sleeps over a value: two consumers sleep until there is one, two producers put one each.
#[test]
fn no_value_waits_while_a_consumer_sleeps() {
    model(100, || {
        let (ring, signal) = (Two::new(), Arc::new(Signal::new()));
        let consumers: Vec<_> = (1..=2)
            .map(|me| {
                let (ring, signal) = (Arc::clone(&ring), Arc::clone(&signal));
                thread::spawn(move || {
                    loop {
                        if let Ok(value) = ring.get(me) {
                            return value;
                        }
                        let announced = signal.announce();
                        if let Ok(value) = ring.get(me) {
                            return value;
                        }
                        signal.sleep(announced, None);
                    }
                })
            })
            .collect();
        for value in 1..=2 {
            ring.put(3, value).unwrap();
            signal.wake_one();
        }
        let mut got: Vec<u32> = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [1, 2], "W1");
    });
}

/// The sleeper of a pipe, of which there is one.
#[test]
fn the_only_sleeper_is_woken() {
    model(20, || {
        let (ring, signal) = (Two::new(), Arc::new(Signal::new()));
        let consumer = {
            let (ring, signal) = (Arc::clone(&ring), Arc::clone(&signal));
            thread::spawn(move || {
                let mut got = Vec::new();
                while got.len() < 2 {
                    if let Ok(value) = ring.get(1) {
                        got.push(value);
                        continue;
                    }
                    let announced = signal.announce();
                    if let Ok(value) = ring.get(1) {
                        got.push(value);
                        continue;
                    }
                    signal.sleep(announced, None);
                }
                got
            })
        };
        for value in 1..=2 {
            ring.put(3, value).unwrap();
            signal.wake_only_fenced();
        }
        assert_eq!(consumer.join().unwrap(), [1, 2], "W1");
    });
}

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
        let word = Arc::new(LockWord::new());
        let dying = {
            let word = Arc::clone(&word);
            thread::spawn(move || lock(&word, 1) == Found::Clean)
        };
        let waiter = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                let found = lock(&word, 2);
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

/// One that was woken dies before it takes the lock: the sweep wakes the other.
#[test]
fn a_wake_up_that_a_dead_one_got_reaches_another() {
    model(50, || {
        let word = Arc::new(LockWord::new());
        assert_eq!(lock(&word, 3), Found::Clean);
        let waiter = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                let found = lock(&word, 2);
                word.unlock(false);
                found
            })
        };
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

// ── the semaphore ──────────────────────────────────────────────────────────────────────────────────────────────────

struct Seats {
    word: AtomicU64,
    accounts: [AtomicU64; 4],
}

impl Accounts for &Seats {
    fn account(&self, member: u16) -> &AtomicU64 {
        &self.accounts[usize::from(member) % 4]
    }
}

impl Seats {
    fn new(permits: u32) -> Arc<Self> {
        let seats = Self { word: AtomicU64::new(0), accounts: [const { () }; 4].map(|()| AtomicU64::new(0)) };
        seats.permits().add(permits).unwrap();
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
        let flag = Arc::new(Flag::new());
        let waiter = {
            let flag = Arc::clone(&flag);
            let seen = flag.look();
            thread::spawn(move || {
                while !flag.passed(seen) {
                    let announced = flag.signal().announce();
                    if flag.passed(seen) {
                        break;
                    }
                    flag.signal().sleep(announced, None);
                }
            })
        };
        flag.set();
        flag.clear();
        waiter.join().unwrap();
    });
}

#[test]
fn a_barrier_lets_both_through_twice() {
    model(20, || {
        let parties = Arc::new(Parties::new());
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
        let other = {
            let parties = Arc::clone(&parties);
            thread::spawn(move || [wait(&parties), wait(&parties)])
        };
        let mine = [wait(&parties), wait(&parties)];
        let theirs = other.join().unwrap();
        assert!((0..2).all(|round| mine[round] != theirs[round]), "one leads each round");
    });
}
