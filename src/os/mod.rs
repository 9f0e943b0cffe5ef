//! What the system does for us: address space, giving memory back, sleeping on a word, the clock.
//!
//! [`linux`] makes the calls; under test [`fake`] stands in front of them and refuses on command, so that every
//! caller's "the system said no" is a path that a test has walked.

#[cfg(all(test, not(millpond_loom)))]
pub(crate) mod fake;
#[cfg(not(millpond_loom))]
mod fork;
#[cfg(any(feature = "thread", feature = "process"))]
#[cfg_attr(not(millpond_loom), expect(unsafe_code, reason = "system calls"))]
mod futex;
#[cfg(all(feature = "process", not(millpond_loom)))]
#[expect(unsafe_code, reason = "reads the program's own notes")]
pub(crate) mod image;
#[cfg(all(feature = "process", not(millpond_loom)))]
#[expect(unsafe_code, reason = "starts processes")]
pub(crate) mod launch;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "system calls")]
mod linux;
#[cfg_attr(not(millpond_loom), expect(unsafe_code, reason = "a lock hands out access to what it guards"))]
mod lock;
#[cfg_attr(millpond_loom, expect(unsafe_code, reason = "cells that loom watches"))]
#[cfg(any(not(millpond_loom), all(test, not(millpond_shuttle))))]
mod once;
#[cfg(all(feature = "process", not(millpond_loom)))]
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod process;
#[cfg(all(feature = "process", not(millpond_loom)))]
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod shared;
#[cfg(all(not(millpond_loom), any(feature = "thread", feature = "process")))]
#[expect(unsafe_code, reason = "system calls")]
mod thread;
#[cfg(not(millpond_loom))]
mod ticker;
#[cfg_attr(millpond_loom, expect(unsafe_code, reason = "cells that loom watches"))]
#[cfg(any(not(millpond_loom), all(test, not(millpond_shuttle))))]
mod word;

#[cfg(not(millpond_loom))]
pub(crate) use fork::ForkHold;
#[cfg(any(feature = "thread", feature = "process"))]
pub(crate) use futex::Futex;
#[cfg(all(debug_assertions, not(millpond_loom)))]
pub(crate) use linux::fatal;
#[cfg(not(millpond_loom))]
pub(crate) use linux::{
    ExitHook, Huge, LARGEST, advise_huge, at_fork, map, map_extended, milliseconds, page_size, physical_memory,
    populate, purge, remap, unmap,
};
pub(crate) use lock::{Lock, LockGuard};
#[cfg(not(millpond_loom))]
pub(crate) use once::Once;
#[cfg(all(not(millpond_loom), any(feature = "thread", feature = "process")))]
pub(crate) use thread::{has_core, set_affinity, set_nice};
#[cfg(not(millpond_loom))]
pub(crate) use ticker::Ticker;
