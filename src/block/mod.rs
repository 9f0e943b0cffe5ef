//! Memory cut into equal blocks: from the system's address space down to the block.
//!
//! [`Reserve`] holds regions; a region ([`region`]) is cut into quanta ([`quanta`]); runs ([`run`]) are quanta cut
//! into equal blocks. The picture, the sizes and the reasons are in the `README.md` beside this file.

#[cfg(not(millpond_loom))]
#[cfg_attr(any(feature = "valgrind", millpond_asan), expect(unsafe_code, reason = "speaks to tools that watch memory"))]
pub(crate) mod announce;
pub(crate) mod error;
pub(crate) mod layout;

#[cfg(not(millpond_loom))]
pub(crate) mod bitmap;
#[cfg(not(millpond_loom))]
mod descriptor;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "free memory goes back to the system")]
mod giving_back;
#[cfg(all(debug_assertions, not(millpond_loom)))]
#[expect(unsafe_code, reason = "reads a region's header, found by masking a pointer")]
pub(crate) mod guard;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "mappings are made, moved and ended")]
mod mappings;
#[cfg(not(millpond_loom))]
pub(crate) mod quanta;
#[cfg(not(millpond_loom))]
#[cfg_attr(test, expect(unsafe_code, reason = "its tests take and give blocks"))]
mod ready;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "a region's header is found by masking a pointer")]
pub(crate) mod region;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "regions are linked and handed out as raw memory")]
pub(crate) mod reserve;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "runs lie in memory that their bits describe")]
pub(crate) mod run;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "runs are linked through raw pointers into their regions' headers")]
mod run_list;
#[cfg(not(millpond_loom))]
pub(crate) mod settings;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "free pages go back to the system")]
pub(crate) mod sweep;

pub use error::MemoryError;
pub(crate) use layout::BlockLayout;
#[cfg(not(millpond_loom))]
pub(crate) use reserve::RESERVE;
#[cfg(not(millpond_loom))]
pub(crate) use run::Runs;

/// The unit that a region is cut in, and the smallest piece a large size is rounded to.
pub(crate) const QUANTUM: usize = 4096;
/// Runs start at multiples of this, so that a block's run is found by a shift.
pub(crate) const SLOT: usize = 64 * 1024;
/// Length and alignment of a region.
pub(crate) const REGION: usize = 64 * 1024 * 1024;
/// What the system gives in one piece where it can.
pub(crate) const HUGE_PAGE: usize = 2 * 1024 * 1024;
/// The largest piece that comes out of a region; anything larger is a mapping of its own.
pub(crate) const LARGEST_IN_REGION: usize = 16 * 1024 * 1024;
/// The smallest block.
pub(crate) const SMALLEST_BLOCK: usize = 16;
