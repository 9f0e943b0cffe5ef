//! A queue without a bound: a lane, and when it is full a larger one, and so on. Each is closed when the next is there, so
//! what it has is got first.
//!
//! A stage is a block of its own, whose head names the queue and who made it. It is put into the queue's table by one
//! compare-and-swap. If its maker dies before that, the sweep finds that no table has it.

use core::ptr::NonNull;

use super::block::{Owner, Word};
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::lane::{self, Lane, LaneError, LaneHead};
use super::layout::Class;
use super::making::Making;
use super::members::Member;
use super::segment::Segment;
use super::shape::{BODY, Kind, Shape, head};
use super::{step, store};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};

/// Stages at most; each has twice the places of the one before.
const STAGES: usize = 16;
/// Places of the first.
pub(crate) const FIRST: usize = 256;

/// What stands behind the first lane of such a queue.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Table {
    shut: AtomicU32,
    /// Hints: the stage that is put into, and the one that is got from.
    putting: AtomicU32,
    getting: AtomicU32,
    _room: AtomicU32,
    /// The stages behind the first, by number; 0: not there yet.
    ids: [AtomicU64; STAGES],
}

/// Bytes of the body of such a queue.
pub(crate) fn bytes() -> Option<usize> {
    Some(lane::bytes(FIRST)? + size_of::<Table>())
}

/// A queue without a bound, as one process sees it.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    segment: &'a Segment,
    queue: Id,
    first: Lane<'a>,
    table: &'a Table,
}

impl<'a> Stages<'a> {
    /// The queue whose body lies there.
    ///
    /// # Safety
    /// A body of [`bytes`] fits there, in the queue's block.
    pub(crate) unsafe fn at(segment: &'a Segment, queue: Id, body: NonNull<u8>) -> Option<Self> {
        // SAFETY: the caller's duty.
        let first = unsafe { Lane::at(segment, body, FIRST) };
        // SAFETY: behind the lane, in the body.
        let table = unsafe { body.add(lane::bytes(FIRST)?) };
        // SAFETY: the table is made of atomics, and aligned.
        let table = unsafe { table.cast::<Table>().as_ref() };
        Some(Self { segment, queue, first, table })
    }

    fn count(stage: usize) -> usize {
        FIRST << stage
    }

    /// The smallest class whose blocks hold a stage. It is in a larger one where that has no block left.
    fn least_class(stage: usize) -> Option<Class> {
        Class::holding(BODY + lane::bytes(Self::count(stage))?)
    }

    /// A stage, if it is there.
    fn lane(&self, stage: usize) -> Option<Lane<'a>> {
        // SAFETY: as in `at`: stage 0 is in the queue's own body.
        let own = || unsafe { Lane::at(self.segment, NonNull::from(self.first.head).cast(), FIRST) };
        if stage == 0 {
            return Some(own());
        }
        // Acquire: what its maker wrote into it; pairs with the exchange in `open`.
        let id = Id::from_bits(self.table.ids.get(stage)?.load(Ordering::Acquire));
        let class = id.class().filter(|class| Self::least_class(stage).is_some_and(|least| *class >= least))?;
        if id.bits() == 0 || id.index() >= store::grown(self.segment, class) {
            return None;
        }
        // SAFETY: a block is larger than a head.
        let body = unsafe { self.segment.block(class, id.index())?.add(BODY) };
        // SAFETY: the class has room for so many places, as was just checked.
        Some(unsafe { Lane::at(self.segment, body, Self::count(stage)) }.waking(self.first.head))
    }

    fn hint(hint: &AtomicU32) -> usize {
        (hint.load(Ordering::Acquire) as usize).min(STAGES - 1)
    }

    fn advance(hint: &AtomicU32, stage: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        hint.fetch_max(stage as u32, Ordering::AcqRel);
    }

    /// Sends a message by `send`, into a larger stage if there is no place.
    pub(crate) fn send(
        &self,
        here: Here,
        mut send: impl FnMut(&Lane<'_>) -> Result<(), LaneError>,
    ) -> Result<(), LaneError> {
        for _ in 0..4 * STAGES {
            let stage = Self::hint(&self.table.putting);
            let lane = self.lane(stage).ok_or(ShmError::Damaged)?;
            match send(&lane) {
                Err(LaneError::Closed) if self.is_shut() || stage + 1 >= STAGES => return Err(LaneError::Closed),
                Err(LaneError::Closed) => Self::advance(&self.table.putting, stage + 1),
                Err(LaneError::NotNow) if stage + 1 < STAGES => {
                    self.open(here, stage + 1)?;
                    // Whoever opened it may not have come to close it. If it was there before the queue was shut, it is closed.
                    if self.is_shut() {
                        return Err(LaneError::Closed);
                    }
                    lane.close();
                    Self::advance(&self.table.putting, stage + 1);
                }
                other => return other,
            }
        }
        Err(LaneError::Shm(ShmError::Damaged))
    }

    /// Receives the oldest message by `receive`.
    pub(crate) fn receive(&self, mut receive: impl FnMut(&Lane<'_>) -> Result<(), LaneError>) -> Result<(), LaneError> {
        for _ in 0..4 * STAGES {
            let stage = Self::hint(&self.table.getting);
            let lane = self.lane(stage).ok_or(ShmError::Damaged)?;
            match receive(&lane) {
                Err(LaneError::Closed) if self.lane(stage + 1).is_some() => {
                    Self::advance(&self.table.getting, stage + 1);
                }
                other => return other,
            }
        }
        Err(LaneError::Shm(ShmError::Damaged))
    }

    /// Sees to it that a stage is there.
    #[cold]
    fn open(&self, here: Here, stage: usize) -> Result<(), ShmError> {
        let at = self.table.ids.get(stage).ok_or(ShmError::Damaged)?;
        if at.load(Ordering::Acquire) != 0 {
            return Ok(());
        }
        let count = Self::count(stage);
        let making = Making::new(lane::bytes(count).ok_or(ShmError::Damaged)?)?;
        // SAFETY: the body was made for it, and is all zero.
        unsafe { Lane::at(self.segment, making.body(), count) }.begin();
        let made = making.share_stage(self.queue)?;
        step::reach(38);
        // SeqCst: before the look at whether the queue is shut.
        if at.compare_exchange(0, made.bits(), Ordering::SeqCst, Ordering::Acquire).is_err() {
            // Somebody else was quicker. If a sweeper is looking into this one, it is done in a moment; if it is stopped there,
            // ours goes when we die.
            for _ in 0..1_000 {
                if free(self.segment, here.me(), made, &mut |_| ()) {
                    break;
                }
                std::thread::yield_now();
            }
        } else if self.is_shut()
            && let Some(lane) = self.lane(stage)
        {
            lane.close();
        }
        step::reach(39);
        Ok(())
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.table.shut.load(Ordering::SeqCst) != 0
    }

    /// Nothing can be put any more.
    pub(crate) fn shut(&self) {
        // SeqCst: before the look at the stages; pairs with the look in `open`.
        self.table.shut.store(1, Ordering::SeqCst);
        step::reach(9);
        self.close_all();
    }

    fn close_all(&self) {
        (0..STAGES).filter_map(|stage| self.lane(stage)).for_each(|lane| lane.close());
    }

    /// After a death: who shut the queue may not have come to all its stages, nor who opened one to seeing that it was shut.
    pub(super) fn finish_shutting(&self) {
        if self.is_shut() {
            self.close_all();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes(&self.table.getting).map(|lane| lane.len()).sum()
    }

    /// As [`Ring::has_full`](super::ring::Ring::has_full), of any stage.
    pub(crate) fn has_full(&self) -> bool {
        self.lanes(&self.table.getting).any(|lane| lane.has_full())
    }

    /// As [`Ring::has_empty`](super::ring::Ring::has_empty), of any stage.
    pub(crate) fn has_empty(&self) -> bool {
        self.lanes(&self.table.putting).any(|lane| lane.has_empty())
    }

    /// The stages from a hint on.
    fn lanes(&self, from: &AtomicU32) -> impl Iterator<Item = Lane<'a>> {
        (Self::hint(from)..STAGES).filter_map(|stage| self.lane(stage))
    }

    /// Takes out all that nobody will get, and frees the stages: the queue is this process's alone.
    pub(super) fn empty(&self, me: Owner, unread: &mut dyn FnMut(Id)) {
        self.first.drain(unread);
        for at in &self.table.ids {
            // If we die here the sweep finds a stage without a queue.
            let id = Id::from_bits(at.swap(0, Ordering::AcqRel));
            if id.bits() != 0 {
                free(self.segment, me, id, unread);
            }
        }
    }

    fn has(&self, stage: Id) -> bool {
        self.table.ids.iter().any(|id| id.load(Ordering::SeqCst) == stage.bits())
    }
}

/// Frees a stage that nobody can reach any more; `unread` gets the handles that lie in it. False: a sweeper looks into it, and
/// frees it if its queue is gone.
pub(super) fn free(segment: &Segment, me: Owner, stage: Id, unread: &mut dyn FnMut(Id)) -> bool {
    let Some(entry) = stage.class().and_then(|class| segment.entry(class, stage.index())) else { return true };
    let is_stage = Shape::kind_of(entry.content.load(Ordering::Acquire)) == Kind::Stage;
    // Between the step that ended the queue and the look at the pin; pairs with that in `is_orphan`: one of the two frees it.
    fence(Ordering::SeqCst);
    let seen = Word::load(&entry.word);
    step::reach(43);
    if !is_stage || !seen.is_shared(stage.generation()) {
        return true;
    }
    if seen.is_pinned() || seen.step(&entry.word, Word::owned(me, stage.generation())).is_err() {
        return false;
    }
    if let Some(lane) = stage_at(segment, stage) {
        lane.drain(unread);
    }
    step::reach(37);
    store::give(segment, me, stage);
    true
}

/// A stage's lane, of as many slots as it says, if that fits.
fn stage_at(segment: &Segment, stage: Id) -> Option<Lane<'_>> {
    let class = stage.class()?;
    // SAFETY: a block is larger than a head.
    let body = unsafe { segment.block(class, stage.index())?.add(BODY) };
    // SAFETY: what is behind a head is large enough for that of a lane, and aligned; any bytes are atomics.
    let count = Lane::said_count(unsafe { body.cast::<LaneHead>().as_ref() });
    if count == 0 || BODY.checked_add(lane::bytes(count)?)? > class.size() {
        return None;
    }
    // SAFETY: it fits, as was just checked.
    Some(unsafe { Lane::at(segment, body, count) })
}

/// The queue that a stage belongs to, as its head says.
fn queue_of(segment: &Segment, stage: Id) -> Option<Stages<'_>> {
    let queue = Id::from_bits(head(segment, stage)?.ends[0].load(Ordering::Acquire));
    let class = queue.class()?;
    if class.size() < BODY + bytes()? || queue.index() >= store::grown(segment, class) {
        return None;
    }
    // SAFETY: a block is larger than a head.
    let body = unsafe { segment.block(class, queue.index())?.add(BODY) };
    // SAFETY: the block is large enough, as was just checked.
    unsafe { Stages::at(segment, queue, body) }
}

impl Stages<'_> {
    fn is_live(&self) -> bool {
        let entry = self.queue.class().and_then(|class| self.segment.entry(class, self.queue.index()));
        entry.is_some_and(|entry| Word::load(&entry.word).is_shared(self.queue.generation()))
    }
}

/// After a death, a stage that is pinned: whoever waits at its queue looks again.
pub(crate) fn sweep(segment: &Segment, stage: Id) {
    if let Some(queue) = queue_of(segment, stage).filter(Stages::is_live) {
        queue.first.head.items.wake_all_surely();
        queue.first.head.space.wake_all_surely();
    }
}

/// After a death, a stage that was pinned until now: whether it is to be freed, since its queue is gone, or its maker died
/// before it was in the table.
pub(crate) fn is_orphan(segment: &Segment, dead: &[Member], stage: Id) -> bool {
    // As in `free`.
    fence(Ordering::SeqCst);
    let Some(queue) = queue_of(segment, stage) else { return false };
    let maker = head(segment, stage).map(|head| head.ends[1].load(Ordering::Acquire));
    !queue.is_live() || (dead.iter().any(|dead| maker == Some(dead.bits())) && !queue.has(stage))
}

const _: () = assert!(size_of::<LaneHead>().is_multiple_of(64));

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;
    use crate::shm::block::State;
    use crate::shm::ring::Slots as _;
    use crate::shm::{alone, enlist, member_died};

    #[test]
    fn a_queue_that_a_dead_process_began_to_shut_is_shut_in_all_its_stages() {
        let _alone = alone();
        let (here, hold) = unbounded();
        // SAFETY: made with such a body; the hold keeps it.
        let queue = unsafe { Stages::at(here.segment, hold.id, hold.body()) }.unwrap();
        queue.open(here, 1).unwrap();
        let closed = || [0, 1].map(|stage| queue.lane(stage).unwrap().is_closed());
        member_died(enlist().unwrap());
        assert_eq!(closed(), [false, false], "nobody shut it");
        // It comes no further than this.
        queue.table.shut.store(1, Ordering::SeqCst);
        member_died(enlist().unwrap());
        assert_eq!(closed(), [true, true]);
    }

    fn unbounded() -> (Here, crate::shm::object::Hold) {
        let making = Making::new(bytes().unwrap()).unwrap();
        let here = crate::shm::here().unwrap();
        // SAFETY: the body has room for the first lane, and is all zero.
        unsafe { Lane::at(here.segment, making.body(), FIRST) }.begin();
        (here, making.share(Shape::of::<u8>(Kind::Unbounded)).unwrap())
    }

    #[test]
    fn nothing_is_put_into_a_stage_that_came_after_the_queue_was_shut() {
        let _alone = alone();
        let (here, hold) = unbounded();
        // SAFETY: made with such a body; the hold keeps it.
        let queue = unsafe { Stages::at(here.segment, hold.id, hold.body()) }.unwrap();
        let mut sent = Vec::new();
        let result = queue.send(here, |lane| {
            if !sent.is_empty() {
                sent.push(lane.ring.slots.count());
                return Ok(());
            }
            sent.push(FIRST);
            // It finds no place. Meanwhile the queue is shut; and another, who had found none before that, opens a stage and comes
            // no further.
            queue.open(here, 1).unwrap();
            queue.table.shut.store(1, Ordering::SeqCst);
            lane.close();
            Err(LaneError::NotNow)
        });
        assert_eq!(result, Err(LaneError::Closed), "put, after close had returned");
        assert_eq!(sent, [FIRST]);
    }

    #[test]
    fn a_stage_that_a_sweeper_looks_into_is_freed_by_the_sweep() {
        let _alone = alone();
        let (here, hold) = unbounded();
        // SAFETY: made with such a body; the hold keeps it.
        let queue = unsafe { Stages::at(here.segment, hold.id, hold.body()) }.unwrap();
        queue.open(here, 1).unwrap();
        let stage = Id::from_bits(queue.table.ids[1].load(Ordering::Acquire));
        let word = &here.segment.entry(stage.class().unwrap(), stage.index()).unwrap().word;
        assert!(crate::shm::free::pin(here.segment, stage));
        drop(hold);
        assert!(Word::load(word).is_pinned(), "somebody looks into it");
        crate::shm::free::unpin(here.segment, here.me(), stage);
        member_died(enlist().unwrap());
        assert_eq!(Word::load(word).state(), State::Free, "its queue is gone");
    }
}
