//! A lane: a ring of slots with room for small messages, and blocks for large ones.
//!
//! ```text
//! slot, 128 bytes: | word | 120 bytes: the message, and at the end the numbers of its handles |
//! note, 16 bits:   | a block carries it: 1 | handles: 4 | bytes: 7 |
//! ```
//!
//! A message that doesn't fit is in a block, a carrier: its number is then the slot's only handle. A carrier begins with
//! the count of its handles and their numbers.

use core::mem::MaybeUninit;
use core::ptr::NonNull;

use super::block::{NOBODY, Owner};
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::message::{Packet, Unsent};
use super::object::{Kind, Shape};
use super::ring::{Claim, NoSlot, Ring, Slots};
use super::segment::Segment;
use super::wake::Signal;
use super::{step, store, transit};
use crate::os::shared::{copy_in, copy_out};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a slot, and of what a message has of it.
pub(crate) const SLOT: usize = 128;
const ROOM: usize = SLOT - 8;
/// Handles that a slot can list.
const FEW: usize = 15;
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
    fn room(&self, index: usize) -> NonNull<u8> {
        // SAFETY: below the count, which fits into the lane's block; the word is 8 bytes.
        unsafe { self.first.add(index * SLOT + 8) }
    }
}

/// A lane as one process sees it.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    segment: &'a Segment,
    pub(crate) head: &'a LaneHead,
    ring: Ring<'a, SlotsAt>,
}

/// A message that is ready to be sent: everything that can be refused has been granted.
#[derive(Debug)]
pub(crate) struct Ready {
    here: Here,
    room: [MaybeUninit<u8>; ROOM],
    note: u16,
    /// The handles that the slot lists.
    listed: Listed,
    /// The message's handles.
    handles: Unsent,
    sent: bool,
}

#[derive(Debug)]
struct Listed {
    ids: [Id; FEW],
    len: usize,
}

fn listed(handles: &[Id]) -> ([Id; FEW], usize) {
    let mut few = [Id::from_bits(0); FEW];
    few[..handles.len()].copy_from_slice(handles);
    (few, handles.len())
}

fn write(room: &mut [MaybeUninit<u8>; ROOM], at: usize, bytes: &[u8]) {
    room[at..at + bytes.len()].write_copy_of_slice(bytes);
}

impl Ready {
    /// A message of these bytes, with these handles in it (their travelling numbers).
    pub(crate) fn new(here: Here, bytes: &[u8], handles: Unsent) -> Result<Self, ShmError> {
        let none = Listed { ids: [Id::from_bits(0); FEW], len: 0 };
        let room = [MaybeUninit::uninit(); ROOM];
        let mut ready = Self { here, room, note: 0, listed: none, handles, sent: false };
        let handles = &ready.handles.0;
        if handles.len() <= FEW && bytes.len() + 8 * handles.len() <= ROOM {
            #[expect(clippy::cast_possible_truncation, reason = "at most 120")]
            let len = bytes.len() as u16;
            write(&mut ready.room, 0, bytes);
            let (few, count) = listed(handles);
            ready.list(&few[..count], len, 0);
            return Ok(ready);
        }
        if handles.len() > MOST_HANDLES {
            return Err(ShmError::TooManyInTransit);
        }
        let start = CARRIER + 8 * handles.len();
        let taken = store::take(here.segment, here.me(), start + bytes.len())?;
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
        ready.list(&[transit::travelling(taken.id)], 0, CARRIED);
        Ok(ready)
    }

    fn list(&mut self, handles: &[Id], bytes: u16, flags: u16) {
        for (n, id) in handles.iter().enumerate() {
            self.listed.ids[n] = *id;
            write(&mut self.room, ROOM - 8 * (n + 1), &id.bits().to_ne_bytes());
        }
        self.listed.len = handles.len();
        #[expect(clippy::cast_possible_truncation, reason = "at most 15")]
        let count = handles.len() as u16;
        self.note = flags | count << 7 | bytes;
    }

    /// All handles, the carrier last.
    fn handles(&self) -> impl Iterator<Item = Id> {
        let carrier = (self.note & CARRIED != 0).then_some(self.listed.ids[0]);
        self.handles.0.iter().copied().chain(carrier)
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
}

impl Drop for Ready {
    fn drop(&mut self) {
        if self.sent || self.note & CARRIED == 0 {
            return;
        }
        let carrier = self.listed.ids[0];
        store::give(self.here.segment, self.here.me(), carrier.with_generation(carrier.generation().wrapping_sub(1)));
    }
}

/// A message that arrived. Its handles are this process's; those that nobody takes out are released.
#[derive(Debug)]
pub(crate) struct Arrived {
    here: Here,
    room: [MaybeUninit<u8>; ROOM],
    len: usize,
    /// Where the bytes are, if a block carries them: its number, where they begin, how many.
    carrier: Option<(Id, NonNull<u8>, usize)>,
    pub(crate) handles: Vec<Id>,
}

impl Arrived {
    /// How many bytes the message has.
    pub(crate) fn len(&self) -> usize {
        self.carrier.map_or(self.len, |(_, _, len)| len)
    }

    /// The bytes, copied out once.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let len = self.len();
        let mut bytes = Vec::with_capacity(len);
        match self.carrier {
            // SAFETY: the block has so many bytes, as was checked; the vector has room; neither is in the other.
            Some((_, from, _)) => unsafe { copy_out(from.as_ptr(), bytes.as_mut_ptr(), len) },
            None => bytes.extend_from_slice(self.few()),
        }
        // SAFETY: written just now.
        unsafe { bytes.set_len(len) };
        bytes
    }

    fn few(&self) -> &[u8] {
        // SAFETY: a slot's room was copied whole.
        unsafe { self.room[..self.len].assume_init_ref() }
    }

    /// Shows the bytes: in place if they are few, a copy if a block carries them.
    pub(crate) fn with_bytes<R>(&self, show: impl FnOnce(&[u8]) -> R) -> R {
        if self.carrier.is_some() { show(&self.to_vec()) } else { show(self.few()) }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
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
        Self { segment, head, ring }
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

    pub(crate) fn count(&self) -> usize {
        self.ring.slots.count
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.head.closed.load(Ordering::SeqCst) != 0
    }

    /// Nothing can be sent any more. True if that is new.
    pub(crate) fn close(&self) -> bool {
        // SeqCst: a producer that claims a slot after a consumer found the lane closed and empty sees it; pairs with the
        // look in `send`.
        let new = self.head.closed.swap(1, Ordering::SeqCst) == 0;
        step::reach(8);
        self.head.items.wake_all_surely();
        self.head.space.wake_all_surely();
        new
    }

    /// Whether a message would have to wait. Close, while others are at it.
    pub(crate) fn is_full(&self) -> bool {
        self.ring.len() >= self.ring.slots.count
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
        let used = usize::from(ready.note & 127);
        // SAFETY: the slot is this process's, and both are `ROOM` bytes.
        unsafe { copy_in(ready.room.as_ptr().cast(), room.as_ptr(), used) };
        if ready.listed.len > 0 {
            let at = ROOM - 8 * ready.listed.len;
            // SAFETY: inside the slot's room.
            let end = unsafe { room.add(at) };
            // SAFETY: the slot is this process's; the handles' numbers are at the end of both.
            unsafe { copy_in(ready.room[at..].as_ptr().cast(), end.as_ptr(), ROOM - at) };
            step::reach(3);
            self.ring.annotate(&claim, ready.note);
            step::reach(4);
            if let Err(error) = ready.pass_on() {
                self.abandon(claim);
                return Err(error.into());
            }
        }
        step::reach(6);
        let note = ready.note;
        ready.sent = true;
        ready.handles.forget();
        self.ring.publish(claim, note);
        step::reach(7);
        self.head.items.wake_one_fenced();
        Ok(())
    }

    fn abandon(&self, claim: Claim) {
        self.ring.abandon(claim);
        // A consumer makes room of it.
        self.head.items.wake_one_fenced();
    }

    /// Receives the oldest message, without waiting.
    #[inline]
    pub(crate) fn receive(&self, here: Here) -> Result<Arrived, LaneError> {
        // Before the look for messages: what was sent before the lane was closed is found.
        let closed = self.is_closed();
        let claim = match self.ring.claim_full(here.me(), || self.head.space.wake_all()) {
            Ok(claim) => claim,
            Err(NoSlot::NotNow) if closed && self.ring.len() == 0 => return Err(LaneError::Closed),
            Err(no) => return Err(no.into()),
        };
        let mut arrived =
            Arrived { here, room: [MaybeUninit::uninit(); ROOM], len: 0, carrier: None, handles: Vec::new() };
        let good = self.copy(&claim, here, &mut arrived);
        step::reach(13);
        self.ring.release(claim);
        step::reach(14);
        self.head.space.wake_one_fenced();
        good.map(|()| arrived).map_err(LaneError::Shm)
    }

    /// Copies a claimed slot's message and claims its handles.
    #[inline]
    fn copy(&self, claim: &Claim, here: Here, arrived: &mut Arrived) -> Result<(), ShmError> {
        let (len, listed) = unpack(claim.note);
        // SAFETY: both are `ROOM` bytes.
        unsafe { copy_out(self.ring.slots.room(claim.index).as_ptr(), arrived.room.as_mut_ptr().cast(), ROOM) };
        arrived.len = len;
        if listed == 0 {
            return if len <= ROOM { Ok(()) } else { Err(ShmError::Damaged) };
        }
        let listed = numbers(&arrived.room, listed);
        if claim.note & CARRIED == 0 {
            return claim_all(here, listed, &mut arrived.handles);
        }
        let carrier = listed[0];
        transit::claim(here, carrier)?;
        let opened = open_carrier(self.segment, carrier);
        let Some((handles, from, len)) = opened else {
            store::give(self.segment, here.me(), carrier);
            return Err(ShmError::Damaged);
        };
        arrived.carrier = Some((carrier, from, len));
        claim_all(here, handles, &mut arrived.handles)
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
        let (_, listed) = unpack(note);
        let mut room = [MaybeUninit::uninit(); ROOM];
        // SAFETY: both are `ROOM` bytes.
        unsafe { copy_out(self.ring.slots.room(index).as_ptr(), room.as_mut_ptr().cast(), ROOM) };
        for id in numbers(&room, listed) {
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
fn unpack(note: u16) -> (usize, usize) {
    (usize::from(note & 127), usize::from(note >> 7 & 15))
}

/// The numbers at the end of a slot's room.
fn numbers(room: &[MaybeUninit<u8>; ROOM], listed: usize) -> Vec<Id> {
    let number = |n: usize| {
        let at = ROOM - 8 * (n + 1);
        let mut bytes = [0; 8];
        // SAFETY: the room was copied whole from a slot.
        bytes.copy_from_slice(unsafe { room[at..at + 8].assume_init_ref() });
        Id::from_bits(u64::from_ne_bytes(bytes))
    };
    (0..listed.min(FEW)).map(number).collect()
}

/// Claims handles; those that can't be claimed are an error, after all others were.
fn claim_all(here: Here, ids: Vec<Id>, into: &mut Vec<Id>) -> Result<(), ShmError> {
    let mut result = Ok(());
    for id in ids {
        match transit::claim(here, id) {
            Ok(()) => into.push(id),
            Err(error) => result = Err(error),
        }
    }
    result
}

impl Packet {
    /// Makes the packet ready to be sent over a lane.
    pub(crate) fn ready(mut self, here: Here) -> Result<Ready, ShmError> {
        Ready::new(here, self.bytes.as_slice(), core::mem::take(&mut self.handles))
    }
}

const _: () = assert!(size_of::<Shape>() == 8);
