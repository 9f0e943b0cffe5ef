//! Children for the tests: this test binary again, running one test as somebody who is going to be killed.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shm::{self, Member, message, step};

const MEMBER: &str = "MILLPOND_TEST_MEMBER";
const WORDS: &str = "MILLPOND_TEST_WORDS";
const STEP: &str = "MILLPOND_TEST_STEP";
/// Set where the steps count from before the words are decoded.
const EARLY: &str = "MILLPOND_TEST_EARLY";
/// Where a child finds the segment.
const SEGMENT: i32 = 63;

/// Where a child kills itself: the step, and at which pass.
pub(super) type Death = Option<(u32, u32)>;

/// A child, and its number as a member.
#[derive(Debug)]
pub(super) struct Victim {
    child: Child,
    member: Member,
}

/// Starts a child that runs the test of this name with these words, which may have handles in them. Steps count from when
/// it has them.
pub(super) fn start<T: Serialize>(test: &str, death: Death, words: T) -> Victim {
    launch(test, death, false, words)
}

/// The same, of a child that may die while it decodes the words.
pub(super) fn start_dying<T: Serialize>(test: &str, death: Death, words: T) -> Victim {
    launch(test, death, true, words)
}

fn launch<T: Serialize>(test: &str, death: Death, early: bool, words: T) -> Victim {
    let member = shm::enlist().unwrap();
    let bytes = message::encode(words).unwrap().send_to(member, |_| true).unwrap();
    let mut hex = String::new();
    bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    let segment = shm::share().unwrap().as_raw_fd();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads", "1", "--nocapture", "--include-ignored"]);
    command.env(MEMBER, format!("{} {}", member.index, member.generation)).env(WORDS, hex);
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).stdin(Stdio::null());
    if let Some((step, pass)) = death {
        command.env(STEP, format!("{step} {pass}"));
    }
    if early {
        command.env(EARLY, "1");
    }
    let inherit = move || {
        // SAFETY: a duplicate of a descriptor that is ours, in a child that is about to be another program.
        if unsafe { libc::dup2(segment, SEGMENT) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure does one system call and allocates nothing.
    unsafe { command.pre_exec(inherit) };
    Victim { child: command.spawn().unwrap(), member }
}

/// The words, if this process is such a child.
pub(super) fn words<T: DeserializeOwned>() -> Option<T> {
    let member = std::env::var(MEMBER).ok()?;
    let (index, generation) = member.split_once(' ')?;
    let member = Member { index: index.parse().ok()?, generation: generation.parse().ok()? };
    // SAFETY: a child is started with the segment there, and nobody else uses it.
    let file = unsafe { OwnedFd::from_raw_fd(SEGMENT) };
    shm::attach(file, member, shm::block::NOBODY).unwrap();
    let hex = std::env::var(WORDS).unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    let plan = || {
        if let Some((step, pass)) = std::env::var(STEP).ok().as_deref().and_then(|plan| plan.split_once(' ')) {
            step::plan::die_at(step.parse().unwrap(), pass.parse().unwrap());
        }
    };
    let early = std::env::var_os(EARLY).is_some();
    if early {
        plan();
    }
    let words = message::decode(&bytes).unwrap();
    if !early {
        plan();
    }
    Some(words)
}

/// A child has done what it had to: it ends with its handles, as a process does that is not killed.
pub(super) fn done() -> ! {
    std::process::exit(0)
}

impl Victim {
    /// Kills it where it is.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it is dead, and does what a supervisor does then. Whether it was killed.
    pub(super) fn bury(mut self) -> bool {
        let status = self.child.wait().unwrap();
        shm::member_died(self.member);
        assert!(status.signal().is_none_or(|signal| signal == libc::SIGKILL), "{status}");
        assert!(status.code().is_none_or(|code| code == 0), "the child failed: {status}");
        status.signal().is_some()
    }
}
