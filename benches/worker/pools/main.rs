//! Runs one contestant through one workload of the typed pools and prints what it cost.
//!
//! `pool-worker <contestant> <workload>`

use std::process::ExitCode;

use workloads::Sample;

#[path = "../allocator.rs"]
mod allocator;
mod bare;
mod boxes;
mod loops;
#[cfg(feature = "pool-millpond")]
mod millpond;
#[cfg(feature = "pool-peers")]
mod peers;
mod store;

use store::{Payload, Size, Store};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [contestant, workload] = arguments.as_slice() else {
        eprintln!("pool-worker <contestant> <workload>");
        return ExitCode::FAILURE;
    };
    let sample = match workload.rsplit_once('-') {
        Some((workload, "64")) => run::<8>(contestant, workload),
        Some((workload, "256")) => run::<32>(contestant, workload),
        _ => None,
    };
    let Some(sample) = sample else {
        eprintln!("\"{contestant}\" does not run \"{workload}\"");
        return ExitCode::FAILURE;
    };
    println!("{sample}");
    ExitCode::SUCCESS
}

/// Runs the contestant of this name with payloads of so many words.
fn run<const WORDS: usize>(contestant: &str, workload: &str) -> Option<Sample>
where
    Payload<WORDS>: Size,
{
    match contestant {
        "box" => shared(&boxes::Boxes::<WORDS>, workload),
        "bare-list" => alone(&bare::BareList::<WORDS>, workload),
        #[cfg(feature = "pool-millpond")]
        "millpond" => shared(&millpond::Typed::<WORDS>, workload),
        #[cfg(feature = "pool-millpond")]
        "millpond-blocks" => shared(&millpond::Blocks::<WORDS>, workload),
        #[cfg(feature = "pool-peers")]
        "slab-unshared" if workload == "one" => loops::one(&peers::OwnSlab::<WORDS>::default()),
        #[cfg(feature = "pool-peers")]
        "slab" => shared(&peers::SharedSlab::<WORDS>::default(), workload),
        #[cfg(feature = "pool-peers")]
        "sharded-slab" => shared(&peers::ShardedSlab::<WORDS>::default(), workload),
        #[cfg(feature = "pool-peers")]
        "opool" => shared(&peers::opool::<WORDS>(), workload),
        #[cfg(feature = "pool-peers")]
        "object-pool" => shared(&peers::object_pool::<WORDS>(), workload),
        #[cfg(feature = "pool-peers")]
        "lockfree-object-pool" => shared(&peers::lockfree_object_pool::<WORDS>(), workload),
        #[cfg(feature = "pool-peers")]
        "ArrayQueue" => shared(&peers::QueuePool::<WORDS>::default(), workload),
        _ => None,
    }
}

/// Any workload.
fn shared<S: for<'a> Store<Held<'a>: Send> + Sync>(store: &S, workload: &str) -> Option<Sample> {
    match workload {
        "handover" => loops::handover(store),
        _ => alone(store, workload),
    }
}

/// The workloads in which each thread gives back what it took.
fn alone<S: Store + Sync>(store: &S, workload: &str) -> Option<Sample> {
    match workload {
        "one" => loops::one(store),
        "two-threads" => loops::two_threads(store),
        _ => None,
    }
}
