//! Runs one contestant through one workload of the thread pools and prints what it cost.
//!
//! `thread-worker <contestant> <workload>-<workers>`

use std::process::ExitCode;

use workloads::Sample;

mod latency;
mod millpond;
mod peers;
mod pinning;
mod pool;
mod pools;
mod rows;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [contestant, workload] = arguments.as_slice() else {
        eprintln!("thread-worker <contestant> <workload>-<workers>");
        return ExitCode::FAILURE;
    };
    let sample = workload.rsplit_once('-').and_then(|(workload, workers)| {
        let workers = workers.parse().ok()?;
        run(contestant, workload, workers)
    });
    let Some(sample) = sample else {
        eprintln!("\"{contestant}\" does not run \"{workload}\"");
        return ExitCode::FAILURE;
    };
    println!("{sample}");
    ExitCode::SUCCESS
}

fn run(contestant: &str, workload: &str, workers: usize) -> Option<Sample> {
    match (contestant, workload) {
        ("millpond", "fib") => Some(millpond::fib(workers)),
        ("rayon", "fib") => Some(peers::rayon_fib(workers)),
        ("chili", "fib") => Some(peers::chili_fib(workers)),
        ("forte", "fib") => Some(peers::forte_fib(workers)),
        ("millpond", "map") => Some(millpond::map(workers)),
        ("rayon", "map") => Some(peers::rayon_map(workers)),
        ("std", "map") => Some(peers::std_map(workers)),
        ("millpond", "make") => Some(millpond::make(workers)),
        ("rayon", "make") => Some(peers::rayon_make(workers)),
        ("rusty_pool", "make") => Some(peers::rusty_make(workers)),
        ("std", "make") => Some(peers::std_make(workers)),
        ("millpond", "handles") => Some(millpond::handles(workers)),
        ("rayon", "handles") => Some(peers::rayon_scope(workers)),
        ("tokio", "handles") => Some(peers::tokio_handles(workers)),
        ("rusty_pool", "handles") => Some(peers::rusty_handles(workers)),
        ("futex", "latency-two" | "latency-one") => Some(latency::futex(workload == "latency-two")),
        ("millpond", _) => pools::run::<millpond::Millpond>(workload, workers),
        ("millpond-round-robin", _) => pools::run::<millpond::RoundRobin>(workload, workers),
        ("millpond-random", _) => pools::run::<millpond::Random>(workload, workers),
        ("rayon", _) => pools::run::<peers::Rayon>(workload, workers),
        ("threadpool", _) => pools::run::<peers::Threadpool>(workload, workers),
        ("rusty_pool", _) => pools::run::<peers::Rusty>(workload, workers),
        ("tokio", _) => pools::run::<peers::Tokio>(workload, workers),
        _ => None,
    }
}
