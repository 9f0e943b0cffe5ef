//! The examples of threads and of what they need with each other print what they promise.

#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/event.rs"]
mod event;
#[path = "../examples/locks/threads.rs"]
mod locks;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/semaphore.rs"]
mod semaphore;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/thread.rs"]
mod thread;
#[expect(dead_code, reason = "an example's main is not called")]
#[path = "../examples/thread_pool.rs"]
mod thread_pool;

fn printed(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

fn says(printed: &str, lines: &[&str]) {
    for line in lines {
        assert!(printed.contains(line), "{line:?} is not in\n{printed}");
    }
}

#[test]
fn a_thread_is_named_joined_and_its_panic_an_error() {
    let mut out = Vec::new();
    thread::run(&mut out).unwrap();
    says(
        &printed(out),
        &[
            "thread LoopThread >>> 5\nthread LoopThread ended, with 5.",
            "the thread 'unlucky' panicked: the sluice is jammed.",
            "thread patient ended.",
            "Refused: a thread cannot be named",
            "Refused: the system started no thread 'greedy'",
        ],
    );
}

#[test]
fn a_pool_is_ready_up_front_and_the_fifth_task_waits() {
    let mut out = Vec::new();
    thread_pool::run(&mut out).unwrap();
    let printed = printed(out);
    says(
        &printed,
        &[
            "4 were ready before the first task.",
            "task 5 waits: true\n  task 5 ran on mill-",
            "a callback was told:    Ok(42)",
            "a panic is an error:    the task panicked: out of flour",
            "map keeps the order:    [1, 4, 9, 16, 25]",
            "a scope changed:        RYE OATS SPELT",
            "fork_join added up:     500000500000",
            "join before close:      the pool is open",
            "a task after close:     the pool is closed",
        ],
    );
    for worker in 0..4 {
        says(&printed, &[&format!("runs on mill-{worker}\n"), &format!("\n  worker {worker}: ")]);
    }
}

#[test]
fn updates_balance_and_lines_stay_whole() {
    let mut out = Vec::new();
    locks::run(&mut out, &[10_000, 50_000]).unwrap();
    let printed = printed(out);
    says(&printed, &["2 × 10000 updates: the balance is 0.", "2 × 50000 updates: the balance is 0.", "200 sacks"]);
    for printer in 0..10 {
        for line in 0..3 {
            says(&printed, &[&format!("\n  printer {printer} writes line {line}\n")]);
        }
    }
}

#[test]
fn so_many_at_a_time_in_order_of_arrival() {
    let mut out = Vec::new();
    semaphore::run(&mut out).unwrap();
    says(
        &printed(out),
        &["At most 3 at a time", "[0, 1, 2, 3]", "100 sacks were filled", "Refused: the semaphore is closed"],
    );
}

#[test]
fn all_wait_for_one_and_all_for_all() {
    let mut out = Vec::new();
    event::run(&mut out).unwrap();
    says(
        &printed(out),
        &["0 have passed.", "all 4 that waited have passed.", "4 threads met 3 times", "two pass: true."],
    );
}
