//! The numbered steps of the protocol. A test kills a process at each; elsewhere they are nothing.

/// Passes a step. The numbers are those of `README.md`.
#[inline(always)]
pub(crate) fn reach(step: u32) {
    #[cfg(all(test, not(millpond_loom)))]
    plan::reach(step);
    #[cfg(not(all(test, not(millpond_loom))))]
    let _ = step;
}

#[cfg(all(test, not(millpond_loom)))]
pub(crate) mod plan {
    use crate::primitive::{AtomicU32, Ordering};

    static STEP: AtomicU32 = AtomicU32::new(0);
    static PASSES: AtomicU32 = AtomicU32::new(0);

    /// This process kills itself when it reaches a step for the `pass`th time.
    pub(crate) fn die_at(step: u32, pass: u32) {
        PASSES.store(pass, Ordering::Relaxed);
        STEP.store(step, Ordering::Relaxed);
    }

    pub(super) fn reach(step: u32) {
        if STEP.load(Ordering::Relaxed) == step && PASSES.fetch_sub(1, Ordering::Relaxed) == 1 {
            crate::os::shared::kill_self();
        }
    }
}
