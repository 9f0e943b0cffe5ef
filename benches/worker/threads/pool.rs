//! What a pool has to be able to do.

/// A thread pool.
pub trait Pool: Sync {
    /// With so many workers.
    fn start(workers: usize) -> Self;
    /// Runs a closure some time.
    fn spawn(&self, f: impl FnOnce() + Send + 'static);
    /// Runs a closure and waits for what it returns, in the way that the pool is meant to be used.
    fn apply(&self, f: impl FnOnce() -> u64 + Send + 'static) -> u64;
}
