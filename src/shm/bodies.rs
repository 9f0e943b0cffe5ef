//! What the objects are made of, as far as it must be known to free them and to sweep them after a death.

use core::ptr::NonNull;

use super::block::{Owner, Word};
use super::flag::{Flag, Parties};
use super::id::Id;
use super::lane::{self, Lane, LaneHead};
use super::layout::MEMBERS;
use super::lock::{Holder, LockWord};
use super::members::{self, Member};
use super::permits::{Accounts, Permits};
use super::segment::Segment;
use super::shape::{BODY, Kind, Shape, head};
use super::stages::{self, Stages};
use super::wake::Signal;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// A semaphore's body.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SemaphoreBody {
    word: AtomicU64,
    pub(crate) free: Signal,
    _room: u32,
    accounts: [AtomicU64; MEMBERS],
    forgotten: [AtomicU32; MEMBERS],
}

impl Accounts for &SemaphoreBody {
    fn account(&self, member: Owner) -> &AtomicU64 {
        &self.accounts[usize::from(member) % MEMBERS]
    }

    fn forgotten(&self, member: Owner) -> &AtomicU32 {
        &self.forgotten[usize::from(member) % MEMBERS]
    }
}

impl SemaphoreBody {
    pub(crate) fn permits(&self) -> Permits<'_, &Self> {
        Permits { word: &self.word, accounts: self }
    }
}

/// The body of what is in a block, as something that is made of atomics.
fn body<T>(segment: &Segment, id: Id) -> Option<&T> {
    let class = id.class()?;
    if BODY + size_of::<T>() > class.size() {
        return None;
    }
    // SAFETY: the block is larger than a head.
    let body = unsafe { segment.block(class, id.index())?.add(BODY) };
    // SAFETY: it fits, the body is aligned to 64, and any bytes are atomics.
    Some(unsafe { body.cast::<T>().as_ref() })
}

/// The lanes of a queue or a pipe, as many slots as they say, if that fits.
fn lanes(segment: &Segment, id: Id, how_many: usize) -> Option<Vec<Lane<'_>>> {
    let class = id.class()?;
    let count = Lane::said_count(body::<LaneHead>(segment, id)?);
    let bytes = lane::bytes(count).filter(|_| count > 0)?;
    if bytes.checked_mul(how_many)?.checked_add(BODY)? > class.size() {
        return None;
    }
    let base = segment.block(class, id.index())?;
    // SAFETY: all lanes fit into the block, as was just checked.
    let at = |n: usize| unsafe { base.add(BODY + n * bytes) };
    // SAFETY: as above.
    Some((0..how_many).map(|n| unsafe { Lane::at(segment, at(n), count) }).collect())
}

fn lanes_of(segment: &Segment, id: Id, kind: Kind) -> Vec<Lane<'_>> {
    let how_many = if kind == Kind::Pipe { 2 } else { 1 };
    lanes(segment, id, how_many).unwrap_or_default()
}

fn stages_of(segment: &Segment, id: Id) -> Option<Stages<'_>> {
    let class = id.class()?;
    if BODY + stages::bytes()? > class.size() {
        return None;
    }
    // SAFETY: the block is larger than a head.
    let body = unsafe { segment.block(class, id.index())?.add(BODY) };
    // SAFETY: it fits, as was just checked.
    unsafe { Stages::at(segment, id, body) }
}

/// Where a pipe's second lane begins, behind the first of `count` slots.
pub(crate) fn second_lane(body: NonNull<u8>, count: usize) -> Option<NonNull<u8>> {
    let bytes = lane::bytes(count)?;
    // SAFETY: the pipe's block has room for two such lanes.
    Some(unsafe { body.add(bytes) })
}

/// Empties a block that is this process's alone and about to be freed; `unread` gets the handles that lie in it.
pub(super) fn empty(segment: &Segment, me: Owner, id: Id, kind: Kind, unread: &mut dyn FnMut(Id)) {
    match kind {
        Kind::Carrier => lane::empty_carrier(segment, id, unread),
        Kind::Queue | Kind::Pipe | Kind::Stage => {
            lanes_of(segment, id, kind).iter().for_each(|lane| lane.drain(unread));
        }
        Kind::Unbounded => {
            if let Some(stages) = stages_of(segment, id) {
                stages.empty(me, unread);
            }
        }
        _ => {}
    }
}

/// An end of a pipe went: whoever waits at the other looks again.
pub(super) fn wake_pipe(segment: &Segment, pipe: Id) {
    for lane in lanes_of(segment, pipe, Kind::Pipe) {
        lane.head.items.wake_all_surely();
        lane.head.space.wake_all_surely();
    }
}

/// What waits in a pipe for its end of this side, which is closed, goes unread.
pub(super) fn discard(segment: &Segment, me: Owner, pipe: Id, side: usize, unread: &mut dyn FnMut(Id)) {
    if let Some(lane) = lanes_of(segment, pipe, Kind::Pipe).get(1 - side.min(1)) {
        lane.discard(me, unread);
    }
}

/// After a death: sees to it that nobody waits for the dead one. The object is pinned; `unread` gets the handles that the
/// dead one was about to send or had not claimed.
pub(super) fn sweep(segment: &Segment, dead: Member, id: Id, kind: Kind, unread: &mut dyn FnMut(Id)) {
    let holder = Holder::new(dead.index, dead.generation);
    let marked = head(segment, id).is_some_and(|head| head.has(dead.index));
    match kind {
        Kind::Queue | Kind::Pipe | Kind::Unbounded | Kind::Stage => {
            for lane in lanes_of(segment, id, kind) {
                lane.sweep(dead.index, unread);
            }
            if kind == Kind::Unbounded
                && let Some(stages) = stages_of(segment, id)
            {
                stages.finish_shutting();
            }
        }
        Kind::Lock => {
            if let Some(lock) = body::<LockWord>(segment, id) {
                lock.sweep(holder);
            }
        }
        Kind::Semaphore => {
            if let Some(semaphore) = body::<SemaphoreBody>(segment, id) {
                semaphore.permits().sweep(dead.index);
                semaphore.free.wake_all_surely();
            }
        }
        Kind::Event => {
            if let Some(flag) = body::<Flag>(segment, id) {
                flag.signal().wake_all_surely();
            }
        }
        Kind::Condition => {
            if let Some(signal) = body::<Signal>(segment, id) {
                signal.wake_all_surely();
            }
        }
        Kind::Barrier => {
            if let Some(parties) = body::<Parties>(segment, id).filter(|_| marked) {
                parties.sweep(dead.index);
            }
        }
        Kind::Bytes | Kind::Carrier | Kind::Value => {}
    }
    if let Some(head) = head(segment, id).filter(|_| marked && !matches!(kind, Kind::Pipe | Kind::Stage)) {
        head.clear(dead.index);
    }
}

/// After a death: a reference to this object that was the dead one's, or on its way to it, is about to go. Whoever had it was as good
/// as a party of a barrier, unless it was never started: it gets a mark, which goes as any other of a dead one's, and once.
pub(super) fn lose(segment: &Segment, dead: Member, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    if Word::load(&entry.word).is_shared(id.generation())
        && kind(&entry.content) == Kind::Barrier
        && members::has_started(segment, dead)
        && let Some(head) = head(segment, id)
    {
        head.set(dead.index);
        // O1: stamped after the mark.
        Word::stamp(&entry.word, id.generation());
    }
}

/// The kind of a shared object.
pub(crate) fn kind(content: &AtomicU64) -> Kind {
    // Acquire: pairs with the Release of who made it.
    Shape::kind_of(content.load(Ordering::Acquire))
}
