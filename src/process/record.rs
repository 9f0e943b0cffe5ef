//! What a handle and the supervisor both know of one process.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::codec::Arrived;
use super::error::ProcessError;
use crate::os::process::End;
use crate::primitive::plain::{Condvar, Mutex, MutexGuard};

/// What came of a process's function.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its value.
    Returned(Arrived),
    Panicked(String),
    Undecodable(String),
    Unencodable(String),
    /// The child never was ready: it ended, or was killed for being late.
    NeverReady {
        late: Option<Duration>,
    },
    /// The system refused to pass on what the child was to be told, and it was killed.
    NeverTold(Errno),
    /// The child was another program, and was killed.
    OtherBuild(String),
    /// The child was ready, then sent what means nothing, and was killed.
    Rubbish,
    /// Nothing was heard before the end.
    Nothing,
}

/// Where a process is in its life. The order is the only one.
#[derive(Debug)]
pub(super) enum Phase {
    /// It runs, or has ended without the supervisor knowing yet.
    Started { pid: u32, pidfd: Arc<OwnedFd> },
    /// It has ended and was reaped. The outcome is taken by `join`.
    Ended { end: End, outcome: Option<Outcome> },
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Nobody waits for it, neither a handle's drop nor the end of `main`.
    pub(super) detached: bool,
    /// Its handle has sent it a signal.
    pub(super) signalled: bool,
}

/// Who wants to hear of a process's end besides those who wait for it.
pub(super) trait Watcher: Send + Sync {
    /// It has ended, and was reaped: the record says how.
    fn ended(&self);
}

/// What was heard of a process's standard error: the last bytes.
struct Words {
    last: Mutex<VecDeque<u8>>,
    most: usize,
}

/// One process, from its start on.
pub(super) struct Record {
    /// The function, by its path.
    pub(super) task: &'static str,
    state: Mutex<State>,
    /// The phase has changed.
    changed: Condvar,
    watcher: Option<Arc<dyn Watcher>>,
    words: Words,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("task", &self.task).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Record {
    /// A process that runs. `most` bytes of what it says are kept.
    pub(super) fn new(
        task: &'static str,
        (pid, pidfd): (u32, Arc<OwnedFd>),
        watcher: Option<Arc<dyn Watcher>>,
        most: usize,
    ) -> Self {
        // What is watched is not waited for at the end of `main`: whoever watches does that.
        let detached = watcher.is_some();
        let state = Mutex::new(State { phase: Phase::Started { pid, pidfd }, detached, signalled: false });
        Self { task, state, changed: Condvar::new(), watcher, words: Words { last: Mutex::default(), most } }
    }

    /// It has said this.
    pub(super) fn said(&self, bytes: &[u8]) {
        let mut last = self.words.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(bytes);
        let over = last.len().saturating_sub(self.words.most);
        last.drain(..over);
    }

    /// The last that it has said.
    pub(super) fn last_words(&self) -> String {
        let last = self.words.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, other) = last.as_slices();
        String::from_utf8_lossy(&[one, other].concat()).into_owned()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The supervisor's word on its end.
    pub(super) fn ended(&self, end: End, outcome: Outcome) {
        self.state().phase = Phase::Ended { end, outcome: Some(outcome) };
        self.changed.notify_all();
        if let Some(watcher) = &self.watcher {
            watcher.ended();
        }
    }

    /// Waits until it has ended. None if that isn't so by `until`.
    pub(super) fn wait_ended(&self, until: Option<Instant>) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state();
        while !matches!(state.phase, Phase::Ended { .. }) {
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now())?;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Some(state)
    }

    /// Sends a signal, if the process hasn't ended.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let mut state = self.state();
        let State { phase: Phase::Started { pid, pidfd }, signalled, .. } = &mut *state else { return Ok(()) };
        *signalled = true;
        match pidfd_send_signal(pidfd.as_fd(), signal) {
            // It has ended a moment ago.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(ProcessError::Signal { pid: *pid, source: error.into() }),
        }
    }
}
