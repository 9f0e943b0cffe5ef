//! The parent's side of the pool: which tasks there are, where each of them is, and who waits for it.
//!
//! All of it is in private memory, under one lock; the segment only carries tasks to workers and results back.
//!
//! D1. A task is in one place: in a backlog, in a slot, or ended. It ends once.
//! D2. Tasks of a line get slots in the order of their numbers.
//! D3. A slot is given out again only when nobody can be reading it: after DONE, before TAKEN, or when its hand is dead.

use core::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::super::codec::Arrived;
use super::backlog::Backlog;
use super::crew::Crew;
use super::ground::{Ground, INLINE, Kind};
use super::inbox::Inbox;
use super::line;
use super::patience::Patience;
use super::slot::{self, NOTIFY, Phase, WAITED, Word};
use super::stats::{Count, Counts};
use super::task::{Claimant, Ending, Job, Task};
use super::terms::Terms;
use crate::primitive::Ordering;
use crate::primitive::plain::{Condvar, Mutex, MutexGuard};
use crate::shm::spare;
use crate::task::{Dispatch, PoolError, TaskError, WhenFull};

/// Nanoseconds for which a caller looks at its task before it sleeps: waking a worker on another core takes half of that.
const LOOKING: u32 = 30_000;
/// Not where there is less time than this.
const ENOUGH: Duration = Duration::from_millis(1);

/// What the pool shares in its parent.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) ground: Ground,
    pub(super) terms: Terms,
    pub(super) counts: Counts,
    inner: Mutex<Inner>,
    /// Of a caller whose task is the only one.
    patience: Patience,
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
    waiting: usize,
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
    /// Where the next ticket goes, and all tickets as they were written.
    pub(super) tail: u64,
    pub(super) written: Vec<u64>,
    /// Tasks that wait for slots.
    pub(super) backlog: Backlog,
}

/// A task in a slot.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) task: Task,
    /// Its arguments' room, where they are too large for the slot.
    spill: Option<Range<usize>>,
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
            written: vec![0; plan.per_line],
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

    /// Which hands take tasks of a line.
    pub(super) fn hands(&self, line: usize) -> Range<u16> {
        let plan = self.ground.plan;
        match self.terms.worker_of_line(line) {
            Some(worker) => plan.hands_of(worker),
            #[expect(clippy::cast_possible_truncation, reason = "at most 1024 hands")]
            None => 0..(self.terms.workers * plan.threads) as u16,
        }
    }

    /// Takes a task in, made by `make` of its number. None: the queue is full, and the caller is to run it.
    pub(super) fn submit(&self, make: impl FnOnce(u64) -> Task) -> Result<Option<u64>, PoolError> {
        let mut ended = Ended::new();
        let mut inner = self.lock();
        let line = loop {
            inner.expect_open()?;
            let line = self.choose(&mut inner);
            if self.waiting_in(&inner, line) < self.terms.bound {
                break line;
            }
            match self.terms.when_full {
                WhenFull::Fail => return Err(PoolError::Full { bound: self.terms.bound }),
                WhenFull::CallerRuns => return Ok(None),
                WhenFull::Block => inner = self.wait_for_room(inner),
            }
        };
        let number = inner.next;
        inner.next += 1;
        inner.unfinished += 1;
        self.counts.add(&self.ground, Count::Submitted, 1);
        let task = make(number);
        if let Claimant::Handle(job) = &task.claimant {
            job.job().line.store(as_u32(line), Ordering::Relaxed);
        }
        if inner.lines[line].free.is_empty() {
            self.harvest(&mut inner, line, &mut ended);
        }
        if !inner.lines[line].backlog.is_empty() {
            inner.lines[line].backlog.put(task);
            self.refill(&mut inner, line, &mut ended);
        } else if let Err(task) = self.place(&mut inner, line, task, &mut ended) {
            inner.lines[line].backlog.put(task);
            self.ask_for_more(&inner);
        }
        if inner.looks_at.is_none() {
            self.have_looked(&mut inner);
        }
        drop(inner);
        self.tell(ended);
        self.ground.call(self.hands(line));
        Ok(Some(number))
    }

    /// The parent's thread looks now: at times while there are tasks, and in time for their limits.
    fn have_looked(&self, inner: &mut Inner) {
        // It looks already, for all that anybody else wants of it.
        inner.looks_at = Some(self.terms.since);
        self.ground.ring();
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
        match self.terms.dispatch {
            Dispatch::SharedQueue => 0,
            Dispatch::RoundRobin => {
                inner.turn = (inner.turn + 1) % self.terms.workers;
                inner.turn
            }
            Dispatch::Random => {
                // Marsaglia's xorshift.
                inner.seed ^= inner.seed << 13;
                inner.seed ^= inner.seed >> 7;
                inner.seed ^= inner.seed << 17;
                usize::try_from(inner.seed >> 8).unwrap_or(0) % self.terms.workers
            }
        }
    }

    /// Tasks of a line that nobody has taken yet.
    pub(super) fn waiting_in(&self, inner: &Inner, line: usize) -> usize {
        let tickets = usize::try_from(line::len(self.ground.ends(line))).unwrap_or(0).min(self.ground.plan.per_line);
        inner.lines[line].backlog.len() + tickets
    }

    /// Hands ring when a line gets short.
    fn ask_for_more(&self, inner: &Inner) {
        let half = self.ground.plan.per_line / 2;
        let low = if inner.waiting > 0 { self.terms.bound.saturating_sub(1).clamp(1, half) } else { half };
        self.ground.head().low.0.store(low as u64, Ordering::Relaxed);
    }

    /// Puts a task into a slot of a line. It comes back if there is none, or no room for its arguments now.
    fn place(&self, inner: &mut Inner, line: usize, mut task: Task, ended: &mut Ended) -> Result<(), Task> {
        let Some(&index) = inner.lines[line].free.last() else { return Err(task) };
        let bytes = task.arguments.bytes();
        let len = bytes.len();
        let spill = if len <= INLINE {
            None
        } else {
            match inner.inbox.take(&self.ground, len) {
                Ok(Some(room)) => Some(room),
                Ok(None) => return Err(task),
                // The system has no more memory. It comes back when tasks that have some end; if there is none, never.
                Err(_) if inner.inbox.used() > 0 => return Err(task),
                Err(_) => {
                    self.end(inner, task, Err(PoolError::OutOfMemory.into()), ended);
                    return Ok(());
                }
            }
        };
        let (Some(slot), Some(room)) = (self.ground.slot(index), self.ground.room(index)) else { return Err(task) };
        self.ground.write(spill.as_ref().map_or(room, |spill| spill.start), bytes);
        slot.function.store(task.function, Ordering::Relaxed);
        let kind = if task.many { Kind::Many } else { Kind::One };
        slot.kind.store(kind as u32, Ordering::Relaxed);
        slot.len.store(len as u64, Ordering::Relaxed);
        slot.at.store(spill.as_ref().map_or(0, |spill| spill.start as u64), Ordering::Relaxed);
        slot.number.store(task.number, Ordering::Relaxed);
        slot.started.store(0, Ordering::Relaxed);
        let closing = inner.stage != Stage::Open || matches!(task.claimant, Claimant::Call(_) | Claimant::Channel(_));
        let flags = if task.watched || closing { NOTIFY } else { 0 };
        let generation = inner.generations[index as usize];
        slot::queue(&slot.word, generation, flags);
        let ticket = line::ticket(index, generation);
        if !self.put(inner, line, ticket) {
            let _ = slot::free(&slot.word, Word::new(Phase::Queued, generation, 0));
            inner.generations[index as usize] = generation.wrapping_add(1);
            if let Some(spill) = spill {
                inner.inbox.give(&self.ground, spill);
            }
            return Err(task);
        }
        inner.lines[line].free.pop();
        if let Claimant::Handle(job) = &task.claimant {
            job.job().slot.store(index, Ordering::Relaxed);
        }
        if !task.moves && task.retries == 0 && self.ground.plan.threads == 1 {
            task.arguments = Arrived::new(Vec::new());
        }
        let first = task.limits.first();
        let now = if first.is_some() { Instant::now() } else { self.terms.since };
        inner.placed[index as usize] = Some(Placed { task, spill, at: now, taken: None, asked_to_stop: false });
        if first.is_some_and(|first| inner.looks_at.is_none_or(|at| now + first < at)) {
            self.have_looked(inner);
        }
        Ok(())
    }

    fn put(&self, inner: &mut Inner, line: usize, ticket: u64) -> bool {
        let (ends, places) = (self.ground.ends(line), self.ground.places(line));
        let state = &mut inner.lines[line];
        if !line::put(ends, places, state.tail, ticket) {
            // Tickets of cancelled tasks may be in the way.
            let is_good = |slot: u32, generation: u32| {
                self.ground.slot(slot).is_some_and(|slot| {
                    let word = Word::load(&slot.word);
                    word.phase() == Phase::Queued && word.generation() == generation
                })
            };
            line::clean(ends, places, is_good);
            if !line::put(ends, places, state.tail, ticket) {
                return false;
            }
        }
        let place = usize::try_from(state.tail & (places.len() as u64 - 1)).unwrap_or(0);
        state.written[place] = ticket;
        state.tail = state.tail.wrapping_add(1);
        true
    }

    /// Gives slots to tasks that wait for them, as long as there are any.
    pub(super) fn refill(&self, inner: &mut Inner, line: usize, ended: &mut Ended) {
        let mut placed = false;
        while !inner.lines[line].free.is_empty() {
            let Some(task) = inner.lines[line].backlog.take_first() else { break };
            if let Err(task) = self.place(inner, line, task, ended) {
                inner.lines[line].backlog.put(task);
                break;
            }
            placed = true;
        }
        if inner.waiting > 0 || inner.lines.iter().any(|line| !line.backlog.is_empty()) {
            self.ask_for_more(inner);
        } else {
            self.ground.head().low.0.store(0, Ordering::Relaxed);
        }
        if placed {
            self.ground.call(self.hands(line));
        }
    }

    /// Takes in all results of a line that are there.
    pub(super) fn harvest(&self, inner: &mut Inner, line: usize, ended: &mut Ended) {
        let first = line * self.ground.plan.per_line;
        for (n, word) in self.ground.done(line).iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with the Release of the hand that set the bit.
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.collect(inner, as_u32(first + 64 * n + bit), ended);
            }
        }
    }

    /// Takes the result in a slot in, if there is one.
    pub(super) fn collect(&self, inner: &mut Inner, index: u32, ended: &mut Ended) -> bool {
        let at = index as usize;
        let Some(slot) = self.ground.slot(index) else { return false };
        let word = Word::load(&slot.word);
        let expected = inner.placed[at].is_some() && word.generation() == inner.generations[at];
        if !expected || word.phase() != Phase::Done {
            return false;
        }
        let result = self.result(index, word);
        let Some(placed) = self.take_out(inner, index, word) else { return false };
        let ending = result.unwrap_or_else(|| Err(TaskError::Pool(PoolError::Damaged)));
        let ending = ending.map_err(|error| error.of(placed.task.path));
        self.end(inner, placed.task, ending, ended);
        true
    }

    /// Reads a result. `None`: what is there is none.
    fn result(&self, index: u32, word: Word) -> Option<Ending> {
        let (slot, room) = (self.ground.slot(index)?, self.ground.room(index)?);
        let plan = self.ground.plan;
        let len = usize::try_from(slot.len.load(Ordering::Relaxed)).ok()?;
        let at = usize::try_from(slot.at.load(Ordering::Relaxed)).ok()?;
        let kind = Kind::of(slot.kind.load(Ordering::Relaxed))?;
        if kind == Kind::TooLarge {
            return Some(Err(TaskError::TooLarge { bytes: len, limit: plan.most }));
        }
        let (from, outbox) = if at == 0 {
            (len <= INLINE).then_some((room, None))?
        } else {
            let hand = Some(word.hand()).filter(|hand| usize::from(*hand) < plan.hands())?;
            let which = (0..2).find(|which| plan.outbox(hand, *which).start == at)?;
            (len <= plan.most).then_some((at, Some((hand, which))))?
        };
        let mut bytes = spare::any(len);
        let read = self.ground.read(from, len, &mut bytes);
        if let Some((hand, which)) = outbox {
            let full = &self.ground.hand(hand).full[which];
            // Release: the hand writes after we have read.
            full.store(0, Ordering::Release);
            crate::os::shared::shared_wake(full, 1);
        }
        if read.is_err() {
            return Some(Err(PoolError::OutOfMemory.into()));
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(match kind {
            Kind::Returned => Ok(Arrived::new(bytes)),
            Kind::Panicked => Err(TaskError::Panicked { message: text(bytes) }),
            Kind::Undecodable => Err(TaskError::undecodable_arguments(text(bytes))),
            Kind::Unencodable => Err(TaskError::unencodable_result(text(bytes))),
            Kind::One | Kind::Many | Kind::TooLarge => return None,
        })
    }

    /// Takes a task out of its slot, whose word is `seen` but for its flags. `None`: it is no longer so.
    pub(super) fn take_out(&self, inner: &mut Inner, index: u32, seen: Word) -> Option<Placed> {
        let slot = self.ground.slot(index)?;
        let now = slot::free(&slot.word, seen)?;
        let at = index as usize;
        inner.generations[at] = seen.generation().wrapping_add(1);
        let mut placed = inner.placed[at].take()?;
        let spill = placed.spill.take();
        if now.phase() == Phase::Taken {
            // Its hand may still be reading (D3).
            inner.crew.owes(self.ground.plan.worker_of(now.hand()), index, spill);
            if now.has(WAITED) {
                Ground::wake_all_on(&slot.word);
            }
        } else {
            self.give_slot(inner, index, spill);
            if now.has(WAITED) && now.phase() == Phase::Queued {
                Ground::wake_all_on(&slot.word);
            }
        }
        if let Claimant::Handle(job) = &placed.task.claimant {
            job.job().slot.store(u32::MAX, Ordering::Relaxed);
        }
        Some(placed)
    }

    pub(super) fn give_slot(&self, inner: &mut Inner, index: u32, spill: Option<Range<usize>>) {
        let line = index as usize / self.ground.plan.per_line;
        inner.lines[line].free.push(index);
        if let Some(spill) = spill {
            inner.inbox.give(&self.ground, spill);
        }
    }

    /// A task has ended (D1).
    pub(super) fn end(&self, inner: &mut Inner, task: Task, ending: Ending, ended: &mut Ended) {
        inner.unfinished -= 1;
        let count = match &ending {
            Ok(_) => None,
            Err(TaskError::Cancelled) => Some(Count::Cancelled),
            Err(TaskError::Panicked { .. }) => Some(Count::Panicked),
            Err(_) => Some(Count::Failed),
        };
        count.into_iter().for_each(|count| self.counts.add(&self.ground, count, 1));
        if count != Some(Count::Cancelled) {
            self.counts.add(&self.ground, Count::Finished, 1);
        }
        super::trace::task_ended(&task, &ending);
        if inner.waiting > 0 {
            self.changed.notify_all();
        }
        ended.push((task.claimant, ending));
    }

    /// Tells those who wait. Not under the lock: wakers and callbacks are others' code.
    pub(super) fn tell(&self, ended: Ended) {
        for (claimant, ending) in ended {
            match claimant {
                Claimant::Nobody => drop(ending),
                Claimant::Handle(job) => job.end(ending),
                Claimant::Call(callback) => self.terms.callbacks.call(callback, ending),
                // Nobody may be there any more.
                Claimant::Channel(to) => drop(to.send(ending)),
            }
        }
    }

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
            return true;
        }
        let word = slot::flag(&slot.word, WAITED);
        if word.generation() != generation || !matches!(word.phase(), Phase::Queued | Phase::Taken) {
            return true;
        }
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        Ground::sleep_on(&slot.word, word, left);
        true
    }

    fn collect_of(&self, inner: &mut Inner, job: &Job, index: u32, ended: &mut Ended) {
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
        let mut inner = self.lock();
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

    /// Takes a task back that is not done: what it was, and its word then.
    pub(super) fn revoke(&self, inner: &mut Inner, index: u32, running: bool) -> Option<(Placed, Word)> {
        let slot = self.ground.slot(index)?;
        loop {
            let seen = Word::load(&slot.word);
            let is_it =
                inner.placed[index as usize].is_some() && seen.generation() == inner.generations[index as usize];
            if !is_it || !(seen.phase() == Phase::Queued || running && seen.phase() == Phase::Taken) {
                return None;
            }
            // QUEUED may become TAKEN meanwhile.
            if let Some(placed) = self.take_out(inner, index, seen) {
                return Some((placed, seen));
            }
        }
    }

    /// Ends all tasks, each with this error, but for those that are done.
    pub(super) fn end_all(&self, inner: &mut Inner, error: &TaskError, ended: &mut Ended) {
        for index in 0..as_u32(inner.placed.len()) {
            if inner.placed[index as usize].is_none() || self.collect(inner, index, ended) {
                continue;
            }
            let placed = match self.revoke(inner, index, true) {
                Some((placed, _)) => Some(placed),
                None if self.collect(inner, index, ended) => None,
                // Its word is rubbish: whoever sleeps on it is woken all the same.
                None => {
                    let placed = inner.placed[index as usize].take();
                    self.ground.slot(index).into_iter().for_each(|slot| Ground::wake_all_on(&slot.word));
                    placed
                }
            };
            if let Some(Placed { task, .. }) = placed {
                self.end(inner, task, Err(error.clone()), ended);
            }
        }
        for line in 0..inner.lines.len() {
            while let Some(task) = inner.lines[line].backlog.take_first() {
                self.end(inner, task, Err(error.clone()), ended);
            }
        }
    }

    /// From now on each task's end is heard of.
    pub(super) fn watch_all(&self, inner: &Inner) {
        for (index, placed) in inner.placed.iter().enumerate() {
            if placed.is_some()
                && let Some(slot) = self.ground.slot(as_u32(index))
            {
                slot::flag(&slot.word, NOTIFY);
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

/// So that the desk can be shared: its tasks hold what is `Send`.
pub(super) type SharedDesk = Arc<Desk>;
