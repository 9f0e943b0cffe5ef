//! A queue between processes and threads.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::codec::{self, Unsendable};
use super::error::{FromLane, QueueError};
use super::handle;
use super::wait::{self, Wait, Waiter};
use crate::shm::lane::{self, Lane};
use crate::shm::letter::{Arrived, Ready};
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{BODY, Kind, Shape};
use crate::shm::stages::{self, Stages};
use crate::shm::{self, Here, ShmError};

/// A queue of many producers and many consumers, in any processes and threads: first in, first out.
///
/// Cloning it, or sending it to another process, gives another handle to the same queue. Values are whatever serde can
/// carry in a [format that does not describe itself](super); those that encode to some hundred bytes or less travel in the queue
/// itself, larger ones in a block of shared memory each. Handles of this module travel inside values. (A queue that lies in itself keeps itself, as an `Arc` in itself
/// does: what it takes of the shared memory comes back when the last process of the tree ends.)
///
/// Whoever is killed while it puts or gets harms nobody: every value whose `put` had returned is got once, except the one
/// that a killed process was getting at that instant. The order is kept; which of several consumers gets a value is the
/// system's choice.
///
/// `put` and `get` take constant time, some tens of nanoseconds for small values, where nobody has to be woken.
///
/// ```
/// use millpond::ipc::Queue;
/// let queue: Queue<String> = Queue::bounded(100)?;
/// let other = queue.clone();
/// std::thread::spawn(move || other.put("hello".to_owned()));
/// assert_eq!(queue.get()?, "hello");
/// # Ok::<(), millpond::ipc::QueueError>(())
/// ```
pub struct Queue<T> {
    inner: Arc<Inner>,
    values: PhantomData<fn(T) -> T>,
}

struct Inner {
    hold: Hold,
    /// The places; `None`: it has stages.
    count: Option<usize>,
    getting: Waiter,
    putting: Waiter,
}

/// Places of a queue at most.
const MOST: usize = 1 << 24;

impl Inner {
    fn new(hold: Hold, count: Option<usize>) -> Self {
        Self { hold, count, getting: Waiter::gathering(), putting: Waiter::gathering() }
    }

    /// The lane of a bounded queue; of another the first, at which everybody sleeps.
    #[inline]
    fn lane(&self) -> Lane<'_> {
        // SAFETY: made for so many places, or checked on arrival; the hold keeps it.
        unsafe { Lane::at(self.hold.here.segment, self.hold.body(), self.count.unwrap_or(stages::FIRST)) }
    }

    fn stages(&self) -> Result<Stages<'_>, ShmError> {
        // SAFETY: made with such a body, or checked on arrival; the hold keeps it.
        unsafe { Stages::at(self.hold.here.segment, self.hold.id, self.hold.body()) }.ok_or(ShmError::Damaged)
    }

    fn is_closed(&self) -> bool {
        match self.count {
            Some(_) => self.lane().is_closed(),
            None => self.stages().is_ok_and(|stages| stages.is_shut()),
        }
    }

    /// Whether somebody else would get a value now.
    fn has_full(&self) -> bool {
        match self.count {
            Some(_) => self.lane().has_full(),
            None => self.stages().is_ok_and(|stages| stages.has_full()),
        }
    }

    /// Whether somebody else would get a place now.
    fn has_empty(&self) -> bool {
        match self.count {
            Some(_) => self.lane().has_empty(),
            None => self.stages().is_ok_and(|stages| stages.has_empty()),
        }
    }

    #[inline]
    fn send(&self, here: Here, ready: &mut Ready) -> Result<(), QueueError> {
        let sent = match self.count {
            Some(_) => self.lane().send(ready),
            None => self.stages()?.send(here, |lane| lane.send(ready)),
        };
        sent.map_err(|error| QueueError::from_lane(error, QueueError::Full, QueueError::Closed))
    }

    #[inline]
    fn receive(&self, arrived: &mut Arrived) -> Result<(), QueueError> {
        let received = match self.count {
            Some(_) => self.lane().receive(arrived),
            None => self.stages()?.receive(|lane| lane.receive(arrived)),
        };
        received.map_err(|error| QueueError::from_lane(error, QueueError::Empty, QueueError::Closed))
    }
}

impl<T> Queue<T> {
    /// A queue with places for so many values; `put` waits for one. From 1 to 2^24.
    ///
    /// # Errors
    /// [`Capacity`](QueueError::Capacity), or [`Memory`](QueueError::Memory): the system refused, all 128 bytes a place.
    pub fn bounded(values: usize) -> Result<Self, QueueError> {
        if values == 0 || values > MOST {
            return Err(QueueError::Capacity { values, most: MOST });
        }
        let capacity = QueueError::Capacity { values, most: MOST };
        let making = Making::new(lane::bytes(values).ok_or(capacity)?)?;
        // SAFETY: the body has room for the lane, and is all zero.
        unsafe { Lane::at(shm::here()?.segment, making.body(), values) }.begin();
        let hold = making.share(Shape::of::<T>(Kind::Queue))?;
        Ok(Self::of(Inner::new(hold, Some(values))))
    }

    /// A queue that grows: `put` does not wait as long as there is memory, up to 8 million values at least; beyond that it
    /// waits as in a queue with so many places. Its room is at most four times that of the most values that ever waited, 128
    /// bytes each; it goes with the queue.
    ///
    /// # Errors
    /// [`Memory`](QueueError::Memory): the system refused.
    pub fn unbounded() -> Result<Self, QueueError> {
        let making = Making::new(stages::bytes().ok_or(ShmError::Damaged)?)?;
        // SAFETY: the body has room for the first lane, and is all zero.
        unsafe { Lane::at(shm::here()?.segment, making.body(), stages::FIRST) }.begin();
        let hold = making.share(Shape::of::<T>(Kind::Unbounded))?;
        Ok(Self::of(Inner::new(hold, None)))
    }

    /// Values that wait to be got: exact while nobody is at it. In a process made by a bare `fork` it is what its original has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.inner.count {
            Some(_) => self.inner.lane().len(),
            None => self.inner.stages().map_or(0, |stages| stages.len()),
        }
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every place is taken; never, of a queue without a bound.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|places| self.len() >= places)
    }

    /// The places that it was made with, if it has a bound.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.inner.count
    }

    /// Closes it, for all: nothing can be put any more, and when what waits was got, `get` is
    /// [`Closed`](QueueError::Closed). Whoever waits is woken.
    pub fn close(&self) {
        match self.inner.count {
            Some(_) => self.inner.lane().close(),
            None => _ = self.inner.stages().map(|stages| stages.shut()),
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// How this handle, and clones of it in this process, wait.
    pub fn set_wait(&self, wait: Wait) {
        self.inner.getting.set(wait);
        self.inner.putting.set(wait);
    }

    fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), values: PhantomData }
    }

    /// As if a waker had overlooked those that sleep for a value; false if nobody does.
    #[cfg(test)]
    pub(super) fn overlook(&self) -> bool {
        self.inner.lane().head.items.overlook()
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value at the end, waiting for a place.
    ///
    /// A value with a [`SharedSlice`](super::SharedSlice) or a [`PipeEnd`](super::PipeEnd) in it is dropped before it is put, as these
    /// move: where its drop waits for whoever gets it, it waits for ever. Others are dropped afterwards.
    ///
    /// A value that is not put, whatever the error, is dropped: a pipe's end in it is closed, a slice in it is gone.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed), [`Encode`](QueueError::Encode), [`Memory`](QueueError::Memory).
    #[inline]
    pub fn put(&self, value: T) -> Result<(), QueueError> {
        self.put_until(value, None)
    }

    /// Puts a value at the end if there is a place at this moment. One that is not put is dropped, as in [`put`](Self::put).
    ///
    /// # Errors
    /// [`Full`](QueueError::Full), and those of [`put`](Self::put).
    pub fn try_put(&self, value: T) -> Result<(), QueueError> {
        let here = shm::here()?;
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        if self.is_full() {
            return Err(QueueError::Full);
        }
        let mut ready = Ready::new(here);
        let _rest = pack(&mut ready, value)?;
        self.inner.send(here, &mut ready)
    }

    /// Puts a value at the end, waiting for a place for some time. One that is not put is dropped, as in [`put`](Self::put).
    ///
    /// # Errors
    /// [`TimedOut`](QueueError::TimedOut), and those of [`put`](Self::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), QueueError> {
        self.put_until(value, wait::deadline(timeout))
    }

    #[inline]
    fn put_until(&self, value: T, deadline: Option<Instant>) -> Result<(), QueueError> {
        let here = shm::here()?;
        let mut ready = Ready::new(here);
        let _rest = pack(&mut ready, value)?;
        match self.inner.send(here, &mut ready) {
            Err(QueueError::Full) => self.put_waiting(here, &mut ready, deadline),
            other => other,
        }
    }

    #[cold]
    fn put_waiting(&self, here: Here, ready: &mut Ready, deadline: Option<Instant>) -> Result<(), QueueError> {
        let inner = &*self.inner;
        let space = &inner.lane().head.space;
        let put = inner.putting.until(
            space,
            &inner.hold,
            deadline,
            || QueueError::TimedOut,
            || match inner.send(here, ready) {
                Err(QueueError::Full) => None,
                other => Some(other),
            },
        );
        // W1: as in `get_waiting`.
        if inner.has_empty() {
            space.wake_one();
        }
        put
    }
}

#[inline]
fn pack<T: Serialize>(ready: &mut Ready, value: T) -> Result<Option<T>, QueueError> {
    codec::pack(ready, value).map_err(|error| match error {
        Unsendable::Encode(error) => QueueError::Encode(error),
        Unsendable::Memory(error) => QueueError::Memory(error),
    })
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the oldest value, waiting for one.
    ///
    /// # Errors
    /// [`Closed`](QueueError::Closed) when nothing is left; [`Decode`](QueueError::Decode): that value is gone, and the
    /// queue works on; [`Memory`](QueueError::Memory).
    #[inline]
    pub fn get(&self) -> Result<T, QueueError> {
        self.get_until(None)
    }

    /// Gets the oldest value if one waits at this moment.
    ///
    /// # Errors
    /// [`Empty`](QueueError::Empty), and those of [`get`](Self::get).
    #[inline]
    pub fn try_get(&self) -> Result<T, QueueError> {
        let mut arrived = Arrived::new(shm::here()?);
        self.inner.receive(&mut arrived)?;
        codec::unpack(&mut arrived).map_err(QueueError::Decode)
    }

    /// Gets the oldest value, waiting for one for some time.
    ///
    /// # Errors
    /// [`TimedOut`](QueueError::TimedOut), and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, QueueError> {
        self.get_until(wait::deadline(timeout))
    }

    #[inline]
    fn get_until(&self, deadline: Option<Instant>) -> Result<T, QueueError> {
        let mut arrived = Arrived::new(shm::here()?);
        match self.inner.receive(&mut arrived) {
            Err(QueueError::Empty) => self.get_waiting(&mut arrived, deadline)?,
            other => other?,
        }
        codec::unpack(&mut arrived).map_err(QueueError::Decode)
    }

    #[cold]
    fn get_waiting(&self, arrived: &mut Arrived, deadline: Option<Instant>) -> Result<(), QueueError> {
        let inner = &*self.inner;
        let items = &inner.lane().head.items;
        let got = inner.getting.until(
            items,
            &inner.hold,
            deadline,
            || QueueError::TimedOut,
            || match inner.receive(arrived) {
                Err(QueueError::Empty) => None,
                other => Some(other),
            },
        );
        // W1: somebody may have been woken for a value behind one that was still being written, or for the end behind it, found
        // nothing, and gone to sleep again. Its wake-up is passed on now that there is something to find.
        if inner.has_full() || inner.is_closed() {
            items.wake_one();
        }
        got
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), values: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same queue.
impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner.hold, serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shapes = [Shape::of::<T>(Kind::Queue), Shape::of::<T>(Kind::Unbounded)];
        let hold = handle::deserialize_one_of(&shapes, deserializer)?;
        let count = if hold.shape() == shapes[0] {
            Some(count_of(&hold, 1).map_err(handle::untaken)?)
        } else {
            let size = hold.id.class().map_or(0, |class| class.size());
            if stages::bytes().is_none_or(|bytes| BODY + bytes > size) {
                return Err(handle::untaken(ShmError::Damaged));
            }
            None
        };
        Ok(Self::of(Inner::new(hold, count)))
    }
}

/// The places of an object of so many lanes, as it says itself, if they fit into its block.
pub(super) fn count_of(hold: &Hold, lanes: usize) -> Result<usize, ShmError> {
    // SAFETY: every lane begins with its head, which fits into any block.
    let head = unsafe { hold.body().cast::<lane::LaneHead>().as_ref() };
    let count = Lane::said_count(head);
    let size = hold.id.class().map_or(0, |class| class.size());
    let fits = lane::bytes(count).and_then(|bytes| bytes.checked_mul(lanes)).is_some_and(|bytes| bytes + BODY <= size);
    if count > 0 && count <= MOST && fits { Ok(count) } else { Err(ShmError::Damaged) }
}
