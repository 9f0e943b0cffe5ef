//! Whose a pool is: this process's own, or of the process that this one is a bare fork of, whose workers are not here.
//!
//! Pools are numbered, so that a copy need remember one number: its own pools have that one or a higher one. In a copy
//! nobody asks for a lock of a pool that is not its own: a thread that there is no more may have it.

use super::{bounded, seat};
use crate::os::{self, ForkHold, Once};
use crate::primitive::{AtomicU32, Ordering};
use crate::task::PoolError;

/// The next pool's number.
static NEXT: AtomicU32 = AtomicU32::new(1);
/// The lowest number that a pool of this very process has.
static OWN: AtomicU32 = AtomicU32::new(0);

/// A number for a pool of this process, which knows from now on of each child whose it is.
pub(super) fn number() -> u32 {
    static ONCE: Once = Once::new();
    static HOLD: ForkHold = ForkHold::new();
    extern "C" fn prepare() {
        HOLD.hold(bounded::hold);
    }
    extern "C" fn parent() {
        // SAFETY: `prepare` took the lock in the thread that forked, which is the one that runs this.
        HOLD.let_go(|| unsafe { bounded::let_go() });
    }
    extern "C" fn child() {
        // Relaxed, both: no other thread is there.
        OWN.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
        seat::leave();
        parent();
    }
    ONCE.call(|| os::at_fork(prepare, parent, child));
    // Relaxed: numbers differ, and nothing hangs on their order. 0 is no pool's.
    NEXT.fetch_add(1, Ordering::Relaxed).max(1)
}

/// Whether the pool of this number has its workers in another process.
#[inline(always)]
pub(super) fn is_foreign(number: u32) -> bool {
    // Relaxed: set before a forked process runs anything.
    number < OWN.load(Ordering::Relaxed)
}

pub(super) fn expect_own(number: u32) -> Result<(), PoolError> {
    if is_foreign(number) { Err(PoolError::Forked) } else { Ok(()) }
}
