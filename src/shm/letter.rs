//! Messages on their way through a lane: made ready before a slot is claimed, and taken out of it before it is given back.

use core::ptr::NonNull;

use serde::Serialize;
use zerocopy::IntoBytes;

use super::block::NOBODY;
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::lane::{CARRIED, CARRIER, Lane, LaneError, MOST_HANDLES, WORDS, open_carrier, unpack};
use super::message::{Claimed, CodecError, INLINE, Packet};
use super::ring::{Claim, NoSlot};
use super::shape::Kind;
use super::{free, step, store, transit};
use crate::os::shared::{copy_in, copy_out};
use crate::primitive::Ordering;

/// A message that is to be sent. Dropped before, what is its own is released.
#[derive(Debug)]
pub(crate) struct Ready {
    here: Here,
    packet: Packet,
    note: u16,
    /// The block that carries the message, under the number in which this process owns it.
    carrier: Option<Id>,
}

impl Ready {
    /// An empty message, to be filled in place.
    #[inline]
    pub(crate) fn new(here: Here) -> Self {
        Self { here, packet: Packet::new(), note: 0, carrier: None }
    }

    /// Encodes a value into it.
    #[inline]
    pub(crate) fn encode<T: Serialize>(&mut self, value: &T) -> Result<(), CodecError> {
        self.packet.encode(value)
    }

    /// After [`encode`](Self::encode), and after what moves was [taken over](Self::take_over): whoever finds a list of handles
    /// in a dead process's block releases them, so those of somebody else are in none. Everything that can be refused is
    /// granted then.
    #[inline]
    pub(crate) fn prepare(&mut self) -> Result<(), ShmError> {
        if self.moves() {
            return Err(ShmError::Stale);
        }
        let handles = self.packet.handles.ids().len();
        match self.packet.bytes.few() {
            Some(len) if len + 8 * handles <= INLINE => {
                self.note = note(len, handles, 0);
                Ok(())
            }
            _ => self.carry(None),
        }
    }

    /// Whether there is something in it that moves, and has to be [taken over](Self::take_over).
    #[inline]
    pub(crate) fn moves(&self) -> bool {
        !self.packet.handles.are_own()
    }

    /// See [`Packet::take_over`].
    pub(crate) fn take_over(&mut self, let_go: impl FnOnce()) -> Result<(), CodecError> {
        self.packet.take_over(let_go)
    }

    /// See [`Packet::can_pass`].
    #[inline]
    pub(crate) fn can_pass(&self, pipe: Id) -> Result<(), CodecError> {
        self.packet.can_pass(pipe)
    }

    /// Makes it a message of these bytes, without encoding and without handles.
    #[inline]
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<(), ShmError> {
        if bytes.len() > INLINE {
            return self.carry(Some(bytes));
        }
        self.packet.bytes.extend(bytes);
        self.note = note(bytes.len(), 0, 0);
        Ok(())
    }

    /// Puts it into a block.
    #[cold]
    fn carry(&mut self, bytes: Option<&[u8]>) -> Result<(), ShmError> {
        let bytes = bytes.unwrap_or_else(|| self.packet.bytes.as_slice());
        let handles = self.packet.handles.ids();
        if handles.len() > MOST_HANDLES {
            return Err(ShmError::TooManyInTransit);
        }
        let start = CARRIER + 8 * handles.len();
        let taken = store::take(self.here.segment, self.here.me(), start + bytes.len())?;
        taken.soil(start + bytes.len());
        let numbers = [handles.len() as u64, bytes.len() as u64];
        let numbers = numbers.into_iter().chain(handles.iter().map(|id| id.bits())).enumerate();
        for (n, number) in numbers {
            // SAFETY: below `start`, for which the block has room.
            let at = unsafe { taken.bytes.add(8 * n) };
            // SAFETY: the block is this process's, and aligned.
            unsafe { at.cast::<u64>().write(number) };
        }
        // SAFETY: the block has room for `start + bytes.len()`.
        let body = unsafe { taken.bytes.add(start) };
        // SAFETY: as above; the bytes are private, so they don't overlap with it.
        unsafe { copy_in(bytes.as_ptr(), body.as_ptr(), bytes.len()) };
        step::reach(27);
        // Release: who sweeps sees the numbers.
        taken.entry.content.store(Kind::Carrier as u64, Ordering::Release);
        self.carrier = Some(taken.id);
        self.note = note(0, 1, CARRIED);
        Ok(())
    }

    /// All that is passed on, the carrier last.
    fn handles(&self) -> impl Iterator<Item = Id> {
        self.packet.handles.ids().iter().copied().chain(self.carrier.map(transit::travelling))
    }

    /// The handles that the slot lists.
    fn listed(&self) -> impl Iterator<Item = Id> {
        let carrier = self.carrier.map(transit::travelling);
        let few = if carrier.is_some() { &[] } else { self.packet.handles.ids() };
        carrier.into_iter().chain(few.iter().copied())
    }

    fn pass_on(&self) -> Result<(), ShmError> {
        for (n, id) in self.handles().enumerate() {
            if let Err(error) = transit::send(self.here, id, NOBODY) {
                self.handles().take(n).for_each(|id| transit::unsend(self.here, id, NOBODY));
                return Err(error);
            }
        }
        Ok(())
    }

    #[inline]
    fn sent(&mut self) {
        self.packet.handles.forget();
        self.carrier = None;
    }
}

/// A slot's note.
#[inline]
fn note(bytes: usize, handles: usize, flags: u16) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 120 bytes and 15 handles")]
    let (bytes, handles) = (bytes as u16, handles as u16);
    flags | handles << 7 | bytes
}

impl Drop for Ready {
    #[inline]
    fn drop(&mut self) {
        if let Some(carrier) = self.carrier {
            store::give(self.here.segment, self.here.me(), carrier);
        }
    }
}

/// A message that arrived. Its handles are this process's; those that nobody takes out are released.
#[derive(Debug)]
pub(crate) struct Arrived {
    here: Here,
    few: [u64; WORDS],
    len: usize,
    /// Where the bytes are, if a block carries them: its number, where they begin, how many.
    carrier: Option<(Id, NonNull<u8>, usize)>,
    handles: Vec<Id>,
}

impl Arrived {
    /// Nothing yet, to be received into in place.
    #[inline]
    pub(crate) fn new(here: Here) -> Self {
        Self { here, few: [0; WORDS], len: 0, carrier: None, handles: Vec::new() }
    }

    /// The handles, for whoever decodes the bytes: somebody else's code, which may panic.
    pub(crate) fn take_handles(&mut self) -> Claimed {
        Claimed { here: self.here, ids: core::mem::take(&mut self.handles) }
    }

    /// The bytes, copied out once.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let Some((_, from, len)) = self.carrier else { return self.few().to_vec() };
        let mut bytes = Vec::with_capacity(len);
        // SAFETY: the block has so many bytes, as was checked; the vector has room; neither is in the other.
        unsafe { copy_out(from.as_ptr(), bytes.as_mut_ptr(), len) };
        // SAFETY: written just now.
        unsafe { bytes.set_len(len) };
        bytes
    }

    #[inline]
    fn few(&self) -> &[u8] {
        &self.few.as_bytes()[..self.len]
    }

    /// Shows the bytes: in place if they are few, a copy if a block carries them.
    #[inline]
    pub(crate) fn with_bytes<R>(&self, show: impl FnOnce(&[u8]) -> R) -> R {
        if self.carrier.is_some() { show(&self.to_vec()) } else { show(self.few()) }
    }
}

impl Drop for Arrived {
    #[inline]
    fn drop(&mut self) {
        if !self.handles.is_empty() || self.carrier.is_some() {
            self.release();
        }
    }
}

impl Arrived {
    fn release(&mut self) {
        let (segment, me) = (self.here.segment, self.here.me());
        for id in self.handles.drain(..) {
            free::release(segment, me, id);
        }
        if let Some((carrier, ..)) = self.carrier {
            store::give(segment, me, carrier);
        }
    }
}

impl Lane<'_> {
    /// Sends a message that is ready, without waiting.
    #[inline]
    pub(crate) fn send(&self, ready: &mut Ready) -> Result<(), LaneError> {
        if self.is_closed() {
            return Err(LaneError::Closed);
        }
        let claim = self.ring.claim_empty(ready.here.me())?;
        // Again, now that the slot is ours: a consumer that found the lane closed and empty is not to miss this.
        if self.is_closed() {
            self.abandon(claim);
            return Err(LaneError::Closed);
        }
        let room = self.ring.slots.room(claim.index);
        let (len, listed) = unpack(ready.note);
        for (word, value) in room.iter().zip(&ready.packet.bytes.few[..len.div_ceil(8)]) {
            // Relaxed, here and below: published with the slot's word.
            word.store(*value, Ordering::Relaxed);
        }
        if listed > 0
            && let Err(error) = self.list(&claim, ready)
        {
            self.abandon(claim);
            return Err(error.into());
        }
        step::reach(6);
        let note = ready.note;
        ready.sent();
        self.ring.publish(claim, note, self.fence());
        step::reach(7);
        self.wake(&self.sleepers.items);
        Ok(())
    }

    /// Writes the handles' numbers into the slot, notes it, and passes the handles on.
    fn list(&self, claim: &Claim, ready: &Ready) -> Result<(), ShmError> {
        let room = self.ring.slots.room(claim.index);
        for (word, id) in room.iter().rev().zip(ready.listed()) {
            word.store(id.bits(), Ordering::Relaxed);
        }
        step::reach(3);
        self.ring.annotate(claim, ready.note);
        step::reach(4);
        ready.pass_on()
    }

    fn abandon(&self, claim: Claim) {
        self.ring.abandon(claim);
        // What lies behind it can be got, and whoever comes round has room again.
        self.sleepers.items.wake_one_fenced();
        self.sleepers.space.wake_one_fenced();
    }

    /// Receives the oldest message, without waiting, into one that is still [new](Arrived::new).
    #[inline]
    pub(crate) fn receive(&self, arrived: &mut Arrived) -> Result<(), LaneError> {
        let here = arrived.here;
        // Before the look for messages: what was sent before the lane was closed is found.
        let closed = self.is_closed();
        let claim = match self.ring.claim_full(here.me(), || self.sleepers.space.wake_all()) {
            Ok(claim) => claim,
            Err(NoSlot::NotNow) if closed && self.ring.len() == 0 => return Err(LaneError::Closed),
            Err(no) => return Err(no.into()),
        };
        let (len, listed) = unpack(claim.note);
        let room = self.ring.slots.room(claim.index);
        // However long it says to be, it is cut at the end of the room.
        arrived.len = len.min(INLINE);
        for (value, word) in arrived.few[..arrived.len.div_ceil(8)].iter_mut().zip(room) {
            // Relaxed, here and below: read once, after the slot was claimed.
            *value = word.load(Ordering::Relaxed);
        }
        let good = if listed == 0 { Ok(()) } else { self.claim_listed(&claim, arrived) };
        step::reach(13);
        self.ring.release(claim, self.fence());
        step::reach(14);
        self.wake(&self.sleepers.space);
        good.map_err(LaneError::Shm)
    }

    /// Claims the handles of a slot's message.
    fn claim_listed(&self, claim: &Claim, arrived: &mut Arrived) -> Result<(), ShmError> {
        let here = arrived.here;
        let listed = self.listed(claim.index, claim.note);
        if claim.note & CARRIED == 0 {
            return claim_all(here, listed, &mut arrived.handles);
        }
        let carrier = listed.into_iter().next().ok_or(ShmError::Damaged)?;
        transit::claim(here, carrier)?;
        let opened = open_carrier(self.segment, carrier);
        let Some((handles, from, len)) = opened else {
            store::give(self.segment, here.me(), carrier);
            return Err(ShmError::Damaged);
        };
        arrived.carrier = Some((carrier, from, len));
        claim_all(here, handles, &mut arrived.handles)
    }
}

/// Claims handles; those that can't be claimed are an error, after all others were.
fn claim_all(here: Here, ids: impl IntoIterator<Item = Id>, into: &mut Vec<Id>) -> Result<(), ShmError> {
    let mut result = Ok(());
    for id in ids {
        match transit::claim(here, id) {
            Ok(()) => into.push(id),
            Err(error) => result = Err(error),
        }
    }
    result
}
