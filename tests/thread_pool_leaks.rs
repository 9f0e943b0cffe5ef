//! Pools that are made and dropped leave nothing: no memory, no thread, no descriptor. Alone in its process, whose memory it reads.
#![cfg(feature = "thread")]

use millpond::thread::ThreadPool;

/// A figure of this process, as the system tells it.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[test]
fn a_thousand_pools_leave_nothing() {
    let round = || {
        let pool = ThreadPool::builder().workers(2).name("short").build().unwrap();
        let handles: Vec<_> = (0..10).map(|n| pool.apply_async(move || n).unwrap()).collect();
        pool.scope(|s| (0..4).for_each(|_| s.spawn(|| ())));
        drop(handles);
    };
    (0..200).for_each(|_| round());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let open = descriptors();
    let before = status("VmRSS:");
    (0..1000).for_each(|_| round());
    let after = status("VmRSS:");
    assert_eq!(descriptors(), open);
    assert!(after < before + 2048, "resident memory grew from {before} to {after} kB");
    let left = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("short-"))
        .count();
    assert_eq!(left, 0);
}
