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

millpond::tasks![initializes];

/// The value of a child that ends by itself.
fn joined<R: serde::de::DeserializeOwned>(child: &Process<R>) -> R {
    child.join_timeout(HANG).unwrap_or_else(|error| {
        let _ = child.kill();
        panic!("{error}");
    })
}

#[test]
fn a_child_is_served_once() {
    assert_eq!(joined(&Process::spawn(initializes, (7,)).unwrap()), 7);
}
