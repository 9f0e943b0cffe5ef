//! A child that runs, as the supervisor sees it: what it still has to hear, what it has said, and its end.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::channel;
use super::codec::Arrived;
use super::record::{Outcome, Record};
use super::registry::Identity;
use super::wire::{Kind, Message, Reader, difference};
use crate::os::launch::Launched;
use crate::os::process::{End, kill_group, peek, reap};
use crate::shm::Member;

/// A child in the supervisor's care.
#[derive(Debug)]
pub(super) struct Charge {
    record: Arc<Record>,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    /// None once the child closed its end.
    socket: Option<OwnedFd>,
    /// Whom it has to be.
    identity: Identity,
    /// What it is told, and how much of that it was.
    words: Vec<u8>,
    /// What it is given with the first of that.
    descriptors: Vec<BorrowedFd<'static>>,
    said: usize,
    waits_for_room: bool,
    reader: Reader,
    /// When it has to be ready, and how long that is after its start.
    deadline: Option<(Instant, Duration)>,
    outcome: Outcome,
    /// Who it is in the shared memory.
    pub(super) member: Option<Member>,
}

impl Charge {
    /// A child that was started just now, has to be `identity`, and is told `words` and given `descriptors`.
    pub(super) fn new(
        task: &'static str,
        launched: Launched,
        socket: OwnedFd,
        identity: Identity,
        (words, descriptors): (Vec<u8>, Vec<BorrowedFd<'static>>),
        deadline: Option<(Instant, Duration)>,
    ) -> Self {
        let pidfd = Arc::new(launched.pidfd);
        Self {
            record: Arc::new(Record::new(task, launched.pid, Arc::clone(&pidfd))),
            pid: launched.pid,
            pidfd,
            socket: Some(socket),
            identity,
            words,
            descriptors,
            said: 0,
            waits_for_room: false,
            reader: Reader::default(),
            deadline,
            outcome: Outcome::NeverReady { late: None },
            member: None,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its greeting was heard, and good.
    fn is_ready(&self) -> bool {
        !matches!(self.outcome, Outcome::NeverReady { .. })
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// When it has to be ready, while it isn't.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    /// Kills it if it is late.
    pub(super) fn check_deadline(&mut self, now: Instant) {
        if let Some((at, after)) = self.deadline
            && now >= at
        {
            self.give_up(Outcome::NeverReady { late: Some(after) });
        }
    }

    /// Kills it, for a reason that its end won't tell.
    fn give_up(&mut self, why: Outcome) {
        self.outcome = why;
        self.deadline = None;
        self.socket = None;
        let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
    }

    /// Says what fits into the socket. Whether more is to be said.
    fn say(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        while self.said < self.words.len() {
            match channel::send(socket, &self.words[self.said..], &self.descriptors) {
                Ok(sent) => {
                    self.said += sent;
                    self.descriptors.clear();
                }
                Err(Errno::AGAIN) => return true,
                // It is gone or has closed its end: that is heard elsewhere.
                Err(_) => break,
            }
        }
        self.words = Vec::new();
        self.said = 0;
        false
    }

    /// Says what there is to say. The socket, if it has to be watched for room from now on (true) or no longer (false).
    pub(super) fn speak(&mut self) -> Option<(BorrowedFd<'_>, bool)> {
        let more = self.say();
        if core::mem::replace(&mut self.waits_for_room, more) == more {
            return None;
        }
        self.socket().map(|socket| (socket, more))
    }

    /// Whether it has more to hear than the socket takes now.
    pub(super) fn wants_room(&self) -> bool {
        self.waits_for_room
    }

    /// Takes in what the child has said.
    pub(super) fn hear(&mut self, scratch: &mut [u8]) {
        let mut descriptors = Vec::new();
        while let Some(socket) = &self.socket {
            match channel::receive(socket, scratch, &mut descriptors) {
                Ok(0) => self.socket = None,
                Ok(len) => self.take_in(&scratch[..len]),
                Err(Errno::AGAIN) => return,
                Err(_) => self.socket = None,
            }
            // Nobody sends us any here.
            descriptors.clear();
        }
    }

    fn take_in(&mut self, mut bytes: &[u8]) {
        while self.socket.is_some() {
            match self.reader.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Message::Greeting(greeting))) => match difference(self.identity, greeting.identity) {
                    None => {
                        self.deadline = None;
                        self.outcome = Outcome::Nothing;
                    }
                    Some(difference) => self.give_up(Outcome::OtherBuild(difference)),
                },
                Ok(Some(Message::Frame(kind, content))) => {
                    let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
                    match kind {
                        Kind::Returned => self.outcome = Outcome::Returned(Arrived::new(content)),
                        Kind::Panicked => self.outcome = Outcome::Panicked(text(content)),
                        Kind::Undecodable => self.outcome = Outcome::Undecodable(text(content)),
                        Kind::Unencodable => self.outcome = Outcome::Unencodable(text(content)),
                        Kind::Job => self.give_up(Outcome::Rubbish),
                    }
                }
                Err(_) if self.is_ready() => self.give_up(Outcome::Rubbish),
                Err(_) => {
                    self.give_up(Outcome::OtherBuild("it answers with something else than a greeting".to_owned()))
                }
            }
        }
    }

    /// Its end was seen: kills what is left of its group unless it ended by itself, and reaps it.
    pub(super) fn reap(&self) -> End {
        let end = peek(self.pidfd());
        let by_itself = end.exited() && !matches!(self.outcome, Outcome::NeverReady { .. } | Outcome::OtherBuild(_));
        if !by_itself {
            kill_group(self.pidfd(), self.pid, matches!(end, End::Status(_)));
        }
        reap(self.pidfd());
        end
    }

    /// Lets whoever waits for its end know: nothing of it is left here by then, no descriptor either.
    pub(super) fn tell(self, end: End) {
        let Self { record, outcome, pidfd, socket, .. } = self;
        drop((pidfd, socket));
        record.ended(end, outcome);
    }

    /// Ends a child that nobody will ever know of.
    pub(super) fn abandon(self) {
        let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
        crate::os::process::wait(self.pidfd());
    }
}
