//! What is done for a member that died: nothing that it owned stays owned, nothing waits for it.
//!
//! One member sweeps at a time. Each step can be done again: a sweeper that dies is itself swept, and whoever sweeps
//! next goes on.

use core::time::Duration;
use std::time::Instant;

use super::block::{Owner, State, Word};
use super::here::{self, Here};
use super::id::Id;
use super::layout::{Class, TOKENS};
use super::members::{self, Member};
use super::segment::Segment;
use super::shape::Kind;
use super::{bodies, free, sleepers, stages, step, store};
use crate::primitive::Ordering;

/// A sweep takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A member is known to be dead, or was never started: sweeps all it held and wakes whoever waits. Said by its
/// supervisor, once its process is gone with all its threads; saying it twice does nothing.
pub(crate) fn member_died(member: Member) {
    let Some(here) = here::known() else { return };
    if members::bury(here.segment, member) {
        sweep(here, member);
        sleepers::wake_all();
    }
}

/// Sweeps all that a dead member left, and lets its number be used again.
fn sweep(here: Here, dead: Member) {
    let segment = here.segment;
    let mut all = vec![dead];
    if begin(here) == Before::Died {
        unpin_all(segment, here.me());
        // Whoever it was sweeping.
        all.extend(members::leaving(segment).into_iter().filter(|member| *member != dead));
    }
    // Whoever swept last may have done this one as well, and its number may be another's by now.
    all.retain(|dead| members::is_leaving(segment, *dead));
    // Those that it was about to start never come.
    if all.contains(&dead) {
        all.extend(members::bury_enlisted(segment, dead.index));
    }
    sweep_all(segment, here.me(), &all);
    count_spare(segment);
    // Release: pairs with the Acquire of the next sweeper.
    segment.root().sweeper.store(0, Ordering::Release);
}

fn sweep_all(segment: &Segment, me: Owner, dead: &[Member]) {
    sweep_tokens(segment, me, dead);
    for class in Class::all() {
        for index in 0..store::grown_in_earnest(segment, class) {
            sweep_block(segment, me, dead, class, index);
        }
    }
    step::reach(90);
    dead.iter().for_each(|dead| members::forget(segment, *dead));
}

/// How the last sweeper ended.
#[derive(PartialEq, Eq)]
enum Before {
    Done,
    /// It died sweeping: its pins are still there.
    Died,
}

/// Waits until no other member sweeps.
fn begin(here: Here) -> Before {
    let sweeper = &here.segment.root().sweeper;
    let mine = u64::from(here.me()) + 1;
    let mut waited = (0, Instant::now());
    loop {
        // AcqRel: pairs with the Release of the last sweeper.
        let Err(other) = sweeper.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Acquire) else {
            return Before::Done;
        };
        let index = other.checked_sub(1).and_then(|index| Owner::try_from(index).ok()).unwrap_or(Owner::MAX);
        // Nobody sweeps for so long: what stands there was written by somebody out of control.
        if waited.0 != other {
            waited = (other, Instant::now());
        }
        let gone = !members::is_live(here.segment, index) || waited.1.elapsed() > PATIENCE;
        if gone && sweeper.compare_exchange(other, mine, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Before::Died;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn unpin_all(segment: &Segment, me: Owner) {
    for class in Class::all() {
        for index in 0..store::grown_in_earnest(segment, class) {
            let Some(entry) = segment.entry(class, index) else { continue };
            let seen = Word::load(&entry.word);
            if seen.is_pinned() {
                free::unpin(segment, me, Id::block(class, index, seen.generation()));
            }
        }
    }
}

fn sweep_tokens(segment: &Segment, me: Owner, dead: &[Member]) {
    let tokens = segment.root().tokens.load(Ordering::Acquire) as usize;
    for index in 0..tokens.min(TOKENS) {
        let word = &segment.token(index).word;
        let seen = Word::load(word);
        if !is_of(seen, dead) || seen.step(word, Word::owned(me, seen.generation())).is_err() {
            continue;
        }
        if let Some(id) = Id::token(index, seen.generation()) {
            free::free_token(segment, me, id);
        }
    }
}

/// Owned by one of them, or on its way to it.
fn is_of(seen: Word, dead: &[Member]) -> bool {
    matches!(seen.state(), State::Owned | State::Queued) && dead.iter().any(|dead| dead.index == seen.owner())
}

fn sweep_block(segment: &Segment, me: Owner, dead: &[Member], class: Class, index: usize) {
    let Some(entry) = segment.entry(class, index) else { return };
    let seen = Word::load(&entry.word);
    let id = Id::block(class, index, seen.generation());
    match seen.state() {
        State::Owned | State::Queued
            if is_of(seen, dead) && seen.step(&entry.word, Word::owned(me, seen.generation())).is_ok() =>
        {
            free::dismantle(segment, me, id);
        }
        State::Shared if free::pin(segment, id) => {
            step::reach(91);
            let kind = bodies::kind(&entry.content);
            let mut orphan = false;
            for dead in dead {
                bodies::sweep(segment, *dead, id, kind, &mut |id| free::release_unread(segment, me, id));
                if kind == Kind::Pipe {
                    free::close_ends(segment, me, *dead, id);
                }
                orphan |= kind == Kind::Stage && stages::sweep(segment, *dead, id);
            }
            free::unpin(segment, me, id);
            if orphan {
                stages::free(segment, me, id, &mut |id| free::release_unread(segment, me, id));
            }
        }
        // Its hint may have been lost with the dead one.
        State::Free => store::hint(segment, class, index),
        _ => {}
    }
}

/// The bytes that large free blocks have room for: what the dead one was about to add or to take is set right.
fn count_spare(segment: &Segment) {
    let mut spare = 0_u64;
    for class in Class::all().filter(|class| class.is_large()) {
        for index in 0..store::grown_in_earnest(segment, class) {
            let Some(entry) = segment.entry(class, index) else { continue };
            if Word::load(&entry.word).state() == State::Free {
                spare = spare.saturating_add(entry.room.load(Ordering::Relaxed));
            }
        }
    }
    segment.root().spare.store(spare, Ordering::Relaxed);
}
