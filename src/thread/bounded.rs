//! The bounded pools there are, by number: whoever cancels a task knows no more of its pool than that.

use std::sync::{Arc, Weak};

use super::shared::Shared;
use crate::os::Lock;

static POOLS: Lock<Vec<(u32, Weak<Shared>)>> = Lock::new(Vec::new());

/// From now on the pool hears of its cancelled tasks.
pub(super) fn enter(pool: &Arc<Shared>) {
    POOLS.lock().push((pool.id, Arc::downgrade(pool)));
}

/// Before a fork: a child may make pools, whatever its parent's threads were doing.
pub(super) fn hold() {
    POOLS.acquire();
}

/// After it, on both sides.
///
/// # Safety
/// The caller, or the thread that it is a copy of, has called `hold`.
pub(super) unsafe fn let_go() {
    // SAFETY: the caller's duty.
    unsafe { POOLS.release() }
}

/// The pool is gone.
pub(super) fn leave(id: u32) {
    POOLS.lock().retain(|(number, _)| *number != id);
}

/// A task of this pool was cancelled while it waited: if the pool is a bounded one, there may be room in its queue.
pub(super) fn task_over(id: u32) {
    let pool = POOLS.lock().iter().find(|(number, _)| *number == id).and_then(|(_, pool)| pool.upgrade());
    // Without the lock, which the pool's last pointer would take.
    if let Some(pool) = pool {
        pool.room.task_over();
    }
}
