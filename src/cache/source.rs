//! What stands behind a depot: where its blocks come from and go back to.

use core::ptr::NonNull;

use super::depot::Depot;

/// Where blocks come from.
pub(crate) trait Source {
    /// What got empty by giving blocks back; dropped once the depot's lock is open.
    type Empties;
    /// A new place for it.
    fn empties(&self) -> Self::Empties;
    /// Hands up to `want` free blocks to `each`; returns how many.
    fn take(&mut self, want: usize, each: &mut dyn FnMut(NonNull<u8>)) -> usize;
    /// Takes blocks back.
    ///
    /// # Safety
    /// They came out of `take` of this source, each is given once, and nobody uses them.
    unsafe fn give(&mut self, blocks: impl Iterator<Item = NonNull<u8>>, empties: &mut Self::Empties);
    /// Bytes from one block to the next.
    fn block_size(&self) -> usize;
    /// Bytes of all blocks, free or not.
    fn bytes(&self) -> usize;
    /// Whether, with so few blocks in use, [`sweep`](Self::sweep) is worth its while.
    fn wants_sweep(&mut self, _in_use: usize) -> bool {
        false
    }
    /// Lets go of what it keeps empty, ready for the next that is taken.
    fn release(&mut self, _empties: &mut Self::Empties) {}
    /// Gives the system the pages between the blocks in use.
    fn sweep(_depot: &Depot<Self>)
    where
        Self: Sized,
    {
    }
}

#[cfg(not(millpond_loom))]
impl Source for crate::block::Runs {
    type Empties = crate::block::run::EmptyRuns;

    fn empties(&self) -> Self::Empties {
        crate::block::Runs::empties(self)
    }

    #[inline]
    fn take(&mut self, want: usize, each: &mut dyn FnMut(NonNull<u8>)) -> usize {
        crate::block::Runs::take(self, want, each)
    }

    #[inline]
    unsafe fn give(&mut self, blocks: impl Iterator<Item = NonNull<u8>>, empties: &mut Self::Empties) {
        // SAFETY: the caller's duty is the same.
        unsafe { crate::block::Runs::give(self, blocks, empties) }
    }

    fn block_size(&self) -> usize {
        self.layout().size()
    }

    fn bytes(&self) -> usize {
        crate::block::Runs::bytes(self)
    }

    fn wants_sweep(&mut self, in_use: usize) -> bool {
        crate::block::Runs::wants_sweep(self, in_use)
    }

    fn release(&mut self, empties: &mut Self::Empties) {
        crate::block::Runs::take_open_empties(self, LOOKED_AT, empties);
    }

    fn sweep(depot: &Depot<Self>) {
        depot.sweep(SPARSE);
        let reserve = depot.with_source(|runs| runs.reserve());
        reserve.shrink();
    }
}

/// Open runs that a tick looks at for empty ones: under the lock, so not many.
#[cfg(not(millpond_loom))]
const LOOKED_AT: usize = 16;

/// Eighths of a run that are to be free for it to be swept.
#[cfg(not(millpond_loom))]
const SPARSE: usize = 6;
