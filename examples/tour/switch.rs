//! The global allocator of this program: Millpond's heap or the system's, picked at the first allocation.
//!
//! A block goes back to the allocator that it came from, so the choice is made once and never changes. The first
//! allocation comes before `main`, and an allocator cannot allocate to find out who it is: it asks the environment
//! through the C library.

#![expect(unsafe_code, reason = "implements GlobalAlloc, and reads the environment without allocating")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use millpond::Heap;

use crate::error::TourError;

/// Set for child processes alone: the contestant's key.
const VARIABLE: &CStr = c"MILLPOND_TOUR_RUNS_ON";

/// What the program can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Millpond,
    System,
}

impl Contestant {
    pub(crate) const ALL: [Self; 2] = [Self::Millpond, Self::System];

    const fn key(self) -> &'static CStr {
        match self {
            Self::Millpond => c"millpond",
            Self::System => c"system",
        }
    }

    /// The variable of the environment that makes a process run on it, and the value.
    pub(crate) fn environment(self) -> (String, String) {
        (VARIABLE.to_string_lossy().into_owned(), self.key().to_string_lossy().into_owned())
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Millpond => "Millpond",
            Self::System => "the system's allocator",
        })
    }
}

/// What this process was asked to run on, if it is a child.
pub(crate) fn asked() -> Option<Result<Contestant, TourError>> {
    let name = std::env::var_os(VARIABLE.to_string_lossy().as_ref())?;
    let known = |contestant: &Contestant| name.as_encoded_bytes() == contestant.key().to_bytes();
    let found = Contestant::ALL.into_iter().find(known);
    Some(found.ok_or_else(|| TourError::NoSuchContestant { name: name.to_string_lossy().into_owned() }))
}

/// The allocator: a thin switch.
#[derive(Debug)]
pub(crate) struct Switch;

const UNDECIDED: u8 = 0;
const MILLPOND: u8 = 1;
const SYSTEM: u8 = 2;

/// Relaxed: whoever decides comes to the same decision, and nothing else is read because of it.
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

#[cold]
fn decide() -> bool {
    // SAFETY: nothing in this program changes the environment.
    let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    let system = !value.is_null() && {
        // SAFETY: what the environment holds ends with a zero byte, and stays.
        let value = unsafe { CStr::from_ptr(value) };
        value == Contestant::System.key()
    };
    CHOICE.store(if system { SYSTEM } else { MILLPOND }, Ordering::Relaxed);
    system
}

#[inline]
fn on_system() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        MILLPOND => false,
        SYSTEM => true,
        _ => decide(),
    }
}

// SAFETY: each call is passed on as it is, always to the same allocator, which keeps the promises.
unsafe impl GlobalAlloc for Switch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if on_system() {
            // SAFETY: the caller's duty.
            unsafe { System.alloc(layout) }
        } else {
            // SAFETY: the caller's duty.
            unsafe { Heap.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if on_system() {
            // SAFETY: the caller's duty; it came from there.
            unsafe { System.dealloc(ptr, layout) }
        } else {
            // SAFETY: the caller's duty; it came from there.
            unsafe { Heap.dealloc(ptr, layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if on_system() {
            // SAFETY: the caller's duty.
            unsafe { System.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's duty.
            unsafe { Heap.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if on_system() {
            // SAFETY: the caller's duty; it came from there.
            unsafe { System.realloc(ptr, layout, new_size) }
        } else {
            // SAFETY: the caller's duty; it came from there.
            unsafe { Heap.realloc(ptr, layout, new_size) }
        }
    }
}
