//! A semaphore that knows who holds its permits: one word says how many are left and what was done last and by whom.
//!
//! ```text
//!  63                    32 31 30 29    20 19            0
//! +------------------------+-----+--------+---------------+
//! |         number         | did | member |   permits     |
//! +------------------------+-----+--------+---------------+
//! ```
//!
//! Each member's account follows: before anything else is done, what was done last is entered into the account of who
//! did it, by whoever comes next. An entry carries the deed's number, so it is made once. Whoever dies in between has
//! either done nothing, or has done it and others write it down (P1 and P2 in `README.md`).

use core::fmt;

use super::block::Owner;
use super::step;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Permits at most.
pub(crate) const MOST: u32 = (1 << 20) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Nothing that any account knows of.
    Nothing,
    Took,
    Gave,
    /// All that a dead member held came back.
    Returned,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(permits: u32, member: Owner, deed: Deed, number: u32) -> Self {
        Self(
            u64::from(number) << 32 | (deed as u64) << 30 | u64::from(member & 0x3FF) << 20 | u64::from(permits & MOST),
        )
    }

    #[expect(clippy::cast_possible_truncation, reason = "20 bits")]
    fn permits(self) -> u32 {
        self.0 as u32 & MOST
    }

    fn member(self) -> Owner {
        (self.0 >> 20 & 0x3FF) as Owner
    }

    fn deed(self) -> Deed {
        match self.0 >> 30 & 3 {
            0 => Deed::Nothing,
            1 => Deed::Took,
            2 => Deed::Gave,
            _ => Deed::Returned,
        }
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A member's account: how many it holds, and the number of the last deed entered.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Account(u64);

impl Account {
    fn new(holds: u32, number: u32) -> Self {
        Self(u64::from(number) << 32 | u64::from(holds))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    fn holds(self) -> u32 {
        self.0 as u32
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Why nothing was taken or given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// None is left at this moment.
    NotNow,
    /// There would be more than [`MOST`].
    TooMany,
    /// The words make no sense.
    Damaged,
}

/// Where the members' accounts lie.
pub(crate) trait Accounts {
    /// A member's account.
    fn account(&self, member: Owner) -> &AtomicU64;
    /// How many of the permits that a member holds it has forgotten. Its own threads alone are at it while it lives.
    fn forgotten(&self, member: Owner) -> &AtomicU32;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Permits<'a, A> {
    pub(crate) word: &'a AtomicU64,
    pub(crate) accounts: A,
}

/// How often a step is tried again because others were quicker.
const PATIENCE: usize = 1_000_000;

impl<A: Accounts> Permits<'_, A> {
    fn load(&self) -> Word {
        // SeqCst: a sleeper's second look, after it announced itself; pairs with the exchange in `step`. Acquire: what
        // was done before the last deed is seen.
        Word(self.word.load(Ordering::SeqCst))
    }

    fn account(&self, member: Owner) -> Account {
        // Acquire: pairs with the Release in `settle`.
        Account(self.accounts.account(member).load(Ordering::Acquire))
    }

    /// Enters the last deed into its member's account, if nobody has.
    fn settle(&self, last: Word) {
        if last.deed() == Deed::Nothing {
            return;
        }
        let account = self.account(last.member());
        if account.number() == last.number() {
            return;
        }
        // The account was read before this look: if the deed still is the last, nobody has entered a later one into it.
        if self.load() != last {
            return;
        }
        let holds = match last.deed() {
            Deed::Took => account.holds().saturating_add(1),
            Deed::Gave => account.holds().saturating_sub(1),
            Deed::Returned | Deed::Nothing => 0,
        };
        let entered = Account::new(holds, last.number());
        // AcqRel: pairs with `account`. Failure: somebody else entered it.
        let at = self.accounts.account(last.member());
        let _ = at.compare_exchange(account.0, entered.0, Ordering::AcqRel, Ordering::Relaxed);
        step::reach(62);
    }

    /// Does one thing: `next` says what, from the permits that are left and the account of the member. Who does not
    /// `settle` leaves the entry to others.
    fn act(
        &self,
        member: Owner,
        settle: bool,
        next: impl Fn(u32, u32) -> Result<(u32, Deed), NoPermit>,
    ) -> Result<(), NoPermit> {
        for _ in 0..PATIENCE {
            let last = self.load();
            self.settle(last);
            let holds = self.account(member).holds();
            let (permits, deed) = next(last.permits(), holds)?;
            let word = Word::new(permits, member, deed, last.number().wrapping_add(1));
            step::reach(60);
            // SeqCst: before the look at who sleeps. Release: what its doer did before is seen by who comes next.
            if self.word.compare_exchange(last.0, word.0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                step::reach(61);
                if settle {
                    self.settle(word);
                }
                return Ok(());
            }
        }
        Err(NoPermit::Damaged)
    }

    /// Takes a permit, if one is left.
    pub(crate) fn take(&self, me: Owner) -> Result<(), NoPermit> {
        self.act(me, true, |permits, _| match permits.checked_sub(1) {
            Some(left) => Ok((left, Deed::Took)),
            None => Err(NoPermit::NotNow),
        })
    }

    /// Takes a permit as one does that dies before it enters it into its account.
    #[cfg(millpond_loom)]
    pub(crate) fn take_unsettled(&self, me: Owner) -> Result<(), NoPermit> {
        self.act(me, false, |permits, _| permits.checked_sub(1).map(|left| (left, Deed::Took)).ok_or(NoPermit::NotNow))
    }

    /// Gives one back; a member that holds none adds one.
    pub(crate) fn give(&self, me: Owner) -> Result<(), NoPermit> {
        self.act(me, true, |permits, holds| {
            let deed = if holds > 0 { Deed::Gave } else { Deed::Nothing };
            if permits < MOST { Ok((permits + 1, deed)) } else { Err(NoPermit::TooMany) }
        })
    }

    /// Nobody but [`release`](Self::release) will give so many of the member's permits back.
    pub(crate) fn forget(&self, me: Owner, count: u32) {
        // Relaxed, here and below: a count that nothing else follows from.
        let more = |n: u32| Some(n.saturating_add(count));
        let _ = self.accounts.forgotten(me).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Brings back as many as the member forgot, and adds what is beyond. A permit that somebody still has is not touched.
    pub(crate) fn release(&self, me: Owner, permits: u32) -> Result<(), NoPermit> {
        let forgotten = self.accounts.forgotten(me);
        // Taken off first: other threads bring back others. Who dies behind it holds them by its account.
        let left = |n: u32| Some(n.saturating_sub(permits));
        let before = forgotten.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or(0);
        let mut back = before.min(permits);
        let mut done = self.add(permits - back, back);
        while done.is_ok() && back > 0 {
            done = self.give(me);
            back -= u32::from(done.is_ok());
        }
        // There was no room, or others were quicker to take it: what did not come back is still forgotten.
        self.forget(me, back);
        done
    }

    /// Adds permits, and sees to it that there is room for some besides.
    pub(crate) fn add(&self, more: u32, besides: u32) -> Result<(), NoPermit> {
        self.act(0, true, |permits, _| {
            let room = MOST.saturating_sub(permits).saturating_sub(besides);
            if more <= room { Ok((permits + more, Deed::Nothing)) } else { Err(NoPermit::TooMany) }
        })
    }

    /// After a death: all that the dead one held comes back. True if it held any.
    pub(crate) fn sweep(&self, dead: Owner) -> bool {
        // They are among those that it held. The next member of this number has forgotten none.
        self.accounts.forgotten(dead).store(0, Ordering::Relaxed);
        let held = core::cell::Cell::new(0);
        let _ = self.act(dead, true, |permits, holds| {
            held.set(holds);
            if holds == 0 {
                return Err(NoPermit::NotNow);
            }
            Ok((permits.saturating_add(holds).min(MOST), Deed::Returned))
        });
        held.get() > 0
    }

    /// Permits that are left.
    pub(crate) fn left(&self) -> u32 {
        self.load().permits()
    }

    /// Permits that a member holds. Exact while nobody is at it.
    pub(crate) fn held(&self, member: Owner) -> u32 {
        self.settle(self.load());
        self.account(member).holds()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} left; number {}: {} {:?}", self.permits(), self.number(), self.member(), self.deed())
    }
}
