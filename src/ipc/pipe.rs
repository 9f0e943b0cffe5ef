//! Two connected ends.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::time::Instant;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::codec::{self, Unsendable};
use super::error::{FromLane, PipeError};
use super::handle;
use super::queue::count_of;
use super::wait::{self, Wait, Waiter};
use crate::shm::block::Word;
use crate::shm::id::{Id, Kind as IdKind};
use crate::shm::lane::{self, Lane};
use crate::shm::letter::{Arrived, Ready};
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{Kind, Shape};
use crate::shm::wake::Signal;
use crate::shm::{self, Here, bodies, ends, free, message};

/// One of the two ends of a pipe: sends `S`, receives `R`.
///
/// One user at a time: `send` and `recv` borrow it uniquely, so two threads can't mix up their messages: the compiler
/// stops it. An end moves to another process as an argument or in a message; where something else holds it too, as the clone of
/// an `Arc` around it does, that is an error, and it stays. When it is dropped, or its process ends in whatever way, the other
/// end is told: [`Disconnected`](PipeError::Disconnected).
///
/// ```
/// use millpond::ipc::{PipeEnd, pipe};
/// let (mut near, mut far): (PipeEnd<u32, String>, PipeEnd<String, u32>) = pipe()?;
/// std::thread::spawn(move || far.recv().and_then(|n| far.send(format!("{n} bottles"))));
/// near.send(99)?;
/// assert_eq!(near.recv()?, "99 bottles");
/// # Ok::<(), millpond::ipc::PipeError>(())
/// ```
pub struct PipeEnd<S, R> {
    hold: Hold,
    /// The end, in the generation in which this process owns it.
    end: Id,
    side: usize,
    count: usize,
    sending: Waiter,
    receiving: Waiter,
    messages: PhantomData<fn(S) -> R>,
}

/// What an end that only receives sends: there is no such value.
#[derive(Debug, Clone, Copy)]
pub enum Nothing {}

/// The end of a one-way pipe that sends.
pub type Sender<T> = PipeEnd<T, Nothing>;
/// The end of a one-way pipe that receives.
pub type Receiver<T> = PipeEnd<Nothing, T>;

/// The two ends of a pipe.
pub type Ends<A, B> = (PipeEnd<A, B>, PipeEnd<B, A>);

/// Messages that a pipe holds in each direction, if nothing else is said.
const CAPACITY: usize = 64;
/// Messages that a pipe can be made for.
const MOST: usize = 1 << 20;

/// A pipe: what one end sends, the other receives, in both directions. Each holds 64 messages that nobody has received.
///
/// # Errors
/// [`Memory`](PipeError::Memory): the system refused.
pub fn pipe<A, B>() -> Result<Ends<A, B>, PipeError> {
    pipe_with_capacity(CAPACITY)
}

/// A pipe that holds so many messages in each direction, from 1 to 2^20, 256 bytes each.
///
/// # Errors
/// [`Capacity`](PipeError::Capacity), [`Memory`](PipeError::Memory).
pub fn pipe_with_capacity<A, B>(messages: usize) -> Result<Ends<A, B>, PipeError> {
    let capacity = PipeError::Capacity { values: messages, most: MOST };
    if messages == 0 || messages > MOST {
        return Err(capacity);
    }
    let bytes = lane::bytes(messages).and_then(|bytes| bytes.checked_mul(2)).ok_or(capacity)?;
    let making = Making::new(bytes)?;
    let segment = shm::here()?.segment;
    let second = bodies::second_lane(making.body(), messages).ok_or(shm::ShmError::Damaged)?;
    for body in [making.body(), second] {
        // SAFETY: the body has room for two such lanes, and is all zero.
        unsafe { Lane::at(segment, body, messages) }.begin();
    }
    let [first, second] = making.share_pipe(Shape::of::<(A, B)>(Kind::Pipe))?;
    let end = |hold: &Hold, side| {
        let class = hold.id.class().ok_or(shm::ShmError::Damaged)?;
        Ok::<_, shm::ShmError>(Id::new(IdKind::End(side), class, hold.id.index(), hold.id.generation()))
    };
    let ends = (end(&first, 0)?, end(&second, 1)?);
    Ok((PipeEnd::new(first, ends.0, messages), PipeEnd::new(second, ends.1, messages)))
}

/// A pipe in one direction.
///
/// ```
/// let (mut tx, mut rx) = millpond::ipc::one_way::<u8>()?;
/// tx.send(1)?;
/// drop(tx);
/// assert_eq!(rx.recv()?, 1);
/// assert_eq!(rx.recv(), Err(millpond::ipc::PipeError::Disconnected));
/// # Ok::<(), millpond::ipc::PipeError>(())
/// ```
///
/// The receiving end can't send:
///
/// ```compile_fail
/// let (tx, mut rx) = millpond::ipc::one_way::<u8>().unwrap();
/// rx.send(1);
/// ```
///
/// # Errors
/// [`Memory`](PipeError::Memory): the system refused.
pub fn one_way<T>() -> Result<(Sender<T>, Receiver<T>), PipeError> {
    pipe()
}

impl<S, R> PipeEnd<S, R> {
    fn new(hold: Hold, end: Id, count: usize) -> Self {
        let side = if end.kind() == IdKind::End(0) { 0 } else { 1 };
        let (sending, receiving) = (Waiter::new(), Waiter::new());
        Self { hold, end, side, count, sending, receiving, messages: PhantomData }
    }

    #[inline]
    fn lane(&self, lane: usize) -> Lane<'_> {
        let first = self.hold.body();
        let body = if lane == 0 { first } else { bodies::second_lane(first, self.count).unwrap_or(first) };
        // SAFETY: made for so many messages in each direction, or checked on arrival; the end keeps the pipe.
        unsafe { Lane::at(self.hold.here.segment, body, self.count) }.single()
    }

    /// Whether the other end was dropped, or its process is gone. Messages that it had sent may still be there.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.hold.head().is_none_or(|head| ends::is_closed(&head.ends[1 - self.side]))
    }

    /// Whether this end was taken away: somebody wrote over what says that it is this process's.
    fn is_gone(&self) -> bool {
        let end = self.hold.head().map(|head| Word::load(&head.ends[self.side]));
        end != Some(Word::owned(self.hold.here.me(), self.end.generation()))
    }

    fn here(&self) -> Result<Here, PipeError> {
        let here = shm::here()?;
        if self.is_gone() { Err(PipeError::Memory(shm::ShmError::Stale)) } else { Ok(here) }
    }

    /// How this end waits: [`Wait::Spin`] answers within a microsecond.
    pub fn set_wait(&mut self, wait: Wait) {
        self.sending.set(wait);
        self.receiving.set(wait);
    }

    /// Waits for something of a lane.
    #[cold]
    fn until<V>(
        &self,
        waiter: &Waiter,
        signal: &Signal,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> Result<V, PipeError>,
    ) -> Result<V, PipeError> {
        let done = || match done() {
            Err(PipeError::Full | PipeError::Empty) => None,
            other => Some(other),
        };
        waiter.until(signal, &self.hold, deadline, || PipeError::TimedOut, done)
    }
}

impl<S: Serialize, R> PipeEnd<S, R> {
    /// Sends a message, waiting for room. One with something in it that moves is dropped before it is sent, as by
    /// [`Queue::put`](super::Queue::put).
    ///
    /// A message that is not sent, whatever the error, is dropped; so is what the other end has not received when it goes. An end of
    /// another pipe in it is closed then.
    ///
    /// An end of this same pipe in a message is an error, [`Encode`](PipeError::Encode), and closed, for nobody else could
    /// receive it. (One that lies in another pipe, whose last end lies in this one, keeps both, as a queue that lies in itself
    /// keeps itself: what they take comes back when the last process of the tree ends.)
    ///
    /// # Errors
    /// [`Disconnected`](PipeError::Disconnected), [`Encode`](PipeError::Encode), [`Memory`](PipeError::Memory).
    #[inline]
    pub fn send(&mut self, message: S) -> Result<(), PipeError> {
        self.send_until(message, None)
    }

    /// Sends a message if there is room at this moment.
    ///
    /// # Errors
    /// [`Full`](PipeError::Full), and those of [`send`](Self::send).
    pub fn try_send(&mut self, message: S) -> Result<(), PipeError> {
        let mut ready = Ready::new(self.here()?);
        let _rest = self.pack(&mut ready, message)?;
        self.try_ready(&mut ready)
    }

    /// Sends a message, waiting for room for some time.
    ///
    /// # Errors
    /// [`TimedOut`](PipeError::TimedOut), and those of [`send`](Self::send).
    pub fn send_timeout(&mut self, message: S, timeout: Duration) -> Result<(), PipeError> {
        self.send_until(message, wait::deadline(timeout))
    }

    #[inline]
    fn send_until(&self, message: S, deadline: Option<Instant>) -> Result<(), PipeError> {
        let mut ready = Ready::new(self.here()?);
        let _rest = self.pack(&mut ready, message)?;
        match self.try_ready(&mut ready) {
            Err(PipeError::Full) => {
                let lane = self.lane(self.side);
                self.until(&self.sending, &lane.head.space, deadline, || self.try_ready(&mut ready))
            }
            other => other,
        }
    }

    #[inline]
    fn pack(&self, ready: &mut Ready, message: S) -> Result<Option<S>, PipeError> {
        let rest = codec::pack(ready, message).map_err(|error| match error {
            Unsendable::Encode(error) => PipeError::Encode(error),
            Unsendable::Memory(error) => PipeError::Memory(error),
        })?;
        ready.can_pass(self.hold.id).map_err(PipeError::Encode)?;
        Ok(rest)
    }

    #[inline]
    fn try_ready(&self, ready: &mut Ready) -> Result<(), PipeError> {
        let other = self.hold.head().map(|head| &head.ends[1 - self.side]);
        let Some(other) = other.filter(|other| !ends::is_closed(other)) else { return Err(PipeError::Disconnected) };
        let sent = self.lane(self.side).send(ready);
        sent.map_err(|error| PipeError::from_lane(error, PipeError::Full, PipeError::Disconnected))?;
        if ends::was_closed(other) {
            free::discard(self.hold.here.segment, self.hold.here.me(), self.hold.id, 1 - self.side);
        }
        Ok(())
    }
}

impl<S, R: DeserializeOwned> PipeEnd<S, R> {
    /// Receives the next message, waiting for it.
    ///
    /// # Errors
    /// [`Disconnected`](PipeError::Disconnected) when the other end is gone and all that it sent was received;
    /// [`Decode`](PipeError::Decode): that message is gone, and the pipe works on; [`Memory`](PipeError::Memory).
    #[inline]
    pub fn recv(&mut self) -> Result<R, PipeError> {
        self.recv_until(None)
    }

    /// Receives the next message if it is there at this moment.
    ///
    /// # Errors
    /// [`Empty`](PipeError::Empty), and those of [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<R, PipeError> {
        let mut arrived = Arrived::new(self.here()?);
        self.try_arrived(&mut arrived)?;
        codec::unpack(&mut arrived).map_err(PipeError::Decode)
    }

    /// Receives the next message, waiting for it for some time.
    ///
    /// # Errors
    /// [`TimedOut`](PipeError::TimedOut), and those of [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<R, PipeError> {
        self.recv_until(wait::deadline(timeout))
    }

    #[inline]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<R, PipeError> {
        let mut arrived = Arrived::new(self.here()?);
        match self.try_arrived(&mut arrived) {
            Err(PipeError::Empty) => {
                let lane = self.lane(1 - self.side);
                self.until(&self.receiving, &lane.head.items, deadline, || self.try_arrived(&mut arrived))?;
            }
            other => other?,
        }
        codec::unpack(&mut arrived).map_err(PipeError::Decode)
    }

    #[inline]
    fn try_arrived(&self, arrived: &mut Arrived) -> Result<(), PipeError> {
        let lane = self.lane(1 - self.side);
        let mut receive = || {
            let received = lane.receive(arrived);
            received.map_err(|error| PipeError::from_lane(error, PipeError::Empty, PipeError::Disconnected))
        };
        match receive() {
            // Once more: it may have sent something between our look and its end.
            Err(PipeError::Empty) if self.is_disconnected() => match receive() {
                Err(PipeError::Empty) => Err(PipeError::Disconnected),
                other => other,
            },
            other => other,
        }
    }
}

impl<S, R> Drop for PipeEnd<S, R> {
    fn drop(&mut self) {
        if !message::is_taken_over(self.end)
            && let Ok(here) = shm::here()
        {
            free::close_end(here.segment, here.me(), self.end);
        }
    }
}

impl<S, R> fmt::Debug for PipeEnd<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeEnd")
            .field("side", &self.side)
            .field("waiting", &self.lane(1 - self.side).len())
            .field("disconnected", &self.is_disconnected())
            .finish()
    }
}

/// Only inside Millpond's own messages, in which the end moves.
impl<S, R> Serialize for PipeEnd<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.serialize_u64(handle::listed::<Z::Error>(self.end)?.bits())
    }
}

impl<'de, S, R> Deserialize<'de> for PipeEnd<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let end = handle::taken(deserializer)?;
        let here = shm::here().map_err(handle::untaken)?;
        let shape = match end.kind() {
            IdKind::End(0) => Shape::of::<(S, R)>(Kind::Pipe),
            _ => Shape::of::<(R, S)>(Kind::Pipe),
        };
        let found = match end.kind() {
            IdKind::End(_) => Hold::of_pipe(here, end, shape),
            _ => Err(shm::ShmError::Stale),
        };
        let found = found.and_then(|hold| count_of(&hold, 2).map(|count| (hold, count)));
        found.map(|(hold, count)| Self::new(hold, end, count)).map_err(|error| {
            free::release(here.segment, here.me(), end);
            handle::untaken(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::sync::{Arc, Mutex};

    use super::{PipeEnd, pipe};
    use crate::ipc::{PipeError, Queue, SharedSlice};
    use crate::shm;
    use crate::shm::id::Id;
    use crate::shm::step::plan::stopped_at;

    /// However often its ends have moved: who finds such a number in what a dead process left must not take the next pipe's.
    #[test]
    fn the_next_pipe_in_the_same_memory_has_no_number_of_the_one_before() {
        let _alone = shm::alone();
        let queue: Queue<PipeEnd<u8, u8>> = Queue::bounded(1).unwrap();
        let place = |id: Id| (id.class().unwrap().number(), id.index());
        let mut met = 0;
        let mut newest: Option<Id> = None;
        for (side, moves) in [(0, 5), (1, 0), (1, 3), (0, 1), (0, 0), (1, 0)] {
            let (mut near, mut far) = pipe().unwrap();
            if side == 1 {
                (near, far) = (far, near);
            }
            if let Some(newest) = newest.filter(|newest| place(*newest) == place(near.end)) {
                let later = near.end.generation().wrapping_sub(newest.generation());
                assert!(later > 0 && later < 1 << 31, "{newest:?}, then {:?}", near.end);
                met += 1;
            }
            for _ in 0..moves {
                queue.put(near).unwrap();
                near = queue.get().unwrap();
            }
            newest = Some(near.end);
            drop((near, far));
        }
        assert!(met > 0, "no pipe was where another had been");
    }

    /// It had looked whether the other end is there before that went, and sends after.
    #[test]
    fn what_is_sent_while_the_other_end_goes_is_left_nowhere() {
        const CLAIMED: u32 = 2;
        let _alone = shm::alone();
        let (mut mine, theirs) = pipe::<u8, u8>().unwrap();
        let (near, far) = pipe::<PipeEnd<u8, u8>, u8>().unwrap();
        let near = Arc::new(Mutex::new(near));
        let sender = Arc::clone(&near);
        let slow = stopped_at(CLAIMED, move || sender.lock().unwrap().send(theirs).unwrap());
        drop(far);
        slow.finish();
        assert_eq!(mine.recv_timeout(Duration::from_secs(20)), Err(PipeError::Disconnected), "while its sender lives");
        drop(near);
    }

    /// Nothing of what lies where the pipe was, once both ends are closed, is touched by the slower of those who closed them.
    #[test]
    fn who_closes_an_end_slowly_touches_nothing_that_comes_after_the_pipe() {
        const CLOSED: u32 = 80;
        let _alone = shm::alone();
        let (near, far) = pipe::<u8, u8>().unwrap();
        let size = near.end.class().unwrap().size();
        let slow = stopped_at(CLOSED, move || drop(near));
        assert!(far.is_disconnected());
        drop(far);
        let slices: Vec<_> = (0..4).map(|_| SharedSlice::<u8>::unspecified(size).unwrap()).collect();
        let before: Vec<Vec<u8>> = slices.iter().map(|slice| slice.to_vec()).collect();
        slow.finish();
        assert!(slices.iter().zip(&before).all(|(slice, before)| slice[..] == before[..]), "something wrote to them");
    }
}
