//! Debug builds know of every block whether somebody holds it: a block given back twice, or to the wrong pool, is
//! said so at once.

use core::ptr::NonNull;

use super::region::RegionRef;
use super::run_list::RunPtr;
use crate::os;
use crate::primitive::{AtomicU64, Ordering};

/// What a block should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) size: usize,
    pub(crate) owner: usize,
}

/// What is wrong with a block that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Twice,
    Foreign { size: usize },
    Inside { offset: usize },
}

impl Fault {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Twice => "millpond: a block was given back twice",
            Self::Foreign { .. } => "millpond: a block was given back to a pool or size that it does not come from",
            Self::Inside { .. } => "millpond: a pointer into the middle of a block was given back",
        }
    }
}

fn held(block: NonNull<u8>) -> (&'static AtomicU64, u64) {
    let (word, bit) = RegionRef::of(block).held_bit(block);
    // SAFETY: the word is in the header of a mapped region, is only ever used as an atomic, and outlives the call.
    (unsafe { AtomicU64::from_ptr(word.as_ptr()) }, bit)
}

/// The block goes to a user.
pub(crate) fn hand_out(block: NonNull<u8>) {
    let (word, bit) = held(block);
    // Relaxed: the bit is read by whoever has the block, and the block's own hand-over orders it.
    let before = word.fetch_or(bit, Ordering::Relaxed);
    if before & bit != 0 {
        os::fatal(&["millpond: a block was handed out twice: its bookkeeping was overwritten\n"]);
    }
}

/// A large piece comes back: whether it was with a user.
pub(crate) fn is_held(piece: NonNull<u8>) -> bool {
    let (word, bit) = held(piece);
    word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
}

/// The block comes back.
pub(crate) fn take_back(block: NonNull<u8>, expected: Expected) -> Result<(), Fault> {
    let (size, owner, offset) = describe(block);
    if owner != expected.owner || size != expected.size {
        return Err(Fault::Foreign { size });
    }
    if !offset.is_multiple_of(size) {
        return Err(Fault::Inside { offset: offset % size });
    }
    let (word, bit) = held(block);
    if word.fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
        return Err(Fault::Twice);
    }
    Ok(())
}

/// What the header of a region says of a block: the block size, the owner of its run, and its offset in the run. Read by
/// fields: whoever holds the depot's lock may write others meanwhile.
fn describe(block: NonNull<u8>) -> (usize, usize, usize) {
    let region = RegionRef::of(block);
    // SAFETY: a live description; written before any block of the run went out.
    let slot = unsafe { (*region.run(region.slot_at(block)).as_ptr()).first_slot } as usize;
    let run = region.run(slot);
    // SAFETY: as above.
    let size = unsafe { (*run.as_ptr()).block_size } as usize;
    // SAFETY: as above.
    let owner = unsafe { (*run.as_ptr()).owner };
    (size, owner, block.addr().get() - run.base().addr().get())
}
