//! The root's: members further down the tree, each with the descriptor that tells its end.
//!
//! What a process held of the shared memory is swept by the root alone, for it lives as long as anybody does.

use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::membership;
use super::source::{self, Source};
use crate::os::process::off_stdio;
use crate::shm::{self, Member};

/// When to look again at what could not be watched.
const A_WHILE: Duration = Duration::from_millis(20);

/// Members that other processes than the root have started.
pub(super) struct Graveyard {
    /// Where they are reported.
    reports: OwnedFd,
    watched: HashMap<u64, (OwnedFd, Member)>,
    next: u64,
    /// Those for which there was no descriptor left, and those that were never started.
    unwatched: Vec<(u32, Member)>,
}

impl Graveyard {
    pub(super) fn new(reports: OwnedFd) -> Self {
        Self { reports, watched: HashMap::new(), next: 0, unwatched: Vec::new() }
    }

    /// Takes in reports, and has each new member's end waited for under the next number.
    pub(super) fn hear(&mut self, watch: &OwnedFd) {
        while let Some(report) = membership::next_report(&self.reports) {
            match report.pidfd {
                Some(pidfd) => self.watch(watch, (pidfd, report.pid, report.member)),
                None => self.unwatched.push((report.pid, report.member)),
            }
        }
    }

    fn watch(&mut self, watch: &OwnedFd, (pidfd, pid, member): (OwnedFd, u32, Member)) {
        let number = self.next;
        self.next += 1;
        let data = epoll::EventData::new_u64(Source::Member.token(number));
        match epoll::add(watch, &pidfd, data, epoll::EventFlags::IN) {
            Ok(()) => drop(self.watched.insert(number, (pidfd, member))),
            Err(_) => self.unwatched.push((pid, member)),
        }
    }

    /// A member has ended: what it held is swept.
    pub(super) fn bury(&mut self, watch: &OwnedFd, number: u64) {
        if let Some((pidfd, member)) = self.watched.remove(&number) {
            source::close(watch, pidfd);
            shm::member_died(member);
        }
    }

    /// How long until there may be room again for descriptors that are wanting.
    pub(super) fn look_in(&self) -> Option<Duration> {
        (!self.unwatched.is_empty()).then_some(A_WHILE)
    }

    pub(super) fn look_again(&mut self, watch: &OwnedFd) {
        for (pid, member) in core::mem::take(&mut self.unwatched) {
            let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
            match number.map(|number| pidfd_open(number, PidfdFlags::empty())) {
                Some(Ok(pidfd)) => self.watch(watch, (off_stdio(pidfd), pid, member)),
                // It is gone, or never was.
                None | Some(Err(Errno::SRCH)) => shm::member_died(member),
                Some(Err(_)) => self.unwatched.push((pid, member)),
            }
        }
    }
}
