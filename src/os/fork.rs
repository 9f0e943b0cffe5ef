//! Locks that are held over a fork.

use super::linux;
use crate::primitive::{AtomicUsize, Ordering};

/// Lets the handlers around a fork be registered more than once, as they are by a child that was forked while its
/// parent registered them (see [`Once`](super::Once)): the locks are taken by the first that runs before the fork, and
/// given back by the last that runs after it.
#[derive(Debug)]
pub(crate) struct ForkHold {
    /// The mark of the thread that forks; 0 while none does. Relaxed: a thread can find its own mark only where it put
    /// it itself, or the thread that it is a copy of.
    holder: AtomicUsize,
    /// How many handlers have run. The holder's alone.
    depth: AtomicUsize,
}

impl ForkHold {
    pub(crate) const fn new() -> Self {
        Self { holder: AtomicUsize::new(0), depth: AtomicUsize::new(0) }
    }

    /// Before a fork: `take` takes the locks, unless this thread has them.
    pub(crate) fn hold(&self, take: impl FnOnce()) {
        let me = linux::thread_mark();
        if self.holder.load(Ordering::Relaxed) == me {
            self.depth.store(self.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return;
        }
        take();
        self.holder.store(me, Ordering::Relaxed);
        self.depth.store(1, Ordering::Relaxed);
    }

    /// After it, on both sides: `give` gives the locks back, once this was called as often as [`hold`](Self::hold).
    pub(crate) fn let_go(&self, give: impl FnOnce()) {
        let depth = self.depth.load(Ordering::Relaxed) - 1;
        self.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.holder.store(0, Ordering::Relaxed);
            give();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ForkHold;
    use std::cell::Cell;

    #[test]
    fn handlers_that_run_twice_take_the_locks_once() {
        let (hold, held) = (ForkHold::new(), Cell::new(0));
        for times in 1..4 {
            (0..times).for_each(|_| hold.hold(|| held.set(held.get() + 1)));
            assert_eq!(held.get(), 1);
            for left in (0..times).rev() {
                assert_eq!(held.get(), 1, "until the last has run");
                hold.let_go(|| held.set(held.get() - 1));
                assert_eq!(held.get(), i32::from(left > 0));
            }
        }
    }

    #[test]
    fn each_thread_that_forks_takes_them_itself() {
        let hold = ForkHold::new();
        let lock = std::sync::Mutex::new(());
        let both = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let mut guard = None;
                        hold.hold(|| guard = Some(lock.lock().unwrap()));
                        hold.hold(|| panic!("it has them"));
                        assert_eq!(both.fetch_add(1, std::sync::atomic::Ordering::Relaxed), 0);
                        both.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                        hold.let_go(|| panic!("too early"));
                        hold.let_go(|| drop(guard.take()));
                    }
                });
            }
        });
    }
}
