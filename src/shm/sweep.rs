//! What is done for a member that died: nothing that it owned stays owned, nothing waits for it.
//!
//! One member sweeps at a time (`sweeper.rs`), and does all that are to be swept. Each step can be done again: a sweeper that
//! dies is itself swept, and whoever sweeps next goes on.

use core::slice;
use core::time::Duration;
use std::sync::TryLockError;
use std::time::Instant;

use super::block::{Owner, State, Word};
use super::here::{self, Here};
use super::id::Id;
use super::layout::{Class, TOKENS};
use super::members::{self, Member};
use super::segment::Segment;
use super::shape::Kind;
use super::sweeper::{Last, Round};
use super::{bodies, free, sleepers, stages, step, store, transit};
use crate::primitive::Ordering;
use crate::primitive::plain::Mutex;

/// How long a sweep by another is waited for: it takes milliseconds, unless that one is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Held by the thread of this process that asks who sweeps, and while it sweeps.
static SWEEPING: Mutex<()> = Mutex::new(());

/// A member is known to be dead, or was never started: sweeps all it held and wakes whoever waits. Said by its
/// supervisor, once its process is gone with all its threads; saying it twice does nothing.
pub(crate) fn member_died(member: Member) {
    let Some(here) = here::known() else { return };
    if members::bury(here.segment, member) {
        step::reach(92);
        sweep(here, member);
        sleepers::wake_all();
    }
}

/// Sees to it that a member that was seen dead is swept, and its number can be used again: by this process, or by the one that
/// is at it, which comes to it later if it takes very long.
fn sweep(here: Here, dead: Member) {
    let segment = here.segment;
    let sweeper = &segment.root().sweeper;
    let started = Instant::now();
    let me = here.member().bits();
    // A sweep that panicked is over: what it left is swept as a dead one's.
    let hold = || match SWEEPING.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
    };
    let is_live = |other| members::is_live(segment, Member::of(other));
    let leaving = || members::leaving(segment);
    loop {
        match sweeper.round(me, hold, is_live, leaving, |last| sweep_leaving(here, last)) {
            Round::Again => {}
            Round::Left if members::is_leaving(segment, dead) && started.elapsed() <= PATIENCE => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Round::Swept | Round::Left => return,
        }
    }
}

/// Sweeps all that were seen dead, and those that they were about to start. Whoever said it first may be dead as well.
fn sweep_leaving(here: Here, last: &Last) -> Vec<Member> {
    let segment = here.segment;
    if *last == Last::Died {
        unpin_all(segment, here.me());
    }
    let mut all = members::leaving(segment);
    for n in 0..all.len() {
        all.extend(members::bury_enlisted(segment, all[n].index));
    }
    // The last sweeper may have done all, but for the books.
    if !all.is_empty() || *last == Last::Died {
        sweep_all(segment, here.me(), &all);
        count_spare(segment);
    }
    all
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
        let Some(of) = dead.iter().find(|dead| is_of(seen, slice::from_ref(dead))) else { continue };
        if seen.step(word, Word::owned(me, seen.generation())).is_err() {
            continue;
        }
        if let Some(id) = Id::token(index, seen.generation()) {
            bodies::lose(segment, *of, transit::object_of(segment, id));
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
            for dead in dead {
                bodies::sweep(segment, *dead, id, kind, &mut |id| free::release_unread(segment, me, id));
                if kind == Kind::Pipe {
                    free::close_ends(segment, me, *dead, id);
                }
            }
            if kind == Kind::Stage {
                stages::sweep(segment, id);
            }
            free::unpin(segment, me, id);
            if kind == Kind::Stage && stages::is_orphan(segment, dead, id) {
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

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;
    use crate::shm::step::plan::stopped_at;
    use crate::shm::{alone, enlist};

    /// A sweeper that was stopped would go on with what it had seen, beside the one that took over, and sweep whoever has the
    /// dead one's number by then.
    #[test]
    fn a_sweeper_that_is_stopped_is_alone_and_comes_to_all() {
        let _alone = alone();
        let here = here::here().unwrap();
        // Before it has forgotten the first, and after it has given up the word.
        for (step, is_swept) in [(90, false), (93, true)] {
            let [first, second] = [enlist().unwrap(), enlist().unwrap()];
            let stopped = stopped_at(step, move || member_died(first));
            // Longer than any sweep is waited for.
            member_died(second);
            let leaving = members::leaving(here.segment);
            let is_alone = leaving.contains(&first) != is_swept && leaving.contains(&second);
            assert!(is_alone, "step {step}: two swept at once: {leaving:?}");
            stopped.finish();
            assert_eq!(members::leaving(here.segment), [], "step {step}: nobody came to the second");
        }
    }

    #[test]
    fn a_sweepers_word_that_names_this_process_for_nothing_stops_no_sweep() {
        let _alone = alone();
        let here = here::here().unwrap();
        let rubbish = here.segment.root().sweeper.begin(here.member().bits(), |_| true);
        assert_eq!(rubbish, Some(Last::Done));
        let dead = enlist().unwrap();
        member_died(dead);
        assert!(!members::is_leaving(here.segment, dead));
    }

    /// Two died; whoever had begun to sweep for one died as well, before or after it was named as the sweeper.
    #[test]
    fn whoever_a_dead_sweeper_did_not_come_to_is_swept_with_those_it_was_about_to_start() {
        let _alone = alone();
        let here = here::here().unwrap();
        for begun in [false, true] {
            let [dead, sweeper] = [enlist().unwrap(), enlist().unwrap()];
            members::join(here.segment, sweeper, 0).unwrap();
            let never = members::enlist(here.segment, dead.index).unwrap();
            assert!(members::bury(here.segment, dead));
            if begun {
                assert_eq!(here.segment.root().sweeper.begin(sweeper.bits(), |_| true), Some(Last::Done));
            }
            member_died(sweeper);
            let all = [dead, sweeper, never].map(|member| members::member(here.segment, member.index).is_some());
            assert_eq!(all, [false; 3]);
        }
    }
}
