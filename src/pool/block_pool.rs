//! Equal blocks of any size and alignment.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use std::sync::Arc;

use super::builder::{BlockPoolBuilder, Config};
use super::guard::{Block, OwnedBlock};
use super::stats::PoolStats;
use super::thread::{self, Core};
use crate::block::{BlockLayout, MemoryError, RESERVE, announce};
use crate::cache::PoolKey;
use crate::os;
use crate::primitive::{AtomicPtr, AtomicUsize, Ordering};

/// A pool of equal blocks.
///
/// Blocks are requested from the system in runs, kept, handed out and taken back; a thread keeps some so that it
/// rarely meets another. `const`-constructible: as a static it costs nothing until it is used.
///
/// ```
/// use millpond::BlockPool;
///
/// static FRAMES: BlockPool = BlockPool::new(4096, 64);
///
/// let mut frame = FRAMES.take()?;
/// frame[0].write(7);
/// drop(frame); // the next to be handed out
///
/// let pool = BlockPool::builder().block_size(256).reserve(1_000).limit(10_000).name("lines").build()?;
/// let line = pool.take()?;
/// assert_eq!(pool.stats().live, 1);
/// # drop(line);
/// # Ok::<(), millpond::MemoryError>(())
/// ```
///
/// Taking and giving back is a constant number of instructions (some fifteen) while the thread has blocks, or room
/// for them; one short lock for a batch otherwise. Without caches ([`BlockPoolBuilder::exact_limit`]) it is a lock each.
///
/// Dropping a pool frees all its memory at once. A guard borrows its pool, so it cannot outlive it; if one was
/// forgotten, or raw blocks are out, the memory of that pool is leaked instead, and [`BlockPool::leaked_bytes`] counts it.
///
/// A block is free memory for whoever takes it: what its last user left in it is still there, unless the pool is
/// [`zeroed`](BlockPoolBuilder::zeroed).
pub struct BlockPool {
    /// The pool's key in the registry; 0 before first use, and for ever without caches.
    key: AtomicUsize,
    core: AtomicPtr<Core>,
    config: Config,
    name: Option<Box<str>>,
}

/// How often a refusal is asked for its reason.
const TRIES: usize = 8;

static LEAKED: AtomicUsize = AtomicUsize::new(0);

impl BlockPool {
    /// A pool of blocks of `size` bytes (rounded up to 16 and to `align`), at multiples of `align`.
    ///
    /// # Panics
    /// If the size is 0 or above 16 MiB, or the alignment is no power of two or above 16 MiB: in a `static` or `const`
    /// that is a compile-time error. [`BlockPool::builder`] gives an error instead.
    #[must_use]
    pub const fn new(size: usize, align: usize) -> Self {
        match BlockLayout::new(size, align) {
            Ok(layout) => Self::with_config(Config::new(layout), None),
            Err(MemoryError::ZeroSize) => panic!("a block of 0 bytes cannot be handed out"),
            Err(MemoryError::BadAlignment { .. }) => panic!("a block's alignment is a power of two"),
            Err(_) => panic!("a block, rounded up to its alignment, is at most 16 MiB"),
        }
    }

    /// A pool with settings.
    pub const fn builder() -> BlockPoolBuilder {
        BlockPoolBuilder::new()
    }

    pub(super) const fn with_config(config: Config, name: Option<Box<str>>) -> Self {
        Self { key: AtomicUsize::new(0), core: AtomicPtr::new(ptr::null_mut()), config, name }
    }

    /// A block, which goes back when the guard is dropped, on whichever thread.
    ///
    /// # Errors
    /// [`MemoryError::LimitReached`] past the limit, [`MemoryError::OutOfMemory`] if the system has no more.
    #[inline]
    pub fn take(&self) -> Result<Block<'_>, MemoryError> {
        let raw = self.take_raw()?;
        // SAFETY: just taken from this pool.
        Ok(unsafe { Block::from_raw(self, raw) })
    }

    /// A block that keeps its pool alive: it moves into threads and async tasks.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    #[inline]
    pub fn take_owned(self: &Arc<Self>) -> Result<OwnedBlock, MemoryError> {
        let raw = self.take_raw()?;
        // SAFETY: just taken from this pool.
        Ok(unsafe { OwnedBlock::from_raw(Arc::clone(self), raw) })
    }

    /// A block without a guard. Its bytes are uninitialised (zero in a [`zeroed`](BlockPoolBuilder::zeroed) pool).
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    #[inline]
    pub fn take_raw(&self) -> Result<NonNull<u8>, MemoryError> {
        let block = match thread::pop(self.key()) {
            Some(block) => block,
            None => self.take_slow()?,
        };
        #[cfg(debug_assertions)]
        crate::block::guard::hand_out(block);
        announce::handed_out(block, self.block_size());
        if self.config.zeroed {
            // SAFETY: a block of this pool, nobody else's.
            unsafe { block.write_bytes(0, self.block_size()) };
        }
        Ok(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It was taken from this pool (from this very pool, not a copy of its settings), was not given back since, and
    /// nobody uses it any more. Debug builds panic where they notice that this is not so.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn give_back(&self, block: NonNull<u8>) {
        #[cfg(debug_assertions)]
        self.check(block);
        announce::taken_back(block, self.block_size());
        if !thread::push(self.key(), block) {
            // SAFETY: the caller's duty.
            unsafe { self.give_slow(block) }
        }
    }

    #[cfg(debug_assertions)]
    #[track_caller]
    fn check(&self, block: NonNull<u8>) {
        use crate::block::guard;
        let owner = self.core().map_or(0, |core| core.depot.with_source(|runs| runs.owner()));
        let expected = guard::Expected { size: self.config.layout.size(), owner };
        if let Err(fault) = guard::take_back(block, expected) {
            panic!("{} ({self:?})", fault.text());
        }
    }

    #[inline(always)]
    fn key(&self) -> PoolKey {
        // Relaxed: a thread that sees 0 takes the slow path; the key itself leads only to the thread's own slots.
        PoolKey::from_bits(self.key.load(Ordering::Relaxed))
    }

    fn core(&self) -> Option<&Core> {
        // Acquire: pairs with the Release in `make_core`: whoever sees the core sees it made.
        let core = NonNull::new(self.core.load(Ordering::Acquire))?;
        // SAFETY: a core lives as long as its pool.
        Some(unsafe { core.as_ref() })
    }

    fn core_or_make(&self) -> Result<&Core, MemoryError> {
        if let Some(core) = self.core() {
            return Ok(core);
        }
        self.make_core().ok_or(MemoryError::OutOfMemory { bytes: size_of::<Core>() })
    }

    #[cold]
    fn make_core(&self) -> Option<&Core> {
        let made = thread::new_core(&self.config)?;
        // SAFETY: just made, and a core lives as long as its pool.
        let core = unsafe { made.as_ref() };
        let null = ptr::null_mut();
        // Release: pairs with the Acquire in `core`. Acquire on failure: somebody else's core is used.
        if self.core.compare_exchange(null, made.as_ptr(), Ordering::Release, Ordering::Acquire).is_ok() {
            if let (false, Some(key)) = (self.config.exact, core.key()) {
                self.key.store(key.to_bits(), Ordering::Relaxed);
            }
        } else {
            core.unregister();
            // SAFETY: made here, used by nobody, not in the registry.
            unsafe { thread::free_core(made) }
        }
        self.core()
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&self) -> Result<NonNull<u8>, MemoryError> {
        let core = self.core_or_make()?;
        // Between a refusal and the question why, somebody may have given a block back: then ask again.
        for attempt in 0..TRIES {
            let key = self.key();
            let got = if key.to_bits() == 0 {
                core.depot.take_one()
            } else {
                thread::pop_slow(key, core, self.config.magazine)
            };
            if let Some(block) = got {
                return Ok(block);
            }
            if core.depot.figures().out >= self.config.limit {
                return Err(MemoryError::LimitReached { limit: self.config.limit, block_size: self.block_size() });
            }
            if attempt == 0 {
                // The reserve has no more: what is kept elsewhere may help.
                RESERVE.purge();
            }
        }
        Err(MemoryError::OutOfMemory { bytes: self.config.layout.run_bytes() })
    }

    #[cold]
    #[inline(never)]
    unsafe fn give_slow(&self, block: NonNull<u8>) {
        let Some(core) = self.core() else { return };
        let key = self.key();
        if key.to_bits() == 0 {
            // SAFETY: the caller's duty.
            unsafe { core.depot.give_one_next(block) }
            thread::housekeep();
        } else {
            // SAFETY: the caller's duty.
            unsafe { thread::push_slow(key, core, self.config.magazine, block) }
        }
    }

    /// Makes at least `blocks` free blocks ready: their memory is present, and stays so. What the pool has then, it keeps from
    /// now on; of what others of its blocks lie on, the system may get the pages back.
    ///
    /// # Errors
    /// [`MemoryError::ReserveAboveLimit`], or [`MemoryError::OutOfMemory`] (at once if the machine has less memory): what
    /// could be had stays.
    pub fn reserve(&self, blocks: usize) -> Result<(), MemoryError> {
        if blocks > self.config.limit {
            return Err(MemoryError::ReserveAboveLimit { reserve: blocks, limit: self.config.limit });
        }
        // More than the machine has would be made present until the system stops the process.
        let bytes = blocks.saturating_mul(self.block_size());
        if bytes > os::physical_memory() {
            return Err(MemoryError::OutOfMemory { bytes });
        }
        if blocks == 0 {
            return Ok(());
        }
        let depot = &self.core_or_make()?.depot;
        let ready = depot.prepare(blocks) || {
            // What is kept elsewhere may help.
            RESERVE.purge();
            depot.prepare(blocks)
        };
        if ready {
            return Ok(());
        }
        Err(MemoryError::OutOfMemory { bytes })
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_size(&self) -> usize {
        self.config.layout.size()
    }

    /// The alignment of every block.
    #[must_use]
    pub const fn block_align(&self) -> usize {
        self.config.layout.align()
    }

    /// The pool's name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Figures: see [`PoolStats`].
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let limit = (self.config.limit != usize::MAX).then_some(self.config.limit);
        let mut stats = PoolStats {
            name: self.name.as_deref().map(str::to_owned),
            block_size: self.block_size(),
            limit,
            ..PoolStats::default()
        };
        let Some(core) = self.core() else { return stats };
        let key = self.key();
        stats.cached = if key.to_bits() == 0 { 0 } else { thread::cached(key) };
        let figures = core.depot.figures();
        stats.stored = figures.stored;
        stats.live = figures.out.saturating_sub(stats.cached + figures.stored);
        (stats.peak, stats.refills, stats.drains, stats.exchanges) =
            (figures.peak, figures.refills, figures.drains, figures.exchanges);
        core.depot.with_source(|runs| {
            stats.free = runs.free_blocks();
            stats.blocks = runs.blocks();
            stats.committed = runs.bytes();
        });
        stats
    }

    /// Gives free memory beyond what is reserved back to the heap's reserve, this thread's blocks too.
    pub fn purge(&self) {
        thread::flush();
        if let Some(core) = self.core() {
            core.depot.purge();
        }
    }

    /// Bytes of pools that were dropped while blocks of theirs were out, ever, in the whole process.
    #[must_use]
    pub fn leaked_bytes() -> usize {
        LEAKED.load(Ordering::Relaxed)
    }

    /// The block of a live guard as bytes.
    pub(super) fn as_bytes(&self, block: NonNull<u8>) -> NonNull<[MaybeUninit<u8>]> {
        NonNull::slice_from_raw_parts(block.cast(), self.block_size())
    }
}

impl Drop for BlockPool {
    fn drop(&mut self) {
        let Some(core) = NonNull::new(*self.core.get_mut()) else { return };
        // SAFETY: a core lives as long as its pool.
        let shared = unsafe { core.as_ref() };
        let cached = shared.unregister();
        let (mut rest, stored) = shared.depot.dismantle();
        if rest.out() == cached + stored {
            let runs = rest.source();
            let mut empties = runs.empties();
            // SAFETY: every block is in a magazine that was just forgotten, in a slot whose key is dead, or free.
            unsafe { runs.take_all(&mut empties) };
            drop(rest);
            drop(empties);
        } else {
            LEAKED.fetch_add(rest.source().bytes(), Ordering::Relaxed);
            drop(rest);
        }
        // SAFETY: unregistered, dismantled, and `&mut self` says that nobody else has it.
        unsafe { thread::free_core(core) };
    }
}

impl core::fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BlockPool")
            .field("name", &self.name)
            .field("block_size", &self.block_size())
            .field("block_align", &self.block_align())
            .field("limit", &self.config.limit)
            .finish_non_exhaustive()
    }
}
