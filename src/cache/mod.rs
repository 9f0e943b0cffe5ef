//! The refill protocol: magazines of free blocks, the depot behind them, and what each thread keeps.
//!
//! The states, the diagram and the reasons are in the `README.md` beside this file. Everything here is a type that a
//! test makes as many of as it likes; no statics but the stock of empty frames.

#[expect(unsafe_code, reason = "frames are raw memory that passes from hand to hand")]
pub(crate) mod depot;
#[cfg(not(millpond_loom))]
pub(crate) mod life;
#[expect(unsafe_code, reason = "a frame's words are reached by cursor")]
pub(crate) mod magazine;
#[expect(unsafe_code, reason = "threads and pools are found by address")]
pub(crate) mod registry;
#[expect(unsafe_code, reason = "what threads own is linked by address")]
pub(crate) mod roster;
#[expect(unsafe_code, reason = "the fast path moves a cursor through a frame")]
pub(crate) mod slot;
#[expect(unsafe_code, reason = "passes on the duty of those who give blocks back")]
pub(crate) mod source;
#[expect(unsafe_code, reason = "gives the blocks of its own magazines back")]
mod store;
#[expect(unsafe_code, reason = "a growing array in raw memory")]
mod table;

#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
#[expect(unsafe_code, reason = "the models meet the protocols' duties")]
mod models;
#[cfg(all(test, millpond_shuttle))]
#[expect(unsafe_code, reason = "whole lives meet the protocols' duties")]
mod schedules;

pub(crate) use depot::Depot;
#[cfg(not(millpond_loom))]
pub(crate) use life::Life;
pub(crate) use magazine::CAPACITY;
#[cfg(not(millpond_loom))]
pub(crate) use magazine::stock::follow_forks;
pub(crate) use registry::{PoolKey, PoolRegistry, PoolThread};
pub(crate) use roster::{Member, Roster, RosterLink};
pub(crate) use slot::Slot;
