//! What a thread promises: it has a name, is joined with its value, and its panic is an error.

use std::cell::Cell;
use std::collections::HashSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use millpond::sync::Event;
use millpond::thread::{Current, Thread, ThreadError, ThreadId, current, current_name};

/// Long enough for any thread to get its turn.
const AGES: Duration = Duration::from_secs(60);
/// Nobody will be done in this time.
const MOMENT: Duration = Duration::from_millis(5);

#[test]
fn a_thread_has_its_name_and_is_joined_with_its_value() {
    let thread = Thread::spawn("LoopThread", || (current_name(), current(), 42)).unwrap();
    let (name, id) = (thread.name().to_owned(), thread.id());
    let (seen, current, value) = thread.join().unwrap();
    assert_eq!((name.as_str(), seen.as_str(), value), ("LoopThread", "LoopThread", 42));
    assert_eq!((current.name(), current.id()), ("LoopThread", id));
    assert_eq!(current.to_string(), "LoopThread");
    assert_eq!(format!("{current:?}"), format!("Current {{ name: \"LoopThread\", id: ThreadId({id}) }}"));
}

#[test]
fn a_thread_that_nobody_named_is_called_after_its_number() {
    let here = Thread::builder().spawn(current).unwrap();
    let (name, id) = (here.name().to_owned(), here.id());
    let seen = here.join().unwrap();
    assert_eq!((seen.name(), seen.id()), (name.as_str(), id));
    assert_eq!(name, format!("Thread-{id}"));
    let elsewhere = std::thread::spawn(|| (current(), current())).join().unwrap();
    assert_eq!(elsewhere.0, elsewhere.1, "it stays the same");
    assert_eq!(elsewhere.0.name(), format!("Thread-{}", elsewhere.0.id()));
    let named = std::thread::Builder::new().name("elsewhere".to_owned()).spawn(current_name).unwrap();
    assert_eq!(named.join().unwrap(), "elsewhere");
}

#[test]
fn numbers_are_never_used_twice() {
    let ids: Vec<ThreadId> = (0..50)
        .map(|n| {
            if n % 2 == 0 {
                Thread::spawn("numbered", || current().id()).unwrap().join().unwrap()
            } else {
                std::thread::spawn(|| current().id()).join().unwrap()
            }
        })
        .collect();
    assert_eq!(HashSet::<_>::from_iter(&ids).len(), 50);
    assert!(ids.is_sorted() && ids[0].get() > 0);
}

#[test]
fn a_name_can_be_asked_for_while_thread_locals_are_dropped() {
    struct AsksLate(mpsc::Sender<Current>);
    impl Drop for AsksLate {
        fn drop(&mut self) {
            let _ = self.0.send(current());
        }
    }
    thread_local! {
        static LATE: Cell<Option<AsksLate>> = const { Cell::new(None) };
    }
    let (sender, receiver) = mpsc::channel();
    let thread = Thread::spawn("late", move || LATE.set(Some(AsksLate(sender)))).unwrap();
    let id = thread.id();
    // Joining waits for the thread-locals too.
    thread.join().unwrap();
    let late = receiver.try_recv().expect("dropped before the join returned");
    assert_eq!(late.id(), id);
}

#[test]
fn a_panic_is_an_error_with_its_message() {
    let text = |error: ThreadError| match error {
        ThreadError::Panicked { name, message } => {
            assert_eq!(name, "unlucky");
            message
        }
        other => panic!("{other}"),
    };
    let panics: [(fn(), &str); 3] = [
        (|| panic!("the sluice is jammed"), "the sluice is jammed"),
        (|| panic!("{} sacks are wet", std::hint::black_box(3)), "3 sacks are wet"),
        (|| std::panic::panic_any(17_u8), "a value that is no text"),
    ];
    for (panics, message) in panics {
        let error = Thread::spawn("unlucky", panics).unwrap().join().unwrap_err();
        assert_eq!(error.to_string(), format!("the thread 'unlucky' panicked: {message}"));
        assert!(error.source().is_none());
        assert_eq!(text(error), message);
        let thread = Thread::spawn("unlucky", panics).unwrap();
        assert_eq!(text(thread.join_timeout(AGES).unwrap_err()), message);
        assert!(matches!(thread.join(), Err(ThreadError::AlreadyJoined { .. })));
    }
}

/// Panics when it is dropped.
struct Mine(&'static Event);

impl Drop for Mine {
    fn drop(&mut self) {
        self.0.set();
        panic!("a mine");
    }
}

#[test]
fn a_panic_with_a_value_that_panics_harms_nobody() {
    static BLOWN: Event = Event::new();
    let thread = Thread::spawn("mined", || -> u8 { std::panic::panic_any(Mine(&BLOWN)) }).unwrap();
    assert!(matches!(thread.join(), Err(ThreadError::Panicked { .. })));
    assert!(BLOWN.is_set());
}

/// Panics with something when it is dropped, and that again.
struct Minefield(u32);

impl Drop for Minefield {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Self(self.0 - 1));
        }
    }
}

#[test]
fn a_panic_with_a_value_that_panics_with_another_harms_nobody() {
    let thread = Thread::spawn("minefield", || -> u8 { std::panic::panic_any(Minefield(2)) }).unwrap();
    let error = thread.join_timeout(AGES).unwrap_err();
    assert_eq!(error.to_string(), "the thread 'minefield' panicked: a value that is no text");
    assert!(thread.is_finished());
}

#[test]
fn a_value_that_nobody_wants_is_dropped_even_if_that_panics() {
    static BLOWN: Event = Event::new();
    static GO: Event = Event::new();
    let thread = Thread::spawn("unwanted", || {
        GO.wait();
        Mine(&BLOWN)
    });
    drop(thread.unwrap());
    GO.set();
    assert!(BLOWN.wait_timeout(AGES), "the thread went on by itself and its value was dropped");
}

/// Tells when it is dropped.
struct Tells(&'static Event);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.set();
    }
}

std::thread_local! {
    /// Dropped after the thread's work, and what that left, are gone.
    static AT_THE_END: Cell<Option<Tells>> = const { Cell::new(None) };
}

#[test]
fn a_value_that_nobody_wants_may_panic_with_another_when_it_is_dropped() {
    static GO: Event = Event::new();
    static OVER: Event = Event::new();
    let thread = Thread::spawn("unwanted", || {
        AT_THE_END.set(Some(Tells(&OVER)));
        GO.wait();
        Minefield(2)
    });
    drop(thread.unwrap());
    GO.set();
    assert!(OVER.wait_timeout(AGES), "the thread went on by itself and came to its end");
}

#[test]
fn a_thread_can_be_waited_for_a_while_and_then_again() {
    static GO: Event = Event::new();
    let thread = Thread::spawn("patient", || {
        GO.wait();
        7
    })
    .unwrap();
    assert!(!thread.is_finished());
    let start = Instant::now();
    let error = thread.join_timeout(MOMENT).unwrap_err();
    assert!(start.elapsed() >= MOMENT);
    assert!(matches!(&error, ThreadError::TimedOut { name, waited: MOMENT } if name == "patient"), "{error:?}");
    assert!(error.to_string().contains("did not end within 5ms"), "{error}");
    assert!(thread.join_timeout(Duration::ZERO).is_err());
    assert!(format!("{thread:?}").contains("name: \"patient\""), "{thread:?}");
    assert!(format!("{thread:?}").contains("finished: false"), "{thread:?}");
    GO.set();
    assert_eq!(thread.join_timeout(Duration::MAX).unwrap(), 7);
    assert!(thread.is_finished());
    // Its value is gone.
    let error = thread.join_timeout(AGES).unwrap_err();
    assert!(matches!(error, ThreadError::AlreadyJoined { .. }), "{error:?}");
    assert!(error.to_string().contains("'patient' was joined before"), "{error}");
    assert!(matches!(thread.join(), Err(ThreadError::AlreadyJoined { .. })));
    let late = Thread::spawn("late", || 8).unwrap();
    assert!(late.join_timeout(AGES).is_ok());
}

#[test]
fn is_finished_means_that_joining_does_not_wait() {
    let thread = Thread::spawn("quick", || 1).unwrap();
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < AGES);
        std::thread::yield_now();
    }
    assert_eq!(thread.join_timeout(Duration::ZERO).unwrap(), 1);
}

#[test]
fn a_thread_that_joins_itself_is_told_so() {
    let (send, receive) = mpsc::channel::<Thread<()>>();
    let (tell, told) = mpsc::channel();
    let thread = Thread::spawn("ouroboros", move || {
        let me = receive.recv().unwrap();
        tell.send(me.join_timeout(AGES).unwrap_err()).unwrap();
        tell.send(me.join().unwrap_err()).unwrap();
    });
    send.send(thread.unwrap()).unwrap();
    for _ in 0..2 {
        let error = told.recv_timeout(AGES).unwrap();
        assert!(matches!(&error, ThreadError::JoinsItself { name } if name == "ouroboros"), "{error:?}");
        assert!(error.to_string().contains("join it from another thread"), "{error}");
    }
}

#[test]
fn bad_names_and_stacks_are_refused() {
    for (name, nul) in [("\0", 0), ("two\0names", 3), ("mühle\0", 6)] {
        let error = Thread::spawn(name, || panic!("never runs")).map(drop).unwrap_err();
        assert!(matches!(&error, ThreadError::BadName { at, .. } if *at == nul), "{error:?}");
        assert!(error.to_string().contains(&format!("leave out the NUL at byte {nul}")), "{error}");
    }
    let long = "x".repeat(10_000);
    assert_eq!(Thread::spawn(long.as_str(), current_name).unwrap().join().unwrap(), long);
    assert_eq!(Thread::spawn("", current_name).unwrap().join().unwrap(), "");
    for bytes in [usize::MAX, usize::MAX / 2 + 1] {
        let error = Thread::builder().stack_size(bytes).spawn(|| ()).map(drop).unwrap_err();
        assert!(matches!(error, ThreadError::StackTooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
    }
    for bytes in [0, 1, 5_000] {
        assert_eq!(Thread::builder().stack_size(bytes).spawn(|| 5).unwrap().join().unwrap(), 5);
    }
}

#[test]
fn a_thread_that_the_system_refuses_is_an_error_and_drops_what_it_was_given() {
    struct Given(&'static AtomicBool);
    impl Drop for Given {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    static DROPPED: AtomicBool = AtomicBool::new(false);
    for bytes in [isize::MAX.unsigned_abs(), 1 << 60, 1 << 48] {
        DROPPED.store(false, Ordering::SeqCst);
        let given = Given(&DROPPED);
        let error =
            Thread::builder().name("greedy").stack_size(bytes).spawn(move || drop(given)).map(drop).unwrap_err();
        assert!(matches!(&error, ThreadError::Refused { name, .. } if name == "greedy"), "{error:?}");
        assert!(error.to_string().starts_with("the system started no thread 'greedy'"), "{error}");
        assert!(error.source().is_some_and(|source| source.is::<std::io::Error>()));
        assert!(DROPPED.load(Ordering::SeqCst));
    }
}

#[test]
fn what_may_be_sent_and_shared_is() {
    fn both<T: Send + Sync>() {}
    both::<Thread<Cell<u8>>>();
    both::<ThreadError>();
    both::<Current>();
}
