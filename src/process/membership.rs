//! A child's seat in the memory that all processes of a tree share, and the word about its end that goes to the root.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{channel, child};
use crate::shm::{self, Member};

/// Whether a process is a member of the shared memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seat {
    Taken(Member),
    /// It has none, for this reason. It works all the same, but no handle can travel to it.
    None(String),
}

impl Seat {
    /// As it travels: index and generation. The index is beyond all members where there is no seat.
    pub(super) fn to_numbers(&self) -> (u32, u32) {
        match self {
            Self::Taken(member) => (u32::from(member.index), member.generation),
            Self::None(_) => (u32::MAX, 0),
        }
    }

    /// This process's own: for what it keeps until one of its children takes it, or itself. What nobody took is swept with it.
    pub(super) fn own() -> Self {
        shm::here().map_or_else(|error| Self::None(error.to_string()), |here| Self::Taken(here.member()))
    }

    /// The parent's, in a child that could not join its memory.
    pub(super) fn apart(error: &shm::ShmError) -> Self {
        let advice = match error {
            shm::ShmError::AlreadyAMember => ": make no queue, lock, pipe or slice before `millpond::process::init()`",
            _ => "",
        };
        Self::None(format!("the child could not join its parent's memory, for {error}{advice}"))
    }

    pub(super) fn from_numbers((index, generation): (u32, u32)) -> Self {
        match index.try_into() {
            Ok(index) => Self::Taken(Member { index, generation }),
            Err(_) => Self::None("this process shares no memory with its parent".to_owned()),
        }
    }
}

/// The seats of a child that is about to start and of its parent. The child's is given up unless it was started.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) child: Seat,
    pub(super) parent: Seat,
    started: bool,
}

impl Membership {
    /// Takes a seat for a child, if the memory can be had.
    pub(super) fn enlist() -> Self {
        let seats = || Ok::<_, shm::ShmError>((shm::enlist()?, shm::here()?.member()));
        match seats() {
            Ok((child, parent)) => Self { child: Seat::Taken(child), parent: Seat::Taken(parent), started: false },
            Err(error) => {
                let none = Seat::None(error.to_string());
                Self { child: none.clone(), parent: none, started: false }
            }
        }
    }

    /// The memory's descriptor, for a child with a seat.
    pub(super) fn memory(&self) -> Option<BorrowedFd<'static>> {
        matches!(self.child, Seat::Taken(_)).then(shm::share).and_then(Result::ok)
    }

    /// The child runs: what becomes of its seat is decided at its end.
    pub(super) fn started(&mut self) {
        self.started = true;
    }

    pub(super) fn member(&self) -> Option<Member> {
        match self.child {
            Seat::Taken(member) => Some(member),
            Seat::None(_) => None,
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some(member) = self.member().filter(|_| !self.started) else { return };
        match child::reports() {
            // What the root is not told now, it sweeps when this process ends.
            Some(reports) => drop(report(reports, member, None)),
            None => shm::member_died(member),
        }
    }
}

/// The word that a member lives, with the descriptor that tells its end; or that it was never started.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) member: Member,
    /// 0: it was never started.
    pub(super) pid: u32,
    /// None if this process had no room for it.
    pub(super) pidfd: Option<OwnedFd>,
}

/// Bytes of a report: index 4, generation 4, process 4.
const REPORT: usize = 12;

/// Tells the root of a member that lives, or, without a process, that was never started. It stays told, also if this process
/// dies the next moment.
pub(super) fn report(to: &OwnedFd, member: Member, process: Option<(u32, BorrowedFd<'_>)>) -> Result<(), Errno> {
    let (pid, pidfd) = process.unzip();
    let mut bytes = [0; REPORT];
    bytes[..4].copy_from_slice(&u32::from(member.index).to_le_bytes());
    bytes[4..8].copy_from_slice(&member.generation.to_le_bytes());
    bytes[8..].copy_from_slice(&pid.unwrap_or(0).to_le_bytes());
    channel::send(to, &bytes, pidfd.as_slice()).map(drop)
}

/// The next report that somebody sent; what is none is passed over. None if there are no more.
pub(super) fn next_report(from: &OwnedFd) -> Option<Report> {
    loop {
        let mut bytes = [0; REPORT];
        let mut descriptors = Vec::new();
        let len = channel::receive(from, &mut bytes, &mut descriptors).ok()?;
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if len == REPORT
            && let Ok(index) = four(0).try_into()
        {
            let member = Member { index, generation: four(4) };
            return Some(Report { member, pid: four(8), pidfd: descriptors.pop() });
        }
    }
}
