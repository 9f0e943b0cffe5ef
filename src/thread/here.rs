//! The tree of forks that a thread is in.

use core::cell::Cell;
use core::ptr;

/// What a fork looks at, and in most cases no more than that.
pub(super) struct Here {
    /// The pool of the tree that this thread is in: its address, to be compared.
    pub(super) pool: Cell<*const ()>,
    /// Forks to the next one that gets a frame or looks at the clock.
    pub(super) countdown: Cell<u32>,
    pub(super) tree: Cell<*const ()>,
}

std::thread_local! {
    /// The tree that this thread is in.
    pub(super) static HERE: Here =
        const { Here { pool: Cell::new(ptr::null()), countdown: Cell::new(1), tree: Cell::new(ptr::null()) } };
}

/// Runs what does not belong to this thread's tree.
pub(super) fn apart<R>(work: impl FnOnce() -> R) -> R {
    let _outer = Entered::new(ptr::null(), ptr::null());
    work()
}

/// Puts the thread's former tree back.
pub(super) struct Entered {
    pool: *const (),
    countdown: u32,
    tree: *const (),
}

impl Entered {
    pub(super) fn new(pool: *const (), tree: *const ()) -> Self {
        HERE.with(|here| Self {
            pool: here.pool.replace(pool),
            countdown: here.countdown.replace(1),
            tree: here.tree.replace(tree),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.with(|here| {
            here.pool.set(self.pool);
            // A fork by way of another pool counted down too: never to 0.
            here.countdown.set(self.countdown.max(1));
            here.tree.set(self.tree);
        });
    }
}
