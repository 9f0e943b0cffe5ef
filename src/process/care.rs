//! What all threads of a process share of its children: who lives, what children are given, in whose hands they are.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;

use super::birth::{Birth, Legacy, Program};
use super::charge::Charge;
use super::error::ProcessError;
use super::membership;
use super::record::Record;
use super::source::Source;
use crate::primitive::plain::{Mutex, MutexGuard};
use crate::shm;

/// All that starts and keeps a process's children.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The process that it works for; a forked copy of that process has no keeper.
    pub(super) pid: u32,
    pub(super) program: Program,
    pub(super) charges: Mutex<Charges>,
    /// All that live, in the order of their starts.
    pub(super) living: Mutex<Vec<Arc<Record>>>,
    /// What the keeper waits on.
    pub(super) watch: OwnedFd,
    /// Makes the keeper look at the clock.
    pub(super) wake: OwnedFd,
    /// Whether this is the first process of its tree.
    pub(super) is_root: bool,
    /// Where members of the shared memory are reported: at the root.
    pub(super) reports: OwnedFd,
    /// A pipe that nobody writes to. Children have its reading end, and are killed by the system when nobody has the
    /// writing end any more: when this process has gone.
    pub(super) lifeline: OwnedFd,
    pub(super) _alive: OwnedFd,
}

/// Children that run.
#[derive(Debug)]
pub(super) struct Charges {
    /// By number. One that a thread has in hand is not here.
    pub(super) all: HashMap<u64, Charge>,
    pub(super) next: u64,
    /// When the keeper looks at the clock next, if at all.
    pub(super) next_look: Option<Instant>,
}

impl Supervisor {
    pub(super) fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(super) fn charges(&self) -> MutexGuard<'_, Charges> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn living(&self) -> MutexGuard<'_, Vec<Arc<Record>>> {
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
        let member = birth.membership.member();
        // Before anybody can hear of its end.
        member.into_iter().for_each(|member| shm::started(member, charge.pid()));
        let never_started = || member.into_iter().for_each(|member| shm::started(member, 0));
        if let Some(member) = member
            && !self.is_root
            && let Err(error) = membership::report(&self.reports, member, Some((charge.pid(), charge.pidfd())))
        {
            never_started();
            charge.abandon();
            return Err(ProcessError::Spawn { step: "telling the first of all parents", source: error.into() });
        }
        charge.member = member;
        let (pid, record) = (charge.pid(), Arc::clone(charge.record()));
        self.living().push(Arc::clone(&record));
        let number = {
            let mut charges = self.charges();
            charges.next += 1;
            charges.next
        };
        if let Err((charge, error)) = self.take(charge, number) {
            self.living().retain(|other| !Arc::ptr_eq(other, &record));
            never_started();
            charge.abandon();
            return Err(error);
        }
        birth.membership.started();
        Ok((pid, number, record))
    }

    /// Puts a child into the keeper's care, under its number, and says what it has still to hear.
    #[expect(clippy::result_large_err, reason = "the child comes back, once in a blue moon")]
    pub(super) fn take(&self, mut charge: Charge, number: u64) -> Result<(), (Charge, ProcessError)> {
        // Held until it is listed: the keeper finds it, however soon it ends.
        let mut charges = self.charges();
        let add = |fd: BorrowedFd<'_>, source: Source, room: epoll::EventFlags| {
            epoll::add(&self.watch, fd, epoll::EventData::new_u64(source.token(number)), epoll::EventFlags::IN | room)
        };
        let room = if charge.wants_room() { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let watched = add(charge.pidfd(), Source::End, epoll::EventFlags::empty())
            .and_then(|()| charge.socket().map_or(Ok(()), |socket| add(socket, Source::Socket, room)))
            .and_then(|()| charge.ears().map_or(Ok(()), |ears| add(ears, Source::Ears, epoll::EventFlags::empty())));
        let failed = |step| move |error: Errno| ProcessError::Spawn { step, source: error.into() };
        let told = watched.map_err(failed("watching the child")).and_then(|()| {
            self.speak(&mut charge, number);
            charge.refused().map_or(Ok(()), Err).map_err(failed("telling the child"))
        });
        if let Err(error) = told {
            self.let_go(&charge);
            return Err((charge, error));
        }
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
        // Closing is not enough: a forked copy of this process may hold its descriptors too.
        self.let_go(&charge);
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
