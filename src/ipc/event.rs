//! An event between processes and threads.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::handle;
use super::wait::{self, Waiter};
use crate::shm::ShmError;
use crate::shm::flag::Flag;
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{Kind, Shape};

/// A flag that processes wait for: all of them go on when it is set.
///
/// Whoever waits when it is set goes on, even if it is cleared at once. Cloning it, or sending it to another process,
/// gives another handle to the same event.
///
/// ```
/// use millpond::ipc::Event;
/// let ready = Event::new()?;
/// let same = ready.clone();
/// std::thread::spawn(move || same.set());
/// ready.wait()?;
/// assert!(ready.is_set());
/// # Ok::<(), millpond::ipc::ShmError>(())
/// ```
#[derive(Clone)]
pub struct Event {
    inner: Arc<Inner>,
}

struct Inner {
    hold: Hold,
    waiter: Waiter,
}

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// The system refused memory.
    pub fn new() -> Result<Self, ShmError> {
        Ok(Self::of(Making::new(size_of::<Flag>())?.share(Shape::of::<()>(Kind::Event))?))
    }

    fn of(hold: Hold) -> Self {
        Self { inner: Arc::new(Inner { hold, waiter: Waiter::new() }) }
    }

    fn flag(&self) -> &Flag {
        // SAFETY: made with such a body; it is made of atomics, and the hold keeps it.
        unsafe { self.inner.hold.body().cast::<Flag>().as_ref() }
    }

    /// Sets it: whoever waits goes on, and whoever comes finds it set.
    pub fn set(&self) {
        self.flag().set();
    }

    /// Clears it: whoever comes from now on waits.
    pub fn clear(&self) {
        self.flag().clear();
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        Flag::is_set(self.flag().look())
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// This process is no member, or somebody wrote over the event.
    pub fn wait(&self) -> Result<(), ShmError> {
        self.wait_until(None).map(|_| ())
    }

    /// Waits until it is set, for some time: whether it was.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, ShmError> {
        self.wait_until(wait::deadline(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, ShmError> {
        let flag = self.flag();
        let seen = flag.look();
        if Flag::is_set(seen) {
            return Ok(true);
        }
        enum No {
            Late,
            Memory(ShmError),
        }
        impl From<ShmError> for No {
            fn from(error: ShmError) -> Self {
                Self::Memory(error)
            }
        }
        let passed = || flag.passed(seen).then_some(Ok(true));
        match self.inner.waiter.until(flag.signal(), &self.inner.hold, deadline, || No::Late, passed) {
            Ok(set) => Ok(set),
            Err(No::Late) => Ok(false),
            Err(No::Memory(error)) => Err(error),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish()
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same event.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner.hold, serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        handle::deserialize(Shape::of::<()>(Kind::Event), deserializer).map(Self::of)
    }
}
