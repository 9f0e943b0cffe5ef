//! Threads that run at once and hand over what they took: `tests/common/operations/handoff.rs` says what the programs do.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: millpond_fuzz::HandoffProgram| program.run());
