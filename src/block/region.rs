//! A region: 64 MiB of address space at a multiple of 64 MiB, with its own bookkeeping at its start.
//!
//! Any pointer into a region leads to its header by masking. Who may touch which part of the header:
//! the [`Quanta`] whoever holds the reserve's lock, a [`Run`] and its bits whoever holds the lock of the depot that
//! the run belongs to.

use core::mem::offset_of;
use core::ptr::NonNull;

use super::descriptor::Run;
use super::quanta::{PER_SLOT, Quanta};
use super::{HUGE_PAGE, QUANTUM, REGION, SLOT, SMALLEST_BLOCK};
use crate::os::{self, Huge};

const SLOTS: usize = REGION / SLOT;
/// Words of free bits for each slot, enough for the smallest blocks.
pub(crate) const WORDS_PER_SLOT: usize = SLOT / SMALLEST_BLOCK / 64;

/// What lies at a region's start. Made by the system: all zero.
#[repr(C)]
struct Header {
    quanta: Quanta,
    next: Option<RegionRef>,
    runs: [Run; SLOTS],
    bits: [[u64; WORDS_PER_SLOT]; SLOTS],
    /// A bit for each smallest block: set while a user holds the block that starts there.
    #[cfg(debug_assertions)]
    held: [u64; REGION / SMALLEST_BLOCK / 64],
}

const HEADER_QUANTA: usize = size_of::<Header>().next_multiple_of(SLOT) / QUANTUM;
/// Bytes of a region that its header takes.
pub(crate) const HEADER_BYTES: usize = HEADER_QUANTA * QUANTUM;

/// A mapped region. A copy of it is no permission: see the methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionRef(NonNull<Header>);

impl RegionRef {
    /// Maps a region, whole if the system allows, else as much of it as it does; `need` quanta at least. The system is
    /// told about huge pages before the first of its pages is touched.
    pub(crate) fn map(need: usize, huge: Option<Huge>) -> Option<Self> {
        let mut len = REGION;
        let least = ((HEADER_QUANTA + need) * QUANTUM).next_multiple_of(SLOT);
        let base = loop {
            match Self::map_part(len) {
                Some(base) => break base,
                None if len / 4 >= least => len /= 4,
                None if len > least => len = least,
                None => return None,
            }
        };
        if let Some(huge) = huge {
            os::advise_huge(base, len, huge);
        }
        let mut region = Self(base.cast());
        // SAFETY: just mapped, zeroed, seen by nobody else.
        let quanta = unsafe { region.quanta() };
        quanta.open(HEADER_QUANTA, len / QUANTUM);
        Some(region)
    }

    /// The first `len` bytes of a whole region's place.
    fn map_part(len: usize) -> Option<NonNull<u8>> {
        if len == REGION {
            return os::map(REGION, REGION);
        }
        // Room for the shorter one at some boundary: looked for without ever asking for more than `len`.
        let probe = os::map(len, QUANTUM)?;
        // SAFETY: the mapping was made just above and nobody has seen it.
        unsafe { os::unmap(probe, len) };
        let near = probe.addr().get() & !(REGION - 1);
        (0..64).find_map(|back| {
            let at = NonNull::new(core::ptr::without_provenance_mut::<u8>(near.checked_sub(back * REGION)?))?;
            os::map_extended(at, len).then_some(at)
        })
    }

    /// The region that `inside` points into.
    #[inline]
    pub(crate) fn of(inside: NonNull<u8>) -> Self {
        let base = inside.as_ptr().map_addr(|address| address & !(REGION - 1));
        // SAFETY: no region lies at address 0, which is never mapped.
        Self(unsafe { NonNull::new_unchecked(base) }.cast())
    }

    /// The address of quantum `index`.
    pub(crate) fn quantum(self, index: usize) -> NonNull<u8> {
        debug_assert!(index * QUANTUM <= REGION);
        // SAFETY: regions are REGION bytes of one address range.
        unsafe { self.0.cast::<u8>().add(index * QUANTUM) }
    }

    /// The number of the quantum at `inside`.
    pub(crate) fn quantum_of(self, inside: NonNull<u8>) -> usize {
        (inside.addr().get() - self.0.addr().get()) / QUANTUM
    }

    /// The huge page's worth of address space around `inside`, as far as it is the region's.
    pub(crate) fn huge_page_around(self, inside: NonNull<u8>) -> (NonNull<u8>, usize) {
        let per_huge = HUGE_PAGE / QUANTUM;
        let start = self.quantum_of(inside) / per_huge * per_huge;
        // SAFETY: the header is mapped as long as its region.
        let end = unsafe { &raw const (*self.0.as_ptr()).quanta.end };
        // SAFETY: as above; it is written once, before anybody else knows the region.
        let end = unsafe { end.read() } as usize;
        (self.quantum(start), (end - start).min(per_huge) * QUANTUM)
    }

    /// The bookkeeping.
    ///
    /// # Safety
    /// The region is mapped, and the caller holds the reserve's lock (or nobody else knows the region) for as long
    /// as the reference lives.
    pub(crate) unsafe fn quanta<'a>(&mut self) -> &'a mut Quanta {
        // SAFETY: the caller's duty; zeroed bytes are valid bookkeeping.
        unsafe { &mut (*self.0.as_ptr()).quanta }
    }

    /// The next region of the reserve's list.
    ///
    /// # Safety
    /// As for [`quanta`](Self::quanta).
    pub(crate) unsafe fn next(self) -> Option<Self> {
        // SAFETY: the caller's duty; zero is `None`.
        unsafe { (*self.0.as_ptr()).next }
    }

    /// # Safety
    /// As for [`quanta`](Self::quanta).
    pub(crate) unsafe fn set_next(self, next: Option<Self>) {
        // SAFETY: the caller's duty.
        unsafe { (*self.0.as_ptr()).next = next }
    }

    /// Gives the whole region back to the system.
    ///
    /// # Safety
    /// Nothing in it is in use and it is on no list.
    pub(crate) unsafe fn unmap(mut self) {
        // SAFETY: the caller's duty: nobody else has it.
        let len = unsafe { self.quanta() }.end() * QUANTUM;
        // SAFETY: the caller's duty.
        unsafe { os::unmap(self.0.cast(), len) }
    }

    /// The description of the run that starts at slot `slot`.
    #[inline]
    pub(crate) fn run(self, slot: usize) -> NonNull<Run> {
        debug_assert!(slot < SLOTS);
        let offset = offset_of!(Header, runs) + slot * size_of::<Run>();
        // SAFETY: a field of the header, which is mapped as long as its region.
        unsafe { self.0.cast::<u8>().add(offset) }.cast()
    }

    /// The slot whose run's description is `run`.
    #[inline]
    pub(crate) fn slot_of(self, run: NonNull<Run>) -> usize {
        (run.addr().get() - self.0.addr().get() - offset_of!(Header, runs)) / size_of::<Run>()
    }

    /// The free bits from slot `slot` on.
    #[inline]
    pub(crate) fn bits(self, slot: usize) -> NonNull<u64> {
        debug_assert!(slot < SLOTS);
        let offset = offset_of!(Header, bits) + slot * size_of::<[u64; WORDS_PER_SLOT]>();
        // SAFETY: a field of the header, which is mapped as long as its region.
        unsafe { self.0.cast::<u8>().add(offset) }.cast()
    }

    /// The word and bit that say whether somebody holds the block at `block`.
    #[cfg(debug_assertions)]
    pub(crate) fn held_bit(self, block: NonNull<u8>) -> (NonNull<u64>, u64) {
        let index = (block.addr().get() - self.0.addr().get()) / SMALLEST_BLOCK;
        let offset = offset_of!(Header, held) + index / 64 * 8;
        // SAFETY: a field of the header, which is mapped as long as its region.
        let word = unsafe { self.0.cast::<u8>().add(offset) }.cast();
        (word, 1 << (index % 64))
    }

    /// The slot that `inside` lies in.
    #[inline]
    pub(crate) fn slot_at(self, inside: NonNull<u8>) -> usize {
        (inside.addr().get() - self.0.addr().get()) / SLOT
    }
}

const _: () = assert!(HEADER_QUANTA.is_multiple_of(PER_SLOT), "runs start at slots");
