//! Other people's closures and values may panic: when they run, when they are dropped, and the payload again.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs somebody's closure. What it panics with is handed back.
#[inline]
pub(crate) fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Drops what may panic while it is dropped. True: it did.
pub(crate) fn drop_quietly<T>(value: T) -> bool {
    let panicked = guarded(move || drop(value));
    match panicked {
        Ok(()) => false,
        Err(payload) => {
            forget_payload(payload);
            true
        }
    }
}

/// A panic's payload may panic too when it is dropped; then that one is leaked.
pub(crate) fn forget_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = guarded(move || drop(payload)) {
        core::mem::forget(again);
    }
}

/// What a panic said.
#[cfg(any(feature = "thread", feature = "process"))]
pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

/// The same, of a panic that was caught.
#[cfg(any(feature = "thread", feature = "process"))]
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = text(&*payload).to_owned();
    forget_payload(payload);
    text
}
