//! The words that all pools share: how a task is given to a worker, what comes back, what can go wrong.
//!
//! [`State`] is the life of a task as one atomic word; [`Core`] is what a handle sees of a task, wherever it runs and
//! wherever its memory lies: a pool says by a [`HandleTable`] how to look for the outcome, how to cancel, how to help.
//! States, steps and invariants: `README.md` beside this file.

#[cfg(not(millpond_loom))]
mod checks;
#[cfg(not(millpond_loom))]
mod dispatch;
#[cfg(not(millpond_loom))]
mod error;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "shares a task's core with its pool")]
mod handle;
#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
#[expect(unsafe_code, reason = "looks into cells that loom watches")]
mod models;
#[cfg(not(millpond_loom))]
mod options;
mod state;

#[cfg(not(millpond_loom))]
pub(crate) use checks::{check, check_nice};
#[cfg(not(millpond_loom))]
pub use dispatch::{Dispatch, WhenFull};
#[cfg(not(millpond_loom))]
pub use error::{Payload, PoolError, TaskError};
#[cfg(not(millpond_loom))]
pub use handle::TaskHandle;
#[cfg(not(millpond_loom))]
pub(crate) use handle::{Core, HandleTable, Ran, Wanted};
#[cfg(not(millpond_loom))]
pub use options::MapOptions;
pub(crate) use state::{Finished, Outcome, State};
