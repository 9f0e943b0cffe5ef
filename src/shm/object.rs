//! Objects that several members hold: each has a mark of its own on them, and who takes the last mark off frees them.
//!
//! Getting hold is: set the mark, stamp the header, and only then let go of what led here. Freeing is: look at the
//! header, find no token and no mark, and step from exactly the header that was looked at. Whoever gets hold in between
//! has stamped it (invariant O1 in `README.md`).

use core::ptr::NonNull;

use super::block::{State, Word};
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::making::Making;
use super::segment::Entry;
use super::shape::{BODY, Head, Shape, head};
use super::{free, step};
use crate::primitive::Ordering;

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

impl Hold {
    /// Gets hold of an object whose reference the caller has in its hands and lets go of only afterwards.
    pub(crate) fn get(here: Here, id: Id, shape: Shape) -> Result<Self, ShmError> {
        let class = id.class().ok_or(ShmError::Stale)?;
        let entry = here.segment.entry(class, id.index()).ok_or(ShmError::Stale)?;
        let bytes = here.segment.block(class, id.index()).ok_or(ShmError::Stale)?;
        if !Word::load(&entry.word).is_shared(id.generation()) || entry.content.load(Ordering::Acquire) != shape.bits()
        {
            return Err(ShmError::Stale);
        }
        let head = head(here.segment, id).ok_or(ShmError::Stale)?;
        let mut holds = here.segment.holds.lock();
        let count = holds.entry(id.bits()).or_default();
        if *count == 0 {
            head.set(here.me());
            step::reach(33);
            // O1: stamped after the mark.
            if !Word::stamp(&entry.word, id.generation()) {
                head.clear(here.me());
                holds.remove(&id.bits());
                return Err(ShmError::Stale);
            }
            step::reach(34);
        }
        *count += 1;
        drop(holds);
        // SAFETY: the block is larger than a head.
        let body = unsafe { bytes.add(BODY) };
        Ok(Self { here, id, entry, body, shape, marked: true })
    }

    /// The same, whatever the object is.
    pub(crate) fn of_any(here: Here, id: Id) -> Result<Self, ShmError> {
        let class = id.class().ok_or(ShmError::Stale)?;
        let entry = here.segment.entry(class, id.index()).ok_or(ShmError::Stale)?;
        Self::get(here, id, Shape::from_bits(entry.content.load(Ordering::Acquire)))
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
        let same = seen.is_shared(self.id.generation()) && seen.is_sane();
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
        if !self.marked || !self.here.is_still() {
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
        free::retire(segment, self.here.me(), self.id);
    }
}

impl Making {
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
            // The ends' generations start at the block's, which is newer than all of an earlier pipe.
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
