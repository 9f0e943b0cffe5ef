//! Threads leave nothing behind. In a process of its own: what other tests hold, and what the standard library keeps of a
//! printed backtrace, is none of theirs. Heap is its allocator.

use millpond::Heap;

#[global_allocator]
static GLOBAL: Heap = Heap;

#[test]
fn thousands_of_short_threads_leave_the_process_as_small_as_it_was() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let churn = |count: usize| {
        for n in 0..count {
            let work = move || (0..50).map(|m| "x".repeat(1 + (n * m) % 3_000)).map(|text| text.len()).sum::<usize>();
            assert!(std::thread::spawn(work).join().unwrap() > 0);
        }
    };
    churn(200);
    let (before, live) = (resident(), Heap::stats().live_blocks);
    churn(5_000);
    let (after, stats) = (resident(), Heap::stats());
    assert!(after <= before + (4 << 20), "{before} bytes before, {after} after; {stats}");
    assert!(stats.live_blocks <= live + 100, "{live} blocks before; {stats}");
}
