//! Objects that several members hold: each has a mark of its own on them, and who takes the last mark off frees them.
//!
//! Getting hold is: set the mark, stamp the header, and only then let go of what led here. Freeing is: look at the
//! header, find no token and no mark, and step from exactly the header that was looked at. Whoever gets hold in between
//! has stamped it (invariant O1 in `README.md`).

use core::hash::{Hash, Hasher};
use core::ptr::NonNull;

use super::block::{Owner, State, Word};
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::layout::{MEMBERS, TOKENS};
use super::segment::{Entry, Segment};
use super::{bodies, step, store};
use crate::primitive::{AtomicU64, Ordering, fence};

/// What kind of object is in a block, with a fingerprint of its types: the entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape(u64);

/// What a block's content can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain bytes: a slice, or a value in the making.
    Bytes,
    /// The bytes of a value, with the handles in it.
    Carrier,
    Queue,
    Pipe,
    Lock,
    Semaphore,
    Event,
    Condition,
    Barrier,
    Value,
    /// A queue without a bound, and one of its stages.
    Unbounded,
    Stage,
}

/// The bits of a type's id, as they are: all members run the same program, in which each type has one.
struct Bits(u64);

impl Hasher for Bits {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(17) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shape {
    /// The shape of an object of this kind for this type.
    #[inline]
    pub(crate) fn of<T: ?Sized>(kind: Kind) -> Self {
        let mut bits = Bits(0);
        typeid::of::<T>().hash(&mut bits);
        let hash = bits.finish();
        Self(hash << 8 | kind as u64)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn kind_of(bits: u64) -> Kind {
        match bits & 0xFF {
            1 => Kind::Carrier,
            2 => Kind::Queue,
            3 => Kind::Pipe,
            4 => Kind::Lock,
            5 => Kind::Semaphore,
            6 => Kind::Event,
            7 => Kind::Condition,
            8 => Kind::Barrier,
            9 => Kind::Value,
            10 => Kind::Unbounded,
            11 => Kind::Stage,
            _ => Kind::Bytes,
        }
    }
}

/// What every object's block begins with.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// The two ends of a pipe.
    pub(crate) ends: [AtomicU64; 2],
    /// A bit for each member that holds it.
    marks: [AtomicU64; MEMBERS / 64],
    /// What a pipe's ends say to the pipe's other end when they go.
    _room: [AtomicU64; 6],
}

/// Where the object's own part begins.
pub(crate) const BODY: usize = size_of::<Head>();
const _: () = assert!(BODY == 192);

impl Head {
    fn set(&self, member: Owner) {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].fetch_or(1 << (member % 64), Ordering::SeqCst);
    }

    pub(crate) fn clear(&self, member: Owner) {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].fetch_and(!(1 << (member % 64)), Ordering::SeqCst);
    }

    pub(crate) fn has(&self, member: Owner) -> bool {
        let member = usize::from(member) % MEMBERS;
        self.marks[member / 64].load(Ordering::SeqCst) & 1 << (member % 64) != 0
    }

    fn is_marked(&self) -> bool {
        self.marks.iter().any(|marks| marks.load(Ordering::SeqCst) != 0)
    }
}

/// The head of whatever is in a block.
pub(crate) fn head(segment: &Segment, id: Id) -> Option<&Head> {
    let bytes = segment.block(id.class()?, id.index())?.cast::<Head>();
    // SAFETY: every block is at least as large as a head and aligned to its size; any bytes are atomics.
    Some(unsafe { bytes.as_ref() })
}

/// This process's hold on a shared object: keeps it from being freed.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) here: Here,
    pub(crate) id: Id,
    entry: &'static Entry,
    body: NonNull<u8>,
    shape: Shape,
    /// Whether the object lives by marks; a pipe lives by its ends.
    marked: bool,
}

// SAFETY: what it points to is shared memory, reached as atomics or by who owns it.
unsafe impl Send for Hold {}
// SAFETY: as above.
unsafe impl Sync for Hold {}

/// A new object's block, before anybody else can see it.
#[derive(Debug)]
pub(crate) struct Making {
    here: Here,
    taken: store::Taken<'static>,
    done: bool,
}

impl Making {
    /// A block with room for a body of so many bytes, all of them zero.
    pub(crate) fn new(body: usize) -> Result<Self, ShmError> {
        let here = super::here()?;
        let len = body.checked_add(BODY).ok_or(ShmError::TooLarge { bytes: body })?;
        let taken = store::take(here.segment, here.me(), len)?;
        let making = Self { here, taken, done: false };
        making.clean(len);
        Ok(making)
    }

    fn clean(&self, len: usize) {
        // Relaxed: the block is ours.
        let dirty = self.taken.entry.dirty.load(Ordering::Relaxed);
        let stale = usize::try_from(dirty).unwrap_or(usize::MAX).min(len);
        // SAFETY: the block has room for `len` bytes, is ours, and nobody has a reference into it.
        unsafe { self.taken.bytes.write_bytes(0, stale) };
        self.taken.entry.dirty.fetch_max(len as u64, Ordering::Relaxed);
    }

    /// The body.
    pub(crate) fn body(&self) -> NonNull<u8> {
        // SAFETY: the block is larger than a head.
        unsafe { self.taken.bytes.add(BODY) }
    }

    /// OWNED → SHARED, with this process's mark.
    pub(crate) fn share(mut self, shape: Shape) -> Result<Hold, ShmError> {
        let Self { here, taken, .. } = self;
        let head = head(here.segment, taken.id).ok_or(ShmError::Damaged)?;
        head.set(here.me());
        taken.entry.content.store(shape.bits(), Ordering::Release);
        step::reach(30);
        *here.segment.holds.lock().entry(taken.id.bits()).or_default() += 1;
        let generation = taken.id.generation();
        let shared = Word::owned(here.me(), generation).step(&taken.entry.word, Word::shared(0, generation));
        self.done = true;
        step::reach(31);
        let body = self.body();
        shared.map_err(|_| ShmError::Damaged)?;
        Ok(Hold { here, id: taken.id, entry: taken.entry, body, shape, marked: true })
    }

    /// OWNED → SHARED, as a pipe whose two ends are this process's.
    pub(crate) fn share_pipe(mut self, shape: Shape) -> Result<[Hold; 2], ShmError> {
        let Self { here, taken, .. } = self;
        let head = head(here.segment, taken.id).ok_or(ShmError::Damaged)?;
        let generation = taken.id.generation();
        for end in &head.ends {
            // The ends' generations start at the block's, so that a number of an earlier pipe is stale.
            Word::free(0).step(end, Word::owned(here.me(), generation)).map_err(|_| ShmError::Damaged)?;
        }
        taken.entry.content.store(shape.bits(), Ordering::Release);
        let shared = Word::owned(here.me(), generation).step(&taken.entry.word, Word::shared(0, generation));
        self.done = true;
        step::reach(32);
        shared.map_err(|_| ShmError::Damaged)?;
        let body = self.body();
        Ok([(); 2].map(|()| Hold { here, id: taken.id, entry: taken.entry, body, shape, marked: false }))
    }
}

impl Making {
    /// OWNED → SHARED, as a stage of a queue, which it names.
    pub(crate) fn share_stage(mut self, queue: Id) -> Result<Id, ShmError> {
        let Self { here, taken, .. } = self;
        let head = head(here.segment, taken.id).ok_or(ShmError::Damaged)?;
        head.ends[0].store(queue.bits(), Ordering::Release);
        head.ends[1].store(here.member().bits(), Ordering::Release);
        taken.entry.content.store(Kind::Stage as u64, Ordering::Release);
        let generation = taken.id.generation();
        let shared = Word::owned(here.me(), generation).step(&taken.entry.word, Word::shared(0, generation));
        self.done = true;
        shared.map(|()| taken.id).map_err(|_| ShmError::Damaged)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.done {
            store::give(self.here.segment, self.here.me(), self.taken.id);
        }
    }
}

impl Hold {
    /// Gets hold of an object whose reference the caller has in its hands and lets go of only afterwards.
    pub(crate) fn get(here: Here, id: Id, shape: Shape) -> Result<Self, ShmError> {
        let class = id.class().ok_or(ShmError::Stale)?;
        let entry = here.segment.entry(class, id.index()).ok_or(ShmError::Stale)?;
        let bytes = here.segment.block(class, id.index()).ok_or(ShmError::Stale)?;
        let is = |seen: Word| seen.state() == State::Shared && seen.generation() == id.generation();
        let mut seen = Word::load(&entry.word);
        if !is(seen) || entry.content.load(Ordering::Acquire) != shape.bits() {
            return Err(ShmError::Stale);
        }
        let head = head(here.segment, id).ok_or(ShmError::Stale)?;
        let mut holds = here.segment.holds.lock();
        let count = holds.entry(id.bits()).or_default();
        if *count == 0 {
            head.set(here.me());
            step::reach(33);
            // O1: stamped after the mark.
            while let Err(now) = seen.step(&entry.word, seen.stamped()) {
                if !is(now) {
                    head.clear(here.me());
                    holds.remove(&id.bits());
                    return Err(ShmError::Stale);
                }
                seen = now;
            }
            step::reach(34);
        }
        *count += 1;
        drop(holds);
        // SAFETY: the block is larger than a head.
        let body = unsafe { bytes.add(BODY) };
        Ok(Self { here, id, entry, body, shape, marked: true })
    }

    /// The hold of a pipe's end that the caller has claimed.
    pub(crate) fn of_pipe(here: Here, id: Id, shape: Shape) -> Result<Self, ShmError> {
        let class = id.class().ok_or(ShmError::Stale)?;
        let entry = here.segment.entry(class, id.index()).ok_or(ShmError::Stale)?;
        let bytes = here.segment.block(class, id.index()).ok_or(ShmError::Stale)?;
        let seen = Word::load(&entry.word);
        if seen.state() != State::Shared || entry.content.load(Ordering::Acquire) != shape.bits() {
            return Err(ShmError::Stale);
        }
        // SAFETY: the block is larger than a head.
        let body = unsafe { bytes.add(BODY) };
        let id = Id::block(class, id.index(), seen.generation());
        Ok(Self { here, id, entry, body, shape, marked: false })
    }

    /// Where the object's own part begins.
    #[inline]
    pub(crate) fn body(&self) -> NonNull<u8> {
        self.body
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        head(self.here.segment, self.id)
    }

    /// Whether this process is still a member, and the object still what it was: asked now and then by who waits.
    pub(crate) fn check(&self) -> Result<(), ShmError> {
        let here = super::here()?;
        let seen = Word::load(&self.entry.word);
        let same = seen.state() == State::Shared && seen.is_sane() && seen.generation() == self.id.generation();
        let same = same && self.entry.content.load(Ordering::Acquire) == self.shape.bits();
        if here.member() != self.here.member() {
            return Err(ShmError::NotAMember);
        }
        if same { Ok(()) } else { Err(ShmError::Damaged) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A child made by fork owns nothing of this.
        if !self.marked || super::here().is_ok_and(|here| here.member() != self.here.member()) || super::here().is_err()
        {
            return;
        }
        let segment = self.here.segment;
        {
            let mut holds = segment.holds.lock();
            let left = holds.get(&self.id.bits()).copied().unwrap_or(1).saturating_sub(1);
            if left > 0 {
                holds.insert(self.id.bits(), left);
                return;
            }
            holds.remove(&self.id.bits());
            if let Some(head) = self.head() {
                head.clear(self.here.me());
            }
        }
        step::reach(35);
        retire(segment, self.here.me(), self.id);
    }
}

/// Whether anything on its way refers to the object.
fn is_referred(segment: &Segment, id: Id) -> bool {
    let tokens = segment.root().tokens.load(Ordering::Acquire) as usize;
    (0..tokens.min(TOKENS)).any(|index| {
        let token = segment.token(index);
        matches!(Word::load(&token.word).state(), State::Owned | State::Queued)
            && token.object.load(Ordering::SeqCst) == id.bits()
    })
}

/// Frees an object if nobody holds it.
pub(crate) fn retire(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    // Between a mark taken off and a look at the others': of two that take theirs off at once, one sees the other's gone.
    fence(Ordering::SeqCst);
    for _ in 0..1000 {
        let seen = Word::load(&entry.word);
        if seen.state() != State::Shared || seen.generation() != id.generation() || seen.is_pinned() {
            return;
        }
        let kind = Shape::kind_of(entry.content.load(Ordering::Acquire));
        let Some(head) = head(segment, id) else { return };
        let held = if kind == Kind::Stage {
            // It goes with its queue.
            true
        } else if kind == Kind::Pipe {
            head.ends.iter().any(|end| Word::load(end).state() != State::Free)
        } else {
            // O1: tokens first. A mark that a token led to was set before the token went.
            is_referred(segment, id) || head.is_marked()
        };
        if held {
            return;
        }
        if seen.step(&entry.word, Word::owned(me, id.generation())).is_ok() {
            step::reach(36);
            dismantle(segment, me, id);
            return;
        }
    }
}

/// Frees an owned block with all that is in it: a carrier's handles, a queue's values.
pub(crate) fn dismantle(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    let kind = Shape::kind_of(entry.content.load(Ordering::Acquire));
    bodies::empty(segment, me, id, kind);
    step::reach(37);
    store::give(segment, me, id);
}

/// Keeps an object from being freed while the sweep looks into it. False: it is gone.
pub(crate) fn pin(segment: &Segment, id: Id) -> bool {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return false };
    for _ in 0..1000 {
        let seen = Word::load(&entry.word);
        if seen.state() != State::Shared || seen.generation() != id.generation() {
            return false;
        }
        if seen.step(&entry.word, seen.pinned(true)).is_ok() {
            return true;
        }
    }
    false
}

/// Ends a [`pin`], and frees the object if everybody let go of it meanwhile.
pub(crate) fn unpin(segment: &Segment, me: Owner, id: Id) {
    let Some(entry) = id.class().and_then(|class| segment.entry(class, id.index())) else { return };
    for _ in 0..1000 {
        let seen = Word::load(&entry.word);
        if seen.state() != State::Shared || seen.generation() != id.generation() {
            return;
        }
        if seen.step(&entry.word, seen.pinned(false)).is_ok() {
            return retire(segment, me, id);
        }
    }
}
