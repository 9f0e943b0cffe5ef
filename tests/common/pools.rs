//! What tests of thread pools have in common.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use millpond::thread::ThreadPool;

/// Only to notice a hang.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn bump(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn pool(workers: usize) -> ThreadPool {
    ThreadPool::builder().workers(workers).build().unwrap()
}

/// Takes a worker until the sender is dropped, or sends.
pub(crate) fn occupy(pool: &ThreadPool) -> mpsc::Sender<()> {
    let (go, gone) = mpsc::channel::<()>();
    let (runs, running) = mpsc::channel();
    pool.spawn(move || {
        runs.send(()).unwrap();
        let _ = gone.recv();
    })
    .unwrap();
    running.recv_timeout(LONG).unwrap();
    go
}
