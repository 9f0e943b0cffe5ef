//! An object in the making: a block that nobody else can see yet.

use core::ptr::NonNull;

use super::block::Word;
use super::error::ShmError;
use super::here::Here;
use super::id::Id;
use super::shape::{BODY, Kind, head};
use super::store;
use crate::primitive::Ordering;

/// A new object's block, before anybody else can see it.
#[derive(Debug)]
pub(crate) struct Making {
    pub(super) here: Here,
    pub(super) taken: store::Taken<'static>,
    /// Nothing is left to give back.
    pub(super) done: bool,
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
        let stale = self.taken.soil(len).min(len);
        // SAFETY: the block has room for `len` bytes, is ours, and nobody has a reference into it.
        unsafe { self.taken.bytes.write_bytes(0, stale) };
    }

    /// The body.
    pub(crate) fn body(&self) -> NonNull<u8> {
        // SAFETY: the block is larger than a head.
        unsafe { self.taken.bytes.add(BODY) }
    }

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
