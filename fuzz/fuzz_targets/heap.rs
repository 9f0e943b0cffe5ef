//! Programs for the process's heap: `tests/common/operations/heap.rs` says what they do.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: millpond_fuzz::HeapProgram| program.run());
