//! The fuzz targets' way to the operations that the property tests replay.

#[path = "../../tests/common/operations/mod.rs"]
mod operations;
mod processes;

pub use processes::ProcessProgram;

use arbitrary::{Arbitrary, Unstructured};
use operations::Program;

/// An input of a target: `cargo fuzz fmt <target> <file>` shows its operations.
macro_rules! input {
    ($(#[$about:meta])* $name:ident, $operations:ty) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $name(Program<$operations>);

        impl $name {
            /// Runs the program. Panics where the memory under test and its shadow disagree.
            pub fn run(&self) {
                self.0.run();
            }
        }

        impl<'a> Arbitrary<'a> for $name {
            fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
                Ok(Self(Program::new(bytes.bytes(bytes.len())?.to_vec())))
            }
        }
    };
}

input! {
    /// A program for the process's heap.
    HeapProgram, operations::heap::Op
}

input! {
    /// A program for block pools and typed pools.
    PoolProgram, operations::pool::Op
}

input! {
    /// A program for threads that run at once and hand over what they took.
    HandoffProgram, operations::handoff::Op
}

input! {
    /// A program for the lives of thread pools.
    TasksProgram, operations::tasks::Op
}

input! {
    /// A program of settings.
    ConfigProgram, operations::config::Op
}
