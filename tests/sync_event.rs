//! What events and barriers promise: whoever waits goes on when it is time, and not before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::sync::{Barrier, BarrierError, Event};

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

#[test]
fn nobody_goes_on_before_it_is_set_and_all_do_after() {
    let (event, passed) = (Event::new(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                event.wait();
                passed.fetch_add(1, Ordering::SeqCst);
            });
        }
        until("all wait", || event.waiting() == 4);
        assert_eq!(passed.load(Ordering::SeqCst), 0);
        event.set();
    });
    assert_eq!((passed.into_inner(), event.waiting()), (4, 0));
    event.wait();
    assert!(event.wait_timeout(Duration::ZERO) && event.is_set(), "it stays set");
}

#[test]
fn setting_and_clearing_at_once_lets_go_all_that_wait() {
    let event = Event::new();
    for _ in 0..200 {
        thread::scope(|scope| {
            let waiters = [scope.spawn(|| event.wait()), scope.spawn(|| assert!(event.wait_timeout(AGES)))];
            until("both wait", || event.waiting() == 2);
            event.set();
            event.clear();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
        assert!(!event.is_set());
    }
}

#[test]
fn a_cleared_event_is_waited_for_again() {
    let event = Event::default();
    event.set();
    event.set();
    event.clear();
    event.clear();
    assert!(!event.is_set());
    let start = Instant::now();
    assert!(!event.wait_timeout(MOMENT));
    assert!(start.elapsed() >= MOMENT && !event.wait_timeout(Duration::ZERO));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| event.wait_timeout(Duration::MAX));
        until("it waits", || event.waiting() == 1);
        event.set();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn two_events_pass_a_turn_to_and_fro() {
    let (ping, pong, turns) = (Event::new(), Event::new(), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..2_000 {
                ping.wait();
                ping.clear();
                assert_eq!(turns.fetch_add(1, Ordering::Relaxed), 2 * turn);
                pong.set();
            }
        });
        for turn in 0..2_000 {
            ping.set();
            pong.wait();
            pong.clear();
            assert_eq!(turns.fetch_add(1, Ordering::Relaxed), 2 * turn + 1);
        }
    });
}

#[test]
fn an_event_shows_itself_and_can_be_a_static() {
    static EVENT: Event = Event::new();
    assert_eq!(format!("{EVENT:?}"), "Event { set: false, waiting: 0 }");
    EVENT.set();
    assert_eq!(format!("{EVENT:?}"), "Event { set: true, waiting: 0 }");
}

#[test]
fn nobody_passes_a_barrier_before_all_are_there_and_each_turn_has_one_leader() {
    const TURNS: usize = 300;
    let (barrier, arrived, led) = (Barrier::new(4), AtomicUsize::new(0), AtomicUsize::new(0));
    let places: Vec<_> = (0..TURNS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 1..=TURNS {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    let passed = barrier.wait().unwrap();
                    assert!(arrived.load(Ordering::SeqCst) >= 4 * turn, "passed before all were there");
                    assert_eq!(passed.is_leader(), passed.index() == 3);
                    led.fetch_add(usize::from(passed.is_leader()), Ordering::SeqCst);
                    places[turn - 1].fetch_add(1 << (4 * passed.index()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((led.into_inner(), barrier.waiting(), barrier.parties()), (TURNS, 0, 4));
    assert!(places.iter().all(|places| places.load(Ordering::SeqCst) == 0x1111), "each place is taken once a turn");
}

#[test]
fn one_party_is_always_complete_and_none_is_an_error() {
    static ALONE: Barrier = Barrier::new(1);
    for _ in 0..3 {
        let passed = ALONE.wait().unwrap();
        assert!(passed.is_leader() && passed.index() == 0 && ALONE.wait_timeout(Duration::ZERO).is_ok());
    }
    let nobody = Barrier::new(0);
    for error in [nobody.wait(), nobody.wait_timeout(AGES)].map(Result::unwrap_err) {
        assert_eq!(error, BarrierError::NoParties);
        assert!(error.to_string().contains("0 parties") && error.to_string().contains("1 or more"), "{error}");
    }
}

#[test]
fn a_party_that_gives_up_breaks_the_barrier_for_all() {
    let barrier = Barrier::new(3);
    thread::scope(|scope| {
        let patient = scope.spawn(|| barrier.wait());
        until("it waits", || barrier.waiting() == 1);
        let error = barrier.wait_timeout(MOMENT).unwrap_err();
        assert_eq!(error, BarrierError::TimedOut { waited: MOMENT, arrived: 2, parties: 3 });
        assert!(error.to_string().contains("only 2 of 3 parties") && error.to_string().contains("reset"), "{error}");
        let error = patient.join().unwrap().unwrap_err();
        assert_eq!(error, BarrierError::Broken);
        assert!(error.to_string().contains("broken") && error.to_string().contains("reset"), "{error}");
    });
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(), Err(BarrierError::Broken), "who comes later knows at once");
    assert_eq!(barrier.wait_timeout(Duration::MAX), Err(BarrierError::Broken));
    assert_eq!(format!("{barrier:?}"), "Barrier { parties: 3, waiting: 0, broken: true }");
}

#[test]
fn a_thread_that_panics_before_the_barrier_can_free_the_others() {
    struct AbortsOnPanic<'a>(&'a Barrier);
    impl Drop for AbortsOnPanic<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.abort();
            }
        }
    }
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| barrier.wait());
        let panics = scope.spawn(|| {
            let _guard = AbortsOnPanic(&barrier);
            until("the other one waits", || barrier.waiting() == 1);
            panic!("on the way to the barrier");
        });
        assert!(panics.join().is_err());
        assert_eq!(waits.join().unwrap(), Err(BarrierError::Broken));
    });
}

#[test]
fn a_reset_makes_it_as_new_and_sends_away_who_waits() {
    let barrier = Barrier::new(2);
    for _ in 0..100 {
        thread::scope(|scope| {
            let early = scope.spawn(|| barrier.wait());
            until("it waits", || barrier.waiting() == 1);
            barrier.reset();
            // These two pass whenever the early one wakes up, and it does not pass with them.
            let late = scope.spawn(|| barrier.wait());
            assert!(barrier.wait().is_ok() && late.join().unwrap().is_ok());
            assert_eq!(early.join().unwrap(), Err(BarrierError::Broken));
        });
    }
    barrier.abort();
    barrier.reset();
    assert!(!barrier.is_broken());
    thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait());
        assert!(barrier.wait_timeout(AGES).is_ok() && other.join().unwrap().is_ok());
    });
}
