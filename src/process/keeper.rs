//! The one thread of a process that hears its children, keeps their deadlines, and reaps them. It never ends.

use core::time::Duration;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::care::Supervisor;
use super::charge::{Charge, stderr_has_room};
use super::graveyard::Graveyard;
use super::source::{REPORTS, Source, WAKE};

/// When to listen again to those that our standard error had no room for.
const A_WHILE: Duration = Duration::from_millis(20);

/// The thread's own state.
pub(super) struct Keeper {
    supervisor: &'static Supervisor,
    /// At the root of a tree.
    graveyard: Option<Graveyard>,
    /// Children whose standard error is not listened to, since ours has no room.
    muted: Vec<u64>,
    scratch: Vec<u8>,
}

impl Keeper {
    pub(super) fn new(supervisor: &'static Supervisor, graveyard: Option<Graveyard>) -> Self {
        Self { supervisor, graveyard, muted: Vec::new(), scratch: vec![0; 64 * 1024] }
    }

    pub(super) fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            events.clear();
            let limit = self.time_left();
            match epoll::wait(&self.supervisor.watch, rustix::buffer::spare_capacity(&mut events), limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Nothing that we pass is wrong; don't spin if the system thinks so.
                Err(_) => std::thread::yield_now(),
            }
            for event in &events {
                self.handle(event.data.u64());
            }
            self.check_deadlines();
            self.listen_again();
            if let Some(members) = &mut self.graveyard {
                members.look_again(&self.supervisor.watch);
            }
        }
    }

    fn handle(&mut self, token: u64) {
        match (token, Source::of(token)) {
            (WAKE, _) => drop(rustix::io::read(&self.supervisor.wake, &mut [0_u8; 8])),
            (REPORTS, _) => {
                if let Some(members) = &mut self.graveyard {
                    members.hear(&self.supervisor.watch);
                }
            }
            (_, Some((Source::Member, number))) => {
                if let Some(members) = &mut self.graveyard {
                    members.bury(&self.supervisor.watch, number);
                }
            }
            (_, Some((Source::Ears, number))) => self.listen(number),
            (_, Some((source, number))) => self.hear(number, source == Source::End),
            (_, None) => {}
        }
    }

    fn listen(&mut self, number: u64) {
        // In hand, and not under the lock: where another thread takes the room in our standard error, writing there waits.
        let Some(mut charge) = self.supervisor.charges().all.remove(&number) else { return };
        if !charge.listen(&mut self.scratch, &self.supervisor.watch, false)
            && let Some(ears) = charge.ears()
        {
            let _ = epoll::delete(&self.supervisor.watch, ears);
            self.muted.push(number);
        }
        self.supervisor.charges().all.insert(number, charge);
    }

    /// Those that our standard error had no room for are listened to again, once it has.
    fn listen_again(&mut self) {
        if self.muted.is_empty() || !stderr_has_room() {
            return;
        }
        let charges = self.supervisor.charges();
        self.muted.retain(|number| {
            let ears = charges.all.get(number).and_then(Charge::ears);
            let data = epoll::EventData::new_u64(Source::Ears.token(*number));
            ears.is_some_and(|ears| epoll::add(&self.supervisor.watch, ears, data, epoll::EventFlags::IN).is_err())
        });
    }

    fn hear(&mut self, number: u64, ended: bool) {
        // Gone already: its end was in the same batch.
        let Some(mut charge) = self.supervisor.charges().all.remove(&number) else { return };
        charge.hear(&mut self.scratch, &self.supervisor.watch, ended);
        if !ended {
            self.supervisor.speak(&mut charge, number);
            self.supervisor.charges().all.insert(number, charge);
            return;
        }
        self.muted.retain(|muted| *muted != number);
        charge.listen(&mut self.scratch, &self.supervisor.watch, true);
        self.supervisor.bury(charge);
    }

    /// How long until the next deadline, which is then on record as looked at.
    fn time_left(&self) -> Option<Timespec> {
        let mut charges = self.supervisor.charges();
        let deadline = charges.all.values().filter_map(Charge::deadline).min();
        charges.next_look = deadline;
        drop(charges);
        // One more, so that the deadline has passed when we wake.
        let moment = Duration::from_millis(1);
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()).saturating_add(moment));
        let again = self.graveyard.as_ref().and_then(Graveyard::look_in);
        let unmute = (!self.muted.is_empty()).then_some(A_WHILE);
        Timespec::try_from(left.into_iter().chain(again).chain(unmute).min()?).ok()
    }

    fn check_deadlines(&self) {
        let mut charges = self.supervisor.charges();
        if charges.next_look.is_some() {
            let now = Instant::now();
            charges.all.values_mut().for_each(|charge| charge.check_deadline(now, &self.supervisor.watch));
        }
    }
}
