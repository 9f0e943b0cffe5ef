//! Four children, each with its own id, in whatever order the system picks; creating and starting as two steps; nothing
//! shared that wasn't given; children that nobody waited for are waited for at the end.
//!
//! ```text
//! cargo run --release --example process
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use millpond::process::{self, Process};

/// Each process has its own: a child starts with 0, whatever its parent did.
static COUNTER: AtomicU32 = AtomicU32::new(0);

fn long_time_task(name: String, milliseconds: u64) -> u32 {
    let start = Instant::now();
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
    std::thread::sleep(Duration::from_millis(milliseconds));
    println!(
        "task {name}: process {}, child of {}, ran {:.1} s; its counter is {counter}",
        process::id(),
        process::parent_id(),
        start.elapsed().as_secs_f64()
    );
    counter
}

fn late() {
    std::thread::sleep(Duration::from_millis(300));
    println!("process {}, which nobody waited for, is done", process::id());
}

millpond::tasks![long_time_task, late];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process::init();
    println!("parent process {}", process::id());
    COUNTER.store(100, Ordering::Relaxed);

    // Created here, started there. How long each takes is drawn: no order is promised.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    let drawn = |n: u64| 50 + (u64::from(now) + n).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 400;
    let to_be: Vec<_> =
        (1..=4).map(|n| Process::new(long_time_task, (n.to_string(), drawn(n))).name(format!("task {n}"))).collect();
    let children = to_be.into_iter().map(|process| process.start()).collect::<Result<Vec<_>, _>>()?;
    println!("waiting for children {:?}", process::children());
    for child in &children {
        let counter = child.join()?;
        assert_eq!(counter, 1, "a child starts fresh");
    }
    println!("all done; the parent's counter is still {}", COUNTER.load(Ordering::Relaxed));

    // Neither joined nor detached: waited for when `main` ends. Forgetting the handle leaves that to the end.
    std::mem::forget(Process::spawn(late, ())?);
    println!("main ends");
    Ok(())
}
