//! A lane: a ring of slots with room for small messages, and blocks for large ones.
//!
//! ```text
//! slot, 128 bytes: | word | 120 bytes: the message, and at the end the numbers of its handles |
//! note, 16 bits:   | a block carries it: 1 | handles: 4 | bytes: 7 |
//! ```
//!
//! A message that doesn't fit is in a block, a carrier: its number is then the slot's only handle. A carrier begins with
//! the count of its handles and their numbers.

use core::ptr::NonNull;

use serde::Serialize;
use zerocopy::IntoBytes;

use super::block::{NOBODY, Owner};
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::message::{CodecError, Packet, WORDS};
use super::object::Kind;
use super::ring::{Claim, NoSlot, Ring, Slots};
use super::segment::Segment;
use super::wake::Signal;
use super::{step, store, transit};
use crate::os::shared::{copy_in, copy_out};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a slot, and of what a message has of it.
pub(crate) const SLOT: usize = 128;
const ROOM: usize = 8 * WORDS;
const _: () = assert!(8 + ROOM == SLOT);
/// The note's flag: a block carries the message.
const CARRIED: u16 = 1 << 11;
/// Bytes before a carrier's handles: their number, and how many bytes follow them.
const CARRIER: usize = 16;
/// Handles that a message can have.
pub(crate) const MOST_HANDLES: usize = 1 << 16;

/// What a lane begins with; each part on a line of its own.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LaneHead {
    closed: AtomicU32,
    count: AtomicU32,
    _fixed: [AtomicU64; 7],
    tail: AtomicU64,
    _tail: [AtomicU64; 7],
    head: AtomicU64,
    _head: [AtomicU64; 7],
    /// Consumers sleep on it.
    pub(crate) items: Signal,
    _items: [AtomicU32; 15],
    /// Producers sleep on it.
    pub(crate) space: Signal,
    _space: [AtomicU32; 15],
}

/// Bytes of a lane with so many slots.
pub(crate) const fn bytes(count: usize) -> Option<usize> {
    match count.checked_mul(SLOT) {
        Some(slots) => slots.checked_add(size_of::<LaneHead>()),
        None => None,
    }
}
const _: () = assert!(size_of::<LaneHead>() == 320);

/// Why a message was not sent or not received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LaneError {
    /// No slot, or no message, at this moment.
    NotNow,
    /// Nothing can be sent any more; nothing is left to receive.
    Closed,
    Shm(ShmError),
}

impl From<ShmError> for LaneError {
    fn from(error: ShmError) -> Self {
        Self::Shm(error)
    }
}

impl From<NoSlot> for LaneError {
    fn from(no: NoSlot) -> Self {
        match no {
            NoSlot::NotNow => Self::NotNow,
            NoSlot::Damaged => Self::Shm(ShmError::Damaged),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct SlotsAt {
    first: NonNull<u8>,
    count: usize,
}

impl Slots for SlotsAt {
    #[inline]
    fn count(&self) -> usize {
        self.count
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < self.count);
        // SAFETY: below the count, which fits into the lane's block.
        let slot = unsafe { self.first.add(index * SLOT) };
        // SAFETY: a slot begins with its word, aligned; any bytes are one.
        unsafe { slot.cast::<AtomicU64>().as_ref() }
    }
}

impl SlotsAt {
    /// A slot's room, behind its word.
    #[inline]
    fn room(&self, index: usize) -> &[AtomicU64; WORDS] {
        debug_assert!(index < self.count);
        // SAFETY: below the count, which fits into the lane's block; the word is 8 bytes.
        let room = unsafe { self.first.add(index * SLOT + 8) };
        // SAFETY: the rest of the slot, aligned; any bytes are atomics.
        unsafe { room.cast::<[AtomicU64; WORDS]>().as_ref() }
    }
}

/// A lane as one process sees it.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    segment: &'a Segment,
    pub(crate) head: &'a LaneHead,
    ring: Ring<'a, SlotsAt>,
    /// Where those sleep that wait for this lane: its own head, or that of the first of a queue's stages.
    sleepers: &'a LaneHead,
    /// At most one sends and one receives.
    single: bool,
}

/// A message that is to be sent. Dropped before, it is as if it had never been.
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

    /// After [`encode`](Self::encode): everything that can be refused is granted.
    #[inline]
    pub(crate) fn prepare(&mut self) -> Result<(), ShmError> {
        let handles = self.packet.handles.0.len();
        match self.packet.bytes.few() {
            Some(len) if len + 8 * handles <= ROOM => {
                self.note = note(len, handles, 0);
                Ok(())
            }
            _ => self.carry(None),
        }
    }

    /// Makes it a message of these bytes, without encoding and without handles.
    #[inline]
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<(), ShmError> {
        if bytes.len() > ROOM {
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
        let handles = &self.packet.handles.0;
        if handles.len() > MOST_HANDLES {
            return Err(ShmError::TooManyInTransit);
        }
        let start = CARRIER + 8 * handles.len();
        let taken = store::take(self.here.segment, self.here.me(), start + bytes.len())?;
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
        taken.entry.dirty.fetch_max((start + bytes.len()) as u64, Ordering::Relaxed);
        // Release: who sweeps sees the numbers.
        taken.entry.content.store(Kind::Carrier as u64, Ordering::Release);
        self.carrier = Some(taken.id);
        self.note = note(0, 1, CARRIED);
        Ok(())
    }

    /// All that is passed on, the carrier last.
    fn handles(&self) -> impl Iterator<Item = Id> {
        self.packet.handles.0.iter().copied().chain(self.carrier.map(transit::travelling))
    }

    /// The handles that the slot lists.
    fn listed(&self) -> impl Iterator<Item = Id> {
        let carrier = self.carrier.map(transit::travelling);
        let few = if carrier.is_some() { &[] } else { &self.packet.handles.0[..] };
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
    pub(crate) handles: Vec<Id>,
}

impl Arrived {
    /// Nothing yet, to be received into in place.
    #[inline]
    pub(crate) fn new(here: Here) -> Self {
        Self { here, few: [0; WORDS], len: 0, carrier: None, handles: Vec::new() }
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
            transit::release(segment, me, id);
        }
        if let Some((carrier, ..)) = self.carrier {
            store::give(segment, me, carrier);
        }
    }
}

/// The handles of a carrier that this process may read, and where its bytes are. Everything is copied once and checked.
fn open_carrier(segment: &Segment, id: Id) -> Option<(Vec<Id>, NonNull<u8>, usize)> {
    let class = id.class()?;
    let base = segment.block(class, id.index())?;
    let size = class.size();
    let number = |n: usize| {
        // SAFETY: the caller stays below the block's size.
        let at = unsafe { base.add(8 * n) };
        // SAFETY: aligned; any bytes are an atomic.
        unsafe { at.cast::<AtomicU64>().as_ref() }.load(Ordering::Relaxed)
    };
    let count = usize::try_from(number(0)).ok().filter(|count| *count <= MOST_HANDLES)?;
    let len = usize::try_from(number(1)).ok()?;
    let start = CARRIER + 8 * count;
    if start.checked_add(len)? > size {
        return None;
    }
    let handles = (0..count).map(|n| Id::from_bits(number(2 + n))).collect();
    // SAFETY: `start` is inside the block.
    Some((handles, unsafe { base.add(start) }, len))
}

/// A carrier goes unread: so do its handles.
pub(crate) fn empty_carrier(segment: &Segment, me: Owner, id: Id) {
    let Some((handles, ..)) = open_carrier(segment, id) else { return };
    for id in handles {
        transit::release_unread(segment, me, id);
    }
}

impl<'a> Lane<'a> {
    /// The lane at `body`, of `count` slots.
    ///
    /// # Safety
    /// A lane of so many slots fits there, in a block of the segment.
    #[inline]
    pub(crate) unsafe fn at(segment: &'a Segment, body: NonNull<u8>, count: usize) -> Self {
        // SAFETY: the caller's duty; a lane's head is atomics only.
        let head: &'a LaneHead = unsafe { body.cast().as_ref() };
        // SAFETY: as above.
        let first = unsafe { body.add(size_of::<LaneHead>()) };
        let ring = Ring { slots: SlotsAt { first, count }, head: &head.head, tail: &head.tail };
        Self { segment, head, ring, sleepers: head, single: false }
    }

    /// The same lane, for who knows that at most one sends and one receives.
    #[inline]
    pub(crate) fn single(mut self) -> Self {
        self.single = true;
        self
    }

    /// The same lane, for who sleeps at another's head.
    pub(crate) fn waking(mut self, sleepers: &'a LaneHead) -> Self {
        self.sleepers = sleepers;
        self
    }

    #[inline]
    fn wake(&self, signal: &Signal) {
        if self.single { signal.wake_only_fenced() } else { signal.wake_one_fenced() }
    }

    /// Says how many slots it has, for who sweeps: before anybody else can see it.
    pub(crate) fn begin(&self) {
        #[expect(clippy::cast_possible_truncation, reason = "a block has less than 2^32 slots")]
        self.head.count.store(self.ring.slots.count as u32, Ordering::Relaxed);
    }

    /// How many slots the lane at `body` says it has.
    pub(crate) fn said_count(head: &LaneHead) -> usize {
        head.count.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.head.closed.load(Ordering::SeqCst) != 0
    }

    /// Nothing can be sent any more. True if that is new.
    pub(crate) fn close(&self) -> bool {
        // SeqCst: a producer that claims a slot after a consumer found the lane closed and empty sees it; pairs with the
        // look in `send`.
        let new = self.head.closed.swap(1, Ordering::SeqCst) == 0;
        step::reach(8);
        self.sleepers.items.wake_all_surely();
        self.sleepers.space.wake_all_surely();
        new
    }

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
        self.ring.publish(claim, note);
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
        // A consumer makes room of it.
        self.sleepers.items.wake_one_fenced();
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
        arrived.len = len.min(ROOM);
        for (value, word) in arrived.few[..arrived.len.div_ceil(8)].iter_mut().zip(room) {
            // Relaxed, here and below: read once, after the slot was claimed.
            *value = word.load(Ordering::Relaxed);
        }
        let good = if listed == 0 { Ok(()) } else { self.claim_listed(&claim, arrived) };
        step::reach(13);
        self.ring.release(claim);
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

    /// The handles that a slot lists.
    fn listed(&self, index: usize, note: u16) -> impl Iterator<Item = Id> + use<'_> {
        let (_, listed) = unpack(note);
        let words = self.ring.slots.room(index).iter().rev().take(listed);
        words.map(|word| Id::from_bits(word.load(Ordering::Relaxed)))
    }

    /// Releases all messages that nobody will read: the lane is this process's alone.
    pub(crate) fn drain(&self, me: Owner) {
        for _ in 0..=self.ring.slots.count {
            let Ok(claim) = self.ring.claim_full(me, || ()) else { return };
            self.release_listed(me, claim.index, claim.note);
            self.ring.release(claim);
        }
    }

    /// Releases what a slot lists that is still on its way.
    fn release_listed(&self, me: Owner, index: usize, note: u16) {
        for id in self.listed(index, note) {
            transit::release_unread(self.segment, me, id);
        }
    }

    /// After a death: what the dead one had claimed goes on, and everybody looks again.
    pub(crate) fn sweep(&self, me: Owner, dead: Owner) {
        self.ring.sweep(dead, |index, note| self.release_listed(me, index, note));
        self.head.items.wake_all_surely();
        self.head.space.wake_all_surely();
    }
}

/// The note's parts: bytes, and listed handles.
#[inline]
fn unpack(note: u16) -> (usize, usize) {
    (usize::from(note & 127), usize::from(note >> 7 & 15))
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
