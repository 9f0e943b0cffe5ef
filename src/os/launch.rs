//! Starting a program: a child that shares our memory until it has become the program, so that the time it takes does
//! not grow with the memory we use.
//!
//! Between `clone` and `execveat` the child runs in our address space, on a stack of its own, while the calling thread
//! waits. It makes system calls and no more: it takes no lock, allocates nothing and runs no handler of ours, since all
//! signals are blocked until their dispositions are the default ones.

use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::primitive::{AtomicI32, Ordering};

/// What a child becomes, and what it brings along.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program, open.
    pub(crate) executable: BorrowedFd<'a>,
    pub(crate) arguments: &'a [CString],
    pub(crate) environment: &'a [CString],
    /// What it reads as standard input.
    pub(crate) stdin: BorrowedFd<'a>,
    /// What it writes to as standard output, if not to ours.
    pub(crate) stdout: Option<BorrowedFd<'a>>,
    /// What it inherits under the same numbers. All above 2.
    pub(crate) inherited: &'a [BorrowedFd<'a>],
    /// The reading end of a pipe that it inherits under the same number, above 2: the system kills its group when nobody
    /// has the writing end any more.
    pub(crate) lifeline: BorrowedFd<'a>,
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    /// Readable once the process has ended.
    pub(crate) pidfd: OwnedFd,
}

/// The stack that a child stands on until it is a program.
struct Stack(Box<[u128]>);

impl Stack {
    /// Room for the few frames of [`become_program`] and what libc puts under them.
    const WORDS: usize = 4096;

    fn new() -> Self {
        Self(vec![0; Self::WORDS].into_boxed_slice())
    }

    /// Its upper end, aligned to 16 bytes.
    fn top(&mut self) -> *mut c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
}

/// What the child sees: addresses and numbers only.
struct Plan {
    executable: RawFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    stdin: RawFd,
    stdout: RawFd,
    inherited: *const RawFd,
    inherited_len: usize,
    lifeline: RawFd,
    /// Under which the child can open the lifeline anew.
    lifeline_path: *const c_char,
    parent: libc::pid_t,
    no_signals: libc::sigset_t,
    /// Why it isn't a program; 0 while nothing failed.
    errno: AtomicI32,
}

/// Starts the program as the leader of a process group of its own. Returns when it is one, or an error.
///
/// Each signal that we handle has its default action there; those that we ignore stay ignored, but for `SIGPIPE` and
/// `SIGCHLD`. No signal is blocked.
pub(crate) fn launch(launch: &Launch<'_>) -> io::Result<Launched> {
    let mut stack = Stack::new();
    let lifeline_path = super::process::c_string(format!("/proc/self/fd/{}", launch.lifeline.as_raw_fd()).as_bytes());
    let arguments = pointers(launch.arguments);
    let environment = pointers(launch.environment);
    let inherited: Vec<RawFd> = launch.inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let mut plan = Plan {
        executable: launch.executable.as_raw_fd(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        stdin: launch.stdin.as_raw_fd(),
        stdout: launch.stdout.map_or(-1, |fd| fd.as_raw_fd()),
        inherited: inherited.as_ptr(),
        inherited_len: inherited.len(),
        lifeline: launch.lifeline.as_raw_fd(),
        lifeline_path: lifeline_path.as_ptr(),
        // SAFETY: reads a number.
        parent: unsafe { libc::getpid() },
        no_signals: signal_set(false),
        errno: AtomicI32::new(0),
    };
    let blocked = BlockedSignals::all();
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the child runs `become_program` on a stack that nobody else uses, and this thread sleeps until the child
    // is another program or has exited, so `plan` and all it points at outlive its use. All signals are blocked, so
    // no handler runs in the child.
    let pid = unsafe { libc::clone(become_program, stack.top(), flags, (&raw mut plan).cast(), &raw mut pidfd) };
    let refused = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(refused);
    }
    // SAFETY: the system made it for us just now.
    let pidfd = super::process::off_stdio(unsafe { OwnedFd::from_raw_fd(pidfd) });
    // Relaxed: the child's writes came before its end or its exec, which is what woke us.
    let errno = plan.errno.load(Ordering::Relaxed);
    if errno != 0 {
        // It exits by itself; another may have reaped it by now.
        super::process::wait(pidfd.as_fd());
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(Launched { pid: pid.unsigned_abs(), pidfd })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn signal_set(full: bool) -> libc::sigset_t {
    let mut set = core::mem::MaybeUninit::uninit();
    if full {
        // SAFETY: writes the set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
    } else {
        // SAFETY: writes the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    }
    // SAFETY: written just above.
    unsafe { set.assume_init() }
}

/// While it lives, the calling thread gets no signals.
#[must_use = "signals come again when this is dropped"]
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    pub(crate) fn all() -> Self {
        let mut before = signal_set(false);
        let all = signal_set(true);
        // SAFETY: reads one set and writes another.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: reads a set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// The child's side: from here on only system calls, in memory that belongs to the parent.
extern "C" fn become_program(plan: *mut c_void) -> c_int {
    // SAFETY: `launch` passes its plan, which lives while this runs; the parent's thread sleeps.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let failed = prepare(plan).err().unwrap_or_else(|| {
        // SAFETY: arrays of strings that end in null, made by `launch`.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                plan.executable,
                c"".as_ptr(),
                plan.arguments,
                plan.environment,
                libc::AT_EMPTY_PATH,
            )
        };
        errno()
    });
    // Relaxed: the parent sleeps until we are gone.
    plan.errno.store(failed, Ordering::Relaxed);
    // SAFETY: ends this process and runs nothing of the parent's.
    unsafe { libc::_exit(127) }
}

fn errno() -> c_int {
    // SAFETY: gives an address.
    let word = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own word; the parent's thread, whose word it is, sleeps.
    unsafe { word.read() }
}

fn checked(result: c_int) -> Result<c_int, c_int> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn prepare(plan: &Plan) -> Result<(), c_int> {
    // SAFETY: numbers only. The group exists before the parent goes on.
    checked(unsafe { libc::setpgid(0, 0) })?;
    // Does nothing until the program says what: the *thread* that starts us may end long before the process.
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCONT) })?;
    // SAFETY: reads a number.
    if unsafe { libc::getppid() } != plan.parent {
        // The parent was killed before the line above; nobody needs us.
        // SAFETY: ends this process.
        unsafe { libc::_exit(127) };
    }
    for signal in 1..=64 {
        let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: writes the present action. Numbers that libc keeps for itself are refused.
        if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
            continue;
        }
        // SAFETY: zeroed, then written; any bytes are an action.
        let mut action = unsafe { action.assume_init() };
        let ignored = action.sa_sigaction == libc::SIG_IGN && signal != libc::SIGPIPE && signal != libc::SIGCHLD;
        if action.sa_sigaction != libc::SIG_DFL && !ignored {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = 0;
            // SAFETY: the default action; the table of actions is the child's own.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    }
    // SAFETY: numbers only; the table of descriptors is the child's own.
    checked(unsafe { libc::dup2(plan.stdin, 0) })?;
    if plan.stdout >= 0 {
        // SAFETY: as above.
        checked(unsafe { libc::dup2(plan.stdout, 1) })?;
    }
    for at in 0..plan.inherited_len {
        // SAFETY: the array has that many numbers.
        let place = unsafe { plan.inherited.add(at) };
        // SAFETY: as above.
        let fd = unsafe { place.read() };
        // SAFETY: numbers only.
        checked(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    }
    hang_on(plan)?;
    // SAFETY: reads a set. No handler is left that could run.
    let refused = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const plan.no_signals, ptr::null_mut()) };
    if refused == 0 { Ok(()) } else { Err(refused) }
}

/// From here on the system itself kills our group when nobody holds the writing end of the lifeline any more. It needs no
/// thread of ours, and can be neither blocked nor handled.
///
/// A description of our own is opened, for the system keeps one owner for each. Until we are a program we hold a copy of
/// the writing end too: if the parent is gone by then, becoming one kills us.
fn hang_on(plan: &Plan) -> Result<(), c_int> {
    // SAFETY: a string that `launch` made.
    let own = checked(unsafe { libc::open(plan.lifeline_path, libc::O_RDONLY | libc::O_NONBLOCK) })?;
    // SAFETY: reads a number.
    let me = unsafe { libc::getpid() };
    // SAFETY: numbers only; negative for the group that we lead.
    checked(unsafe { libc::fcntl(own, libc::F_SETOWN, -me) })?;
    // SAFETY: numbers only.
    checked(unsafe { libc::fcntl(own, F_SETSIG, libc::SIGKILL) })?;
    // SAFETY: numbers only.
    checked(unsafe { libc::fcntl(own, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) })?;
    // SAFETY: numbers only. The copy stays open in the program.
    checked(unsafe { libc::dup2(own, plan.lifeline) })?;
    // SAFETY: ours, and used no more.
    checked(unsafe { libc::close(own) }).map(drop)
}

/// Which signal tells of a descriptor (Linux, `fcntl.h`).
const F_SETSIG: c_int = 10;
