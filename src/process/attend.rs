//! Waiting for a child on the thread that wants its value: that thread hears and reaps the child itself, which saves the
//! switch to the keeper and back. Not one that waits for a limited time: seeing to what a process leaves may take longer.

use core::time::Duration;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::care::Supervisor;
use super::charge::Charge;

impl Supervisor {
    /// Waits for the end of a child, however long that takes, and sees to all that it leaves. Returns at once if another thread
    /// has it in hand: its end will be on record.
    pub(super) fn attend(&self, number: u64) {
        let Some(mut charge) = self.charges().all.remove(&number) else { return };
        self.let_go(&charge);
        let mut scratch = vec![0; 16 * 1024];
        loop {
            let ended = wait(&charge);
            charge.hear(&mut scratch, &self.watch, ended);
            if ended {
                return self.bury(charge);
            }
            let _ = charge.speak();
            charge.check_deadline(Instant::now(), &self.watch);
        }
    }
}

/// Waits until the child has ended (true), has said something, can hear more, or is late.
fn wait(charge: &Charge) -> bool {
    // One more, so that the time has come when we wake.
    let moment = Duration::from_millis(1);
    let left = charge.deadline().map(|until| until.saturating_duration_since(Instant::now()).saturating_add(moment));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let pidfd = charge.pidfd();
    let room = if charge.wants_room() { PollFlags::OUT } else { PollFlags::empty() };
    let socket = charge.socket().unwrap_or(pidfd);
    let mut there =
        [PollFd::from_borrowed_fd(pidfd, PollFlags::IN), PollFd::from_borrowed_fd(socket, PollFlags::IN | room)];
    // An interruption is as good as news.
    poll(&mut there, left.as_ref()).is_ok() && !there[0].revents().is_empty()
}
