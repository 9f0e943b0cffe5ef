//! The one thread of each process that starts its children, hears them, and reaps them.
//!
//! It alone starts them, and never ends: the signal of a parent's death is sent when the *thread* that started the
//! child ends.

use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::pipe::PipeFlags;

use super::birth::{Birth, Legacy, Program};
use super::charge::Charge;
use super::error::ProcessError;
use super::graveyard::Graveyard;
use super::record::{Phase, Record};
use super::{channel, membership};
use crate::os::launch::{BlockedSignals, Stack};
use crate::primitive::{Mutex, OnceLock};
use crate::shm;

/// What other threads see of the supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The process that it works for; a forked copy of that process has no such thread.
    pid: u32,
    /// Requests that the thread hasn't seen.
    inbox: Mutex<Vec<(Birth, Arc<Record>)>>,
    /// Readable while the inbox has something.
    wake: OwnedFd,
    /// All that were asked for and have not ended.
    living: Mutex<Vec<Arc<Record>>>,
    /// Where members of the shared memory are reported: at the root of the tree.
    reports: OwnedFd,
    /// A pipe that nobody writes to: children hang on its reading end, and die when this process has gone and with it
    /// the writing end.
    lifeline: OwnedFd,
    _alive: OwnedFd,
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();
/// Held while the thread is being made.
static MAKING: Mutex<()> = Mutex::new(());

/// The supervisor of this process, made at first use.
pub(super) fn get() -> Result<&'static Supervisor, ProcessError> {
    if let Some(supervisor) = SUPERVISOR.get() {
        return if supervisor.pid == std::process::id() { Ok(supervisor) } else { Err(ProcessError::Forked) };
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(supervisor) = SUPERVISOR.get() {
        return Ok(supervisor);
    }
    let failed = |step, source| ProcessError::Spawn { step, source };
    let spawn = |step| move |error: Errno| failed(step, error.into());
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)
        .map_err(spawn("a descriptor for requests"))?;
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(spawn("a descriptor to wait on"))?;
    let add = |fd: &OwnedFd, token| epoll::add(&watch, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN);
    add(&wake, WAKE).map_err(spawn("waiting for requests"))?;
    // Who was given nowhere to report to is a root.
    let (reports, reported) = match super::child::reports() {
        Some(reports) => (reports.try_clone().map_err(|error| failed("where to report to", error))?, None),
        None => {
            let (here, reports) = channel::pair(SocketType::DGRAM).map_err(spawn("a socket for reports"))?;
            add(&here, REPORTS).map_err(spawn("waiting for reports"))?;
            (reports, Some(here))
        }
    };
    let (lifeline, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(spawn("a pipe to hang on"))?;
    let lifeline = channel::above_stdio(lifeline).map_err(spawn("a pipe to hang on"))?;
    let alive = channel::above_stdio(alive).map_err(spawn("a pipe to hang on"))?;
    let program = Program::open()?;
    let keeper = Keeper {
        watch,
        program,
        stack: Stack::new(),
        graveyard: reported.map(Graveyard::new),
        charges: HashMap::new(),
        next: 0,
        scratch: vec![0; 64 * 1024],
    };
    if !crate::os::process::at_exit(wait_for_all) {
        let source = std::io::Error::other("the list of things to do at the end is full");
        return Err(ProcessError::Spawn { step: "waiting at the end of main", source });
    }
    // The thread inherits that nothing interrupts it: signals are for the host program's threads.
    let blocked = BlockedSignals::all();
    let (to, from) = std::sync::mpsc::sync_channel(1);
    let made = std::thread::Builder::new().name("millpond-keeper".to_owned()).stack_size(128 * 1024).spawn(move || {
        if let Ok(supervisor) = from.recv() {
            keeper.run(supervisor);
        }
    });
    drop(blocked);
    made.map_err(|source| ProcessError::Spawn { step: "a thread to watch over children", source })?;
    let supervisor = SUPERVISOR.get_or_init(|| Supervisor {
        pid: std::process::id(),
        inbox: Mutex::new(Vec::new()),
        wake,
        living: Mutex::new(Vec::new()),
        reports,
        lifeline,
        _alive: alive,
    });
    let _ = to.send(supervisor);
    Ok(supervisor)
}

impl Supervisor {
    /// Has a child started; [`Record::wait_started`] says what came of it.
    pub(super) fn ask(&self, birth: Birth, record: &Arc<Record>) {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(record));
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push((birth, Arc::clone(record)));
        // Can only fail where the count is at its end, and then it is readable.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// What each child gets: what it hangs on, and where it reports members.
    fn legacy(&'static self) -> Legacy {
        Legacy { lifeline: self.lifeline.as_fd(), reports: self.reports.as_fd() }
    }

    fn forget(&self, record: &Arc<Record>) {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, record));
    }

    fn living(&self) -> Vec<Arc<Record>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The ids of all children that were started and have not ended, in the order of their starts.
pub(super) fn children() -> Vec<u32> {
    let Some(supervisor) = SUPERVISOR.get().filter(|supervisor| supervisor.pid == std::process::id()) else {
        return Vec::new();
    };
    let pid = |record: &Arc<Record>| match record.state().phase {
        Phase::Started { pid, .. } => Some(pid),
        _ => None,
    };
    supervisor.living().iter().filter_map(pid).collect()
}

/// Whether this process is a forked copy of one that has a supervisor.
pub(super) fn forked() -> bool {
    SUPERVISOR.get().is_some_and(|supervisor| supervisor.pid != std::process::id())
}

/// At the end of `main`: waits for the children that nobody waited for, but for detached ones.
extern "C" fn wait_for_all() {
    let Some(supervisor) = SUPERVISOR.get().filter(|supervisor| supervisor.pid == std::process::id()) else { return };
    for record in supervisor.living() {
        let detached = record.state().detached;
        if !detached {
            drop(record.wait_ended(None));
        }
    }
}

const WAKE: u64 = 0;
const REPORTS: u64 = 2;
/// Tokens of a child are four times its number and this: for its socket, and one more for its end. Two more is the end
/// of a member further down.
const NUMBERED: u64 = 16;
const SOCKET: u64 = 0;
const END: u64 = 1;
const MEMBER: u64 = 2;

fn token(number: u64, what: u64) -> u64 {
    NUMBERED + 4 * number + what
}

fn member_token(number: u64) -> u64 {
    token(number, MEMBER)
}

/// The thread's own state.
struct Keeper {
    watch: OwnedFd,
    program: Program,
    stack: Stack,
    /// At the root.
    graveyard: Option<Graveyard>,
    charges: HashMap<u64, Charge>,
    next: u64,
    scratch: Vec<u8>,
}

impl Keeper {
    fn run(mut self, supervisor: &'static Supervisor) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let limit = self.time_left();
            match epoll::wait(&self.watch, rustix::buffer::spare_capacity(&mut events), limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Nothing that we pass is wrong; don't spin if the system thinks so.
                Err(_) => std::thread::yield_now(),
            }
            for event in &events {
                let event: &epoll::Event = event;
                match event.data.u64() {
                    WAKE => self.start_asked(supervisor),
                    REPORTS => {
                        if let Some(members) = &mut self.graveyard {
                            members.hear(&self.watch, &mut self.next, member_token);
                        }
                    }
                    token => self.hear(supervisor, token),
                }
            }
            self.check_deadlines();
            if let Some(members) = &mut self.graveyard {
                members.look_again(&self.watch, &mut self.next, member_token);
            }
        }
    }

    fn start_asked(&mut self, supervisor: &'static Supervisor) {
        let _ = rustix::io::read(&supervisor.wake, &mut [0_u8; 8]);
        let asked = core::mem::take(&mut *supervisor.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for (birth, record) in asked {
            let id = self.next;
            self.next += 1;
            match self.start(supervisor, id, birth, &record) {
                Ok(charge) => {
                    self.charges.insert(id, charge);
                }
                Err(error) => {
                    supervisor.forget(&record);
                    record.advance(Phase::Refused(Some(error)));
                }
            }
        }
    }

    fn start(
        &mut self,
        supervisor: &'static Supervisor,
        id: u64,
        mut birth: Birth,
        record: &Arc<Record>,
    ) -> Result<Charge, ProcessError> {
        let mut charge = birth.start(&self.program, supervisor.legacy(), &mut self.stack, record)?;
        let watch = |fd, token| epoll::add(&self.watch, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN);
        let watched = watch(charge.pidfd(), token(id, END))
            .and_then(|()| charge.socket().map_or(Ok(()), |fd| watch(fd, token(id, SOCKET))));
        if let Err(error) = watched {
            charge.abandon();
            return Err(ProcessError::Spawn { step: "watching the child", source: error.into() });
        }
        // First the root knows whose death to watch; only then can the child reach what is shared.
        if let Some(member) = birth.membership.member()
            && self.graveyard.is_none()
            && let Err(error) = membership::report(&supervisor.reports, member, charge.pid(), charge.pidfd())
        {
            charge.abandon();
            return Err(ProcessError::Spawn { step: "telling the first of all parents", source: error.into() });
        }
        charge.member = birth.membership.started();
        record.advance(charge.started());
        self.speak(&mut charge, token(id, SOCKET));
        Ok(charge)
    }

    /// Says what the child has still to hear, and waits for room where there is none.
    fn speak(&self, charge: &mut Charge, token: u64) {
        if let Some((socket, for_room)) = charge.speak() {
            let room = if for_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let _ = epoll::modify(&self.watch, socket, epoll::EventData::new_u64(token), epoll::EventFlags::IN | room);
        }
    }

    fn hear(&mut self, supervisor: &Supervisor, token: u64) {
        let (id, what) = ((token - NUMBERED) / 4, (token - NUMBERED) % 4);
        if what == MEMBER {
            if let Some(members) = &mut self.graveyard {
                members.bury(id);
            }
            return;
        }
        let ended = what == END;
        // Gone already: its end was in the same batch.
        let Some(mut charge) = self.charges.remove(&id) else { return };
        charge.hear(&mut self.scratch);
        if ended {
            let record = Arc::clone(charge.record());
            let member = charge.member.filter(|_| self.graveyard.is_some());
            let phase = charge.bury();
            // Elsewhere than at the root it is the root that sweeps.
            member.into_iter().for_each(shm::member_died);
            supervisor.forget(&record);
            record.advance(phase);
        } else {
            self.speak(&mut charge, token);
            self.charges.insert(id, charge);
        }
    }

    fn time_left(&self) -> Option<Timespec> {
        let deadline = self.charges.values().filter_map(Charge::deadline).min();
        // One more, so that the deadline has passed when we wake.
        let moment = Duration::from_millis(1);
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()).saturating_add(moment));
        let again = self.graveyard.as_ref().and_then(Graveyard::look_in);
        Timespec::try_from(left.into_iter().chain(again).min()?).ok()
    }

    fn check_deadlines(&mut self) {
        if self.charges.values().all(|charge| charge.deadline().is_none()) {
            return;
        }
        let now = Instant::now();
        for charge in self.charges.values_mut() {
            charge.check_deadline(now);
        }
    }
}
