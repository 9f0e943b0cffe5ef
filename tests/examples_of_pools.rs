//! The examples of process pools print what they promise.
#![cfg(all(feature = "process", feature = "thread"))]

#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/dispatch.rs"]
mod dispatch;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/process_pool.rs"]
mod process_pool;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/three_modes.rs"]
mod three_modes;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/top.rs"]
mod top;

use std::error::Error;

millpond::test_support!();

fn printed(run: impl FnOnce(&mut Vec<u8>) -> Result<(), Box<dyn Error>>) -> String {
    let mut out = Vec::new();
    run(&mut out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    String::from_utf8(out).unwrap()
}

fn says(printed: &str, lines: &[&str]) {
    for line in lines {
        assert!(printed.contains(line), "{line:?} is not in\n{printed}");
    }
}

#[test]
fn five_tasks_on_four_workers() {
    says(
        &printed(process_pool::run),
        &[
            "The fifth waited for process ",
            "apply waits:            49\n",
            "its handle says 64\n",
            "a callback was told:    Ok(81)\n",
            "the flour is on the floor",
            "map keeps the order:    [1, 4, 9, 16, 25]\n",
            "imap gives one by one:  [1, 4, 9, 16, 25]\n",
            "imap_unordered, sorted: {1, 4, 9, 16, 25}\n",
            "the task that waited ran all the same: 100\n",
            "signal 9",
            "joined: ",
        ],
    );
}

#[test]
fn who_ran_what_under_each_dispatch() {
    let printed = printed(dispatch::run);
    says(&printed, &["A pool of 4 threads:", "A pool of 4 processes:"]);
    for dispatch in ["SharedQueue:", "RoundRobin:", "Random:"] {
        assert_eq!(printed.matches(&format!("\n{dispatch}\n")).count(), 2, "{printed}");
    }
}

#[test]
fn three_ways_find_the_same_primes() {
    let printed = printed(three_modes::run);
    for mode in ["many processes", "many threads", "many processes with many threads", "the same from a pool"] {
        says(&printed, &[&format!("\n{mode}: 148932 primes in ")]);
    }
    says(&printed, &[", hand-", ", thread 3: "]);
}

#[test]
fn a_pool_is_looked_at_while_it_works() {
    let printed = printed(top::run);
    says(&printed, &["'mill'", " workers of 2 threads", "the task that aborted: ", "signal 6"]);
}
