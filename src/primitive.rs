//! The only switch between the standard library's primitives and loom's models of them.
//!
//! Everything else takes atomics, locks' cells and thread hints from here, so that one `cfg` decides what a
//! protocol runs on. A test greps for others.

#[cfg(not(millpond_loom))]
mod imp {
    #[cfg(any(feature = "thread", feature = "process"))]
    pub(crate) use core::cell::UnsafeCell;
    pub(crate) use core::hint::spin_loop;
    #[cfg(any(feature = "thread", feature = "process"))]
    pub(crate) use core::sync::atomic::fence;
    #[cfg(feature = "process")]
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicI32, compiler_fence};
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

#[cfg(millpond_loom)]
mod imp {
    /// Not watched: models put cells of loom's inside.
    #[cfg(feature = "thread")]
    pub(crate) use core::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// Accesses that loom watches.
    #[cfg(not(millpond_shuttle))]
    pub(crate) type Witness = loom::cell::UnsafeCell<()>;

    /// Shuttle watches no cells: in its world every step is in one order.
    #[cfg(millpond_shuttle)]
    #[derive(Debug)]
    pub(crate) struct Witness(());

    #[cfg(millpond_shuttle)]
    impl Witness {
        pub(crate) fn new((): ()) -> Self {
            Self(())
        }

        pub(crate) fn with_mut(&self, _: impl FnOnce(())) {}
    }
}

pub(crate) use imp::*;

#[cfg(feature = "thread")]
mod waiting;
#[cfg(feature = "thread")]
pub(crate) use waiting::*;

#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
pub(crate) mod model;

#[cfg(all(test, millpond_shuttle))]
#[path = "primitive/schedules.rs"]
mod shuttled;
#[cfg(all(test, millpond_shuttle))]
pub(crate) use shuttled::schedules;

/// Locks whose first wait allocates nothing, for what lives as long as the program and is no protocol of its own.
#[cfg(all(feature = "process", not(millpond_loom)))]
pub(crate) mod plain {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
}
