//! The handle of a process, and what makes one.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use serde::Serialize;

use super::birth::Birth;
use super::error::{Payload, ProcessError};
use super::membership::Membership;
use super::record::{Outcome, Phase, Record, State};
use super::registry::{self, Task, must_be_a_function};
use super::{codec, supervisor};
use crate::os::process::End;
use crate::primitive::plain::MutexGuard;

/// How long a child may take from its start until it is ready, unless told otherwise.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// A function that runs in a process of its own.
///
/// The process starts fresh: it shares nothing with this one but what it is given. It is killed when this process
/// ends, whatever way that is; but not once its function has made it another program (`exec`), which should be a command
/// that the function waits for. Dropping the handle waits for it, unless it was [detached](Self::detach).
///
/// All methods take `&self`: one thread may wait in [`join`](Self::join) while another [kills](Self::kill).
///
/// ```
/// use millpond::process::Process;
///
/// fn add(a: u32, b: u32) -> u32 {
///     a + b
/// }
/// millpond::tasks![add];
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     millpond::process::init(); // first line of main
///     let p = Process::new(add, (1, 2)).name("adder").start()?;
///     println!("{} runs as process {}", p.name(), p.id());
///     assert_eq!(p.join()?, 3);
///     assert!(p.exit_status().unwrap().success());
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    record: Arc<Record>,
    name: String,
    pid: u32,
    /// Under which the supervisor has it.
    number: u64,
    /// Makes the value: `fn`, for a handle holds none.
    value: PhantomData<fn() -> R>,
}

/// A process that has not been started. [`Process::new`] makes one.
#[must_use = "nothing runs before `start`"]
#[derive(Debug)]
pub struct ProcessBuilder<F, A> {
    /// No bytes: a function is its type.
    function: PhantomData<fn() -> F>,
    arguments: A,
    name: Option<String>,
    handshake: Duration,
    #[cfg(test)]
    pub(super) fault: Option<super::birth::Fault>,
}

impl<F, A> ProcessBuilder<F, A>
where
    F: Task<A>,
    A: Serialize,
{
    /// What the process is called: by [`Process::name`], by [`current_name`](super::current_name) inside it, and by the
    /// system's tools (its first argument, and the first 15 bytes as its `comm`).
    ///
    /// Without one it is called like its function, and the system's tools show this program's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long the process may take until it reaches [`init`](super::init); it is killed after that, and `join` says
    /// so. 30 seconds unless told otherwise.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake = limit;
        self
    }

    /// Starts the process. Returns as soon as it exists: about half a millisecond, whatever memory this one uses.
    ///
    /// # Errors
    /// The program doesn't call [`init`](super::init), the function isn't in [`tasks!`](crate::tasks), the name holds a
    /// NUL byte, the arguments cannot be encoded, or the system refused: nothing runs then. What goes wrong after the
    /// start is what [`Process::join`] returns.
    pub fn start(self) -> Result<Process<F::Output>, ProcessError> {
        let path = core::any::type_name::<F>();
        if !super::initialized() && registry::ENTRANCES.is_empty() {
            return Err(ProcessError::NotInitialized { task: path });
        }
        let task = registry::find::<F>().ok_or(ProcessError::NotRegistered { task: path })?;
        if let Some(name) = self.name.as_ref().filter(|name| name.contains('\0')) {
            return Err(ProcessError::BadName { name: name.clone() });
        }
        let supervisor = supervisor::get()?;
        let membership = Membership::enlist();
        let arguments = codec::encode(self.arguments, &membership.child).map_err(|reason| ProcessError::Encode {
            what: Payload::Arguments,
            task: path,
            reason,
        })?;
        #[cfg_attr(not(test), expect(unused_mut, reason = "tests have something go wrong"))]
        let mut birth = Birth::new(task, self.name.clone(), arguments, self.handshake, membership);
        #[cfg(test)]
        {
            birth.fault = self.fault;
        }
        let (pid, number, record) = supervisor.start(birth, path)?;
        let name = self.name.unwrap_or_else(|| registry::short_name(path).to_owned());
        Ok(Process { record, name, pid, number, value: PhantomData })
    }
}

impl<R> Process<R> {
    /// Describes a process that will call `function` with `arguments`, a tuple; [`ProcessBuilder::start`] starts it.
    ///
    /// A function pointer, or a closure that captures something, does not compile: a child finds functions by their
    /// own types.
    #[expect(clippy::new_ret_no_self, reason = "creating and starting are two steps")]
    pub fn new<F, A>(function: F, arguments: A) -> ProcessBuilder<F, A>
    where
        F: Task<A, Output = R>,
        A: Serialize,
    {
        const { must_be_a_function::<F>() };
        let _ = function;
        ProcessBuilder {
            function: PhantomData,
            arguments,
            name: None,
            handshake: HANDSHAKE,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Runs `function` with `arguments`, a tuple, in a new process: [`new`](Self::new) and
    /// [`start`](ProcessBuilder::start) in one.
    ///
    /// # Errors
    /// Those of [`start`](ProcessBuilder::start).
    pub fn spawn<F, A>(function: F, arguments: A) -> Result<Self, ProcessError>
    where
        F: Task<A, Output = R>,
        A: Serialize,
    {
        Self::new(function, arguments).start()
    }

    /// Waits until it has ended. None if that isn't so within `limit`; an error in a forked copy, which never hears of it.
    fn wait(&self, limit: Option<Duration>) -> Result<Option<MutexGuard<'_, State>>, ProcessError> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let supervisor = if self.is_alive() { Some(supervisor::get()?) } else { None };
        if let (Some(supervisor), None) = (supervisor, until) {
            supervisor.attend(self.number);
        }
        Ok(self.record.wait_ended(until))
    }

    /// The process's id. After it has ended the system may give it to another.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// The name that it was given, or its function's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has not ended yet, as far as is known: its end is known within microseconds.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.record.state().phase, Phase::Started { .. })
    }

    /// How it ended. None while it runs, and where the host program reaped it before us on a system that cannot tell
    /// afterwards (Linux before 6.15).
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match self.record.state().phase {
            Phase::Ended { end: End::Status(status), .. } => Some(status),
            _ => None,
        }
    }

    /// Nobody waits for it any more: neither this handle's drop nor the end of `main`, which then ends it, unless its
    /// function has made it another program.
    ///
    /// The handle can be used as before.
    pub fn detach(&self) {
        self.record.state().detached = true;
    }

    /// Asks it to end: `SIGTERM`, which kills it unless its function handles that. Fine if it has ended.
    ///
    /// # Errors
    /// The system refused, since the process runs as another user now.
    pub fn terminate(&self) -> Result<(), ProcessError> {
        self.record.signal(Signal::TERM)
    }

    /// Kills it: `SIGKILL`. So are its own children, and the commands in its process group. Fine if it has ended.
    ///
    /// # Errors
    /// The system refused, since the process runs as another user now.
    pub fn kill(&self) -> Result<(), ProcessError> {
        self.record.signal(Signal::KILL)
    }
}

impl<R: serde::de::DeserializeOwned> Process<R> {
    /// Waits until the process has ended: its function's value.
    ///
    /// # Errors
    /// The function panicked, the process was killed or called `exit`, the arguments or the value could not travel, the
    /// child never was ready, or the value was taken by an earlier `join`; or this process was forked from the one that started
    /// it while it ran ([`Forked`](ProcessError::Forked)).
    pub fn join(&self) -> Result<R, ProcessError> {
        match self.wait(None)? {
            Some(state) => self.value(Ending::take(state)),
            None => Err(ProcessError::AlreadyJoined { pid: self.pid }),
        }
    }

    /// Waits as [`join`](Self::join) does, but not longer than `limit`.
    ///
    /// # Errors
    /// Those of `join`, and [`ProcessError::TimedOut`], after which one can wait again.
    pub fn join_timeout(&self, limit: Duration) -> Result<R, ProcessError> {
        match self.wait(Some(limit))? {
            Some(state) => self.value(Ending::take(state)),
            None => Err(ProcessError::TimedOut { pid: self.pid, after: limit }),
        }
    }

    fn value(&self, ending: Ending) -> Result<R, ProcessError> {
        let (pid, task) = (self.pid, self.record.task);
        let (signal, code) = match ending.end {
            End::Status(status) => (std::os::unix::process::ExitStatusExt::signal(&status), status.code()),
            End::ReapedByOthers => (None, None),
        };
        Err(match ending.outcome {
            None => ProcessError::AlreadyJoined { pid },
            Some(Outcome::Returned(value)) => {
                let has_handles = value.has_handles();
                match value.decode() {
                    Ok(value) => return Ok(value),
                    // It died while it passed them on, as far as anybody knows.
                    Err(_) if has_handles && code != Some(0) => ProcessError::Died { pid, signal, code },
                    Err(reason) => ProcessError::Decode { what: Payload::Result, task, reason },
                }
            }
            Some(Outcome::Rubbish) => {
                let reason = "the process sent something that is no message, and was killed".to_owned();
                ProcessError::Decode { what: Payload::Result, task, reason }
            }
            Some(Outcome::Panicked(message)) => ProcessError::Panicked { message },
            Some(Outcome::Undecodable(reason)) => ProcessError::Decode { what: Payload::Arguments, task, reason },
            Some(Outcome::Unencodable(reason)) => ProcessError::Encode { what: Payload::Result, task, reason },
            Some(Outcome::NeverReady { late: Some(after) }) => ProcessError::HandshakeTimedOut { pid, after },
            // Whoever ended it on purpose need not hear how far it had come.
            Some(Outcome::NeverReady { late: None }) if ending.signalled => ProcessError::Died { pid, signal, code },
            Some(Outcome::NeverReady { late: None }) => ProcessError::DiedInHandshake { pid, signal, code },
            Some(Outcome::NeverTold(error)) => ProcessError::Spawn { step: "telling the child", source: error.into() },
            Some(Outcome::OtherBuild(difference)) => ProcessError::OtherBuild { pid, difference },
            Some(Outcome::Nothing) => ProcessError::Died { pid, signal, code },
        })
    }
}

/// How it ended, and what came of it, which only the first to ask gets.
struct Ending {
    end: End,
    outcome: Option<Outcome>,
    signalled: bool,
}

impl Ending {
    fn take(mut state: MutexGuard<'_, State>) -> Self {
        let signalled = state.signalled;
        match &mut state.phase {
            Phase::Ended { end, outcome, .. } => Self { end: *end, outcome: outcome.take(), signalled },
            _ => Self { end: End::ReapedByOthers, outcome: None, signalled },
        }
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        let detached = self.record.state().detached;
        if !detached {
            // In a forked copy there is nothing to wait for. What came of it, and the handles in that, goes here and now.
            let _ = self.wait(None).map(|state| state.map(Ending::take));
        }
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.record.state().phase {
            Phase::Ended { end: End::Status(status), .. } => format!("ended: {status}"),
            Phase::Ended { .. } => "ended".to_owned(),
            _ => "alive".to_owned(),
        };
        f.debug_struct("Process")
            .field("task", &self.record.task)
            .field("name", &self.name)
            .field("id", &self.pid)
            .field("state", &format_args!("{state}"))
            .finish()
    }
}
