//! Functions in processes of their own.
//!
//! A function is listed once in [`tasks!`](crate::tasks), and [`init`] is the first line of `main`; then
//! [`Process::spawn`] runs it in a child, and [`Process::join`] gives its value.
//!
//! ```
//! use millpond::process::{self, Process};
//!
//! fn long_time_task(name: u32) -> (u32, u32) {
//!     (name, process::id())
//! }
//! millpond::tasks![long_time_task];
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     process::init(); // first line of main: in a child it runs the function and never returns
//!     let children: Vec<_> = (0..4).map(|n| Process::spawn(long_time_task, (n,))).collect::<Result<_, _>>()?;
//!     for (n, child) in children.iter().enumerate() {
//!         assert_eq!(child.join()?, (n as u32, child.id()));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A child is the same program, started again, so it shares nothing with its parent but what it is given: arguments
//! and the value travel by serde, in postcard's format. That does not describe itself, so serde's untagged and internally
//! tagged enums, `flatten` and `skip_serializing_if` cannot travel. Its standard input is empty, its standard output and
//! error are the parent's, its arguments and environment a copy. It leads a process group of its own.
//!
//! # Who ends when
//! - When a process ends, whatever way, its children end with it, theirs too, and so on: within a second, busy or not.
//!   Commands that a child started end with it while they stay in its process group, unless it ended by itself.
//! - A function that makes its process another program (`exec`) takes it out of this: where the parent is killed, that
//!   program lives on. Such a function should start the program as a command, and wait for it.
//! - A process that returns from `main` or calls `exit` waits first for the children that nobody waited for, but for
//!   those that were [detached](Process::detach).
//! - Ctrl-C on a terminal goes to the program alone, since children are in groups of their own. Where the program does
//!   nothing about it, it ends, and its children with it; where it handles the signal, it decides.
//! - Where the thread that started a process ends before it, the process gets `SIGCONT`, by which it looks whether its
//!   parent lives. Calls that the system never goes on with after a signal, such as `poll`, and reads of a socket with a
//!   time limit, may fail there with `EINTR`.
//! - The host program may ignore `SIGCHLD`, handle it, or reap with `waitpid(-1)`: children are watched by descriptors.
//!
//! In a process forked from the program without becoming another program, starting a child is an error if the program had
//! started one before, and so is waiting for one of the program's. If it had not, the copy starts children as any program does;
//! but where there was something of [`ipc`](crate::ipc) already, none can travel to them.

mod attend;
mod birth;
mod care;
mod channel;
mod charge;
mod child;
mod codec;
mod error;
mod graveyard;
mod handle;
mod keeper;
mod membership;
mod pool;
mod record;
#[expect(unsafe_code, reason = "a function's value from its type; a table that the linker makes")]
mod registry;
mod source;
mod supervisor;
#[cfg(test)]
#[expect(unsafe_code, reason = "adds to tables that the linker makes")]
mod tests;
mod turn;
mod wire;

pub use error::{Payload, ProcessError};
pub use handle::{Process, ProcessBuilder};
pub use pool::{
    Imap, ImapUnordered, PoolView, ProcessPool, ProcessPoolBuilder, Progress, WorkerState, WorkerStats, WorkerView,
    look, stop_requested,
};
pub use registry::Task;

pub use crate::task::MapOptions;

use crate::primitive::{AtomicBool, Ordering};

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Makes this program one that can start children: the first line of `main`.
///
/// In the program that a person starts it returns at once. In a child it runs the child's function, and never returns:
/// what stands before it in `main` is run by every child too. A second call does nothing, in a child neither: a function
/// that runs there may call it. What [`ipc`](crate::ipc) has to offer is made behind it: a child that made a queue, a lock, a
/// pipe or a slice before can neither take nor return any, which is an error that says so. Test binaries use
/// [`test_support!`](crate::test_support) instead.
pub fn init() {
    // Relaxed: says only that this line was reached. Before serving, for a child may start children too.
    INITIALIZED.store(true, Ordering::Relaxed);
    child::serve_if_child(pool::serve);
    // As in a child: cheap before there are threads.
    let _ = crate::os::shared::join_fences();
}

fn initialized() -> bool {
    INITIALIZED.load(Ordering::Relaxed)
}

/// This process's id.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// The id of the process that started this one.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// The ids of all children that were started here and have not ended, in the order of their starts: those of [`Process`],
/// and the workers of process pools.
#[must_use]
pub fn children() -> Vec<u32> {
    supervisor::children()
}

/// The name that this process was started with, or its function's; `MainProcess` in the program itself.
#[must_use]
pub fn current_name() -> &'static str {
    child::me().map_or("MainProcess", |me| &me.name)
}

/// What the macros need. Not for use by hand.
#[doc(hidden)]
pub mod private {
    pub use super::registry::{ENTRANCES, Entry, TASKS};
    pub use linkme;

    /// What the hidden test of a test binary does: serves in a child, nothing elsewhere.
    pub fn enter_from_test() {
        super::child::serve_if_child(super::pool::serve);
    }
}
