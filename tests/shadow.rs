//! The heap and the pools hold what they promise to a shadow model, whatever the program of operations.
#![cfg(feature = "allocator-api2")]
#![expect(unsafe_code, reason = "the model writes into the blocks that it is handed")]

#[path = "common/operations/mod.rs"]
mod operations;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use operations::{Operation, Program, RECORD, heap, pool};

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
    #![proptest_config(config(96))]
    #[test]
    fn heap_agrees_with_its_shadow(program in programs::<heap::Op>(120)) {
        program.run();
    }

    #[test]
    fn pools_agree_with_their_shadow(program in programs::<pool::Op>(150)) {
        program.run();
    }
}
