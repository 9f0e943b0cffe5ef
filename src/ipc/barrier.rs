//! A barrier between processes and threads.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::error::BarrierError;
use super::handle;
use super::wait::{self, Waiter};
use crate::shm;
use crate::shm::flag::{Arrival, Parties};
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{Kind, Shape};

/// Where a number of parties wait until all have come.
///
/// A party that dies breaks it for all: every process that has a handle, or was started with one among its arguments, counts as
/// one, whether it waits or not. It stays broken until [`reset`](Self::reset). Cloning it, or sending it to another process, gives another handle to the same
/// barrier.
///
/// ```
/// use millpond::ipc::Barrier;
/// let start = Barrier::new(2)?;
/// let same = start.clone();
/// let other = std::thread::spawn(move || same.wait());
/// let one_leads = start.wait()?.is_leader() != other.join().unwrap()?.is_leader();
/// assert!(one_leads);
/// # Ok::<(), millpond::ipc::BarrierError>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    inner: Arc<Inner>,
}

struct Inner {
    hold: Hold,
    waiter: Waiter,
    parties: u32,
}

/// What a party that was let through knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    leader: bool,
}

impl Passed {
    /// Whether this party was the last to come: true for one of each round.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// A barrier for so many parties, from 1 to 4,095.
    ///
    /// # Errors
    /// [`Parties`](BarrierError::Parties), [`Memory`](BarrierError::Memory).
    pub fn new(parties: usize) -> Result<Self, BarrierError> {
        let most = Parties::MOST as usize;
        let count = u32::try_from(parties).ok().filter(|count| (1..=Parties::MOST).contains(count));
        let count = count.ok_or(BarrierError::Parties { parties, most })?;
        let making = Making::new(size_of::<Parties>())?;
        // SAFETY: the body has room for it, and is all zero.
        let body = unsafe { making.body().cast::<Parties>().as_ref() };
        body.begin(count);
        Ok(Self::of(making.share(Shape::of::<()>(Kind::Barrier))?, count))
    }

    fn of(hold: Hold, parties: u32) -> Self {
        Self { inner: Arc::new(Inner { hold, waiter: Waiter::new(), parties }) }
    }

    fn body(&self) -> &Parties {
        // SAFETY: made with such a body; it is made of atomics, and the hold keeps it.
        unsafe { self.inner.hold.body().cast::<Parties>().as_ref() }
    }

    /// Waits until all parties have come.
    ///
    /// # Errors
    /// [`Broken`](BarrierError::Broken), [`Memory`](BarrierError::Memory).
    pub fn wait(&self) -> Result<Passed, BarrierError> {
        self.wait_until(None)
    }

    /// Waits until all parties have come, for some time; if they don't, the barrier breaks.
    ///
    /// # Errors
    /// [`TimedOut`](BarrierError::TimedOut), [`Broken`](BarrierError::Broken), [`Memory`](BarrierError::Memory).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Passed, BarrierError> {
        self.wait_until(wait::deadline(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Passed, BarrierError> {
        shm::here()?;
        let (inner, body) = (&*self.inner, self.body());
        let turn = match body.arrive(inner.parties) {
            Arrival::Last => return Ok(Passed { leader: true }),
            Arrival::Broken => return Err(BarrierError::Broken),
            Arrival::Waits(turn) => turn,
        };
        let broken = |end: Result<(), ()>| end.map_err(|()| BarrierError::Broken);
        let passed = || body.passed(turn).map(broken);
        let waited = inner.waiter.until(body.signal(), &inner.hold, deadline, || BarrierError::TimedOut, passed);
        let waited = match waited {
            // It may have ended just now.
            Err(BarrierError::TimedOut) => body.give_up(turn).map_or(waited, broken),
            other => other,
        };
        waited.map(|()| Passed { leader: false })
    }

    /// Breaks it: whoever waits, and whoever comes, gets [`Broken`](BarrierError::Broken).
    pub fn abort(&self) {
        self.body().abort();
    }

    /// Makes it as new. Whoever waits gets [`Broken`](BarrierError::Broken).
    pub fn reset(&self) {
        self.body().reset();
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.body().is_broken()
    }

    /// How many wait at this moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.body().waiting()
    }

    /// How many it takes.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.inner.parties as usize
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish()
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same barrier.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner.hold, serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hold = handle::deserialize(Shape::of::<()>(Kind::Barrier), deserializer)?;
        // SAFETY: made with such a body; it is made of atomics, and the hold keeps it.
        let parties = unsafe { hold.body().cast::<Parties>().as_ref() }.parties();
        if !(1..=Parties::MOST).contains(&parties) {
            return Err(handle::untaken(shm::ShmError::Damaged));
        }
        Ok(Self::of(hold, parties))
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::Barrier;
    use crate::shm::{self, message};

    /// It has not taken its arguments yet.
    #[test]
    fn a_party_that_was_never_started_breaks_nothing_and_one_that_was_does() {
        let _alone = shm::alone();
        for starts in [false, true] {
            let barrier = Barrier::new(2).unwrap();
            let member = shm::enlist().unwrap();
            if starts {
                shm::started(member, 1);
            }
            for _ in 0..2 {
                let _bytes = message::encode(barrier.clone()).unwrap().send_to(member, |_| true).unwrap();
            }
            shm::member_died(member);
            assert_eq!(barrier.is_broken(), starts);
        }
    }
}
