//! Two processes: started by fork where nothing of Millpond is in play, pinned, and waited for.

use std::time::Duration;

/// Pins the calling process to a processor; to any that there is, if there are fewer.
pub fn pin(processor: usize) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is small.
    unsafe { libc::CPU_SET(processor % count.max(2), &mut set) };
    // SAFETY: reads the set, whose size is said.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}

/// A process that runs a closure and ends.
pub struct Forked(libc::pid_t);

impl Forked {
    /// Forks; this program has one thread when it does.
    pub fn new(run: impl FnOnce()) -> Self {
        // SAFETY: one thread, so the child can do anything.
        match unsafe { libc::fork() } {
            0 => {
                run();
                // SAFETY: ends the child without running what the parent registered.
                unsafe { libc::_exit(0) }
            }
            pid => Self(pid),
        }
    }

    /// Waits for its end.
    pub fn wait(self) {
        // SAFETY: waits for a child of ours.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// Nanoseconds for each of so many.
pub fn each(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// The middle one, in nanoseconds.
pub fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64
}
