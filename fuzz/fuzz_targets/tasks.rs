//! The lives of thread pools: `tests/common/operations/tasks.rs` says what the programs do.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: millpond_fuzz::TasksProgram| program.run());
