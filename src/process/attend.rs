//! Waiting for a child on the thread that wants its value: that thread hears and reaps the child itself, which saves the
//! switch to the keeper and back.

use core::time::Duration;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::care::Supervisor;
use super::charge::Charge;

/// When to try again what the system refused.
const A_WHILE: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Waits for the end of a child, not longer than `until`. Returns at once if another thread has it in hand: its end
    /// will be on record.
    pub(super) fn attend(&self, number: u64, until: Option<Instant>) {
        let Some(mut charge) = self.charges().all.remove(&number) else { return };
        self.let_go(&charge);
        let mut scratch = vec![0; 16 * 1024];
        let mut until = until;
        loop {
            let ended = wait(&charge, until);
            charge.hear(&mut scratch, &self.watch, ended);
            if ended {
                return self.bury(charge);
            }
            let _ = charge.speak();
            let now = Instant::now();
            charge.check_deadline(now, &self.watch);
            if until.is_some_and(|until| now >= until) {
                match self.take(charge, number) {
                    Ok(()) => return,
                    // It cannot be watched, or was killed for what it cannot be told: somebody has to wait for its end.
                    Err((back, _)) => {
                        charge = back;
                        until = now.checked_add(A_WHILE);
                    }
                }
            }
        }
    }
}

/// Waits until the child has ended (true), has said something, can hear more, is late, or the time is up.
fn wait(charge: &Charge, until: Option<Instant>) -> bool {
    let until = [until, charge.deadline()].into_iter().flatten().min();
    // One more, so that the time has come when we wake.
    let moment = Duration::from_millis(1);
    let left = until.map(|until| until.saturating_duration_since(Instant::now()).saturating_add(moment));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let pidfd = charge.pidfd();
    let room = if charge.wants_room() { PollFlags::OUT } else { PollFlags::empty() };
    let socket = charge.socket().unwrap_or(pidfd);
    let mut there =
        [PollFd::from_borrowed_fd(pidfd, PollFlags::IN), PollFd::from_borrowed_fd(socket, PollFlags::IN | room)];
    // An interruption is as good as news.
    poll(&mut there, left.as_ref()).is_ok() && !there[0].revents().is_empty()
}
