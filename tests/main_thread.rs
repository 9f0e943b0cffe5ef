//! The main thread has a name, and when the system has no room for another thread that is an error, once there is room
//! again a thread. Not under the test harness: this is `main`, and no other thread runs beside it.
#![expect(unsafe_code, reason = "sets a limit")]

use millpond::thread::{Thread, ThreadError, current, current_name};

/// Bounds the process's address space; what it was.
fn limit_address_space(bytes: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it is written to by the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) }, 0);
    let before = limit.rlim_cur;
    limit.rlim_cur = bytes;
    // SAFETY: it is read by the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    before
}

fn main() {
    assert_eq!((current_name().as_str(), current().name(), current().id().get()), ("main", "main", 1));
    assert_eq!(Thread::spawn("first", || current().id().get()).unwrap().join().unwrap(), 2);

    // Room for nothing but small change. The stack of the thread before is kept by the system's library, hence a larger one.
    let before = limit_address_space(1 << 20);
    let refused = Thread::builder().name("crowded out").stack_size(64 << 20).spawn(|| ()).map(drop);
    limit_address_space(before);
    match refused {
        Err(error @ ThreadError::Refused { .. }) => {
            assert!(error.to_string().contains("no thread 'crowded out'"), "{error}");
            assert!(error.to_string().contains("raise the limit"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let again = Thread::builder().name("welcome").stack_size(64 << 20).spawn(current_name).unwrap();
    assert_eq!(again.join().unwrap(), "welcome");
    println!("the main thread has a name, and a refused thread is an error");
}
