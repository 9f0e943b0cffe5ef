//! A lock whose word says who holds it: held and by whom are the same instant, and whoever dies with it is found.
//!
//! ```text
//!   31        30       29    28        11 10          0
//! +---------+--------+------+------------+-------------+
//! | sleepers| poison | died | generation | member + 1  |
//! +---------+--------+------+------------+-------------+
//! ```

use core::fmt;
use core::time::Duration;

use super::block::Owner;
#[cfg(millpond_loom)]
use super::models::futex as os;
use super::step;
#[cfg(not(millpond_loom))]
use crate::os::shared as os;
use crate::primitive::{AtomicU32, Ordering, spin_loop};

const OWNER: u32 = (1 << 29) - 1;
const DIED: u32 = 1 << 29;
const POISON: u32 = 1 << 30;
const SLEEPERS: u32 = 1 << 31;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(u32);

impl Holder {
    pub(crate) fn new(member: Owner, generation: u32) -> Self {
        Self(((generation << 11) & OWNER) | (u32::from(member) + 1))
    }

    /// The index of the member that it is, or none that there can be.
    pub(crate) fn member(self) -> Owner {
        // 11 bits.
        ((self.0 & 0x7FF) as Owner).wrapping_sub(1)
    }

    /// One who is no member: its death is not seen.
    pub(crate) const FOREIGN: Self = Self(0x7FF);
}

/// How a lock was found by who got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As the last holder left it.
    Clean,
    /// Its holder died with it; this is the first to know.
    Died,
    /// A holder died or panicked with it, and nobody repaired what it guards.
    Poisoned,
}

/// See the module.
#[repr(transparent)]
pub(crate) struct LockWord(AtomicU32);

impl LockWord {
    #[cfg(millpond_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn found(word: u32) -> Found {
        match word {
            word if word & DIED != 0 => Found::Died,
            word if word & POISON != 0 => Found::Poisoned,
            _ => Found::Clean,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self, me: Holder) -> Option<Found> {
        // Acquire: whoever holds the lock sees all that the last holder did; pairs with the Release in `unlock`.
        match self.0.compare_exchange(0, me.0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                step::reach(50);
                Some(Found::Clean)
            }
            Err(seen) if seen & OWNER == 0 => self.take(seen, me, 0),
            Err(_) => None,
        }
    }

    fn take(&self, seen: u32, me: Holder, sleepers: u32) -> Option<Found> {
        let mine = me.0 | (seen & (DIED | POISON | SLEEPERS)) | sleepers;
        let took = self.0.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if took {
            step::reach(50);
        }
        took.then(|| Self::found(seen))
    }

    /// Takes the lock, waiting for it: `wait` is asked before each sleep how long it may be, and ends the wait with
    /// an error.
    #[cold]
    pub(crate) fn lock_slow<E>(
        &self,
        me: Holder,
        spins: u32,
        mut wait: impl FnMut() -> Result<Duration, E>,
    ) -> Result<Found, E> {
        for _ in 0..spins {
            let seen = self.0.load(Ordering::Relaxed);
            if seen & OWNER == 0
                && let Some(found) = self.take(seen, me, 0)
            {
                return Ok(found);
            }
            if seen & SLEEPERS != 0 {
                break;
            }
            spin_loop();
        }
        loop {
            let seen = self.0.load(Ordering::Relaxed);
            if seen & OWNER == 0 {
                // Others may sleep behind us: the bit stays until an unlock finds nobody.
                if let Some(found) = self.take(seen, me, SLEEPERS) {
                    return Ok(found);
                }
                continue;
            }
            let slept_on = seen | SLEEPERS;
            if seen != slept_on
                && self.0.compare_exchange(seen, slept_on, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            // L4: only now. Who was woken and gives up here has left the bit for those behind it.
            let most = wait()?;
            step::reach(51);
            os::shared_wait(&self.0, slept_on, Some(most));
            step::reach(52);
        }
    }

    /// Gives the lock back; poisoned, if what it guards may be half changed. The caller holds it.
    #[inline]
    pub(crate) fn unlock(&self, poisoned: bool) {
        // Release: pairs with the Acquire of the next holder.
        let seen = self.0.swap(if poisoned { POISON } else { 0 }, Ordering::Release);
        if seen & SLEEPERS != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        step::reach(53);
        os::shared_wake(&self.0, 1);
    }

    /// What it guards was repaired by its holder.
    pub(crate) fn mend(&self) {
        self.0.fetch_and(!(DIED | POISON), Ordering::Relaxed);
    }

    /// After a death: a lock that the dead one held is free for who asks about the death, and all sleepers look again.
    /// Also where it was not held: the dead one may have been woken instead of another.
    pub(crate) fn sweep(&self, dead: Holder) {
        let mut seen = self.0.load(Ordering::Acquire);
        while seen & OWNER == dead.0 {
            // AcqRel: whoever gets the lock sees what the dead one did.
            match self.0.compare_exchange(seen, DIED, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        os::shared_wake(&self.0, i32::MAX);
    }

    /// As if somebody had written over it.
    #[cfg(all(test, not(millpond_loom)))]
    pub(crate) fn spoil(&self, word: u32) {
        self.0.store(word, Ordering::SeqCst);
    }

    /// Whether somebody holds it.
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & OWNER != 0
    }

    /// Who holds it.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let owner = self.0.load(Ordering::Relaxed) & OWNER;
        (owner != 0).then_some(Holder(owner))
    }
}

impl fmt::Debug for LockWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.load(Ordering::Relaxed);
        match self.holder() {
            Some(holder) => write!(f, "held by {}", holder.member())?,
            None => write!(f, "free")?,
        }
        match Self::found(word) {
            Found::Clean => Ok(()),
            Found::Died => write!(f, ", a holder died"),
            Found::Poisoned => write!(f, ", poisoned"),
        }
    }
}
