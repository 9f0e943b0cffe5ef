//! What a thread asks of the system for itself: its priority, and the cores that it may run on.

use std::io;

/// The number of cores that a set has room for.
const MOST_CORES: usize = libc::CPU_SETSIZE as usize;

/// The cores that this thread may run on now.
fn allowed() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a set is plain bits; no bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes at most the size it is told.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if done == 0 { Ok(set) } else { Err(io::Error::last_os_error()) }
}

/// Whether there is a core that this thread may run on, or be allowed to; true too if the system doesn't say.
pub(crate) fn has_core(core: usize) -> bool {
    let is_allowed = |set: &libc::cpu_set_t| {
        // SAFETY: the number is below the set's size.
        unsafe { libc::CPU_ISSET(core, set) }
    };
    core < MOST_CORES && allowed().map_or(true, |set| is_allowed(&set) || can_move_to(core, &set))
}

/// Whether the system lets this thread run on a core that it does not run on now: the caller may have bound it to others. It is
/// tried, and taken back.
fn can_move_to(core: usize, before: &libc::cpu_set_t) -> bool {
    let moved = set_affinity(&[core]).is_ok();
    if moved {
        // SAFETY: the kernel reads the set.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), before) };
    }
    moved
}

/// Lets this thread run on these cores only.
pub(crate) fn set_affinity(cores: &[usize]) -> io::Result<()> {
    // SAFETY: as in `allowed`.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    for &core in cores.iter().filter(|core| **core < MOST_CORES) {
        // SAFETY: the number is below the set's size.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the kernel reads the set.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets this thread's nice value (Linux gives each thread its own).
pub(crate) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: changes a number of the calling thread; 0 is "the caller".
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
