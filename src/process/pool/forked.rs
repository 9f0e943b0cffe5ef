//! Whether this process is a bare fork of one that had a pool: it has none of its workers.

use crate::os::Once;
use crate::primitive::{AtomicBool, Ordering};
use crate::task::PoolError;

/// Set in such a child before it runs anything.
static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// From now on, children know that they are.
pub(super) fn follow() {
    static FOLLOWED: Once = Once::new();
    FOLLOWED.call(|| crate::os::shared::in_forked_child(forked));
}

pub(super) fn expect_not_forked() -> Result<(), PoolError> {
    // Relaxed: set before a forked process runs anything.
    if FORKED.load(Ordering::Relaxed) { Err(PoolError::Forked) } else { Ok(()) }
}
