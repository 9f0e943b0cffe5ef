//! What all threads of a process share of its children: who lives, what children are given, what is waited for.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::pipe::PipeFlags;

use super::birth::{Birth, Legacy, Program};
use super::channel;
use super::charge::Charge;
use super::error::ProcessError;
use super::graveyard::Graveyard;
use super::keeper::Keeper;
use super::membership;
use super::record::{Phase, Record};
use crate::os::launch::BlockedSignals;
use crate::primitive::plain::{Mutex, MutexGuard, OnceLock};
use crate::shm;

/// All that starts and keeps a process's children.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The process that it works for; a forked copy of that process has no keeper.
    pid: u32,
    program: Program,
    charges: Mutex<Charges>,
    /// All that live, in the order of their starts.
    living: Mutex<Vec<Arc<Record>>>,
    /// What the keeper waits on.
    pub(super) watch: OwnedFd,
    /// Makes the keeper look at the clock.
    pub(super) wake: OwnedFd,
    /// Whether this is the first process of its tree.
    is_root: bool,
    /// Where members of the shared memory are reported: at the root.
    reports: OwnedFd,
    /// A pipe that nobody writes to. Children have its reading end, and are killed by the system when nobody has the
    /// writing end any more: when this process has gone.
    lifeline: OwnedFd,
    _alive: OwnedFd,
}

/// Children that run.
#[derive(Debug)]
pub(super) struct Charges {
    /// By number. One that a thread has in hand is not here.
    pub(super) all: HashMap<u64, Charge>,
    next: u64,
    /// When the keeper looks at the clock next, if at all.
    pub(super) next_look: Option<Instant>,
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();
/// Held while it is made.
static MAKING: Mutex<()> = Mutex::new(());

/// What the keeper hears of. A child's tokens are four times its number and these.
pub(super) const WAKE: u64 = 0;
pub(super) const REPORTS: u64 = 1;
const NUMBERED: u64 = 16;

/// What an event of a numbered thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A child's socket.
    Socket = 0,
    /// A child's end.
    End = 1,
    /// The end of a member further down.
    Member = 2,
    /// A child's standard error.
    Ears = 3,
}

impl Source {
    pub(super) fn token(self, number: u64) -> u64 {
        NUMBERED + 4 * number + self as u64
    }

    pub(super) fn of(token: u64) -> Option<(Self, u64)> {
        let token = token.checked_sub(NUMBERED)?;
        let source = [Self::Socket, Self::End, Self::Member, Self::Ears]
            .into_iter()
            .find(|source| *source as u64 == token % 4)?;
        Some((source, token / 4))
    }
}

/// The supervisor of this process, made at first use.
pub(super) fn get() -> Result<&'static Supervisor, ProcessError> {
    let known = || SUPERVISOR.get().map(|it| if it.is_ours() { Ok(it) } else { Err(ProcessError::Forked) });
    if let Some(known) = known() {
        return known;
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    known().unwrap_or_else(make)
}

fn make() -> Result<&'static Supervisor, ProcessError> {
    let failed = |step| move |error: Errno| ProcessError::Spawn { step, source: error.into() };
    let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let wake = wake.map_err(failed("a descriptor to wake by"))?;
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("a descriptor to wait on"))?;
    let add = |fd: &OwnedFd, token| {
        epoll::add(&watch, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN).map_err(failed("waiting"))
    };
    add(&wake, WAKE)?;
    // Who was given nowhere to report to is a root.
    let (reports, reported) = match super::child::reports() {
        Some(reports) => (rustix::io::fcntl_dupfd_cloexec(reports, 3).map_err(failed("where to report to"))?, None),
        None => {
            let (here, reports) = channel::pair(SocketType::DGRAM).map_err(failed("a socket for reports"))?;
            add(&here, REPORTS)?;
            (reports, Some(here))
        }
    };
    let (lifeline, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed("a pipe"))?;
    let supervisor = Supervisor {
        pid: std::process::id(),
        program: Program::open()?,
        charges: Mutex::new(Charges { all: HashMap::new(), next: 0, next_look: None }),
        living: Mutex::new(Vec::new()),
        watch,
        wake,
        is_root: reported.is_some(),
        reports,
        lifeline: channel::above_stdio(lifeline).map_err(failed("a pipe"))?,
        _alive: channel::above_stdio(alive).map_err(failed("a pipe"))?,
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

impl Supervisor {
    fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(super) fn charges(&self) -> MutexGuard<'_, Charges> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> MutexGuard<'_, Vec<Arc<Record>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child that will run `task`, on the calling thread: its id, its number here, and its record.
    pub(super) fn start(
        &'static self,
        mut birth: Birth,
        task: &'static str,
    ) -> Result<(u32, u64, Arc<Record>), ProcessError> {
        let legacy = Legacy { lifeline: self.lifeline.as_fd(), reports: self.reports.as_fd() };
        let mut charge = birth.start(task, &self.program, legacy)?;
        // First the root knows whose death to watch; only then can the child reach what is shared.
        if let Some(member) = birth.membership.member()
            && !self.is_root
            && let Err(error) = membership::report(&self.reports, member, charge.pid(), charge.pidfd())
        {
            charge.abandon();
            return Err(ProcessError::Spawn { step: "telling the first of all parents", source: error.into() });
        }
        charge.member = birth.membership.member();
        let (pid, record) = (charge.pid(), Arc::clone(charge.record()));
        self.living().push(Arc::clone(&record));
        let number = {
            let mut charges = self.charges();
            charges.next += 1;
            charges.next
        };
        if let Err((charge, error)) = self.take(charge, number) {
            self.living().retain(|other| !Arc::ptr_eq(other, &record));
            charge.abandon();
            return Err(ProcessError::Spawn { step: "watching the child", source: error.into() });
        }
        birth.membership.started();
        Ok((pid, number, record))
    }

    /// Puts a child into the keeper's care, under its number.
    #[expect(clippy::result_large_err, reason = "the child comes back, once in a blue moon")]
    pub(super) fn take(&self, mut charge: Charge, number: u64) -> Result<(), (Charge, Errno)> {
        // Held until it is listed: the keeper finds it, however soon it ends.
        let mut charges = self.charges();
        let add = |fd: BorrowedFd<'_>, source: Source, room: epoll::EventFlags| {
            epoll::add(&self.watch, fd, epoll::EventData::new_u64(source.token(number)), epoll::EventFlags::IN | room)
        };
        let room = if charge.wants_room() { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let watched = add(charge.pidfd(), Source::End, epoll::EventFlags::empty())
            .and_then(|()| charge.socket().map_or(Ok(()), |socket| add(socket, Source::Socket, room)))
            .and_then(|()| charge.ears().map_or(Ok(()), |ears| add(ears, Source::Ears, epoll::EventFlags::empty())));
        if let Err(error) = watched {
            self.let_go(&charge);
            return Err((charge, error));
        }
        self.speak(&mut charge, number);
        let sooner = charge.deadline().is_some_and(|at| charges.next_look.is_none_or(|look| at < look));
        charges.all.insert(number, charge);
        drop(charges);
        if sooner {
            // Can only fail where the count is at its end, and then it is readable.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
        Ok(())
    }

    /// The keeper hears of it no more.
    pub(super) fn let_go(&self, charge: &Charge) {
        let _ = epoll::delete(&self.watch, charge.pidfd());
        let _ = charge.socket().map(|socket| epoll::delete(&self.watch, socket));
        let _ = charge.ears().map(|ears| epoll::delete(&self.watch, ears));
    }

    /// Its end was seen: reaps it, and lets whoever waits know.
    pub(super) fn bury(&self, charge: Charge) {
        let end = charge.reap();
        // What it held is swept before anybody hears of its end. Elsewhere than at the root it is the root that sweeps.
        charge.member.filter(|_| self.is_root).into_iter().for_each(shm::member_died);
        self.living().retain(|other| !Arc::ptr_eq(other, charge.record()));
        charge.tell(end);
    }

    /// Says what the child has still to hear, and has the keeper wait for room where there is none.
    pub(super) fn speak(&self, charge: &mut Charge, number: u64) {
        if let Some((socket, for_room)) = charge.speak() {
            let room = if for_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(Source::Socket.token(number));
            let _ = epoll::modify(&self.watch, socket, data, epoll::EventFlags::IN | room);
        }
    }
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
mod tests {
    use super::{REPORTS, Source, WAKE};

    #[test]
    fn tokens_say_what_they_stand_for() {
        assert_eq!((Source::of(WAKE), Source::of(REPORTS)), (None, None));
        for source in [Source::Socket, Source::End, Source::Member, Source::Ears] {
            for number in [0, 1, 7, u64::from(u32::MAX)] {
                assert_eq!(Source::of(source.token(number)), Some((source, number)));
            }
        }
    }
}
