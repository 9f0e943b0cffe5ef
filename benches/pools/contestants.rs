//! Who is compared, and as what.

use millpond_bench::{ALLOCATORS, MILLPOND, Options, Worker, Workshop};

/// The pools of other crates: Millpond's is judged against the best of these.
pub const POOLS: &[&str] = &["slab", "sharded-slab", "opool", "object-pool", "lockfree-object-pool", "ArrayQueue"];

/// The lower limit.
pub const BARE_LIST: &str = "bare-list";

/// For one thread only, and so no rival of a pool that threads share; printed for comparison.
pub const UNSHARED: &str = "slab-unshared";

/// Millpond's own contestants: the first is judged.
pub const OWN: &[&str] = &[MILLPOND, "millpond-blocks"];

/// `Box` on an allocator of this name.
pub fn boxed(allocator: &str) -> String {
    format!("Box, {allocator}")
}

/// Builds everybody that is wanted. What does not build here is left out, and the output says so.
pub fn build(options: &Options) -> Vec<Worker> {
    let workshop = Workshop::new(env!("CARGO_TARGET_TMPDIR"), options.profile).take_built(options.built);
    let mut workers = Vec::new();
    let mut add = |built: Result<Worker, String>, contestants: &[(&str, &str)]| match built {
        Ok(worker) => workers.extend(contestants.iter().map(|(name, argument)| Worker {
            name: (*name).into(),
            arguments: vec![(*argument).into()],
            ..worker.clone()
        })),
        Err(reason) => println!("Left out: {reason}."),
    };
    let own: Vec<_> = OWN.iter().map(|name| (*name, *name)).collect();
    add(workshop.build("pool-worker", "pools", &["pool-worker", "pool-millpond", "alloc-system"]), &own);
    let others = POOLS.iter().chain([&BARE_LIST, &UNSHARED]);
    let others: Vec<_> = others.filter(|name| options.wants_peer(name)).map(|name| (*name, *name)).collect();
    add(workshop.build("pool-worker", "peers", &["pool-worker", "pool-peers", "alloc-system"]), &others);
    for allocator in ALLOCATORS.iter().filter(|allocator| options.wants_peer(allocator.name)) {
        let built = workshop.build("pool-worker", allocator.name, &["pool-worker", allocator.feature]);
        add(built, &[(&boxed(allocator.name), "box")]);
    }
    workers
}
