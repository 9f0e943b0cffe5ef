//! What is compared with whom, and the targets.

/// The largest good ratio of a figure to the best of some rivals.
pub struct Target {
    pub figure: &'static str,
    pub against: &'static str,
    pub rivals: &'static [&'static str],
    pub most: f64,
}

/// A workload.
pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    pub workers: &'static [usize],
    /// Millpond's contestants besides the one that is judged.
    pub own: &'static [&'static str],
    pub peers: &'static [&'static str],
    pub targets: &'static [Target],
}

impl Row {
    /// Whether its figures are percentiles.
    pub fn is_latency(&self) -> bool {
        self.name.starts_with("latency")
    }
}

const POOLS: &[&str] = &["rayon", "threadpool", "rusty_pool", "tokio"];
const FORKERS: &[&str] = &["rayon", "chili", "forte"];
const DISPATCHES: &[&str] = &["millpond-round-robin", "millpond-random"];
const BOTH: &[usize] = &[2, 4];

const fn best(rivals: &'static [&'static str], most: f64) -> Target {
    Target { figure: "nanoseconds", against: "best", rivals, most }
}

const LATENCIES: &[Target] = &[
    Target { figure: "p50", against: "best", rivals: POOLS, most: 1.05 },
    Target { figure: "p99", against: "best", rivals: POOLS, most: 1.05 },
    Target { figure: "p50", against: "bare futex", rivals: &["futex"], most: 1.15 },
];

pub const ROWS: &[Row] = &[
    Row {
        name: "empty",
        title: "1,000,000 empty tasks",
        workers: BOTH,
        own: DISPATCHES,
        peers: POOLS,
        targets: &[best(POOLS, 0.6)],
    },
    Row {
        name: "handles",
        title: "the same, each with a handle",
        workers: BOTH,
        own: &[],
        peers: &["rayon", "tokio", "rusty_pool"],
        targets: &[
            Target { figure: "nanoseconds", against: "rayon's scope", rivals: &["rayon"], most: 1.0 },
            Target { figure: "nanoseconds", against: "with handles", rivals: &["tokio", "rusty_pool"], most: 0.5 },
        ],
    },
    Row {
        name: "short",
        title: "100,000 tasks of 1 µs, one submitter",
        workers: BOTH,
        own: DISPATCHES,
        peers: POOLS,
        targets: &[best(POOLS, 0.95)],
    },
    Row {
        name: "short-two",
        title: "the same, two submitters",
        workers: BOTH,
        own: DISPATCHES,
        peers: POOLS,
        targets: &[best(POOLS, 0.95)],
    },
    Row {
        name: "uneven",
        title: "2,000 tasks of 2 µs, each eighth of 200 µs",
        workers: BOTH,
        own: DISPATCHES,
        peers: POOLS,
        targets: &[best(POOLS, 1.0)],
    },
    Row {
        name: "latency-two",
        title: "submit → result, asleep, two cores",
        workers: BOTH,
        own: DISPATCHES,
        peers: &["rayon", "threadpool", "rusty_pool", "tokio", "futex"],
        targets: LATENCIES,
    },
    Row {
        name: "latency-one",
        title: "submit → result, asleep, one core",
        workers: BOTH,
        own: DISPATCHES,
        peers: &["rayon", "threadpool", "rusty_pool", "tokio", "futex"],
        targets: LATENCIES,
    },
    Row {
        name: "fib",
        title: "fork–join: fib(27), no cut-off",
        workers: BOTH,
        own: &[],
        peers: FORKERS,
        targets: &[best(FORKERS, 1.0)],
    },
    Row {
        name: "map",
        title: "map over 1,000,000 items",
        workers: BOTH,
        own: &[],
        peers: &["rayon", "std"],
        targets: &[best(&["rayon", "std"], 1.0)],
    },
    Row {
        name: "make",
        title: "making and joining a pool",
        workers: &[4],
        own: &[],
        peers: &["rayon", "rusty_pool", "std"],
        targets: &[
            best(&["rayon", "rusty_pool", "std"], 1.0),
            Target { figure: "nanoseconds", against: "pools", rivals: &["rayon", "rusty_pool"], most: 1.0 },
        ],
    },
];
