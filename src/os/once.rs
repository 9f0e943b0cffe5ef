//! Something that is done once, and is done when anybody goes on.

use crate::primitive::{AtomicUsize, Ordering};

const DONE: usize = 1;

/// Like `std::sync::Once`, but a thread that comes back while it is doing the thing itself goes on instead of waiting.
#[derive(Debug)]
pub(crate) struct Once {
    /// 0, then an address that only the thread at work has, then `DONE`.
    state: AtomicUsize,
}

impl Once {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicUsize::new(0) }
    }

    pub(crate) fn call(&self, work: impl FnOnce()) {
        std::thread_local! {
            static ME: u64 = const { 0 };
        }
        // Acquire: pairs with the Release below: who sees it done sees what was done.
        if self.state.load(Ordering::Acquire) == DONE {
            return;
        }
        let me = ME.with(|me| (&raw const *me).addr());
        match self.state.compare_exchange(0, me, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                work();
                self.state.store(DONE, Ordering::Release);
            }
            Err(at_work) if at_work == me => {}
            Err(_) => {
                while self.state.load(Ordering::Acquire) != DONE {
                    std::thread::yield_now();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn nobody_goes_on_before_it_is_done_but_the_one_who_does_it() {
        let (once, done) = (Once::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    once.call(|| {
                        once.call(|| panic!("twice"));
                        std::thread::yield_now();
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(done.load(Ordering::Relaxed), 1);
                });
            }
        });
    }
}
