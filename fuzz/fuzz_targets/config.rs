//! Settings, much of them nonsense: `tests/common/operations/config.rs` says what the programs do.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: millpond_fuzz::ConfigProgram| program.run());
