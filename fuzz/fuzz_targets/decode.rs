//! Bytes that claim to be a message with handles in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millpond::ipc::fuzzing::decode(bytes));
