//! Tasks into slots and results out of them: the parent's steps in the segment (D2, D3 of `desk.rs`).

use core::ops::Range;
use std::time::Instant;

use super::super::codec::Arrived;
use super::desk::{Desk, Ended, Inner, Placed, Stage, as_u32};
use super::ground::Ground;
use super::line;
use super::plan::{INLINE, Kind};
use super::slot::{self, NOTIFY, Phase, WAITED, Word};
use super::task::{Claimant, Ending, Task};
use crate::primitive::Ordering;
use crate::shm::spare;
use crate::task::{PoolError, TaskError};

impl Desk {
    /// Puts a task into a slot of a line. It comes back if there is none, or no room for its arguments now.
    #[expect(clippy::result_large_err, reason = "the task comes back, which is rare")]
    pub(super) fn place(&self, inner: &mut Inner, line: usize, mut task: Task, ended: &mut Ended) -> Result<(), Task> {
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
        // Those that wait for room in the segment get it when it is there, not when somebody looks.
        let scarce = inner.inbox.used() > self.ground.plan.inbox().len() / 2;
        let flags = if task.watched || closing || scarce { NOTIFY } else { 0 };
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
        if task.handles.are_none() && task.retries == 0 && self.ground.plan.threads == 1 {
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

    pub(super) fn put(&self, inner: &mut Inner, line: usize, ticket: u64) -> bool {
        let (ends, places) = (self.ground.ends(line), self.ground.places(line));
        let state = &mut inner.lines[line];
        if !line::put(ends, places, state.tail, &mut state.head, ticket) {
            // Tickets of cancelled tasks may be in the way.
            line::clean(ends, places, |ticket| self.is_queued(ticket));
            if !line::put(ends, places, state.tail, &mut state.head, ticket) {
                return false;
            }
        }
        let place = line::place(places, state.tail);
        state.written[place] = ticket;
        state.tail = state.tail.wrapping_add(1);
        true
    }

    /// Whether a ticket's task waits for a hand.
    pub(super) fn is_queued(&self, ticket: u64) -> bool {
        let (slot, generation) = line::parts(ticket);
        self.ground.slot(slot).is_some_and(|slot| {
            let word = Word::load(&slot.word);
            word.phase() == Phase::Queued && word.generation() == generation
        })
    }

    /// Says in the segment which tickets there are. Who puts one says it before the lock is free.
    pub(super) fn publish(&self, inner: &mut Inner, line: usize) {
        let state = &mut inner.lines[line];
        if state.published != state.tail {
            state.published = state.tail;
            line::publish(self.ground.ends(line), state.tail);
        }
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
            self.publish(inner, line);
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
    pub(super) fn result(&self, index: u32, word: Word) -> Option<Ending> {
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
        } else {
            self.give_slot(inner, index, spill);
        }
        if now.phase() != Phase::Done {
            // Its ticket may lie there yet.
            let line = &mut inner.lines[at / self.ground.plan.per_line];
            line.doubtful = line.tail;
        }
        // Where it is done its hand wakes them too, unless it was killed or stopped before it could (S3).
        if now.has(WAITED) {
            Ground::wake_all_on(&slot.word);
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

    /// Ends the tasks of a line that nobody has taken, each with this error.
    pub(super) fn end_waiting(&self, inner: &mut Inner, line: usize, error: &TaskError, ended: &mut Ended) {
        let per_line = self.ground.plan.per_line;
        for index in line * per_line..(line + 1) * per_line {
            if let Some((placed, _)) = self.revoke(inner, as_u32(index), false) {
                self.end(inner, placed.task, Err(error.clone()), ended);
            }
        }
        while let Some(task) = inner.lines[line].backlog.take_first() {
            self.end(inner, task, Err(error.clone()), ended);
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

    /// A worker is dead that had put a result down in this slot and had not said that it is done: the handles in it that were
    /// passed on to us are released.
    pub(super) fn release_noted(&self, index: u32, hands: Range<u16>) {
        let Some(slot) = self.ground.slot(index) else { return };
        // Acquire: pairs with the Release in `put_down`.
        if Kind::of(slot.kind.load(Ordering::Acquire)) == Some(Kind::Returned) {
            for hand in hands {
                drop(self.result(index, Word::new(Phase::Done, 0, hand)));
            }
        }
    }
}
