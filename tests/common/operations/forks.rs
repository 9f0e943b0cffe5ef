//! A child forked in the middle of a program, while its other threads rest with their caches full: it looks at what it
//! inherited, allocates, and ends. How this would fail: a panic in the child, a signal, or an alarm when it hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Children of one program at most: each costs as much as the process is large.
pub(crate) const MOST: usize = 2;
/// Seconds after which a child counts as hung.
const HANG: u32 = 60;

#[cfg(millpond_coverage)]
unsafe extern "C" {
    fn __llvm_profile_write_file() -> libc::c_int;
}

/// Runs `work` in a child. Panics if the child does, or does not end.
pub(crate) fn in_a_child(work: impl FnOnce()) {
    // SAFETY: the child does what a child of several threads may: it uses the heap under test, the system's, and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no child: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: sets a timer.
        unsafe { libc::alarm(HANG) };
        let ended = catch_unwind(AssertUnwindSafe(work));
        if let Err(panic) = &ended {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("a panic without a text");
            // SAFETY: writes a live string to standard error, past the harness, which would keep it.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: adds what ran here to the file of the parent.
        #[cfg(millpond_coverage)]
        unsafe {
            __llvm_profile_write_file()
        };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(!libc::WIFSIGNALED(status), "a child ended by signal {} (14: it hung)", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "a child failed");
}
