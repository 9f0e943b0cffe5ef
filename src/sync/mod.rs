//! What threads need with each other: locks, semaphores, events, conditions, barriers.
//!
//! The words are those of Python's `threading` and `multiprocessing`, the types Rust's. What lies between processes has
//! the same names in `millpond::ipc`.
//!
//! | type | what it does | who goes first |
//! |---|---|---|
//! | [`Lock`], [`ReentrantLock`], [`RwLock`] | one at a time at a value; again by the same thread; many readers or one writer | whoever comes, but nobody is passed over for long |
//! | [`Semaphore`] | so many at a time | strictly in order of arrival |
//! | [`Event`] | wait until something has happened | all at once |
//! | [`Condition`] | wait until a locked value is as it should be | no order promised |
//! | [`Barrier`] | wait until all are there | all at once |
//!
//! **Panics.** A lock whose holder panics is free again: locks are not poisoned. Whoever changes a value in several steps
//! under a lock makes sure that it is sound in between, or puts it right in a `Drop`. Permits come back by the same way.
//! Nothing here panics for bad input, and nothing prints.
//!
//! **Time.** A wait with a time to give up after takes any `Duration`: zero looks once, and one that the clock can't
//! express waits for ever.
//!
//! **Statics.** All of them are made by a `const fn`, so each can be a `static`.

mod barrier;
mod condition;
mod error;
mod event;
#[cfg(not(millpond_loom))]
mod lock;
#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
#[expect(unsafe_code, reason = "cells that loom watches")]
mod models;
mod permits;
#[cfg(not(millpond_loom))]
mod reentrant;
#[cfg(not(millpond_loom))]
mod rwlock;
#[cfg(not(millpond_loom))]
mod semaphore;

pub use barrier::{Barrier, Passed};
pub use condition::Condition;
pub use error::{BarrierError, SemaphoreError};
pub use event::Event;
#[cfg(not(millpond_loom))]
pub use lock::{Lock, LockGuard};
#[cfg(not(millpond_loom))]
pub use reentrant::{ReentrantLock, ReentrantLockGuard};
#[cfg(not(millpond_loom))]
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
#[cfg(not(millpond_loom))]
pub use semaphore::{Permit, Semaphore};
