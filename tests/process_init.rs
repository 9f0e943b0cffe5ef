//! Code under test that calls `init()` itself, in a test binary, whose children are entered elsewhere.
#![cfg(feature = "process")]

use std::time::Duration;

use millpond::process::{self, Process};

millpond::test_support!();

/// Nothing here takes so long: a test that waits for it hangs.
const HANG: Duration = Duration::from_secs(60);

fn initializes(n: u32) -> u32 {
    process::init();
    process::init();
    n
}

/// What this process was told.
fn command() -> Vec<String> {
    std::env::args().skip(1).collect()
}

millpond::tasks![initializes, command];

/// The value of a child that ends by itself.
fn joined<R: serde::de::DeserializeOwned>(child: &Process<R>) -> R {
    child.join_timeout(HANG).unwrap_or_else(|error| {
        let _ = child.kill();
        panic!("{error}");
    })
}

#[test]
fn a_child_is_served_once() {
    expect_not_in_a_child();
    assert_eq!(joined(&Process::spawn(initializes, (7,)).unwrap()), 7);
}

#[test]
fn a_child_runs_no_other_test_where_init_was_called() {
    expect_not_in_a_child();
    process::init();
    let child = Process::spawn(command, ()).unwrap();
    assert_eq!(joined(&child)[..2], ["millpond_worker", "--exact"]);
}

/// Where tests run in a child, they end it, and start no more.
fn expect_not_in_a_child() {
    if std::env::var_os("MILLPOND_CHILD").is_some() {
        std::process::abort();
    }
}
