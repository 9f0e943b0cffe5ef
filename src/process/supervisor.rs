//! The supervisor of this process, made at first use with its keeper, and what is done for its children at the end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use rustix::event::{EventfdFlags, epoll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::pipe::PipeFlags;

use super::birth::Program;
use super::care::{Charges, Supervisor};
use super::error::ProcessError;
use super::graveyard::Graveyard;
use super::keeper::Keeper;
use super::record::{Phase, Record};
use super::source::{REPORTS, WAKE};
use super::{channel, child};
use crate::os::launch::BlockedSignals;
use crate::os::process::above_stdio;
use crate::primitive::plain::{Mutex, MutexGuard, OnceLock};
use crate::primitive::{AtomicU64, Ordering};

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();
/// Held while it is made.
static MAKING: Making = Making::new();

/// A lock that a forked copy of the process whose threads take it does not wait for: it may be held there
/// by a thread that only the original has.
struct Making {
    lock: Mutex<()>,
    /// A process, and in the lower half how many of its threads have the lock or wait for it.
    threads: AtomicU64,
}

/// The lock.
struct Taken<'a> {
    making: &'a Making,
    guard: Option<MutexGuard<'a, ()>>,
}

impl Making {
    const fn new() -> Self {
        Self { lock: Mutex::new(()), threads: AtomicU64::new(0) }
    }

    fn take(&self) -> Result<Taken<'_>, ProcessError> {
        let me = u64::from(std::process::id()) << 32;
        let mut seen = self.threads.load(Ordering::Relaxed);
        loop {
            let is_free = seen & u64::from(u32::MAX) == 0;
            if !is_free && seen >> 32 != me >> 32 {
                return Err(ProcessError::Forked);
            }
            let next = if is_free { me | 1 } else { seen + 1 };
            // Relaxed: a copy sees what its memory was at the fork.
            match self.threads.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        Ok(Taken { making: self, guard: Some(self.lock.lock().unwrap_or_else(PoisonError::into_inner)) })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        // Release: a copy that finds no thread here finds the lock free.
        self.making.threads.fetch_sub(1, Ordering::Release);
    }
}

/// The supervisor of this process, made at first use.
pub(super) fn get() -> Result<&'static Supervisor, ProcessError> {
    let known = || SUPERVISOR.get().map(|it| if it.is_ours() { Ok(it) } else { Err(ProcessError::Forked) });
    if let Some(known) = known() {
        return known;
    }
    let _making = MAKING.take()?;
    known().unwrap_or_else(make)
}

fn make() -> Result<&'static Supervisor, ProcessError> {
    let failed = |step| move |error: Errno| ProcessError::Spawn { step, source: error.into() };
    let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let wake = wake.and_then(above_stdio).map_err(failed("a descriptor to wake by"))?;
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).and_then(above_stdio);
    let watch = watch.map_err(failed("a descriptor to wait on"))?;
    let add = |fd: &OwnedFd, token| {
        epoll::add(&watch, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(failed("waiting"))
    };
    add(&wake, WAKE)?;
    // Who was given nowhere to report to is a root.
    let (reports, reported) = match child::reports() {
        Some(reports) => (rustix::io::fcntl_dupfd_cloexec(reports, 3).map_err(failed("where to report to"))?, None),
        None => {
            let (here, reports) = channel::pair(SocketType::DGRAM).map_err(failed("a socket for reports"))?;
            add(&here, REPORTS)?;
            (reports, Some(here))
        }
    };
    let (lifeline, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("a pipe"))?;
    // Each child opens it anew by its path, which a pipe allows to the user that made it: this process may be another's by
    // then, as a service that starts as root is. No stranger gets there all the same: the way leads through the descriptors of
    // a process that has it. Where the system refuses, only such a service is worse off.
    let _ = rustix::fs::fchmod(&lifeline, Mode::RUSR | Mode::RGRP | Mode::ROTH);
    let supervisor = Supervisor {
        pid: std::process::id(),
        program: Program::open()?,
        charges: Mutex::new(Charges { all: HashMap::new(), next: 0, next_look: None }),
        living: Mutex::new(Vec::new()),
        watch,
        wake,
        is_root: reported.is_some(),
        reports,
        lifeline: above_stdio(lifeline).map_err(failed("a pipe"))?,
        _alive: above_stdio(alive).map_err(failed("a pipe"))?,
    };
    if !crate::os::process::at_exit(wait_for_all) {
        let source = std::io::Error::other("the list of things to do at the end is full");
        return Err(ProcessError::Spawn { step: "waiting at the end of main", source });
    }
    // The thread inherits that nothing interrupts it: signals are for the host program's threads.
    let blocked = BlockedSignals::all();
    let (to, from) = std::sync::mpsc::sync_channel::<&'static Supervisor>(1);
    let thread = std::thread::Builder::new().name("millpond-keeper".to_owned()).stack_size(128 * 1024);
    let made = thread.spawn(move || {
        if let Ok(supervisor) = from.recv() {
            Keeper::new(supervisor, reported.map(Graveyard::new)).run();
        }
    });
    drop(blocked);
    made.map_err(|source| ProcessError::Spawn { step: "a thread to watch over children", source })?;
    let supervisor = SUPERVISOR.get_or_init(|| supervisor);
    let _ = to.send(supervisor);
    Ok(supervisor)
}

fn ours() -> Option<&'static Supervisor> {
    SUPERVISOR.get().filter(|supervisor| supervisor.is_ours())
}

/// The ids of all children that were started and have not ended, in the order of their starts.
pub(super) fn children() -> Vec<u32> {
    let living = ours().map(|supervisor| supervisor.living().clone()).unwrap_or_default();
    let pid = |record: &Arc<Record>| match record.state().phase {
        Phase::Started { pid, .. } => Some(pid),
        Phase::Ended { .. } => None,
    };
    living.iter().filter_map(pid).collect()
}

/// At the end of `main`: waits for the children that nobody waited for, but for detached ones.
extern "C" fn wait_for_all() {
    let living = ours().map(|supervisor| supervisor.living().clone()).unwrap_or_default();
    for record in living {
        let detached = record.state().detached;
        if !detached {
            drop(record.wait_ended(None));
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "forks")]
mod tests {
    use super::{Making, ProcessError};

    #[test]
    fn a_copy_does_not_wait_for_a_thread_of_its_original() {
        let making = Making::new();
        let held = making.take().unwrap();
        // SAFETY: the copy reads a number, tries a lock, and ends.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            // SAFETY: sets a timer, so that a copy that hangs ends too.
            unsafe { libc::alarm(20) };
            let refused = matches!(making.take(), Err(ProcessError::Forked));
            // SAFETY: ends the copy at once.
            unsafe { libc::_exit(i32::from(!refused)) };
        }
        drop(held);
        let mut status = 0;
        // SAFETY: waits for the copy just made.
        assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
        assert!(libc::WIFEXITED(status), "signal {} (14: it hung)", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 0);
        assert!(making.take().is_ok(), "the original goes on");
    }

    #[test]
    fn a_copy_of_a_process_whose_threads_have_left_is_like_any_other() {
        let making = Making::new();
        drop(making.take().unwrap());
        // SAFETY: the copy takes a lock that nobody has, and ends.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            // SAFETY: sets a timer, so that a copy that hangs ends too.
            unsafe { libc::alarm(20) };
            let took = making.take().is_ok();
            // SAFETY: ends the copy at once.
            unsafe { libc::_exit(i32::from(!took)) };
        }
        let mut status = 0;
        // SAFETY: waits for the copy just made.
        assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    }
}
