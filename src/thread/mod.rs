//! Threads: named, joined with their value, panics as errors.

mod single;

pub use single::{Current, Thread, ThreadBuilder, ThreadError, ThreadId, current, current_name};
