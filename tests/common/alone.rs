//! One test at a time in this process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Until it is dropped no other test that asks for it runs.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
