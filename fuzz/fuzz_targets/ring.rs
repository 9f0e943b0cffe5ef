//! What processes share, used while words of it become rubbish: errors, and nothing worse.
#![no_main]

libfuzzer_sys::fuzz_target!(|program: &[u8]| millpond::ipc::fuzzing::ring(program));
