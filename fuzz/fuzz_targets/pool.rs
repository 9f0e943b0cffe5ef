//! Programs for block pools and typed pools: `tests/common/operations/pool.rs` says what they do.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: millpond_fuzz::PoolProgram| program.run());
