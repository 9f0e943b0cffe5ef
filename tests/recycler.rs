//! What a recycler promises: objects stay constructed, are reset between uses, and are never more than the limit.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, LazyLock, mpsc};
use std::time::{Duration, Instant};

use millpond::{Recycler, RecyclerError};

/// Long enough for any thread to get its turn.
const AGES: Duration = Duration::from_secs(300);

#[test]
fn an_object_is_made_once_and_reset_between_uses() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let make = || {
        MADE.fetch_add(1, Ordering::Relaxed);
        Vec::with_capacity(100)
    };
    let buffers: Recycler<Vec<u8>> = Recycler::builder().create(make).reset(Vec::clear).build();
    let address = buffers.get().unwrap().as_ptr();
    for round in 0..10 {
        let mut buffer = buffers.get().unwrap();
        assert!(buffer.is_empty(), "it was reset");
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (address, 100), "kept constructed, round {round}");
        buffer.push(round);
    }
    assert_eq!((MADE.load(Ordering::Relaxed), buffers.idle(), buffers.in_use()), (1, 1, 0));
}

#[test]
fn the_object_returned_last_is_handed_out_first() {
    let next = AtomicUsize::new(0);
    let numbers: Recycler<usize> = Recycler::builder().create(move || next.fetch_add(1, Ordering::Relaxed)).build();
    let (zero, one, two) = (numbers.get().unwrap(), numbers.get().unwrap(), numbers.get().unwrap());
    assert_eq!((*zero, *one, *two, numbers.in_use()), (0, 1, 2, 3));
    drop(one);
    drop(zero);
    assert_eq!(*numbers.get().unwrap(), 0);
    drop(two);
    assert_eq!(*numbers.get().unwrap(), 2);
}

#[test]
fn past_the_limit_is_an_error_and_nothing_is_lost() {
    let objects: Recycler<u8> = Recycler::builder().create(|| 0).limit(3).build();
    for _ in 0..3 {
        let held: Vec<_> = (0..3).map(|_| objects.get().unwrap()).collect();
        let error = objects.get().unwrap_err();
        assert!(matches!(error, RecyclerError::LimitReached { limit: 3 }), "{error:?}");
        assert!(error.to_string().contains("all 3 objects"), "{error}");
        assert!(error.source().is_none());
        drop(held);
        assert_eq!((objects.idle(), objects.in_use()), (3, 0));
    }
    let none: Recycler<u8> = Recycler::builder().create(|| 0).limit(0).build();
    assert!(matches!(none.get().unwrap_err(), RecyclerError::LimitReached { limit: 0 }));
    assert!(matches!(none.get_timeout(Duration::ZERO).unwrap_err(), RecyclerError::TimedOut { limit: 0, .. }));
}

#[test]
fn a_create_that_fails_is_told_and_takes_no_place() {
    let broken = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&broken);
    let create = move || {
        if answer.load(Ordering::Relaxed) { Err(std::io::Error::other("no route to the mill")) } else { Ok(5_u64) }
    };
    let objects: Recycler<u64> = Recycler::builder().create(create).limit(1).build();
    for _ in 0..3 {
        let error = objects.get().unwrap_err();
        assert!(matches!(error, RecyclerError::Create(_)), "{error:?}");
        assert!(error.to_string().contains("no route to the mill"), "{error}");
        assert!(error.source().unwrap().is::<std::io::Error>());
        assert!(matches!(objects.get_timeout(AGES), Err(RecyclerError::Create(_))));
        assert_eq!((objects.idle(), objects.in_use()), (0, 0));
    }
    broken.store(false, Ordering::Relaxed);
    assert_eq!(*objects.get().unwrap(), 5);
}

#[test]
fn a_create_that_panics_takes_no_place() {
    let first = AtomicBool::new(true);
    let create = move || {
        assert!(!first.swap(false, Ordering::Relaxed), "not yet");
        1_u8
    };
    let objects: Recycler<u8> = Recycler::builder().create(create).limit(1).build();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(objects.get()))).is_err());
    assert_eq!(objects.in_use(), 0);
    assert_eq!(*objects.get().unwrap(), 1);
}

/// What was waited for, and it was handed over long before the patience was at an end.
fn in_time(objects: &Recycler<u8>, at_it: &Barrier) -> Result<u8, RecyclerError> {
    at_it.wait();
    let start = Instant::now();
    let got = objects.get_timeout(AGES).map(|object| *object);
    assert!(start.elapsed() < AGES / 2, "nobody told the waiting thread");
    got
}

#[test]
fn waiting_ends_when_an_object_is_returned() {
    let objects: Recycler<u8> = Recycler::builder().create(|| 0).limit(1).build();
    let held = objects.get().unwrap();
    let at_it = &Barrier::new(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| in_time(&objects, at_it));
        at_it.wait();
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        assert_eq!(waiter.join().unwrap().unwrap(), 0);
    });
    assert_eq!(*objects.get_timeout(Duration::MAX).unwrap(), 0, "an endless timeout is one");
}

#[test]
fn waiting_ends_when_a_place_becomes_free() {
    // Detached, dropped by a panicking reset: another one can be made, and whoever waits is told.
    let reset = |object: &mut u8| assert!(*object != 66, "broken");
    let objects: Recycler<u8> = Recycler::builder().create(|| 0).reset(reset).limit(1).build();
    for way in 0..2 {
        let mut held = objects.get().unwrap();
        let at_it = &Barrier::new(2);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| in_time(&objects, at_it));
            at_it.wait();
            std::thread::sleep(Duration::from_millis(20));
            if way == 0 {
                assert_eq!(held.detach(), 0);
            } else {
                *held = 66;
                assert!(catch_unwind(AssertUnwindSafe(|| drop(held))).is_err());
            }
            assert_eq!(waiter.join().unwrap().unwrap(), 0);
        });
    }
}

#[test]
fn what_comes_free_goes_to_who_waits() {
    // An object, or a place for one.
    for detaches in [false, true] {
        let objects: Recycler<u8> = Recycler::builder().create(|| 0).limit(1).build();
        for _ in 0..100 {
            let held = objects.get().unwrap();
            let (had, hears) = mpsc::channel::<()>();
            std::thread::scope(|scope| {
                let objects = &objects;
                let waiter = scope.spawn(move || {
                    let object = objects.get_timeout(AGES).unwrap();
                    let _ = hears.recv();
                    *object
                });
                while !format!("{objects:?}").contains("waiting: 1") {
                    std::thread::yield_now();
                }
                if detaches {
                    let _ = held.detach();
                } else {
                    drop(held);
                }
                // It may have it already, or still be on its way.
                let passed = objects.get().is_ok() || objects.get_timeout(Duration::ZERO).is_ok();
                drop(had);
                assert_eq!((waiter.join().unwrap(), passed), (0, false));
            });
        }
        assert_eq!(objects.in_use(), 0);
    }
}

#[test]
fn waiting_in_vain_is_an_error_with_its_numbers() {
    let objects: Recycler<u8> = Recycler::builder().create(|| 0).limit(2).build();
    let held = (objects.get().unwrap(), objects.get().unwrap());
    let (start, patience) = (Instant::now(), Duration::from_millis(30));
    let error = objects.get_timeout(patience).unwrap_err();
    assert!(start.elapsed() >= patience);
    let RecyclerError::TimedOut { limit: 2, waited } = error else { panic!("{error:?}") };
    assert!(waited >= patience);
    assert!(error.to_string().contains("all 2 objects"), "{error}");
    drop(held);
    let both = [(); 2].map(|()| objects.get_timeout(Duration::ZERO));
    assert!(both.iter().all(Result::is_ok), "what is there needs no waiting, and is kept for nobody");
}

#[test]
fn waiting_threads_all_get_their_turn() {
    let objects: Recycler<u64> = Recycler::builder().create(|| 0).limit(2).build();
    let most = AtomicUsize::new(0);
    let now = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mut object = objects.get_timeout(AGES).unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    *object += 1;
                    now.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 2);
    assert_eq!(objects.in_use(), 0);
    let made = [objects.get().ok(), objects.get().ok()].map(|object| object.map_or(0, |object| *object));
    assert_eq!(made.iter().sum::<u64>(), 1_200, "each use was of one of the two");
}

#[test]
fn a_panicking_reset_drops_the_object_and_says_so() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Object(bool);
    impl Drop for Object {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }
    let objects: Recycler<Object> = Recycler::builder()
        .create(|| Object(false))
        .reset(|object| assert!(!object.0, "it can't be reset"))
        .limit(1)
        .build();
    drop(objects.get().unwrap());
    assert_eq!((objects.idle(), DROPS.load(Ordering::Relaxed)), (1, 0));
    let panic = catch_unwind(AssertUnwindSafe(|| objects.get().unwrap().0 = true)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"it can't be reset"));
    assert_eq!((objects.idle(), objects.in_use(), DROPS.load(Ordering::Relaxed)), (0, 0, 1));
    // A second panic while one is on its way would end the process: it is swallowed.
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut object = objects.get().unwrap();
        object.0 = true;
        panic!("the user's own");
    }))
    .unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the user's own"));
    assert_eq!((objects.in_use(), DROPS.load(Ordering::Relaxed)), (0, 2));
    assert!(!objects.get().unwrap().0, "and on it goes");
}

#[test]
fn a_reset_that_panics_with_what_panics_again_ends_nothing() {
    /// Panics with something when it is dropped, and that again.
    struct Mine(u32);
    impl Drop for Mine {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }
    // In the reset, and in the broken object's own drop.
    let reset = |_: &mut Mine| panic_any(Mine(2));
    let objects: Recycler<Mine> = Recycler::builder().create(|| Mine(3)).reset(reset).limit(1).build();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _object = objects.get().unwrap();
        panic!("the user's own");
    }))
    .unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the user's own"));
    assert_eq!(objects.in_use(), 0);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(objects.get().unwrap()))).unwrap_err();
    let Ok(mut mine) = panic.downcast::<Mine>() else { panic!("it is the reset's own") };
    assert_eq!((mine.0, objects.in_use()), (2, 0));
    mine.0 = 0;
}

#[test]
fn a_place_is_free_only_when_its_object_is_gone() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    static OBJECTS: LazyLock<Recycler<Object>> = LazyLock::new(|| {
        let reset = |object: &mut Object| assert!(!object.0, "it can't be reset");
        Recycler::builder().create(Object::new).reset(reset).limit(1).build()
    });
    /// One at a time, as a port or a device would be.
    struct Object(bool);
    impl Object {
        fn new() -> Self {
            MOST.fetch_max(ALIVE.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Self(false)
        }
    }
    impl Drop for Object {
        fn drop(&mut self) {
            assert!(OBJECTS.get().is_err(), "another one while this one is there");
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    drop(OBJECTS.get().unwrap());
    OBJECTS.clear();
    let figures = || (MOST.load(Ordering::Relaxed), ALIVE.load(Ordering::Relaxed), OBJECTS.in_use());
    assert_eq!(figures(), (1, 0, 0), "cleared");
    let panic = catch_unwind(AssertUnwindSafe(|| OBJECTS.get().unwrap().0 = true)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"it can't be reset"));
    assert_eq!(figures(), (1, 0, 0), "broken");
    assert!(OBJECTS.get().is_ok());
}

#[test]
fn waiting_ends_when_what_was_idle_is_gone() {
    /// Tells that it goes, and takes its time; says no at last, if it's told to.
    struct Slow(Arc<Barrier>, bool);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait();
            std::thread::sleep(Duration::from_millis(20));
            assert!(!self.1, "it won't go");
        }
    }
    let at_it = Arc::new(Barrier::new(2));
    for says_no in [false, true] {
        let create = {
            let at_it = Arc::clone(&at_it);
            let first = AtomicBool::new(true);
            move || first.swap(false, Ordering::Relaxed).then(|| Slow(Arc::clone(&at_it), says_no))
        };
        let objects: Recycler<Option<Slow>> = Recycler::builder().create(create).limit(1).build();
        drop(objects.get().unwrap());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                at_it.wait();
                let start = Instant::now();
                assert!(objects.get_timeout(AGES).unwrap().is_none(), "the second one");
                assert!(start.elapsed() < AGES / 2, "nobody told the waiting thread");
            });
            assert_eq!(catch_unwind(AssertUnwindSafe(|| objects.clear())).is_err(), says_no);
            waiter.join().unwrap();
        });
        assert_eq!((objects.idle(), objects.in_use()), (1, 0));
    }
}

#[test]
fn a_detached_object_is_the_users_and_another_is_made() {
    let objects: Recycler<String> = Recycler::builder().create(|| "new".to_owned()).limit(1).build();
    let mine = objects.get().unwrap().detach();
    assert_eq!((objects.in_use(), objects.idle()), (0, 0));
    let other = objects.get().unwrap();
    assert_eq!((mine.as_str(), other.as_str()), ("new", "new"));
}

#[test]
fn clearing_drops_what_is_idle_and_nothing_else() {
    let token = Arc::new(());
    let objects: Recycler<Arc<()>> = Recycler::builder()
        .create({
            let token = Arc::clone(&token);
            move || Arc::clone(&token)
        })
        .limit(5)
        .build();
    let mut held: Vec<_> = (0..5).map(|_| objects.get().unwrap()).collect();
    held.truncate(2);
    assert_eq!((Arc::strong_count(&token), objects.idle()), (7, 3));
    objects.clear();
    assert_eq!((Arc::strong_count(&token), objects.idle(), objects.in_use()), (4, 0, 2));
    held.extend((0..3).map(|_| objects.get().unwrap()));
    assert!(objects.get().is_err(), "the limit holds");
    drop(held);
    drop(objects);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn an_owned_object_keeps_its_recycler_alive() {
    let objects: Arc<Recycler<String>> = Arc::new(Recycler::builder().create(String::new).limit(1).build());
    let weak = Arc::downgrade(&objects);
    let mut object = objects.get_owned().unwrap();
    assert!(objects.get().is_err());
    drop(objects);
    let thread = std::thread::spawn(move || {
        object.push('x');
        object.len()
    });
    assert_eq!(thread.join().unwrap(), 1);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_recycler_describes_itself() {
    let objects: Recycler<String> = Recycler::builder().create(|| "x".to_owned()).limit(4).build();
    let object = objects.get().unwrap();
    assert_eq!(format!("{object:?}"), r#""x""#);
    let text = format!("{objects:?}");
    for part in ["String", "in_use: 1", "idle: 0", "waiting: 0", "limit: 4"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}
