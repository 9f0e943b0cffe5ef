//! A worker has ended: what becomes of its place, and of the tasks that it had.

use core::cmp::Reverse;

use rustix::process::Signal;

use super::super::record::Outcome;
use super::desk::{Desk, Ended, Inner, Stage, as_u32};
use super::slot::{Phase, Word};
use super::spec::{LEAVE, LEAVING, READY};
use super::stats::Count;
use super::task::Task;
use super::{line, trace};
use crate::os::process::End;
use crate::primitive::Ordering;
use crate::task::{PoolError, TaskError};

/// What becomes of a task whose worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It ends in an error.
    Lost,
    /// It is run again, which counts.
    Again,
    /// It is run again, which doesn't.
    Innocent,
    /// It is run again alone.
    Suspect,
}

/// A worker has ended: what it ran is run again or is an error, what it held is free.
pub(super) fn bury(
    desk: &Desk,
    inner: &mut Inner,
    worker: usize,
    end: End,
    outcome: Option<Outcome>,
    said: &str,
    ended: &mut Ended,
) {
    let hands = desk.ground.plan.hands_of(worker);
    let place = &mut inner.crew.workers[worker];
    place.record = None;
    said.clone_into(&mut place.said);
    let has_run = desk.ground.ran(worker) != place.ran_before;
    let (pid, grown) = (place.pid, place.is_grown());
    // Final, now that it has ended; the foreman may have looked before it was ready.
    let phase = desk.ground.post(worker).phase.load(Ordering::Acquire);
    let (killed, ready) = (core::mem::take(&mut place.killed), core::mem::take(&mut place.ready) || phase >= READY);
    desk.ground.post(worker).phase.store(0, Ordering::Relaxed);
    desk.ground.post(worker).pid.store(0, Ordering::Relaxed);
    let how = describe(end, outcome.as_ref(), said);
    let debts = core::mem::take(&mut place.debts);
    let mut victims = Vec::new();
    for index in 0..as_u32(inner.placed.len()) {
        let Some(slot) = desk.ground.slot(index) else { continue };
        if inner.placed[index as usize].is_none() {
            continue;
        }
        let seen = Word::load(&slot.word);
        if hands.contains(&seen.hand()) && !desk.collect(inner, index, ended) && seen.phase() == Phase::Taken {
            desk.release_noted(index, hands.clone());
            let taken = desk.ground.slot(index).map_or(0, |slot| slot.started.load(Ordering::Relaxed));
            victims.extend(desk.revoke(inner, index, true).map(|(placed, _)| (taken, placed.task)));
        }
    }
    // Suspects run one after the other, so the latest first: one that was at work for long may be so again. One whose hand
    // died before it could say when is the latest.
    victims.sort_by_key(|(taken, _)| Reverse(taken.wrapping_sub(1)));
    // Old, told to, or with no suspects left: others that exit do so by themselves.
    let orders = desk.ground.head().orders.load(Ordering::Relaxed);
    let leaves = phase == LEAVING || orders == LEAVE || worker == desk.terms.workers;
    // It left as it was told, and not in the middle of a task that exits.
    let planned = end.exited_well() && ready && leaves && victims.is_empty();
    // One that was ready and that somebody else killed says nothing of those that come after it.
    let by_others = killed_by_others(end, outcome.as_ref());
    if ready && (has_run || grown || killed || planned || !victims.is_empty()) {
        inner.crew.one_is_of_use(worker);
    } else if !(killed || ready && by_others) {
        inner.crew.died_young(worker, &how);
        inner.crew.workers[worker].fruitless += u32::from(!by_others);
        end_those_of(desk, inner, worker, ended);
    }
    trace::worker_ended(&desk.terms.name, worker, pid, planned || killed, &how);
    if !planned {
        inner.crew.workers[worker].deaths += 1;
        desk.counts.add(&desk.ground, Count::Deaths, 1);
    }
    for (slot, room) in debts.into_iter().chain(core::mem::take(&mut inner.crew.workers[worker].debts)) {
        desk.release_noted(slot, hands.clone());
        desk.give_slot(inner, slot, room);
    }
    for hand in hands.clone() {
        desk.ground.head().beds.bury(hand);
        let hand = desk.ground.hand(hand);
        hand.bed.store(0, Ordering::Relaxed);
        hand.slot.store(0, Ordering::Relaxed);
        hand.full.iter().for_each(|full| full.store(0, Ordering::Relaxed));
    }
    let died = TaskError::WorkerDied { pid, signal: end.signal() };
    let alone = victims.len() == 1;
    for (_, task) in victims {
        let verdict = match (killed, alone) {
            // The pool killed it for another task's sake: this one is innocent.
            (true, _) => Verdict::Innocent,
            (false, true) if task.retries > 0 => Verdict::Again,
            (false, true) => Verdict::Lost,
            // One of them did it: each runs alone, to see which.
            (false, false) => Verdict::Suspect,
        };
        judge(desk, inner, worker, task, verdict, &died, ended);
    }
    let line = desk.terms.line_of_worker(worker);
    desk.refill(inner, line, ended);
    if line::len(desk.ground.ends(line)) > 0 {
        desk.ground.call(desk.hands(line));
    }
}

/// A worker failed, or could not be started: if that was once too often, so it is with the tasks that wait for it alone. Others may
/// be at work, but not for these.
pub(super) fn end_those_of(desk: &Desk, inner: &mut Inner, worker: usize, ended: &mut Ended) {
    let (place, line) = (&inner.crew.workers[worker], desk.terms.line_of_worker(worker));
    if place.is_given_up() && desk.terms.worker_of_line(line) == Some(worker) {
        let error = PoolError::CrashLoop { deaths: place.fruitless, last_words: place.last_words.clone() };
        desk.end_waiting(inner, line, &error.into(), ended);
    }
}

fn judge(
    desk: &Desk,
    inner: &mut Inner,
    worker: usize,
    mut task: Task,
    verdict: Verdict,
    died: &TaskError,
    ended: &mut Ended,
) {
    if inner.stage == Stage::Terminated || verdict == Verdict::Lost || !task.renew(desk.ground.plan.most) {
        return desk.end(inner, task, Err(died.clone()), ended);
    }
    if verdict == Verdict::Again {
        task.retries -= 1;
        desk.counts.add(&desk.ground, Count::Retried, 1);
    }
    trace::task_again(&task, verdict == Verdict::Again);
    let line = if verdict == Verdict::Suspect && desk.terms.suspects {
        desk.terms.suspects_line()
    } else {
        desk.terms.line_of_worker(worker)
    };
    if let super::task::Claimant::Handle(job) = &task.claimant {
        job.job().line.store(as_u32(line), Ordering::Relaxed);
    }
    // Who waits for it sleeps in this process from now on, or finds its slot.
    task.watched = true;
    inner.lines[line].backlog.put(task);
    desk.refill(inner, line, ended);
}

/// Whether somebody else's signal ended a worker. One that was late, not this program or sent rubbish is killed for its own sake.
fn killed_by_others(end: End, outcome: Option<&Outcome>) -> bool {
    let by_us = match outcome {
        Some(Outcome::NeverReady { late }) => late.is_some(),
        Some(Outcome::OtherBuild(_) | Outcome::NeverTold(_) | Outcome::Rubbish) => true,
        _ => false,
    };
    !by_us && [Signal::KILL, Signal::TERM, Signal::INT].map(|signal| Some(signal.as_raw())).contains(&end.signal())
}

/// How a worker ended, in words.
fn describe(end: End, outcome: Option<&Outcome>, said: &str) -> String {
    let how = match outcome {
        Some(Outcome::Panicked(message)) => format!("it panicked: {message}"),
        Some(Outcome::Undecodable(reason)) => format!("its first words could not be read: {reason}"),
        Some(Outcome::Unencodable(reason)) => reason.clone(),
        Some(Outcome::NeverReady { late: Some(after) }) => {
            format!("it did not reach `millpond::process::init()` within {after:?}")
        }
        Some(Outcome::NeverTold(error)) => format!("it could not be told its task: {error}"),
        Some(Outcome::OtherBuild(difference)) => format!("it is not this program: {difference}"),
        _ => match end {
            End::Status(status) => format!("it ended with {status}"),
            End::ReapedByOthers => "it ended, nobody knows how".to_owned(),
        },
    };
    let said = said.trim();
    if said.is_empty() { how } else { format!("{how}; its last words: {said}") }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use core::time::Duration;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use rustix::io::Errno;

    use super::{End, Outcome, killed_by_others};

    #[test]
    fn who_was_killed_for_its_own_sake_was_killed_by_no_other() {
        let killed = End::Status(ExitStatus::from_raw(9));
        let own = [
            Outcome::NeverReady { late: Some(Duration::from_secs(1)) },
            Outcome::OtherBuild(String::new()),
            Outcome::NeverTold(Errno::NOBUFS),
            Outcome::Rubbish,
        ];
        assert!(own.iter().all(|outcome| !killed_by_others(killed, Some(outcome))));
        for (raw, others) in [(9, true), (15, true), (2, true), (11, false), (6, false), (256, false), (0, false)] {
            let end = End::Status(ExitStatus::from_raw(raw));
            assert_eq!(killed_by_others(end, Some(&Outcome::Nothing)), others, "{raw}");
            assert_eq!(killed_by_others(end, Some(&Outcome::NeverReady { late: None })), others, "{raw}");
        }
        assert!(!killed_by_others(End::ReapedByOthers, None));
    }
}
