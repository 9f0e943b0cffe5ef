//! The parent's side of the pool: which tasks there are, where each of them is, and who waits for it.
//!
//! All of it is in private memory, under one lock; the segment only carries tasks to workers and results back.
//!
//! D1. A task is in one place: in a backlog, in a slot, or ended. It ends once.
//! D2. Tasks of a line get slots in the order of their numbers.
//! D3. A slot is given out again only when nobody can be reading it: after DONE, before TAKEN, or when its hand is dead.

use core::ops::Range;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::registry::has_panicked;
use super::backlog::Backlog;
use super::crew::Crew;
use super::forked::expect_not_forked;
use super::ground::Ground;
use super::inbox::Inbox;
use super::line;
use super::patience::Patience;
use super::stats::{Count, Counts};
use super::task::{Claimant, Ending, Task};
use super::terms::{self, Terms};
use crate::primitive::Ordering;
use crate::primitive::plain::{Condvar, Mutex, MutexGuard};
use crate::task::{Dispatch, PoolError, TaskError, WhenFull};

/// Nanoseconds for which a caller looks at its task before it sleeps: waking a worker on another core takes half of that.
const LOOKING: u32 = 30_000;

/// What the pool shares in its parent.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) ground: Ground,
    pub(super) terms: Terms,
    pub(super) counts: Counts,
    inner: Mutex<Inner>,
    /// Of a caller whose task is the only one.
    pub(super) patience: Patience,
    /// There may be room, or the pool has ended.
    pub(super) changed: Condvar,
}

/// Where the pool is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Takes no more tasks; those that it has are done.
    Closed,
    /// All tasks were ended, workers are killed.
    Terminated,
    /// The same, for this reason.
    Broken(PoolError),
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) stage: Stage,
    /// All workers have gone.
    pub(super) ended: bool,
    pub(super) lines: Vec<Line>,
    /// What is in each slot.
    pub(super) placed: Vec<Option<Placed>>,
    /// The generation of each slot's word: what the segment says is compared with it.
    pub(super) generations: Vec<u32>,
    pub(super) inbox: Inbox,
    /// Tasks that have not ended.
    pub(super) unfinished: usize,
    pub(super) crew: Crew,
    /// Submitters that wait for room.
    pub(super) waiting: usize,
    /// When the parent's thread looks next. None: when somebody rings.
    pub(super) looks_at: Option<Instant>,
    /// The number of the next task.
    pub(super) next: u64,
    turn: usize,
    seed: u64,
}

/// What the parent knows of a line.
#[derive(Debug)]
pub(super) struct Line {
    /// Slots that nobody uses.
    pub(super) free: Vec<u32>,
    /// Where the next ticket goes, where the head was last seen, and all tickets as they were written.
    pub(super) tail: u64,
    pub(super) head: u64,
    /// What of it the segment says: all, whenever the lock is free.
    pub(super) published: u64,
    pub(super) written: Vec<u64>,
    /// Before this there may be tickets of tasks that were taken back.
    pub(super) doubtful: u64,
    /// Tasks that wait for slots.
    pub(super) backlog: Backlog,
}

/// A task in a slot.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) task: Task,
    /// Its arguments' room, where they are too large for the slot.
    pub(super) spill: Option<Range<usize>>,
    pub(super) at: Instant,
    /// When it was first seen to run.
    pub(super) taken: Option<Instant>,
    pub(super) asked_to_stop: bool,
}

/// Tasks that have ended, to be told once the lock is free.
pub(super) type Ended = Vec<(Claimant, Ending)>;

impl Desk {
    pub(super) fn new(ground: Ground, terms: Terms, crew: Crew) -> Self {
        let plan = ground.plan;
        let line = |line: usize| Line {
            free: (line * plan.per_line..(line + 1) * plan.per_line).rev().map(as_u32).collect(),
            tail: 0,
            head: 0,
            published: 0,
            written: vec![0; plan.per_line],
            doubtful: 0,
            backlog: Backlog::default(),
        };
        let inner = Inner {
            stage: Stage::Open,
            ended: false,
            lines: (0..plan.lines).map(line).collect(),
            placed: (0..plan.slots()).map(|_| None).collect(),
            generations: vec![0; plan.slots()],
            inbox: Inbox::new(plan.inbox()),
            unfinished: 0,
            crew,
            waiting: 0,
            looks_at: Some(terms.since),
            next: 0,
            turn: 0,
            seed: super::ground::now() | 1,
        };
        Self {
            ground,
            terms,
            counts: Counts::default(),
            inner: Mutex::new(inner),
            patience: Patience::new(LOOKING),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, but none in a forked copy, where a thread that there is no more may have it.
    pub(super) fn lock_here(&self) -> Option<MutexGuard<'_, Inner>> {
        expect_not_forked().is_ok().then(|| self.lock())
    }

    /// Whether it takes tasks from this process.
    pub(super) fn expect_open(&self) -> Result<(), PoolError> {
        expect_not_forked()?;
        self.lock().expect_open()
    }

    /// Which hands take tasks of a line.
    pub(super) fn hands(&self, line: usize) -> Range<u16> {
        self.terms.hands_of_line(self.ground.plan, line)
    }

    /// Takes a task in, made by `make` of what it is and of its number. It comes back if the queue is full and the caller is to
    /// run it: never to one that `waits` for results anyway, and so for room.
    pub(super) fn submit<T>(
        &self,
        waits: bool,
        what: T,
        make: impl FnOnce(T, u64) -> Task,
    ) -> Result<Option<T>, PoolError> {
        let mut ended = Ended::new();
        let mut inner = self.lock();
        let line = loop {
            inner.expect_open()?;
            let line = self.choose(&mut inner);
            if self.has_room(&inner, line) {
                break line;
            }
            match self.terms.when_full {
                WhenFull::Fail if !waits => return Err(PoolError::Full { bound: self.terms.bound }),
                WhenFull::CallerRuns if !waits => return Ok(Some(what)),
                _ => inner = self.wait_for_room(inner),
            }
        };
        self.take_in(&mut inner, line, what, make, &mut ended);
        self.publish(&mut inner, line);
        drop(inner);
        self.tell(ended);
        self.ground.call(self.hands(line));
        Ok(None)
    }

    /// Takes many tasks in, with one wake-up for all of them, made by `make` of what each is and of its number. Where the queue
    /// is full it waits.
    pub(super) fn submit_all<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        mut make: impl FnMut(T, u64) -> Task,
    ) -> Result<(), PoolError> {
        let mut ended = Ended::new();
        let mut inner = self.lock();
        let mut refused = Ok(());
        'all: for what in all {
            let line = loop {
                refused = inner.expect_open();
                if refused.is_err() {
                    break 'all;
                }
                let line = self.choose(&mut inner);
                if self.has_room(&inner, line) {
                    break line;
                }
                // For those that were taken in before, and those that have ended.
                self.publish_all(&mut inner);
                drop(inner);
                self.tell(core::mem::take(&mut ended));
                self.call_all();
                inner = self.wait_for_room(self.lock());
            };
            self.take_in(&mut inner, line, what, &mut make, &mut ended);
        }
        self.publish_all(&mut inner);
        drop(inner);
        self.tell(ended);
        self.call_all();
        refused
    }

    fn publish_all(&self, inner: &mut Inner) {
        (0..self.terms.lines()).for_each(|line| self.publish(inner, line));
    }

    fn call_all(&self) {
        (0..self.terms.lines()).for_each(|line| self.ground.call(self.hands(line)));
    }

    fn has_room(&self, inner: &Inner, line: usize) -> bool {
        // Hands move the line's head with each task: it is not looked at for nothing.
        self.terms.bound == usize::MAX || self.waiting_in(inner, line) < self.terms.bound
    }

    /// Takes a task into a line.
    fn take_in<T>(
        &self,
        inner: &mut Inner,
        line: usize,
        what: T,
        make: impl FnOnce(T, u64) -> Task,
        ended: &mut Ended,
    ) {
        let number = inner.next;
        inner.next += 1;
        inner.unfinished += 1;
        self.counts.add(&self.ground, Count::Submitted, 1);
        let task = make(what, number);
        if let Claimant::Handle(job) = &task.claimant {
            job.job().line.store(as_u32(line), Ordering::Relaxed);
        }
        if inner.lines[line].free.is_empty() {
            self.harvest(inner, line, ended);
        }
        if !inner.lines[line].backlog.is_empty() {
            inner.lines[line].backlog.put(task);
            self.refill(inner, line, ended);
        } else if let Err(task) = self.place(inner, line, task, ended) {
            inner.lines[line].backlog.put(task);
            self.ask_for_more(inner);
        }
        if inner.looks_at.is_none() {
            self.have_looked(inner);
        }
    }

    /// The parent's thread looks now: at times while there are tasks, and in time for their limits.
    pub(super) fn have_looked(&self, inner: &mut Inner) {
        // It looks already, for all that anybody else wants of it.
        inner.looks_at = Some(self.terms.since);
        self.ground.ring_for_sure();
    }

    fn wait_for_room<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        inner.waiting += 1;
        self.ask_for_more(&inner);
        // Looked at again at times, since hands may have passed the mark before they were asked.
        let moment = Duration::from_millis(2);
        let (mut inner, _) = self.changed.wait_timeout(inner, moment).unwrap_or_else(PoisonError::into_inner);
        inner.waiting -= 1;
        inner
    }

    fn choose(&self, inner: &mut Inner) -> usize {
        let workers = self.terms.workers;
        // Passes places over where no worker gets ready, unless there are no others.
        let serves = |inner: &Inner, line: usize| {
            let mut lines = (0..workers).map(|n| (line + n) % workers);
            lines.find(|line| !inner.crew.workers[*line].is_given_up()).unwrap_or(line)
        };
        match self.terms.dispatch {
            Dispatch::SharedQueue => 0,
            Dispatch::RoundRobin => {
                inner.turn = serves(inner, (inner.turn + 1) % workers);
                inner.turn
            }
            Dispatch::Random => {
                // Marsaglia's xorshift.
                inner.seed ^= inner.seed << 13;
                inner.seed ^= inner.seed >> 7;
                inner.seed ^= inner.seed << 17;
                let drawn = usize::try_from(inner.seed >> 8).unwrap_or(0) % workers;
                serves(inner, drawn)
            }
        }
    }

    /// Tasks of a line that nobody has taken yet.
    pub(super) fn waiting_in(&self, inner: &Inner, line: usize) -> usize {
        let state = &inner.lines[line];
        let head = line::head(self.ground.ends(line));
        // Those too that the segment does not say yet.
        let tickets = state.tail.wrapping_sub(head).min(self.ground.plan.per_line as u64);
        let good = tickets.min(state.tail.wrapping_sub(state.doubtful));
        let old = (0..tickets - good).map(|n| line::place(&state.written, head.wrapping_add(n)));
        let good = good + old.filter(|place| self.is_queued(state.written[*place])).count() as u64;
        state.backlog.len() + usize::try_from(good).unwrap_or(0)
    }

    /// Hands ring when a line gets short.
    pub(super) fn ask_for_more(&self, inner: &Inner) {
        let half = self.ground.plan.per_line / 2;
        let low = if inner.waiting > 0 { self.terms.bound.saturating_sub(1).clamp(1, half) } else { half };
        self.ground.head().low.0.store(low as u64, Ordering::Relaxed);
    }

    /// A task has ended (D1).
    pub(super) fn end(&self, inner: &mut Inner, task: Task, ending: Ending, ended: &mut Ended) {
        inner.unfinished -= 1;
        let count = match &ending {
            Ok(bytes) if task.many && has_panicked(bytes.bytes()) => Some(Count::Panicked),
            Ok(_) => None,
            Err(TaskError::Cancelled) => Some(Count::Cancelled),
            Err(TaskError::Panicked { .. }) => Some(Count::Panicked),
            Err(_) => Some(Count::Failed),
        };
        count.into_iter().for_each(|count| self.counts.add(&self.ground, count, 1));
        if count != Some(Count::Cancelled) {
            self.counts.add(&self.ground, Count::Finished, 1);
        }
        super::trace::task_ended(&task, &ending, count == Some(Count::Panicked));
        if inner.waiting > 0 {
            self.changed.notify_all();
        }
        match task.claimant {
            // Under the lock: when the last task has ended the pool's end may follow, which waits for callbacks that were put.
            Claimant::Call(callback) => {
                let back = self.terms.callbacks.put(callback, ending);
                ended.extend(back.map(|(callback, ending)| (Claimant::Call(callback), ending)));
            }
            claimant => ended.push((claimant, ending)),
        }
    }

    /// Tells those who wait. Not under the lock: wakers and callbacks are others' code.
    pub(super) fn tell(&self, ended: Ended) {
        for (claimant, ending) in ended {
            match claimant {
                Claimant::Nobody => drop(ending),
                Claimant::Handle(job) => job.end(ending),
                Claimant::Call(callback) => terms::call(callback, ending),
                // Nobody may be there any more.
                Claimant::Channel(to) => drop(to.send(ending)),
            }
        }
    }
}

impl Inner {
    pub(super) fn expect_open(&self) -> Result<(), PoolError> {
        match &self.stage {
            Stage::Open => Ok(()),
            Stage::Closed | Stage::Terminated => Err(PoolError::Closed),
            Stage::Broken(error) => Err(error.clone()),
        }
    }
}

/// Numbers of slots and lines, of which there are far fewer than 2³².
pub(super) fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
