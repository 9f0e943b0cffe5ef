//! What can go wrong with a process, in words.

use core::fmt;
use core::time::Duration;
use std::io;

pub use crate::task::Payload;

/// Why a process was not started, or did not give its function's value.
///
/// Whatever it says of a process that was not started or has ended, nothing of that is left behind: no process, no descriptor.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// The program doesn't call [`init`](super::init), so a child would not know that it is one.
    NotInitialized {
        /// The function that was to run.
        task: &'static str,
    },
    /// The function is in no [`tasks!`](crate::tasks) list, so a child would not find it.
    NotRegistered {
        /// The function that was to run, by its whole path.
        task: &'static str,
    },
    /// A name for a process cannot hold a NUL byte.
    BadName {
        /// The name that was asked for.
        name: String,
    },
    /// A value could not be put into bytes.
    Encode {
        /// Which value.
        what: Payload,
        /// The function that was to take or to return it.
        task: &'static str,
        /// What was wrong. The words of a type's own code (`Error::custom`) are not kept, but for those of handles.
        reason: String,
    },
    /// A value was put into bytes, but could not be read back on the other side.
    Decode {
        /// Which value.
        what: Payload,
        /// The function that was to take it, or returned it.
        task: &'static str,
        /// What was wrong. The words of a type's own code (`Error::custom`) are not kept, but for those of handles.
        reason: String,
    },
    /// The system refused to start the process.
    Spawn {
        /// What was being done.
        step: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// This process was forked, without becoming another program, from one that starts processes: it can't start any, nor wait for
    /// those of its original.
    Forked,
    /// The child ended before it said that it is ready.
    DiedInHandshake {
        /// The child's id.
        pid: u32,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Its exit code.
        code: Option<i32>,
    },
    /// The child did not say within the time limit that it is ready, and was killed.
    HandshakeTimedOut {
        /// The child's id.
        pid: u32,
        /// How long it had.
        after: Duration,
    },
    /// The child is another program than this one, or another build of it, and was killed.
    OtherBuild {
        /// The child's id.
        pid: u32,
        /// What differs.
        difference: String,
    },
    /// The function panicked.
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The process ended before its function returned, or before all of its value was here: by a signal, or because it called
    /// `exit`.
    Died {
        /// The process's id.
        pid: u32,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Its exit code. Neither this nor a signal where somebody else reaped it and the system can't tell.
        code: Option<i32>,
    },
    /// The process is still running after the time that one was ready to wait. Nothing was done to it.
    TimedOut {
        /// The process's id.
        pid: u32,
        /// How long one waited.
        after: Duration,
    },
    /// The value was taken by an earlier `join`.
    AlreadyJoined {
        /// The process's id.
        pid: u32,
    },
    /// The system refused to send a signal.
    Signal {
        /// The process's id.
        pid: u32,
        /// What the system says.
        source: io::Error,
    },
}

/// The last part of a path: what one writes beside the function.
fn short(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

fn write_end(f: &mut fmt::Formatter<'_>, signal: Option<i32>, code: Option<i32>) -> fmt::Result {
    match (signal, code) {
        (Some(signal), _) => write!(f, "was killed by signal {signal}{}", signal_name(signal)),
        (None, Some(code)) => write!(f, "ended by itself with code {code}"),
        (None, None) => write!(f, "ended, and somebody else took its exit status"),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGQUIT => " (SIGQUIT)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGTERM => " (SIGTERM)",
        _ => "",
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized { task } => write!(
                f,
                "`{task}` cannot run in a child: write `millpond::process::init();` as the first line of `main`, or in \
                 a test binary `millpond::test_support!();` once, outside of functions"
            ),
            Self::NotRegistered { task } => write!(
                f,
                "`{task}` cannot run in a child, which does not know it: write `millpond::tasks![{}];` beside the \
                 function, outside of functions",
                short(task)
            ),
            Self::BadName { name } => write!(f, "{name:?} cannot name a process: it holds a NUL byte"),
            Self::Encode { what, task, reason } => write!(f, "the {what} of `{task}` cannot be encoded: {reason}"),
            Self::Decode { what, task, reason } => {
                let side = match what {
                    Payload::Arguments => "in the child",
                    Payload::Result => "in the parent",
                };
                write!(f, "the {what} of `{task}` could not be decoded {side}: {reason}")
            }
            Self::Spawn { step, source } => write!(f, "no process was started: {step}: {source}"),
            Self::Forked => write!(
                f,
                "this process was forked from one that starts others, and has none of its threads, so it starts none and waits \
                 for none: start and join processes in the one that forked"
            ),
            Self::DiedInHandshake { pid, signal, code } => {
                write!(f, "process {pid} ")?;
                write_end(f, *signal, *code)?;
                write!(f, " before it was ready: does `main` reach `millpond::process::init()`, and as its first line?")
            }
            Self::HandshakeTimedOut { pid, after } => write!(
                f,
                "process {pid} was not ready after {after:?} and was killed: `millpond::process::init()` has to be the \
                 first line of `main`; on a very busy machine allow more by `handshake_timeout`"
            ),
            Self::OtherBuild { pid, difference } => {
                write!(f, "process {pid} is not this program, and was killed: {difference}")
            }
            Self::Panicked { message } => write!(f, "the function panicked in its process: {message}"),
            Self::Died { pid, signal, code } => {
                write!(f, "process {pid} ")?;
                write_end(f, *signal, *code)?;
                write!(f, " before its function's value was here")
            }
            Self::TimedOut { pid, after } => write!(f, "process {pid} is still running after {after:?}"),
            Self::AlreadyJoined { pid } => write!(f, "the value of process {pid} was taken by an earlier join"),
            Self::Signal { pid, source } => write!(f, "process {pid} could not be sent a signal: {source}"),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn { source, .. } | Self::Signal { source, .. } => Some(source),
            _ => None,
        }
    }
}
