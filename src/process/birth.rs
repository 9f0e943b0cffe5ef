//! A child's start: what it is given, and the system's part of it.

use core::time::Duration;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;

use super::channel;
pub(super) use super::charge::Worker;
use super::charge::{Charge, Given};
use super::error::ProcessError;
use super::membership::Membership;
use super::registry::{ENTRANCES, Identity, identity, short_name};
use super::wire::{Greeting, Job, Kind};
use crate::os::launch::{self, Launch};
use crate::os::process::{above_stdio, c_string};

/// The variable that tells a child that it is one: `socket:stdout:lifeline:parent`. The child removes it.
pub(super) const MARKER: &str = "MILLPOND_CHILD";

/// This program, ready to be started again.
#[derive(Debug)]
pub(super) struct Program {
    /// The running program's own file, whatever has become of its name since.
    executable: OwnedFd,
    /// What children read from and, in test binaries, write to before they are entered.
    nothing: OwnedFd,
    pub(super) identity: Identity,
    /// What the system calls this process.
    comm: String,
}

impl Program {
    pub(super) fn open() -> Result<Self, ProcessError> {
        let open =
            |path: &str, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).and_then(above_stdio);
        let failed = |step| move |error: Errno| ProcessError::Spawn { step, source: error.into() };
        Ok(Self {
            executable: open("/proc/self/exe", OFlags::PATH).map_err(failed("opening this program"))?,
            nothing: open("/dev/null", OFlags::RDWR).map_err(failed("opening /dev/null"))?,
            identity: identity(),
            comm: std::fs::read_to_string("/proc/self/comm").unwrap_or_default().trim_end().to_owned(),
        })
    }
}

/// What every child of a process is given with the first word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Legacy {
    /// The pipe that it hangs on.
    pub(super) lifeline: BorrowedFd<'static>,
    /// Where it reports members of the shared memory.
    pub(super) reports: BorrowedFd<'static>,
}

/// A child that is to be.
#[derive(Debug)]
pub(super) struct Birth {
    /// The function's place in the table.
    pub(super) task: u32,
    pub(super) name: Option<String>,
    pub(super) arguments: Vec<u8>,
    /// How long the child may take until it is ready.
    pub(super) handshake: Duration,
    command: Vec<CString>,
    environment: Vec<CString>,
    /// Whether the child is entered by a test.
    in_test: bool,
    /// Its place in the memory that the processes share.
    pub(super) membership: Membership,
    /// What it is given besides, and how it is watched, as a pool's worker.
    pub(super) worker: Option<(Vec<OwnedFd>, Worker)>,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// What a test has go wrong.
#[cfg(test)]
#[derive(Debug)]
pub(super) enum Fault {
    /// Another program is started.
    OtherProgram(OwnedFd, Vec<CString>),
    /// The parent says that it is another program than it is.
    OtherIdentity(Identity),
}

impl Birth {
    /// Collects what the child gets of this process: its arguments, and its environment as it is now.
    pub(super) fn new(
        task: u32,
        name: Option<String>,
        arguments: Vec<u8>,
        handshake: Duration,
        membership: Membership,
    ) -> Self {
        let ours = || std::env::args_os().map(|argument| c_string(argument.as_bytes()));
        let first = match &name {
            Some(name) => Some(c_string(name.as_bytes())),
            None => ours().next(),
        };
        // Where there is one, `main` is the harness's: what calls `init` there is code under test.
        let entrance = ENTRANCES.first();
        let command = match entrance {
            None => first.into_iter().chain(ours().skip(1)).collect(),
            Some(path) => {
                // The harness knows its tests without the crate's name.
                let test = path.split_once("::").map_or(*path, |(_, test)| test);
                let rest = [test, "--exact", "--nocapture", "--quiet", "--test-threads=1"];
                first.into_iter().chain(rest.iter().map(|word| c_string(word.as_bytes()))).collect()
            }
        };
        let environment = std::env::vars_os()
            .filter(|(key, _)| key != MARKER)
            .map(|(key, value)| c_string(&[key.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect();
        Self {
            task,
            name,
            arguments,
            handshake,
            command,
            environment,
            in_test: entrance.is_some(),
            membership,
            worker: None,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Changes what the child finds in its environment: a variable has this value, or is missing.
    pub(super) fn set_variables(&mut self, changes: &[(OsString, Option<OsString>)]) {
        for (key, value) in changes {
            let start = [key.as_bytes(), b"="].concat();
            self.environment.retain(|variable| !variable.as_bytes().starts_with(&start));
            if let Some(value) = value {
                self.environment.push(c_string(&[&start[..], value.as_bytes()].concat()));
            }
        }
    }

    /// Starts it.
    pub(super) fn start(
        &mut self,
        task: &'static str,
        program: &Program,
        legacy: Legacy,
    ) -> Result<Charge, ProcessError> {
        let failed = |step| move |error: Errno| ProcessError::Spawn { step, source: error.into() };
        let (ours, theirs) = channel::pair(SocketType::STREAM).map_err(failed("a socket for the child"))?;
        // A test binary's harness prints before it runs our test; what the child prints itself goes where ours does.
        let stdout = if self.in_test { rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok() } else { None };
        let mut inherited = vec![theirs.as_fd()];
        inherited.extend(stdout.as_ref().map(AsFd::as_fd));
        let stdout_number = stdout.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let (socket, lifeline) = (theirs.as_raw_fd(), legacy.lifeline.as_raw_fd());
        let marker = format!("{MARKER}={socket}:{stdout_number}:{lifeline}:{}", std::process::id());
        self.environment.push(c_string(marker.as_bytes()));
        let (executable, command, identity) = self.what_to_start(program);
        let launched = launch::launch(&Launch {
            executable,
            arguments: command,
            environment: &self.environment,
            stdin: program.nothing.as_fd(),
            stdout: stdout.as_ref().map(|_| program.nothing.as_fd()),
            inherited: &inherited,
            lifeline: legacy.lifeline,
        })
        .map_err(|source| ProcessError::Spawn { step: "starting this program again", source })?;
        let name = self.name.as_deref().unwrap_or_else(|| short_name(task));
        let comm = self.name.as_deref().unwrap_or(&program.comm);
        let (child, parent) = (self.membership.child.to_numbers(), self.membership.parent.to_numbers());
        let greeting = Greeting { identity, pid: std::process::id(), child, parent };
        let mut descriptors = Vec::new();
        if let Some(memory) = self.membership.memory() {
            descriptors.extend([Given::Lent(memory), Given::Lent(legacy.reports)]);
        }
        let (given, worker) = self.worker.take().unzip();
        descriptors.extend(given.into_iter().flatten().map(Given::Own));
        let kind = if worker.is_some() { Kind::Serve } else { Kind::Job };
        let mut words = greeting.to_bytes().to_vec();
        words.extend(Job { task: self.task, name, comm, arguments: &self.arguments }.to_frame(kind));
        let deadline = Instant::now().checked_add(self.handshake).map(|at| (at, self.handshake));
        Ok(Charge::new(task, launched, ours, identity, (words, descriptors), deadline, worker))
    }

    #[cfg(not(test))]
    fn what_to_start<'a>(&'a self, program: &'a Program) -> (BorrowedFd<'a>, &'a [CString], Identity) {
        (program.executable.as_fd(), &self.command, program.identity)
    }

    #[cfg(test)]
    fn what_to_start<'a>(&'a self, program: &'a Program) -> (BorrowedFd<'a>, &'a [CString], Identity) {
        match &self.fault {
            Some(Fault::OtherProgram(executable, command)) => (executable.as_fd(), command, program.identity),
            Some(Fault::OtherIdentity(identity)) => (program.executable.as_fd(), &self.command, *identity),
            None => (program.executable.as_fd(), &self.command, program.identity),
        }
    }
}
