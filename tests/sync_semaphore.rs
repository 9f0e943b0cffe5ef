//! What a semaphore promises: never more at a time than it has permits, in order of arrival; no permit is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::sync::{Lock, Semaphore, SemaphoreError};

/// Long enough for any thread to get its turn.
const AGES: Duration = Duration::from_secs(60);
/// Nobody will come in this time.
const MOMENT: Duration = Duration::from_millis(5);

/// Lets the others run until so many wait.
fn until_waiting(semaphore: &Semaphore, threads: usize) {
    let start = Instant::now();
    while semaphore.waiting() != threads {
        assert!(start.elapsed() < AGES, "{} wait, not {threads}", semaphore.waiting());
        thread::yield_now();
    }
}

#[test]
fn never_more_at_a_time_than_there_are_permits() {
    let (semaphore, inside) = (Semaphore::bounded(3), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..6 {
            let (semaphore, inside) = (&semaphore, &inside);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let count = 1 + (thread + round) % 3;
                    let permit = semaphore.acquire_many(count).unwrap();
                    assert_eq!(permit.permits(), count);
                    let now = inside.fetch_add(count, Ordering::SeqCst) + count;
                    assert!(now <= 3, "{now} at a time");
                    inside.fetch_sub(count, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((semaphore.available(), semaphore.waiting()), (3, 0));
}

#[test]
fn permits_go_out_in_order_of_arrival() {
    let (semaphore, order) = (Semaphore::bounded(4), Lock::new(Vec::new()));
    let all = semaphore.acquire_many(4).unwrap();
    thread::scope(|scope| {
        for (place, count) in [3, 1, 4, 2, 4, 1].into_iter().enumerate() {
            let (semaphore, order) = (&semaphore, &order);
            scope.spawn(move || {
                let permit = semaphore.acquire_many(count).unwrap();
                order.lock().push(place);
                // 0 and 1 fit together and may note their names in either order; so may others that fit together.
                until_noted(order, place);
                drop(permit);
            });
            until_waiting(semaphore, place + 1);
        }
        drop(all);
    });
    let order = order.into_inner();
    let place = |of: usize| order.iter().position(|place| *place == of).unwrap();
    assert!(place(0).max(place(1)) < place(2), "{order:?}");
    assert!(place(2) < place(3), "{order:?}");
    assert!(place(3) < place(4) && place(4) < place(5), "{order:?}");
}

/// Those that came earlier have noted their names.
fn until_noted(order: &Lock<Vec<usize>>, place: usize) {
    let start = Instant::now();
    while !(0..place).all(|earlier| order.lock().contains(&earlier)) {
        assert!(start.elapsed() < AGES, "{place} passed somebody: {:?}", order.lock());
        thread::yield_now();
    }
}

#[test]
fn one_that_wants_many_is_not_passed_by_those_that_want_few() {
    let semaphore = Semaphore::bounded(3);
    let one = semaphore.acquire().unwrap();
    thread::scope(|scope| {
        let many = scope.spawn(|| drop(semaphore.acquire_many(3).unwrap()));
        until_waiting(&semaphore, 1);
        // Two are free, but it comes first.
        assert_eq!(semaphore.available(), 2);
        let refused = semaphore.try_acquire().unwrap_err();
        assert_eq!(refused, SemaphoreError::NoPermits { wanted: 1, available: 2, waiting: 1 });
        assert!(semaphore.acquire_timeout(MOMENT).is_err());
        drop(one);
        many.join().unwrap();
    });
    assert!(semaphore.try_acquire_many(3).is_ok());
}

#[test]
fn one_that_gives_up_leaves_the_queue_and_those_behind_move_up() {
    let semaphore = Semaphore::bounded(2);
    let one = semaphore.acquire().unwrap();
    thread::scope(|scope| {
        let many = scope.spawn(|| semaphore.acquire_many_timeout(2, Duration::from_millis(200)).map(drop));
        // If this one comes before the other is in the queue it gets the permit at once, which is right as well.
        let few = scope.spawn(|| semaphore.acquire_timeout(AGES).map(drop));
        few.join().unwrap().expect("the one before it gave up");
        let error = many.join().unwrap().expect_err("one was out all the time");
        assert_eq!(error, SemaphoreError::TimedOut { wanted: 2, waited: Duration::from_millis(200) });
    });
    drop(one);
    assert_eq!((semaphore.available(), semaphore.waiting()), (2, 0));
}

#[test]
fn a_time_limit_of_nothing_looks_once_and_an_endless_one_waits() {
    let semaphore = Semaphore::bounded(1);
    drop(semaphore.acquire_timeout(Duration::ZERO).unwrap());
    let held = semaphore.acquire_timeout(Duration::MAX).unwrap();
    assert!(matches!(semaphore.acquire_timeout(Duration::ZERO), Err(SemaphoreError::TimedOut { wanted: 1, .. })));
    let start = Instant::now();
    assert!(semaphore.acquire_timeout(MOMENT).is_err());
    assert!(start.elapsed() >= MOMENT, "it waited");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.acquire_timeout(Duration::MAX).map(drop));
        until_waiting(&semaphore, 1);
        drop(held);
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn many_that_give_up_lose_no_permit() {
    let semaphore = Semaphore::bounded(2);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let semaphore = &semaphore;
            scope.spawn(move || {
                for round in 0..1_000 {
                    let time = Duration::from_micros((thread * 7 + round) % 40);
                    let wanted = 1 + usize::try_from((thread + round) % 2).unwrap();
                    // Both outcomes are right; a permit lost, or one too many, shows at the end.
                    let _ = semaphore.acquire_many_timeout(wanted, time);
                }
            });
        }
    });
    assert_eq!((semaphore.available(), semaphore.waiting()), (2, 0));
    assert!(semaphore.try_acquire_many(2).is_ok());
}

#[test]
fn a_panic_gives_the_permits_back() {
    let semaphore = Semaphore::bounded(2);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _permits = semaphore.acquire_many(2).unwrap();
        panic!("with both permits");
    }));
    assert!(panicked.is_err());
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn forgotten_permits_are_gone_until_they_are_released() {
    let semaphore = Semaphore::bounded(3);
    semaphore.acquire().unwrap().forget();
    assert!(matches!(semaphore.release(2), Err(SemaphoreError::AboveLimit { existing: 2, .. })));
    semaphore.acquire().unwrap().forget();
    assert_eq!(semaphore.available(), 1);
    assert!(semaphore.try_acquire_many(2).is_err());
    let error = semaphore.release(3).unwrap_err();
    assert_eq!(error, SemaphoreError::AboveLimit { released: 3, existing: 1, limit: 3 });
    assert_eq!(semaphore.available(), 1, "none were added");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.acquire_many(3).map(drop));
        until_waiting(&semaphore, 1);
        semaphore.release(2).unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(semaphore.available(), 3);
    // A permit that is out counts: its drop would be one too many.
    let out = semaphore.acquire().unwrap();
    assert!(matches!(semaphore.release(1), Err(SemaphoreError::AboveLimit { existing: 3, .. })));
    drop(out);
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn one_that_counts_starts_with_none_and_grows() {
    let filled = Semaphore::new(0);
    assert!(filled.try_acquire().is_err());
    thread::scope(|scope| {
        let consumers = [(); 3].map(|()| scope.spawn(|| (0..100).for_each(|_| filled.acquire().unwrap().forget())));
        (0..30).for_each(|_| filled.release(10).unwrap());
        consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
    });
    assert_eq!((filled.available(), filled.waiting(), filled.limit()), (0, 0, usize::MAX));
}

#[test]
fn closing_sends_away_who_waits_and_who_comes() {
    let semaphore = Semaphore::bounded(1);
    let out = semaphore.acquire().unwrap();
    assert!(!semaphore.is_closed());
    thread::scope(|scope| {
        let waiters = [(); 3].map(|()| scope.spawn(|| semaphore.acquire().map(drop)));
        until_waiting(&semaphore, 3);
        semaphore.close();
        semaphore.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(SemaphoreError::Closed));
        }
    });
    assert!(semaphore.is_closed());
    for refused in [
        semaphore.acquire(),
        semaphore.try_acquire(),
        semaphore.acquire_timeout(AGES),
        semaphore.acquire_many(0),
        semaphore.acquire_many(5),
    ] {
        assert_eq!(refused.unwrap_err(), SemaphoreError::Closed);
    }
    drop(out);
    assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0), "what was out came back");
}

#[test]
fn nonsense_is_refused_with_the_numbers() {
    let semaphore = Semaphore::bounded(3);
    let says = |result: Result<_, SemaphoreError>, text: &str| {
        let error = result.map(|_: ()| ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    says(semaphore.acquire_many(4).map(drop), "4 permits can never be free at once in a semaphore of at most 3");
    says(semaphore.try_acquire_many(usize::MAX).map(drop), "can never be free");
    says(semaphore.acquire_many_timeout(4, AGES).map(drop), "ask for fewer");
    says(semaphore.release(1), "1 permit cannot be released: the semaphore has 3 of at most 3");
    says(semaphore.release(usize::MAX), "cannot be released");
    let held = semaphore.acquire_many(2).unwrap();
    says(semaphore.try_acquire_many(2).map(drop), "2 permits cannot be had now: 1 free, 0 threads waiting");
    says(semaphore.acquire_many_timeout(2, MOMENT).map(drop), "2 permits did not become free within 5ms");
    drop(held);
    semaphore.close();
    says(semaphore.acquire().map(drop), "closed");
    // None at all, and as many as there are numbers.
    let none = Semaphore::bounded(0);
    says(none.acquire().map(drop), "1 permit can never be free at once in a semaphore of at most 0");
    assert_eq!(none.acquire_many(0).unwrap().permits(), 0);
    let all = Semaphore::new(usize::MAX);
    says(all.release(1), "at most 18446744073709551615");
    drop(all.acquire_many(usize::MAX).unwrap());
    assert_eq!(all.available(), usize::MAX);
}

#[test]
fn it_shows_what_is_free_and_who_waits() {
    static SEMAPHORE: Semaphore = Semaphore::bounded(4);
    let three = SEMAPHORE.acquire_many(3).unwrap();
    let shown = format!("{SEMAPHORE:?}");
    assert_eq!(shown, "Semaphore { available: 1, taken: 3, waiting: 0, closed: false, .. }");
    assert_eq!(format!("{three:?}"), "Permit(3)");
}
