//! Processes that are killed while they use what they have in common: `src/processes.rs` says what the programs do.
#![no_main]

libfuzzer_sys::fuzz_target!(
    // In a child it runs the child's part, and never returns.
    init: millpond::process::init(),
    |program: millpond_fuzz::ProcessProgram| program.run()
);
