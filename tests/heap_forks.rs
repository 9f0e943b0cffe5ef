//! Figures and settings beside forks, in a program that allocates nothing from the heap: in a process of its own, where
//! nothing but they can have had the heap follow forks.
#![expect(unsafe_code, reason = "forks")]

use std::sync::atomic::{AtomicBool, Ordering};

use millpond::Heap;

#[test]
fn a_child_forked_while_somebody_asks_for_figures_can_ask_too() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = Heap::stats();
            }
        });
        let hung = (0..300).any(|_| {
            // SAFETY: the child asks for figures, and ends.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: sets a timer, so that a child that hangs ends too.
                unsafe { libc::alarm(20) };
                let _ = Heap::stats();
                Heap::purge();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            ended != pid || !libc::WIFEXITED(status)
        });
        done.store(true, Ordering::Relaxed);
        assert!(!hung, "somebody else's lock was held in the child");
    });
}
