//! Loom explores the protocols: every order of their steps, with a process that dies at any of them.
//!
//! A death is a thread that stops: which step it stops at is chosen by the model, from all there are. What a dead one
//! leaves is swept by the code that sweeps in earnest. Payloads carry a witness that loom watches, so a slot that two use
//! at once, or without an order between them, is reported.

#[expect(unsafe_code, reason = "witnesses that loom watches")]
mod blocks;
#[expect(unsafe_code, reason = "witnesses that loom watches")]
mod ends;
#[expect(unsafe_code, reason = "witnesses that loom watches")]
mod locks;
#[expect(unsafe_code, reason = "witnesses that loom watches")]
mod ring;
mod sweeper;

use crate::primitive::model::explore;

/// The system's sleep on a word, for the models: whoever sleeps is woken, or the model hangs and loom says so.
pub(crate) mod futex {
    use core::time::Duration;

    use crate::primitive::AtomicU32;
    use crate::primitive::Ordering;

    /// Who sleeps: on which word, and what wakes it.
    type Bed = (usize, loom::sync::Arc<loom::sync::Condvar>);

    loom::lazy_static! {
        static ref BEDS: loom::sync::Mutex<Vec<Bed>> = loom::sync::Mutex::new(Vec::new());
    }

    fn key(word: &AtomicU32) -> usize {
        core::ptr::from_ref(word).addr()
    }

    /// The look at the word and the lying down are one step, as they are in the system.
    pub(crate) fn shared_wait(word: &AtomicU32, expected: u32, _: Option<Duration>) -> bool {
        let mut beds = BEDS.lock().unwrap();
        if word.load(Ordering::SeqCst) != expected {
            return false;
        }
        let bed = loom::sync::Arc::new(loom::sync::Condvar::new());
        beds.push((key(word), loom::sync::Arc::clone(&bed)));
        while beds.iter().any(|(_, other)| loom::sync::Arc::ptr_eq(other, &bed)) {
            beds = bed.wait(beds).unwrap();
        }
        false
    }

    pub(crate) fn shared_wake(word: &AtomicU32, most: i32) -> usize {
        let mut beds = BEDS.lock().unwrap();
        let mut woken = 0;
        while woken < usize::try_from(most).unwrap_or(0) {
            let Some(at) = beds.iter().position(|(at, _)| *at == key(word)) else { break };
            let (_, bed) = beds.remove(at);
            bed.notify_one();
            woken += 1;
        }
        woken
    }
}

/// At two preemptions.
pub(super) fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(2, least, check);
}
