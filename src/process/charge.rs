//! A child that runs, as the supervisor sees it: what it still has to hear, what it has said, and its end.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::channel;
use super::codec::Arrived;
use super::record::{Outcome, Record, Watcher};
use super::registry::Identity;
use super::source;
use super::turn::Turn;
use super::wire::{Kind, Message, Reader, difference};
use crate::os::launch::Launched;
use crate::os::process::{End, kill_group, peek, reap};
use crate::shm::Member;

/// What a pipe takes at once, in bytes, if it says that it has room.
const A_WRITE: usize = 4096;

/// Whether writing to our standard error waits for nobody, or fails.
pub(super) fn stderr_has_room() -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut stderr = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    poll(&mut stderr, Some(&now)).is_ok_and(|ready| ready > 0)
}

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
    descriptors: Vec<Given>,
    said: usize,
    waits_for_room: bool,
    /// Why it could not be told all of it.
    refused: Option<Errno>,
    reader: Reader,
    /// When it has to be ready, and how long that is after its start.
    deadline: Option<(Instant, Duration)>,
    outcome: Outcome,
    /// A value that did not remain the last word. Handles may be passed on with it as long as the child lives.
    taken_back: Option<Arrived>,
    /// Who it is in the shared memory.
    pub(super) member: Option<Member>,
    /// Its standard error, where that is listened to, and whether what comes is passed on to ours.
    ears: Option<(OwnedFd, bool)>,
}

/// A descriptor to give to a child.
#[derive(Debug)]
pub(super) enum Given {
    /// Of what lives as long as the program.
    Lent(BorrowedFd<'static>),
    /// Of this child's alone.
    Own(OwnedFd),
}

impl AsFd for Given {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Lent(fd) => *fd,
            Self::Own(fd) => fd.as_fd(),
        }
    }
}

/// How a pool's worker is watched.
pub(super) struct Worker {
    pub(super) watcher: Arc<dyn Watcher>,
    /// The reading end of its standard error.
    pub(super) ears: OwnedFd,
    /// Whether what it says there is passed on to ours.
    pub(super) passed_on: bool,
    /// How many of the last bytes are kept.
    pub(super) most: usize,
}

impl core::fmt::Debug for Worker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Worker").field("passed_on", &self.passed_on).finish_non_exhaustive()
    }
}

impl Charge {
    /// A child that was started just now, has to be `identity`, and is told `words` and given `descriptors`.
    pub(super) fn new(
        task: &'static str,
        launched: Launched,
        socket: OwnedFd,
        identity: Identity,
        (words, descriptors): (Vec<u8>, Vec<Given>),
        deadline: Option<(Instant, Duration)>,
        worker: Option<Worker>,
    ) -> Self {
        let pidfd = Arc::new(launched.pidfd);
        let (watcher, ears, most) = match worker {
            Some(Worker { watcher, ears, passed_on, most }) => (Some(watcher), Some((ears, passed_on)), most),
            None => (None, None, 0),
        };
        Self {
            record: Arc::new(Record::new(task, (launched.pid, Arc::clone(&pidfd)), watcher, most)),
            pid: launched.pid,
            pidfd,
            socket: Some(socket),
            identity,
            words,
            descriptors,
            said: 0,
            waits_for_room: false,
            refused: None,
            reader: Reader::default(),
            deadline,
            outcome: Outcome::NeverReady { late: None },
            taken_back: None,
            member: None,
            ears,
        }
    }

    /// Its standard error, while it is listened to.
    pub(super) fn ears(&self) -> Option<BorrowedFd<'_>> {
        self.ears.as_ref().map(|(ears, _)| ears.as_fd())
    }

    /// Takes in what it has said on its standard error, or some of it. False: ours has no room for it, so it keeps it for a
    /// while, as it would if it wrote there itself. At its end all is taken in, and what has no room is not passed on.
    pub(super) fn listen(&mut self, scratch: &mut [u8], watch: &OwnedFd, ended: bool) -> bool {
        let most = scratch.len().min(A_WRITE);
        let Some(mut turn) = self.ears().map(|ears| Turn::new(ears, most, ended)) else { return true };
        while turn.left > 0
            && let Some((ears, passed_on)) = &self.ears
        {
            let has_room = *passed_on && stderr_has_room();
            if *passed_on && !has_room && !ended {
                return false;
            }
            match rustix::io::read(ears, &mut scratch[..most]) {
                Ok(0) => self.close_ears(watch),
                Ok(len) => {
                    turn.took(len);
                    self.record.said(&scratch[..len]);
                    if has_room {
                        // Where ours takes nothing, it is lost, as it would be there.
                        let _ = rustix::io::write(rustix::stdio::stderr(), &scratch[..len]);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.close_ears(watch),
            }
        }
        true
    }

    fn close_ears(&mut self, watch: &OwnedFd) {
        let _ = self.ears.take().map(|(ears, _)| source::close(watch, ears));
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
    pub(super) fn check_deadline(&mut self, now: Instant, watch: &OwnedFd) {
        if let Some((at, after)) = self.deadline
            && now >= at
        {
            self.give_up(Outcome::NeverReady { late: Some(after) }, watch);
        }
    }

    /// Kills it, for a reason that its end won't tell.
    fn give_up(&mut self, why: Outcome, watch: &OwnedFd) {
        self.set(why);
        self.deadline = None;
        self.close_socket(watch);
        let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
    }

    fn close_socket(&mut self, watch: &OwnedFd) {
        let _ = self.socket.take().map(|socket| source::close(watch, socket));
    }

    /// Says what fits into the socket, and kills the child where it cannot be told. Whether more is to be said.
    fn say(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        while self.said < self.words.len() {
            let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
            match channel::send(socket, &self.words[self.said..], &descriptors) {
                Ok(sent) => {
                    self.said += sent;
                    self.descriptors.clear();
                }
                Err(Errno::AGAIN) => return true,
                // It is gone or has closed its end: that is heard elsewhere.
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => break,
                // The system has no room for the message, or for what goes with it. The child would wait for the rest.
                Err(error) => {
                    self.refused = Some(error);
                    let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
                    break;
                }
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

    /// Why the child was not told all, if the system refused. It was killed then.
    pub(super) fn refused(&self) -> Option<Errno> {
        self.refused
    }

    /// Whether it has more to hear than the socket takes now.
    pub(super) fn wants_room(&self) -> bool {
        self.waits_for_room
    }

    /// Takes in what the child has said, or some of it; at its end all.
    pub(super) fn hear(&mut self, scratch: &mut [u8], watch: &OwnedFd, ended: bool) {
        let Some(mut turn) = self.socket().map(|socket| Turn::new(socket, scratch.len(), ended)) else { return };
        let mut descriptors = Vec::new();
        while turn.left > 0
            && let Some(socket) = &self.socket
        {
            match channel::receive(socket, scratch, &mut descriptors) {
                Ok(0) => self.close_socket(watch),
                Ok(len) => {
                    turn.took(len);
                    self.take_in(&scratch[..len], watch);
                }
                Err(Errno::AGAIN) => return,
                Err(_) => self.close_socket(watch),
            }
            // Nobody sends us any here.
            descriptors.clear();
        }
    }

    /// What came of it, as far as is known.
    fn set(&mut self, outcome: Outcome) {
        if let Outcome::Returned(value) = core::mem::replace(&mut self.outcome, outcome) {
            self.taken_back = Some(value);
        }
    }

    fn take_in(&mut self, mut bytes: &[u8], watch: &OwnedFd) {
        while self.socket.is_some() {
            match self.reader.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Message::Greeting(greeting))) => match difference(self.identity, greeting.identity) {
                    None => {
                        self.deadline = None;
                        self.outcome = Outcome::Nothing;
                    }
                    Some(difference) => self.give_up(Outcome::OtherBuild(difference), watch),
                },
                Ok(Some(Message::Frame(kind, content))) => {
                    let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
                    let has_returned = matches!(self.outcome, Outcome::Returned(_)) || self.taken_back.is_some();
                    match kind {
                        Kind::Returned if has_returned => self.give_up(Outcome::Rubbish, watch),
                        Kind::Returned => self.set(Outcome::Returned(Arrived::new(content))),
                        Kind::Panicked => self.set(Outcome::Panicked(text(content))),
                        Kind::Undecodable => self.set(Outcome::Undecodable(text(content))),
                        Kind::Unencodable => self.set(Outcome::Unencodable(text(content))),
                        Kind::Job | Kind::Serve => self.give_up(Outcome::Rubbish, watch),
                    }
                }
                Err(_) if self.is_ready() => self.give_up(Outcome::Rubbish, watch),
                Err(_) => {
                    let difference = "it answers with something else than a greeting".to_owned();
                    self.give_up(Outcome::OtherBuild(difference), watch);
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
        let Self { record, outcome, refused, pidfd, socket, ears, descriptors, taken_back, .. } = self;
        drop((pidfd, socket, ears, descriptors, taken_back));
        // Of one that was told half of its words, what it said does not count.
        record.ended(end, refused.map_or(outcome, Outcome::NeverTold));
    }

    /// Ends a child that nobody will ever know of.
    pub(super) fn abandon(self) {
        let _ = pidfd_send_signal(self.pidfd(), Signal::KILL);
        crate::os::process::wait(self.pidfd());
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::fs::File;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::Instant;

    use rustix::buffer::spare_capacity;
    use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
    use rustix::io::Errno;
    use rustix::net::SocketType;
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{A_WRITE, Charge, End, Given, Launched, Outcome, Watcher, Worker};
    use crate::primitive::{AtomicUsize, Ordering};
    use crate::process::record::Phase;
    use crate::process::turn::READS;
    use crate::process::wire::{Greeting, Kind, header};
    use crate::process::{channel, registry};

    /// A child that does nothing, and is killed if the test fails too.
    struct Idle(Child);

    impl Idle {
        fn start() -> Self {
            Self(Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        }

        /// The child, as a worker that has to be ready by now.
        fn charge(&self, socket: OwnedFd, ears: OwnedFd, given: Vec<Given>, watcher: Arc<dyn Watcher>) -> Charge {
            let pidfd = pidfd_open(Pid::from_raw(self.0.id().try_into().unwrap()).unwrap(), PidfdFlags::empty());
            let launched = Launched { pid: self.0.id(), pidfd: pidfd.unwrap() };
            let worker = Worker { watcher, ears, passed_on: false, most: 1 << 20 };
            let deadline = (Instant::now(), Duration::ZERO);
            let identity = registry::identity();
            Charge::new("idle", launched, socket, identity, (Vec::new(), given), Some(deadline), Some(worker))
        }
    }

    impl Drop for Idle {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    struct Nobody;

    impl Watcher for Nobody {
        fn ended(&self) {}
    }

    fn ears() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    /// What is closed is watched no more, also where it stays open elsewhere, as in a forked copy.
    #[test]
    fn what_is_closed_is_not_heard_of() {
        let idle = Idle::start();
        for late in [false, true] {
            let ((socket, theirs), (ears, mouth)) = (channel::pair(SocketType::STREAM).unwrap(), ears());
            let watch = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            for fd in [&socket, &ears] {
                epoll::add(&watch, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
            }
            let _elsewhere = [socket.try_clone().unwrap(), ears.try_clone().unwrap()];
            let mut charge = idle.charge(socket, ears, Vec::new(), Arc::new(Nobody));
            if late {
                charge.check_deadline(Instant::now(), &watch);
                assert!(charge.socket().is_none());
            }
            drop((theirs, mouth));
            charge.hear(&mut [0; 64], &watch, false);
            assert!(charge.listen(&mut [0; 64], &watch, false));
            assert!(charge.socket().is_none() && charge.ears().is_none());
            let mut events: Vec<epoll::Event> = Vec::with_capacity(4);
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            assert_eq!(epoll::wait(&watch, spare_capacity(&mut events), Some(&now)), Ok(0), "late: {late}");
        }
    }

    /// What is no socket stands for one that the system has no memory for.
    #[test]
    fn a_child_that_cannot_be_told_is_killed() {
        for said in [0, 1] {
            let (idle, (ears, _mouth)) = (Idle::start(), ears());
            let nothing = File::open("/dev/null").unwrap().into();
            let mut charge = idle.charge(nothing, ears, Vec::new(), Arc::new(Nobody));
            (charge.words, charge.said) = (vec![0; 2], said);
            assert!(charge.speak().is_none());
            assert_eq!(charge.refused(), Some(Errno::NOTSOCK), "who starts it is told why");
            let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
            let mut end = [PollFd::from_borrowed_fd(charge.pidfd(), PollFlags::IN)];
            assert_eq!(poll(&mut end, Some(&minute)), Ok(1), "said: {said}");
            let record = Arc::clone(charge.record());
            let end = charge.reap();
            charge.tell(end);
            core::mem::forget(idle);
            let told =
                matches!(record.state().phase, Phase::Ended { outcome: Some(Outcome::NeverTold(Errno::NOTSOCK)), .. });
            assert!(told, "so is who joins it, later");
        }
        // One that has closed its end ends by itself.
        let (idle, (socket, _), (ears, _mouth)) = (Idle::start(), channel::pair(SocketType::STREAM).unwrap(), ears());
        let mut charge = idle.charge(socket, ears, Vec::new(), Arc::new(Nobody));
        charge.words = vec![0; 2];
        assert!(charge.speak().is_none() && charge.refused().is_none());
    }

    /// A child that could not pass a value on after all says so behind it; two values mean nothing.
    #[test]
    fn the_last_word_counts() {
        for (kind, killed) in [(Kind::Unencodable, false), (Kind::Panicked, false), (Kind::Returned, true)] {
            let (idle, (ears, _mouth)) = (Idle::start(), ears());
            let (socket, theirs) = channel::pair(SocketType::STREAM).unwrap();
            let watch = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let mut charge = idle.charge(socket, ears, Vec::new(), Arc::new(Nobody));
            let greeting = Greeting { identity: registry::identity(), pid: 0, child: (0, 0), parent: (0, 0) };
            let words = [&greeting.to_bytes()[..], &header(Kind::Returned, 0), &header(kind, 0)].concat();
            channel::send_all(&theirs, &words).unwrap();
            charge.hear(&mut [0; 1000], &watch, true);
            assert!(charge.taken_back.is_some(), "what comes with it is released when the child has ended");
            let told = match charge.outcome {
                Outcome::Unencodable(_) => kind == Kind::Unencodable,
                Outcome::Panicked(_) => kind == Kind::Panicked,
                Outcome::Rubbish => kind == Kind::Returned,
                _ => false,
            };
            assert!(told && charge.socket().is_none() == killed, "{kind:?}: {:?}", charge.outcome);
        }
    }

    /// A file that never ends is as noisy as a child, and what it left behind, can be.
    #[test]
    fn the_noisiest_child_holds_nobody_up() {
        let idle = Idle::start();
        for ended in [false, true] {
            let (socket, _theirs) = channel::pair(SocketType::STREAM).unwrap();
            let noise = File::open("/dev/zero").unwrap().into();
            let watch = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let mut charge = idle.charge(socket, noise, Vec::new(), Arc::new(Nobody));
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                assert!(charge.listen(&mut [0; A_WRITE], &watch, ended));
                done.send(charge.record().last_words().len()).unwrap();
            });
            assert_eq!(is_done.recv_timeout(Duration::from_secs(60)), Ok(READS * A_WRITE));
        }
    }

    /// Whether a pipe was open here, besides what this has of it, when the end was told.
    struct Look(OwnedFd, AtomicUsize);

    impl Watcher for Look {
        fn ended(&self) {
            let of = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
            let pipe = of(self.0.as_raw_fd()).unwrap();
            let fds = std::fs::read_dir("/proc/self/fd").unwrap();
            let open = fds.filter(|fd| fd.as_ref().unwrap().path().read_link().is_ok_and(|target| target == pipe));
            self.1.store(open.count(), Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_is_open_when_the_end_is_told() {
        for given in [false, true] {
            let idle = Idle::start();
            let (socket, _theirs) = channel::pair(SocketType::STREAM).unwrap();
            let ((ears, mouth), (own, other)) = (ears(), ears());
            let look = Arc::new(Look(if given { other } else { mouth }, AtomicUsize::new(0)));
            let charge = idle.charge(socket, ears, vec![Given::Own(own)], Arc::<Look>::clone(&look));
            charge.tell(End::ReapedByOthers);
            assert_eq!(look.1.load(Ordering::Relaxed), 1, "given: {given}");
        }
    }

    #[test]
    fn some_is_heard_at_once_and_all_at_the_end() {
        let idle = Idle::start();
        let ((socket, theirs), (ears, mouth)) = (channel::pair(SocketType::STREAM).unwrap(), ears());
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let there = |fd: &OwnedFd| usize::try_from(rustix::io::ioctl_fionread(fd).unwrap()).unwrap();
        let greeting = Greeting { identity: registry::identity(), pid: 0, child: (0, 0), parent: (0, 0) };
        let value = [7; 9000];
        let words = [&greeting.to_bytes()[..], &header(Kind::Returned, value.len()), &value].concat();
        channel::send_all(&theirs, &words).unwrap();
        let said = [b'.'; 3000];
        assert_eq!(rustix::io::write(&mouth, &said), Ok(said.len()));
        // Whoever else holds them could go on.
        let (elsewhere, also) = (socket.try_clone().unwrap(), ears.try_clone().unwrap());
        let mut charge = idle.charge(socket, ears, Vec::new(), Arc::new(Nobody));
        let mut scratch = [0; 100];
        charge.hear(&mut scratch, &watch, false);
        assert!(charge.listen(&mut scratch, &watch, false));
        assert_eq!((there(&elsewhere), there(&also)), (words.len() - READS * 100, said.len() - READS * 100));
        charge.hear(&mut scratch, &watch, true);
        assert!(charge.listen(&mut scratch, &watch, true));
        assert_eq!((there(&elsewhere), there(&also)), (0, 0));
        assert!(matches!(charge.outcome, Outcome::Returned(_)));
        assert_eq!(charge.record().last_words().len(), said.len());
    }
}
