//! What has no class: pieces of a region up to 16 MiB, mappings of their own above.
//!
//! The layout comes back with the memory, so nothing is written down about it: size and alignment say where it lies.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::{class, thread};
#[cfg(debug_assertions)]
use crate::block::guard;
use crate::block::{LARGEST_IN_REGION, QUANTUM, RESERVE};
use crate::os;
use crate::primitive::{AtomicUsize, Ordering};

/// Pieces and mappings in use, and their bytes. Relaxed: figures only.
pub(super) static LIVE: AtomicUsize = AtomicUsize::new(0);
pub(super) static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Where a layout without a class lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Class,
    Region,
    Mapping,
}

fn place(layout: Layout) -> Place {
    if class::padded(layout) <= class::LARGEST {
        Place::Class
    } else if layout.size() <= LARGEST_IN_REGION && layout.align() <= LARGEST_IN_REGION {
        Place::Region
    } else {
        Place::Mapping
    }
}

/// The bytes that a layout takes where it lies.
fn taken(layout: Layout) -> usize {
    let unit = if place(layout) == Place::Region { QUANTUM } else { os::page_size() };
    layout.size().max(1).next_multiple_of(unit)
}

/// Memory for a layout without a class, and whether it reads as zero.
#[cold]
#[inline(never)]
pub(super) fn alloc(layout: Layout) -> Option<(NonNull<u8>, bool)> {
    let got = get(layout).or_else(|| {
        // The system has no more: what is kept of small sizes may help.
        RESERVE.purge();
        get(layout)
    });
    #[cfg(debug_assertions)]
    if let (Some((at, _)), Place::Region) = (got, place(layout)) {
        guard::hand_out(at);
    }
    if got.is_some() {
        LIVE.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(taken(layout), Ordering::Relaxed);
    }
    got
}

fn get(layout: Layout) -> Option<(NonNull<u8>, bool)> {
    thread::register();
    match place(layout) {
        Place::Mapping => RESERVE.map(layout.size().max(1), layout.align()).map(|at| (at, true)),
        _ => RESERVE.alloc(layout.size().max(1), layout.align().max(QUANTUM)),
    }
}

/// Takes it back.
///
/// # Safety
/// It came from [`alloc`] with this layout, and nobody uses it.
#[cold]
#[inline(never)]
pub(super) unsafe fn free(at: NonNull<u8>, layout: Layout) {
    #[cfg(debug_assertions)]
    if place(layout) == Place::Region && !guard::is_held(at) {
        os::fatal(&[
            "millpond: a large piece was given back twice, or with another layout than it was allocated with\n",
        ]);
    }
    LIVE.fetch_sub(1, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(taken(layout), Ordering::Relaxed);
    match place(layout) {
        // SAFETY: the caller's duty.
        Place::Mapping => unsafe { RESERVE.unmap(at, layout.size().max(1)) },
        _ => RESERVE.free(at, layout.size().max(1)),
    }
    thread::housekeep();
}

/// Changes the size without copying: in place, or by moving pages. `None`: copy.
///
/// # Safety
/// As for [`free`]; `new` differs from `old` in size only. On success the old pointer is nobody's.
pub(super) unsafe fn resize(at: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
    let (before, after) = (taken(old), taken(new));
    let moved = match (place(old), place(new)) {
        (Place::Region, Place::Region) if after <= before => {
            if after < before {
                // SAFETY: inside the piece.
                RESERVE.free(unsafe { at.add(after) }, before - after);
            }
            at
        }
        (Place::Region, Place::Region) => RESERVE.grow(at, before, after).map(|_| at)?,
        // A mapping that moves keeps no more than a page's alignment.
        // SAFETY: the caller's duty.
        (Place::Mapping, Place::Mapping) if old.align() <= os::page_size() => unsafe {
            RESERVE.remap(at, before, after)?
        },
        _ => return None,
    };
    if after > before {
        LIVE_BYTES.fetch_add(after - before, Ordering::Relaxed);
    } else {
        LIVE_BYTES.fetch_sub(before - after, Ordering::Relaxed);
    }
    Some(moved)
}
