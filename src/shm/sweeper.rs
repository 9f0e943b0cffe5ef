//! Who sweeps: one live member at a time, by a word that names it.
//!
//! Whoever reports a death says so first, where every sweeper looks, and then asks for the word. If a live member has it,
//! that one does the sweep: it looks again after it has let go. So a sweeper that is slow, or stopped, is never joined
//! by a second, and nobody has to wait for it.

use crate::primitive::{AtomicU64, Ordering, fence};

/// See the module. 0: nobody sweeps.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Sweeper(AtomicU64);

/// How the last sweep ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Done,
    /// Its sweeper died: its pins are still there.
    Died,
}

impl Sweeper {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes the word, after a death was said. `None`: a live member has it, and will see what was said.
    pub(crate) fn begin(&self, me: u64, is_live: impl Fn(u64) -> bool) -> Option<Last> {
        // Between the word of a death and the look at who sweeps; pairs with that in `end`: one of the two sees the other.
        fence(Ordering::SeqCst);
        // AcqRel: pairs with the Release of the last sweeper.
        let Err(other) = self.0.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) else {
            return Some(Last::Done);
        };
        // Failure: another was quicker, and lives.
        let took = || self.0.compare_exchange(other, me, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        (!is_live(other) && took()).then_some(Last::Died)
    }

    /// Lets go of the word. The caller looks afterwards whether another death was said meanwhile.
    pub(crate) fn end(&self) {
        // Release: pairs with the exchange of the next sweeper.
        self.0.store(0, Ordering::Release);
        // As in `begin`.
        fence(Ordering::SeqCst);
    }
}
