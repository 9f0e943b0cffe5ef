//! A lane: a ring of slots with room for small messages, and blocks for large ones. What is sent in it is in `letter.rs`.
//!
//! ```text
//! slot, 128 bytes: | word | 120 bytes: the message, and at the end the numbers of its handles |
//! note, 16 bits:   | a block carries it: 1 | handles: 4 | bytes: 7 |
//! ```
//!
//! A message that doesn't fit is in a block, a carrier: its number is then the slot's only handle. A carrier begins with
//! the count of its handles and their numbers.

use core::ptr::NonNull;

use super::block::Owner;
use super::error::ShmError;
use super::id::Id;
use super::ring::{Fence, NoSlot, Ring, SlotState, SlotWord, Slots};
use super::segment::Segment;
use super::step;
use super::wake::Signal;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a slot.
pub(crate) const SLOT: usize = 128;
/// Words of a slot behind its own: what a message has of it.
pub(crate) const WORDS: usize = 15;
const _: () = assert!(8 + 8 * WORDS == SLOT);
/// The note's flag: a block carries the message.
pub(super) const CARRIED: u16 = 1 << 11;
/// Bytes before a carrier's handles: their number, and how many bytes follow them.
pub(super) const CARRIER: usize = 16;
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

/// Where a lane's slots lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotsAt {
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
    pub(super) fn room(&self, index: usize) -> &[AtomicU64; WORDS] {
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
    pub(super) segment: &'a Segment,
    pub(crate) head: &'a LaneHead,
    pub(super) ring: Ring<'a, SlotsAt>,
    /// Where those sleep that wait for this lane: its own head, or that of the first of a queue's stages.
    pub(super) sleepers: &'a LaneHead,
    /// At most one sends and one receives.
    single: bool,
}

/// The handles of a carrier that this process may read, and where its bytes are. Everything is copied once and checked.
pub(super) fn open_carrier(segment: &Segment, id: Id) -> Option<(Vec<Id>, NonNull<u8>, usize)> {
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
pub(super) fn empty_carrier(segment: &Segment, id: Id, unread: &mut dyn FnMut(Id)) {
    if let Some((handles, ..)) = open_carrier(segment, id) {
        handles.into_iter().for_each(unread);
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

    /// How a slot of it is given on. One that sleeps alone, as at a pipe, sleeps for each message: a fence of all processes
    /// each time would cost more than it spares.
    #[inline]
    pub(super) fn fence(&self) -> Fence {
        if self.single || !self.segment.fenced { Fence::Mine } else { Fence::Sleepers }
    }

    /// Wakes one, after a slot was given on with [`fence`](Self::fence).
    #[inline]
    pub(super) fn wake(&self, signal: &Signal) {
        if self.single {
            signal.wake_only_fenced();
        } else if self.segment.fenced {
            signal.wake_one_unfenced();
        } else {
            signal.wake_one_fenced();
        }
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

    /// As [`Ring::has_full`].
    pub(crate) fn has_full(&self) -> bool {
        self.ring.has_full()
    }

    /// As [`Ring::has_empty`].
    pub(crate) fn has_empty(&self) -> bool {
        self.ring.has_empty()
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.head.closed.load(Ordering::SeqCst) != 0
    }

    /// Nothing can be sent any more.
    pub(crate) fn close(&self) {
        // SeqCst: a producer that claims a slot after a consumer found the lane closed and empty sees it; pairs with the
        // look in `send`.
        self.head.closed.store(1, Ordering::SeqCst);
        step::reach(8);
        self.sleepers.items.wake_all_surely();
        self.sleepers.space.wake_all_surely();
    }

    /// The handles that a slot lists.
    pub(super) fn listed(&self, index: usize, note: u16) -> impl Iterator<Item = Id> + use<'_> {
        let (_, listed) = unpack(note);
        let words = self.ring.slots.room(index).iter().rev().take(listed);
        words.map(|word| Id::from_bits(word.load(Ordering::Relaxed)))
    }

    /// Gives all handles that lie in it to `unread`: the lane is this process's alone, and goes. A slot that a dead process
    /// wrote or read lists some as well, if its sweep has not come to this lane.
    pub(super) fn drain(&self, unread: &mut dyn FnMut(Id)) {
        let slots = &self.ring.slots;
        let look = |index| SlotWord::load(slots.word(index));
        let is_new = |seen: SlotWord| seen.state() == SlotState::Empty && seen.turn() == 0;
        // Slots are claimed in their order: none was behind one that never was. (A turn comes again: not in all slots at once.)
        let ends_new = slots.count > 0 && is_new(look(slots.count - 1));
        for index in 0..slots.count {
            let seen = look(index);
            if ends_new && is_new(seen) {
                break;
            }
            if matches!(seen.state(), SlotState::Writing | SlotState::Full | SlotState::Taken) {
                self.listed(index, seen.note()).for_each(&mut *unread);
            }
        }
    }

    /// Gives all handles of messages that wait in it to `unread`: nobody receives them any more, though one may send yet.
    pub(super) fn discard(&self, me: Owner, unread: &mut dyn FnMut(Id)) {
        // No more than fit, and one that somebody sends just now: memory that is written to without end does not hold this up.
        for _ in 0..=self.ring.slots.count {
            let Ok(claim) = self.ring.claim_full(me, || ()) else { break };
            self.listed(claim.index, claim.note).for_each(&mut *unread);
            self.ring.release(claim, Fence::Mine);
        }
    }

    /// After a death: what the dead one had claimed goes on, and everybody looks again.
    pub(super) fn sweep(&self, dead: Owner, unread: &mut dyn FnMut(Id)) {
        self.ring.sweep(dead, |index, note| self.listed(index, note).for_each(&mut *unread));
        self.head.items.wake_all_surely();
        self.head.space.wake_all_surely();
    }
}

/// The note's parts: bytes, and listed handles.
#[inline]
pub(super) fn unpack(note: u16) -> (usize, usize) {
    (usize::from(note & 127), usize::from(note >> 7 & 15))
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use core::ptr::NonNull;

    use super::{CARRIED, CARRIER, Lane, MOST_HANDLES, bytes, empty_carrier, open_carrier, unpack};
    use crate::primitive::{AtomicU64, Ordering};
    use crate::shm::id::Id;
    use crate::shm::letter::{Arrived, Ready};
    use crate::shm::making::Making;
    use crate::shm::ring::Fence;
    use crate::shm::{self, Here, store};

    /// A block for a carrier: its number, where it is, how long it is.
    fn block(here: Here, at_least: usize) -> (Id, NonNull<u8>, usize) {
        let taken = store::take(here.segment, here.me(), at_least).unwrap();
        taken.soil(at_least);
        (taken.id, taken.bytes, taken.id.class().unwrap().size())
    }

    fn write(carrier: NonNull<u8>, n: usize, number: usize) {
        // SAFETY: the tests write numbers that are in the block.
        let at = unsafe { carrier.add(8 * n) };
        // SAFETY: aligned; any bytes are an atomic.
        unsafe { at.cast::<AtomicU64>().as_ref() }.store(number as u64, Ordering::Relaxed);
    }

    #[test]
    fn a_carrier_is_read_up_to_the_end_of_its_block_and_no_further() {
        let _alone = shm::alone();
        let here = shm::here().unwrap();
        let (id, carrier, size) = block(here, 4096);
        let ids = [7, 9].map(Id::from_bits);
        for (n, number) in [(0, 2), (2, 7), (3, 9)] {
            write(carrier, n, number);
        }
        let start = CARRIER + 16;
        for (len, fits) in [(0, true), (1, true), (size - start, true), (size - start + 1, false), (usize::MAX, false)]
        {
            write(carrier, 1, len);
            let opened = open_carrier(here.segment, id);
            // SAFETY: inside the block.
            let body = unsafe { carrier.add(start) };
            assert_eq!(opened, fits.then(|| (ids.to_vec(), body, len)), "{len} bytes");
        }
        write(carrier, 1, 1);
        let mut unread = Vec::new();
        empty_carrier(here.segment, id, &mut |id| unread.push(id));
        assert_eq!(unread, ids);
        assert!(store::give(here.segment, here.me(), id));
    }

    #[test]
    fn a_carrier_has_as_many_handles_as_a_message_can_have() {
        let _alone = shm::alone();
        let here = shm::here().unwrap();
        let (id, carrier, _) = block(here, CARRIER + 8 * (MOST_HANDLES + 1));
        for (count, fits) in [(MOST_HANDLES, true), (MOST_HANDLES + 1, false)] {
            write(carrier, 0, count);
            write(carrier, 1, 0);
            assert_eq!(open_carrier(here.segment, id).map(|(handles, ..)| handles.len()), fits.then_some(count));
        }
        assert_eq!(MOST_HANDLES, 65_536);
        assert!(store::give(here.segment, here.me(), id));
    }

    #[test]
    fn a_note_holds_a_full_slot_and_the_flag_beside_it() {
        let full = 15 << 7 | 120;
        assert_eq!((unpack(full), unpack(full | CARRIED), full & CARRIED), ((120, 15), (120, 15), 0));
    }

    #[test]
    fn who_sleeps_alone_is_fenced_by_who_wakes_and_so_are_all_where_the_system_fences_nobody() {
        let _alone = shm::alone();
        let here = shm::here().unwrap();
        let (id, body, _) = block(here, bytes(4).unwrap());
        // SAFETY: the block has room for such a lane.
        let lane = || unsafe { Lane::at(here.segment, body, 4) };
        let all = if here.segment.fenced { Fence::Sleepers } else { Fence::Mine };
        assert_eq!((lane().fence(), lane().single().fence()), (all, Fence::Mine));
        assert!(store::give(here.segment, here.me(), id));
    }

    #[test]
    fn a_lane_of_one_place_has_a_value_or_room_for_one() {
        let _alone = shm::alone();
        let here = shm::here().unwrap();
        let making = Making::new(bytes(1).unwrap()).unwrap();
        // SAFETY: the body has room for such a lane, and is all zero.
        let lane = unsafe { Lane::at(here.segment, making.body(), 1) };
        lane.begin();
        assert_eq!((lane.has_full(), lane.has_empty(), lane.len()), (false, true, 0));
        let mut ready = Ready::new(here);
        ready.fill(&[7]).unwrap();
        assert!(lane.send(&mut ready).is_ok());
        assert_eq!((lane.has_full(), lane.has_empty(), lane.len()), (true, false, 1));
        let mut arrived = Arrived::new(here);
        assert!(lane.receive(&mut arrived).is_ok());
        assert_eq!((lane.has_full(), lane.has_empty(), arrived.to_vec()), (false, true, vec![7]));
    }
}
