//! The heap and the pools hold what they promise to a shadow model, whatever the program of operations.
#![cfg(feature = "allocator-api2")]
#![expect(unsafe_code, reason = "the model writes into the blocks that it is handed")]

#[path = "common/operations/mod.rs"]
mod operations;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

#[cfg(all(feature = "thread", feature = "process"))]
use operations::config as settings;
#[cfg(feature = "thread")]
use operations::tasks;
use operations::{Operation, Program, RECORD, handoff, heap, pool};

fn programs<Op: Operation>(longest: usize) -> impl Strategy<Value = Program<Op>> {
    let record = prop::collection::vec(any::<u8>(), RECORD);
    prop::collection::vec(record, 0..longest).prop_map(|records| Program::new(records.concat()))
}

/// The same cases each time, unless the environment says otherwise (`PROPTEST_RNG_SEED`, `PROPTEST_CASES`).
fn config(cases: u32) -> Config {
    let asked = |name: &str| std::env::var(name).ok();
    Config {
        cases: asked("PROPTEST_CASES").and_then(|cases| cases.parse().ok()).unwrap_or(cases),
        rng_seed: asked("PROPTEST_RNG_SEED")
            .map_or(RngSeed::Fixed(0x6d69_6c6c), |seed| seed.parse().map_or(RngSeed::Random, RngSeed::Fixed)),
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config(256))]
    #[test]
    fn heap_agrees_with_its_shadow(program in programs::<heap::Op>(120)) {
        program.run();
    }

    #[test]
    fn pools_agree_with_their_shadow(program in programs::<pool::Op>(150)) {
        program.run();
    }

    #[test]
    fn threads_that_hand_over_agree_with_their_shadows(program in programs::<handoff::Op>(300)) {
        program.run();
    }
}

#[cfg(feature = "thread")]
proptest! {
    #![proptest_config(config(64))]
    #[test]
    fn thread_pools_agree_with_their_shadow(program in programs::<tasks::Op>(60)) {
        program.run();
    }
}

#[cfg(all(feature = "thread", feature = "process"))]
proptest! {
    #![proptest_config(config(256))]
    #[test]
    fn settings_are_kept_or_refused(program in programs::<settings::Op>(30)) {
        program.run();
    }
}

/// Replays the files in which disagreements were once found.
fn replay<Op: Operation>(target: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    // A packaged crate has no such folder.
    let Ok(entries) = fs::read_dir(&folder) else { return };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    for file in files {
        println!("{}", file.display());
        Program::<Op>::new(fs::read(&file).unwrap()).run();
    }
}

#[test]
fn heap_regressions_stay_mended() {
    replay::<heap::Op>("heap");
}

#[test]
fn pool_regressions_stay_mended() {
    replay::<pool::Op>("pool");
}

#[cfg(all(feature = "thread", feature = "process"))]
#[test]
fn config_regressions_stay_mended() {
    replay::<settings::Op>("config");
}
