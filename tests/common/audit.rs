//! What a process has, counted before and after: descriptors, children, threads of pools, memory shared with workers.
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use millpond::ipc;
use millpond::process::ProcessPool;

// What the whole process has is counted.
pub(crate) use self::alone::alone;

#[path = "alone.rs"]
mod alone;

/// Nothing here takes so long: what waits for it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Whether the long forms are run: `MILLPOND_SOAK=1`.
pub(crate) fn is_long() -> bool {
    std::env::var_os("MILLPOND_SOAK").is_some_and(|value| value != "0")
}

/// So many in the short form, and so many in the long one.
pub(crate) fn times(short: u64, long: u64) -> u64 {
    if is_long() { long } else { short }
}

/// Marsaglia's xorshift.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

/// What this process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Audit {
    descriptors: Vec<String>,
    children: BTreeSet<u32>,
    threads: Vec<String>,
    shared_mappings: usize,
    /// Members, objects, blocks owned and on their way, handles on their way.
    ipc: [usize; 5],
}

impl Audit {
    /// What there is now, once all that is made at first use is there.
    pub(crate) fn now() -> Self {
        Self::warm_up();
        // The keeper has the last word on the pool that was just dropped.
        loop {
            let first = Self::look();
            std::thread::sleep(Duration::from_millis(50));
            if first == Self::look() {
                return first;
            }
        }
    }

    fn warm_up() {
        // The keeper of children, and the memory that processes share.
        drop(ipc::stats());
        drop(ProcessPool::builder().workers(1).build().unwrap());
    }

    fn look() -> Self {
        let stats = ipc::stats().unwrap();
        Self {
            descriptors: descriptors(),
            children: children(),
            threads: threads(),
            shared_mappings: shared_mappings(),
            ipc: [stats.members, stats.objects, stats.owned, stats.queued, stats.tokens],
        }
    }

    /// Nothing is left. What ends by itself (a thread that is joined by nobody, a child being swept) may take a moment.
    pub(crate) fn expect_unchanged(&self) {
        let started = Instant::now();
        loop {
            let now = Self::look();
            if now == *self {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "left behind: {now:#?}\nbefore: {self:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    // Without the inode's number, for one that was opened again is another.
    let kind = |link: std::path::PathBuf| link.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = links.map(kind).filter(|link| !link.starts_with("/proc/")).collect();
    all.sort();
    all
}

/// Children that the system knows of, zombies too.
pub(crate) fn children() -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
    }
    all
}

/// Threads of Millpond's own.
pub(crate) fn threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("millpond-")).collect();
    names.sort();
    names
}

fn shared_mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("/memfd:millpond")).count()
}

/// Bytes of memory that this process uses.
pub(crate) fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

pub(crate) fn open_descriptors() -> usize {
    descriptors().len()
}
