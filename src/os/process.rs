//! What the system knows of processes: their ends, their groups, and the signal of a parent's death.

use core::ffi::{CStr, c_int, c_ulong, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::primitive::{AtomicU32, Ordering};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As the system says.
    Status(ExitStatus),
    /// Somebody else reaped it, and the system is too old to tell (before Linux 6.15).
    ReapedByOthers,
}

impl End {
    /// Whether it ended by returning, or exiting, with 0.
    pub(crate) fn exited_well(self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Some(0))
    }

    /// The signal that killed it.
    pub(crate) fn signal(self) -> Option<i32> {
        match self {
            Self::Status(status) => status.signal(),
            Self::ReapedByOthers => None,
        }
    }

    /// Whether it ended by returning or exiting.
    pub(crate) fn exited(self) -> bool {
        matches!(self, Self::Status(status) if status.code().is_some())
    }
}

fn from_siginfo(exited: Option<i32>, killed: Option<i32>, dumped: bool) -> ExitStatus {
    let raw = match (exited, killed) {
        (Some(code), _) => (code & 0xff) << 8,
        (_, Some(signal)) => signal | if dumped { 0x80 } else { 0 },
        _ => 0,
    };
    ExitStatus::from_raw(raw)
}

/// How the ended process behind `pidfd` ended, without reaping it where nobody has.
pub(crate) fn peek(pidfd: BorrowedFd<'_>) -> End {
    let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::PidFd(pidfd), options) {
            // Its end is known, and what it was in a moment.
            Ok(None) if options.contains(WaitIdOptions::NOHANG) => options.remove(WaitIdOptions::NOHANG),
            Ok(Some(status)) => {
                let (exited, killed) = (status.exit_status(), status.terminating_signal());
                return End::Status(from_siginfo(exited, killed, status.dumped()));
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return asked(pidfd),
        }
    }
}

/// Reaps it, where nobody has.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) {
    while matches!(waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Err(Errno::INTR)) {}
}

/// Waits for its end, and reaps it where nobody has.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) {
    while matches!(waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED), Err(Errno::INTR)) {}
}

/// A descriptor that lives on, under a number that no standard stream has: a program may have closed those, and whatever is
/// printed would go there. As it is where the system has no other number left.
pub(crate) fn off_stdio(fd: OwnedFd) -> OwnedFd {
    let other = if fd.as_raw_fd() > 2 { None } else { rustix::io::fcntl_dupfd_cloexec(&fd, 3).ok() };
    other.unwrap_or(fd)
}

/// The same, or an error.
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    Some(off_stdio(fd)).filter(|fd| fd.as_raw_fd() > 2).ok_or(Errno::MFILE)
}

/// Takes over the socket that `parent` passed to this process under a number. None if there is no such socket.
/// To be called once.
pub(crate) fn inherited_socket(number: RawFd, parent: u32) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the number is only used to ask about it; the system refuses those that are none.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    if u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(parent) {
        return None;
    }
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: a socket to our parent, made for us and passed under this number; it is taken over once, since the one
    // caller asks once in a process, or in that and in copies of it, each of which has descriptors of its own.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over a descriptor that the parent passed beside its socket, once too. None if there is none.
pub(crate) fn inherited_descriptor(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: as above.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: passed for us under this number; it is taken over once, as the socket is.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Removes a variable from the environment, if no other thread can be reading it.
pub(crate) fn remove_variable(name: &str) {
    // A folder has two links and one for each folder in it: here, for each thread.
    let alone = rustix::fs::stat("/proc/self/task").is_ok_and(|folder| folder.st_nlink == 3);
    if alone {
        // SAFETY: this thread is the only one.
        unsafe { std::env::remove_var(name) };
    }
}

/// Asks the descriptor itself, which remembers the end of a process that was reaped (Linux 6.15).
fn asked(pidfd: BorrowedFd<'_>) -> End {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: zeroed, and plain numbers.
    unsafe { (*info.as_mut_ptr()).mask = u64::from(libc::PIDFD_INFO_EXIT) };
    // SAFETY: the call writes at most the size that its number says.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) };
    // SAFETY: zeroed, and plain numbers.
    let info = unsafe { info.assume_init() };
    if answer == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0 {
        End::Status(ExitStatus::from_raw(info.exit_code))
    } else {
        End::ReapedByOthers
    }
}

/// Sends `SIGKILL` to the group that the process behind `pidfd` led, alive or not.
///
/// `pid` names the group on systems before Linux 6.9, where the caller must not have reaped the process: only then is
/// the number certainly nobody else's.
pub(crate) fn kill_group(pidfd: BorrowedFd<'_>, pid: u32, unreaped: bool) {
    let flags = libc::PIDFD_SIGNAL_PROCESS_GROUP;
    let info = ptr::null::<c_void>();
    // SAFETY: numbers, and no information along with the signal.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, info, flags) };
    let unknown = sent != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
    if unknown
        && unreaped
        && let Ok(group) = libc::pid_t::try_from(pid)
    {
        // SAFETY: numbers only.
        unsafe { libc::killpg(group, libc::SIGKILL) };
    }
}

/// Whose end is ours.
static PARENT: AtomicU32 = AtomicU32::new(0);

/// Kills the calling process, and its group if it leads one. Safe in signal handlers.
pub(crate) extern "C" fn die_with_group() {
    // SAFETY: reads a number.
    let me = unsafe { libc::getpid() };
    // SAFETY: reads a number.
    let group = unsafe { libc::getpgrp() };
    // SAFETY: numbers only; 0 is the group that we lead.
    unsafe { libc::kill(if group == me { 0 } else { me }, libc::SIGKILL) };
}

extern "C" fn on_continue(_: c_int) {
    // SAFETY: reads a number.
    let parent = unsafe { libc::getppid() };
    // Relaxed: set before this handler was.
    if parent.unsigned_abs() != PARENT.load(Ordering::Relaxed) {
        die_with_group();
    }
}

/// From now on the parent's end kills us and our group: busy, idle or stopped.
///
/// The system then sends `SIGCONT`, the one signal that can be caught and that wakes a stopped process too. Kills at once
/// if the parent isn't `parent` any more.
pub(crate) fn die_with_parent(parent: u32) {
    PARENT.store(parent, Ordering::Relaxed);
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let handler: extern "C" fn(c_int) = on_continue;
    // SAFETY: zeroed, which is an action with an empty mask.
    unsafe { (*action.as_mut_ptr()).sa_sigaction = handler as *const c_void as usize };
    // SAFETY: as above. Calls that were interrupted go on.
    unsafe { (*action.as_mut_ptr()).sa_flags = libc::SA_RESTART };
    // SAFETY: the handler makes a few system calls, all allowed in handlers, and reads one word.
    unsafe { libc::sigaction(libc::SIGCONT, action.as_ptr(), ptr::null_mut()) };
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, c_ulong::from(libc::SIGCONT.unsigned_abs())) };
    on_continue(libc::SIGCONT);
}

/// Sets the name that the system shows for the calling thread: what fits of it.
pub(crate) fn set_comm(name: &str) {
    let _ = rustix::thread::set_name(&c_string(name.as_bytes()));
}

/// Has `run` called when the program exits by `exit` or by returning from `main`.
pub(crate) fn at_exit(run: extern "C" fn()) -> bool {
    // SAFETY: the function lives as long as the program.
    unsafe { libc::atexit(run) == 0 }
}

/// A string for the system; a NUL inside ends it.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_else(|_| CStr::to_owned(c""))
}
