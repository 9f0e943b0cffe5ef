//! A system that refuses on command: what a test tells its own thread to be denied.

use std::cell::Cell;

/// The calls that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Map,
    Remap,
    Purge,
    /// A file in memory.
    MemoryFile,
    /// Pages of such a file.
    Room,
    /// A fence of other processes, and joining it.
    Fence,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    /// Refuses one kind of call after so many.
    After(Call, usize),
    /// Refuses to map more than so many bytes at once.
    Above(usize),
    /// Refuses nothing, but somebody else gets his turn in the middle of the next call of a kind.
    Meanwhile(Call, fn()),
}

std::thread_local! {
    static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
}

/// While it lives, some of this thread's calls are refused.
#[must_use = "refusal ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Refusal(());

/// Refuses every `call` of this thread after the next `granted` ones.
pub(crate) fn refuse(call: Call, granted: usize) -> Refusal {
    PLAN.set(Some(Plan::After(call, granted)));
    Refusal(())
}

/// Refuses to map more than `bytes` at once.
pub(crate) fn refuse_above(bytes: usize) -> Refusal {
    PLAN.set(Some(Plan::Above(bytes)));
    Refusal(())
}

/// Has somebody else get his turn in the middle of this thread's next such call.
pub(crate) fn meanwhile(call: Call, act: fn()) -> Refusal {
    PLAN.set(Some(Plan::Meanwhile(call, act)));
    Refusal(())
}

impl Drop for Refusal {
    fn drop(&mut self) {
        PLAN.set(None);
    }
}

/// Whether the plan says no to this call, of so many bytes.
pub(crate) fn refuses(call: Call, bytes: usize) -> bool {
    match PLAN.get() {
        Some(Plan::After(planned, 0)) => planned == call,
        Some(Plan::After(planned, left)) if planned == call => {
            PLAN.set(Some(Plan::After(planned, left - 1)));
            false
        }
        Some(Plan::Above(most)) => call == Call::Map && bytes > most,
        Some(Plan::Meanwhile(planned, act)) if planned == call => {
            PLAN.set(None);
            act();
            false
        }
        _ => false,
    }
}
