//! Who sweeps: one live member at a time, by a word that names it.
//!
//! Whoever reports a death says so first, where every sweeper looks, and then asks for the word. If a live member has it,
//! that one does the sweep: it looks again after it has let go. So a sweeper that is slow, or stopped, is never joined
//! by a second, and nobody has to wait for it. In one process the word is asked for by one thread at a time.

use super::step;
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

/// How a [round](Sweeper::round) ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// This one has swept.
    Swept,
    /// Another is at it, and will see all that were said to be dead.
    Left,
    /// Somebody was said to be dead meanwhile: one more.
    Again,
}

impl Sweeper {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// After a death was said: sweeps, unless another does. `hold` gets what one thread of this process has at a time, if it
    /// is free; `leaving` says who is dead and not swept, and `sweep` whom it has swept.
    pub(crate) fn round<G, M: PartialEq>(
        &self,
        me: u64,
        hold: impl FnOnce() -> Option<G>,
        is_live: impl Fn(u64) -> bool,
        leaving: impl Fn() -> Vec<M>,
        sweep: impl FnOnce(&Last) -> Vec<M>,
    ) -> Round {
        let known = leaving();
        // Between the word of a death and the looks at who holds what one thread has, and at who sweeps; pairs with that behind
        // the steps that give up both: one of the two sees the other.
        fence(Ordering::SeqCst);
        let Some(held) = hold() else { return Round::Left };
        // No other thread of ours sweeps: our name in the word is rubbish.
        let swept = self.begin(me, |other| other != me && is_live(other)).map(|last| {
            let swept = sweep(&last);
            self.end();
            step::reach(93);
            swept
        });
        drop(held);
        // As above. Whoever held it looks, also who asked in vain: others of its process leave theirs to it.
        fence(Ordering::SeqCst);
        // Only those that are new: an entry that makes no sense never goes.
        let seen = swept.as_ref().unwrap_or(&known);
        if leaving().iter().any(|member| !seen.contains(member)) {
            Round::Again
        } else if swept.is_some() {
            Round::Swept
        } else {
            Round::Left
        }
    }

    /// Takes the word. `None`: a live member has it.
    pub(crate) fn begin(&self, me: u64, is_live: impl Fn(u64) -> bool) -> Option<Last> {
        // AcqRel: pairs with the Release of the last sweeper.
        let Err(other) = self.0.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) else {
            return Some(Last::Done);
        };
        // Failure: another was quicker, and lives.
        let took = || self.0.compare_exchange(other, me, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        (!is_live(other) && took()).then_some(Last::Died)
    }

    /// Lets go of the word.
    fn end(&self) {
        // Release: pairs with the exchange of the next sweeper.
        self.0.store(0, Ordering::Release);
    }
}
