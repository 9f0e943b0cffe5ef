//! What a worker is told when it starts, and how it is started.

use core::ops::Range;
use core::time::Duration;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::pipe::PipeFlags;

use super::super::birth::{Birth, Worker};
use super::super::error::ProcessError;
use super::super::membership::{Membership, Seat};
use super::super::record::{Record, Watcher};
use super::super::{codec, supervisor};
use super::plan::Plan;
use crate::os::process::{above_stdio, off_stdio};
use crate::panics::{guarded, message};
use crate::task::Payload;

/// A post's phases.
pub(super) const STARTING: u32 = 1;
pub(super) const READY: u32 = 2;
pub(super) const LEAVING: u32 = 3;

/// Orders in the segment's head: leave when there is nothing to do.
pub(super) const LEAVE: u32 = 1;

/// Bytes of a worker's standard error that are kept for its last words, where it is not captured.
const LAST_WORDS: usize = 2048;

/// Puts arguments into bytes for the process in a seat.
type Encode = dyn Fn(&Seat) -> Result<Vec<u8>, String> + Send + Sync;

/// A function that workers call besides tasks, with arguments that are encoded for each of them.
pub(super) struct Hook {
    pub(super) function: u32,
    pub(super) encode: Box<Encode>,
}

/// What all workers of a pool have in common.
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) plan: Plan,
    /// Workers that serve; one more is for suspects.
    pub(super) workers: usize,
    /// The line of each worker, and the hands that take from it.
    pub(super) lines: Vec<(usize, Range<u16>)>,
    pub(super) handshake: Duration,
    pub(super) nice: Option<i32>,
    pub(super) cores: Option<Vec<usize>>,
    pub(super) folder: Option<PathBuf>,
    pub(super) variables: Vec<(OsString, Option<OsString>)>,
    /// How many bytes of standard error are kept, where it is captured.
    pub(super) capture: Option<usize>,
    pub(super) recycle_after: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) initializer: Option<Hook>,
    pub(super) on_exit: Option<Hook>,
}

impl core::fmt::Debug for Origin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Origin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A hook as it travels: function and arguments.
type Called = Option<(u32, Vec<u8>)>;

/// What a worker is told.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) worker: usize,
    pub(super) line: usize,
    /// The hands that take from it: one of them is woken for a task.
    pub(super) hands: Range<u16>,
    /// It leaves when its line is empty.
    pub(super) for_suspects: bool,
    pub(super) plan: Plan,
    pub(super) nice: Option<i32>,
    pub(super) cores: Option<Vec<usize>>,
    pub(super) folder: Option<PathBuf>,
    pub(super) captured: bool,
    pub(super) recycle_after: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) initializer: Called,
    pub(super) on_exit: Called,
}

/// The same, as tuples that serde knows.
type Wire = (
    (u64, u64, (u16, u16), bool, bool),
    (u64, u64, u64, u64, u64),
    (Option<i32>, Option<Vec<u64>>, Option<Vec<u8>>),
    (Option<u64>, Option<u64>),
    (Called, Called),
);

impl Spec {
    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let wide = |number: usize| number as u64;
        let plan = self.plan;
        let wire: Wire = (
            (wide(self.worker), wide(self.line), (self.hands.start, self.hands.end), self.for_suspects, self.captured),
            (wide(plan.workers), wide(plan.threads), wide(plan.lines), wide(plan.per_line), wide(plan.most)),
            (
                self.nice,
                self.cores.as_ref().map(|cores| cores.iter().map(|core| wide(*core)).collect()),
                self.folder.as_ref().map(|folder| folder.as_os_str().as_bytes().to_vec()),
            ),
            (self.recycle_after, self.memory_limit),
            (self.initializer.clone(), self.on_exit.clone()),
        );
        postcard::to_allocvec(&wire).map_err(|error| error.to_string())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let wire: Wire = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        let (who, plan, (nice, cores, folder), (recycle_after, memory_limit), (initializer, on_exit)) = wire;
        let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            worker: narrow(who.0),
            line: narrow(who.1),
            hands: who.2.0..who.2.1,
            for_suspects: who.3,
            captured: who.4,
            plan: Plan {
                workers: narrow(plan.0),
                threads: narrow(plan.1),
                lines: narrow(plan.2),
                per_line: narrow(plan.3),
                most: narrow(plan.4),
            },
            nice,
            cores: cores.map(|cores| cores.into_iter().map(narrow).collect()),
            folder: folder.map(|folder| PathBuf::from(OsString::from_vec(folder))),
            recycle_after,
            memory_limit,
            initializer,
            on_exit,
        })
    }
}

impl Origin {
    /// Starts a worker on the calling thread: its id and its record.
    pub(super) fn start(
        &self,
        worker: usize,
        memory: BorrowedFd<'_>,
        watcher: Arc<dyn Watcher>,
    ) -> Result<(u32, Arc<Record>), ProcessError> {
        let supervisor = supervisor::get()?;
        let membership = Membership::enlist();
        let failed = |step| move |error: rustix::io::Errno| ProcessError::Spawn { step, source: error.into() };
        let encode = |task| move |reason| ProcessError::Encode { what: Payload::Arguments, task, reason };
        let called = |task, hook: &Option<Hook>| match hook {
            None => Ok(None),
            Some(hook) => {
                let encoded = (hook.encode)(&membership.child).map_err(encode(task));
                encoded.map(|arguments| Some((hook.function, arguments)))
            }
        };
        let spec = Spec {
            worker,
            line: self.lines[worker].0,
            hands: self.lines[worker].1.clone(),
            for_suspects: worker == self.workers,
            plan: self.plan,
            nice: self.nice,
            cores: self.cores.clone(),
            folder: self.folder.clone(),
            captured: self.capture.is_some(),
            recycle_after: self.recycle_after,
            memory_limit: self.memory_limit,
            initializer: called("the pool's initializer", &self.initializer)?,
            on_exit: called("the pool's exit hook", &self.on_exit)?,
        };
        let bytes = spec.to_bytes().map_err(encode("a worker's settings"))?;
        let (ears, mouth) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("a pipe"))?;
        let (ears, mouth) = (off_stdio(ears), above_stdio(mouth).map_err(failed("a pipe"))?);
        rustix::io::ioctl_fionbio(&ears, true).map_err(failed("a pipe"))?;
        let memory: OwnedFd = rustix::io::fcntl_dupfd_cloexec(memory, 3).map_err(failed("the pool's memory"))?;
        let name = format!("{}-{worker}", self.name);
        let mut birth = Birth::new(u32::MAX, Some(name), bytes, self.handshake, membership);
        birth.set_variables(&self.variables);
        let watched =
            Worker { watcher, ears, passed_on: self.capture.is_none(), most: self.capture.unwrap_or(LAST_WORDS) };
        birth.worker = Some((vec![memory, mouth], watched));
        let (pid, _, record) = supervisor.start(birth, "a pool's worker")?;
        Ok((pid, record))
    }
}

/// What a message may have at most, where the address space allows it.
pub(super) const PAYLOAD: usize = 64 << 20;

/// The encoder of a hook's arguments. It runs on the pool's own thread, which others' code must not end.
pub(super) fn hook<A: serde::Serialize + Send + Sync + 'static>(function: u32, arguments: A) -> Hook {
    Hook {
        function,
        encode: Box::new(move |seat| {
            let encoded = guarded(|| codec::encode(&arguments, seat));
            encoded.unwrap_or_else(|panic| Err(format!("it panicked: {}", message(panic))))
        }),
    }
}
