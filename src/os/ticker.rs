//! Something to do now and then, by whoever comes by.

use crate::primitive::{AtomicU64, Ordering};

/// Lets one caller through in each period.
#[derive(Debug)]
pub(crate) struct Ticker {
    /// When the next period starts, in milliseconds of the coarse clock. Relaxed: nothing else hangs on it.
    due: AtomicU64,
}

impl Ticker {
    pub(crate) const fn new() -> Self {
        Self { due: AtomicU64::new(0) }
    }

    /// Whether a period (in milliseconds) has passed at `now`, and the caller is the first to see it. The very first call
    /// only starts the clock; a period of zero never passes.
    pub(crate) fn passed(&self, now: u64, period: u64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        if now < due || period == 0 {
            return false;
        }
        let won = self.due.compare_exchange(due, now.saturating_add(period), Ordering::Relaxed, Ordering::Relaxed);
        won.is_ok() && due != 0
    }

    /// Starts the clock anew.
    pub(crate) fn restart(&self) {
        self.due.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_passes_in_each_period() {
        let ticker = Ticker::new();
        let period = 10;
        assert!(!ticker.passed(100, period), "starts the clock");
        assert!(!ticker.passed(109, period));
        assert!(ticker.passed(110, period));
        assert!(!ticker.passed(110, period), "somebody was here");
        assert!(!ticker.passed(1_000, 0), "never");
        assert!(ticker.passed(1_000, u64::MAX));
        assert!(!ticker.passed(u64::MAX - 1, period));
    }
}
