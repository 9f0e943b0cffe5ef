//! Who waits for a task, and who wants it no more.

use std::time::{Duration, Instant};

use super::desk::{Desk, Ended, Inner, Placed};
use super::ground::Ground;
use super::slot::{self, NOTIFY, Phase, WAITED, Word};
use super::task::Job;
use crate::primitive::Ordering;
use crate::task::TaskError;

/// No looking where there is less time than this; and the time after which what looks like rubbish is looked at again.
const ENOUGH: Duration = Duration::from_millis(1);

impl Desk {
    /// Sleeps until a task is done, or by mistake. False: the deadline has passed.
    pub(super) fn wait_for(&self, job: &Job, deadline: Option<Instant>) -> bool {
        let mut ended = Ended::new();
        let mut inner = self.lock();
        let (line, index) = job.is_in();
        // Its own slot first: that is what it waits for, and the bit may be late.
        self.collect_of(&mut inner, job, index, &mut ended);
        self.harvest(&mut inner, line, &mut ended);
        if !inner.lines[line].backlog.is_empty() {
            self.refill(&mut inner, line, &mut ended);
        }
        if !ended.is_empty() {
            drop(inner);
            self.tell(ended);
            return true;
        }
        let index = job.is_in().1;
        if job.is_done() {
            return true;
        }
        let Some(slot) = self.ground.slot(index) else {
            // In the backlog, or about to be told by another thread.
            if let Some(task) = inner.lines[line].backlog.get_mut(job.number()) {
                task.watched = true;
            }
            drop(inner);
            return job.sleep(deadline);
        };
        let generation = inner.generations[index as usize];
        let alone = inner.unfinished == 1;
        drop(inner);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let is_over = || {
            let word = Word::load(&slot.word);
            word.generation() != generation || !matches!(word.phase(), Phase::Queued | Phase::Taken)
        };
        // Others' tasks want the cores.
        if alone && left.is_none_or(|left| left > ENOUGH) && self.patience.look(is_over) {
            let word = Word::load(&slot.word);
            if word.generation() == generation && word.phase() == Phase::Done {
                return true;
            }
        }
        let word = slot::flag(&slot.word, WAITED);
        let is_his = word.generation() == generation;
        if is_his && word.phase() == Phase::Done {
            return true;
        }
        if !is_his || !matches!(word.phase(), Phase::Queued | Phase::Taken) {
            // Another thread took it in and is about to tell; or it is rubbish, which the pool's own thread finds.
            let soon = Instant::now() + ENOUGH;
            job.sleep(Some(deadline.map_or(soon, |deadline| deadline.min(soon))));
            return deadline.is_none_or(|deadline| Instant::now() < deadline);
        }
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        Ground::sleep_on(&slot.word, word, left);
        true
    }

    /// Takes its result in, if there is one.
    pub(super) fn look(&self, job: &Job) {
        // Relaxed, and without the lock, since it is asked again and again: a task that has moved meanwhile is seen the next time.
        let index = job.slot.load(Ordering::Relaxed);
        if self.ground.slot(index).is_some_and(|slot| Word::load(&slot.word).phase() == Phase::Done) {
            let mut ended = Ended::new();
            let mut inner = self.lock();
            self.collect_of(&mut inner, job, job.is_in().1, &mut ended);
            drop(inner);
            self.tell(ended);
        }
    }

    pub(super) fn collect_of(&self, inner: &mut Inner, job: &Job, index: u32, ended: &mut Ended) {
        let is_his = |placed: &Placed| placed.task.number == job.number();
        if inner.placed.get(index as usize).is_some_and(|placed| placed.as_ref().is_some_and(is_his)) {
            self.collect(inner, index, ended);
        }
    }

    /// The parent's own thread hears of this task's end from now on.
    pub(super) fn watch(&self, job: &Job) {
        let mut ended = Ended::new();
        let mut inner = self.lock();
        let (line, index) = job.is_in();
        match self.ground.slot(index) {
            Some(slot) => {
                if slot::flag(&slot.word, NOTIFY).phase() == Phase::Done {
                    self.collect_of(&mut inner, job, index, &mut ended);
                }
            }
            None => {
                if let Some(task) = inner.lines[line].backlog.get_mut(job.number()) {
                    task.watched = true;
                }
            }
        }
        drop(inner);
        self.tell(ended);
    }

    /// Has a task never end in a value, if it has not ended. A worker that runs it is killed, if `running` says so.
    pub(super) fn cancel(&self, job: &Job, running: bool) -> bool {
        let mut ended = Ended::new();
        let Some(mut inner) = self.lock_here() else { return false };
        let (line, index) = job.is_in();
        let mut done = false;
        if let Some(task) = inner.lines[line].backlog.take(job.number()) {
            self.end(&mut inner, task, Err(TaskError::Cancelled), &mut ended);
            done = true;
        } else if let Some(slot) = self.ground.slot(index) {
            let seen = Word::load(&slot.word);
            let may = seen.phase() == Phase::Queued || running && seen.phase() == Phase::Taken;
            if may
                && seen.generation() == inner.generations[index as usize]
                && let Some((placed, word)) = self.revoke(&mut inner, index, running)
            {
                if word.phase() == Phase::Taken {
                    inner.crew.kill(self.ground.plan.worker_of(word.hand()));
                }
                self.end(&mut inner, placed.task, Err(TaskError::Cancelled), &mut ended);
                done = true;
            }
        }
        drop(inner);
        self.tell(ended);
        done
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "forks")]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    use super::super::crew::Crew;
    use super::super::line;
    use super::super::plan::{Kind, Plan};
    use super::super::task::{Claimant, Handles, JobRef, Limits, Task};
    use super::super::terms::{Callbacks, Terms};
    use super::*;
    use crate::process::codec::{self, Arrived};
    use crate::process::membership::Seat;
    use crate::task::{Dispatch, PoolError, TaskHandle, WhenFull};

    fn desk() -> Arc<Desk> {
        let plan = Plan { workers: 1, threads: 1, lines: 1, per_line: 64, most: 5000 };
        let terms = Terms {
            name: "nobody".to_owned(),
            workers: 1,
            suspects: false,
            dispatch: Dispatch::SharedQueue,
            bound: usize::MAX,
            when_full: WhenFull::Block,
            retries: 0,
            limits: Limits::default(),
            since: Instant::now(),
            callbacks: Callbacks::default(),
        };
        Arc::new(Desk::new(Ground::create(plan).unwrap(), terms, Crew::new(1)))
    }

    /// A task that nobody takes.
    fn submit(desk: &Arc<Desk>) -> TaskHandle<u64> {
        let mut handle = None;
        let make = |(), number| {
            let (job, waiter) = JobRef::new::<u64>(desk, number, "nothing");
            handle = Some(waiter);
            let arguments = Arrived::new(Vec::new());
            let claimant = Claimant::Handle(job);
            let limits = Limits::default();
            Task {
                number,
                claimant,
                function: 0,
                path: "nothing",
                many: false,
                arguments,
                handles: Handles::Refer(Vec::new()),
                retries: 0,
                limits,
                watched: false,
            }
        };
        assert_eq!(desk.submit(false, (), make), Ok(None));
        handle.unwrap()
    }

    /// A hand's part, all but the wake-up: takes the first task, and has it end in 7 once `when` says so. Its slot.
    fn does_one(desk: &Desk, when: impl Fn(Word) -> bool) -> u32 {
        let take = |index: u32, generation| slot::take(&desk.ground.slot(index).unwrap().word, generation, 0);
        let (index, generation) = line::get(desk.ground.ends(0), desk.ground.places(0), take).unwrap();
        let slot = desk.ground.slot(index).unwrap();
        while !when(Word::load(&slot.word)) {
            std::thread::yield_now();
        }
        let packet = crate::shm::message::encode(7_u64).unwrap();
        let bytes = codec::pass_on(packet, &Seat::own(), &mut |_| true).unwrap();
        desk.ground.write(desk.ground.room(index).unwrap(), &bytes);
        slot.len.store(bytes.len() as u64, Ordering::Relaxed);
        slot.at.store(0, Ordering::Relaxed);
        slot.kind.store(Kind::Returned as u32, Ordering::Relaxed);
        assert!(slot::done(&slot.word, generation, 0).is_some());
        index
    }

    /// It asks no more than that: nobody else takes the result in here.
    #[test]
    fn who_asks_whether_a_task_is_finished_hears_it_at_once() {
        let desk = desk();
        let handle = submit(&desk);
        assert!(!handle.is_finished());
        does_one(&desk, |_| !handle.is_finished());
        assert!(handle.is_finished());
        assert_eq!(handle.join(), Ok(7));
    }

    /// Another thread may have the lock at the fork: in the copy it has it for ever.
    #[test]
    fn a_forked_copy_waits_for_nobody_who_has_the_lock() {
        super::super::forked::follow();
        let desk = desk();
        let handle = submit(&desk);
        let ((has_it, begun), (over, end)) = (channel(), channel::<()>());
        let status = std::thread::scope(|scope| {
            let same = &desk;
            scope.spawn(move || {
                let _inner = same.lock();
                has_it.send(()).unwrap();
                let _ = end.recv();
            });
            begun.recv().unwrap();
            // SAFETY: the copy makes no use of what other threads may hold, but for what is tested here.
            let copy = unsafe { libc::fork() };
            if copy == 0 {
                // SAFETY: ends a copy that waits.
                unsafe { libc::alarm(60) };
                let forked = Err(TaskError::Pool(PoolError::Forked));
                let joined = [handle.join(), handle.join_timeout(Duration::MAX)].iter().all(|told| *told == forked);
                let joined = joined && handle.is_finished();
                let polled = pin!(handle).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(forked);
                let looked = desk.expect_open() == Err(PoolError::Forked)
                    && (desk.worker_stats().len(), desk.captured(0).len()) == (0, 0);
                // SAFETY: ends the copy.
                unsafe { libc::_exit(i32::from(!joined) + 2 * i32::from(!polled) + 4 * i32::from(!looked)) };
            }
            let mut status = 0;
            // SAFETY: waits for the copy.
            assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
            drop(over);
            status
        });
        assert_eq!(status, 0, "14: it waits; 256, 512, 1024: it is not told");
    }

    /// A hand that is killed, or stopped, between its last step and the wake-up that is due.
    #[test]
    fn who_waits_is_woken_though_the_hand_never_did() {
        let desk = desk();
        let handle = submit(&desk);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| handle.join_timeout(Duration::from_secs(16)));
            let index = does_one(&desk, |word| {
                let waits = word.has(WAITED);
                // It sleeps by then; if not, its word has changed before, and the test shows nothing.
                std::thread::sleep(Duration::from_millis(if waits { 50 } else { 0 }));
                waits
            });
            // Another takes it in.
            let mut ended = Ended::new();
            desk.collect(&mut desk.lock(), index, &mut ended);
            let taken_in = Instant::now();
            desk.tell(ended);
            assert_eq!(waiter.join().unwrap(), Ok(7));
            assert!(taken_in.elapsed() < Duration::from_secs(8), "{:?}", taken_in.elapsed());
        });
    }
}
