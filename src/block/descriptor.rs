//! What a region's header says of a run. Who may use it, and when: `run.rs`.

use core::ptr::NonNull;

/// The description of a run, in its region's header. Zero bytes are valid.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Run {
    pub(super) next: Option<NonNull<Run>>,
    pub(super) prev: Option<NonNull<Run>>,
    /// The number of the runs that it is one of.
    pub(super) owner: usize,
    /// The slot where the run that this slot belongs to starts.
    pub(super) first_slot: u32,
    pub(super) free: u32,
    pub(super) next_word: u32,
    pub(super) block_size: u32,
    pub(super) place: Place,
    pub(super) was_swept: bool,
    /// Whether it stays though it may be empty.
    pub(super) kept: bool,
    /// Whether its memory was made present and stays so, too.
    pub(super) present: bool,
    /// Bytes of it that the system has.
    pub(super) absent: u32,
}

/// The list that a run is on (R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Place {
    Open = 0,
    Full = 1,
    Swept = 2,
    InSweep = 3,
}
