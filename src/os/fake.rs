//! A system that refuses on command: what a test tells its own thread to be denied.

use std::cell::Cell;

/// The calls that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Map,
    Remap,
    Purge,
}

std::thread_local! {
    static PLAN: Cell<Option<(Call, usize)>> = const { Cell::new(None) };
}

/// While it lives, this thread's calls of one kind are refused after the first few.
#[must_use = "refusal ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Refusal(());

/// Refuses every `call` of this thread after the next `granted` ones.
pub(crate) fn refuse(call: Call, granted: usize) -> Refusal {
    PLAN.set(Some((call, granted)));
    Refusal(())
}

impl Drop for Refusal {
    fn drop(&mut self) {
        PLAN.set(None);
    }
}

/// Whether the plan says no to this call.
pub(crate) fn refuses(call: Call) -> bool {
    match PLAN.get() {
        Some((planned, 0)) if planned == call => true,
        Some((planned, left)) if planned == call => {
            PLAN.set(Some((planned, left - 1)));
            false
        }
        _ => false,
    }
}
