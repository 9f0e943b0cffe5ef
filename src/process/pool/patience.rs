//! Whether to look again for a moment before going to sleep: as long as that has been worth it lately.
//!
//! Going to sleep and being woken costs two changes of context and, from another core, an interrupt. Who looks in a loop
//! instead hears of it at once, if whoever is waited for can run meanwhile on another core. Whether it can, nobody says
//! (masks of cores, other programs, tasks that are long): it shows by what came of it the last times.

use core::time::Duration;
use std::time::Instant;

use crate::primitive::{AtomicU32, Ordering, spin_loop};

/// Looks between two looks at the clock.
const LOOKS: u32 = 16;
/// Less than this is not worth the trouble.
const LEAST: u32 = 1_000;
/// After so many times without looking it is tried once more; after twice as many if that was in vain, and so on.
const AGAIN: u32 = 256;
/// Up to so many: what a look costs is to be no part of what takes longest in a hundred.
const MOST_AGAIN: u32 = 16 * AGAIN;

/// How long a kind of wait looks before it sleeps.
#[derive(Debug)]
pub(super) struct Patience {
    most: u32,
    /// Nanoseconds now.
    now: AtomicU32,
    /// Times that it did not look, and after how many it does.
    passed: AtomicU32,
    again: AtomicU32,
}

impl Patience {
    /// At most so many nanoseconds.
    pub(super) const fn new(most: u32) -> Self {
        Self { most, now: AtomicU32::new(most), passed: AtomicU32::new(0), again: AtomicU32::new(AGAIN) }
    }

    /// Looks until there is something, as long as it is worth it. Whether there is.
    pub(super) fn look(&self, is_there: impl Fn() -> bool) -> bool {
        // Relaxed, all of it: a figure by which nothing else is read; two threads that mix it up look too long or too little.
        let mut limit = self.now.load(Ordering::Relaxed);
        if limit == 0 {
            let passed = self.passed.load(Ordering::Relaxed) + 1;
            let again = self.again.load(Ordering::Relaxed);
            if passed < again {
                self.passed.store(passed, Ordering::Relaxed);
                return is_there();
            }
            self.passed.store(0, Ordering::Relaxed);
            self.again.store((2 * again).min(MOST_AGAIN), Ordering::Relaxed);
            limit = self.most;
        }
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if is_there() {
                    self.now.store(self.most, Ordering::Relaxed);
                    self.again.store(AGAIN, Ordering::Relaxed);
                    return true;
                }
                spin_loop();
            }
            if start.elapsed() >= Duration::from_nanos(u64::from(limit)) {
                break;
            }
        }
        let less = self.now.load(Ordering::Relaxed) / 2;
        self.now.store(if less < LEAST { 0 } else { less }, Ordering::Relaxed);
        false
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_vain_is_done_less_and_tried_again_later() {
        let patience = Patience::new(20_000);
        let looks = core::cell::Cell::new(0_u32);
        let never = || {
            looks.set(looks.get() + 1);
            false
        };
        for _ in 0..10 {
            assert!(!patience.look(never));
        }
        looks.set(0);
        for _ in 0..AGAIN - 10 {
            assert!(!patience.look(never));
        }
        assert!(looks.get() <= AGAIN, "one look each, no more: {}", looks.get());
        for _ in 0..20 {
            patience.look(never);
        }
        assert!(looks.get() >= AGAIN + LOOKS, "then once more in earnest: {}", looks.get());
        looks.set(0);
        for _ in 0..2 * AGAIN - 30 {
            assert!(!patience.look(never));
        }
        assert!(looks.get() <= 2 * AGAIN, "and then less often: {}", looks.get());
        patience.look(|| true);
        while patience.now.load(Ordering::Relaxed) == 0 {
            patience.look(|| true);
        }
        assert_eq!(patience.now.load(Ordering::Relaxed), 20_000, "worth it again");
    }
}
