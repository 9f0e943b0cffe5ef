//! Loom explores what the parent and the hands do in the segment: the words of slots, the line, who sleeps.
//!
//! These files name no other of the room, so that they can be taken here as they are.

#[path = "beds.rs"]
mod beds;
#[path = "line.rs"]
mod line;
#[path = "models/pond.rs"]
mod pond;
#[path = "slot.rs"]
mod slot;

use loom::sync::Arc;
use loom::thread;

use self::pond::{HANDS, Pond};
use self::slot::{NOTIFY, Phase, WAITED, Word};
use crate::primitive::Ordering;
use crate::primitive::model::explore;

/// What the models' hands and parent do.
impl Pond {
    /// A hand does what it finds; whether it found something.
    fn work(&self, hand: u16, looked: &mut bool) -> bool {
        let Some((slot, generation)) = self.take(hand) else { return false };
        let searched = self.beds.found(hand) | core::mem::take(looked);
        if searched && line::len(&self.ends) > 0 {
            self.call();
        }
        assert_eq!(self.get(slot as usize), 7, "the arguments are there");
        self.set(slot as usize, 8);
        self.ran.fetch_add(1, Ordering::Relaxed);
        assert!(slot::done(&self.words[slot as usize], generation, hand).is_some());
        // It is about to look for tasks: whoever waited for this one need not wake it.
        self.beds.search(hand);
        self.done.fetch_add(1, Ordering::AcqRel);
        self.done.wake_one();
        true
    }

    /// A hand's life, until it has run so many tasks, or the pool is at its end.
    fn live(&self, hand: u16, most: usize) {
        let (mut looked, mut ran) = (false, 0);
        while ran < most && (self.leave.load(Ordering::SeqCst) == 0 || line::len(&self.ends) > 0) {
            if self.work(hand, &mut looked) {
                ran += 1;
            } else {
                let is_there_more = || line::len(&self.ends) > 0 || self.leave.load(Ordering::SeqCst) == 1;
                let bed = &self.sleep[hand as usize];
                looked = self.beds.rest(hand, bed, is_there_more, || (), || bed.wait(1));
            }
        }
        self.beds.bury(hand);
        if line::len(&self.ends) > 0 {
            self.call();
        }
    }

    /// The parent sleeps until so many tasks are done.
    fn wait_for(&self, tasks: u32) {
        loop {
            let done = self.done.fetch_add(0, Ordering::AcqRel);
            if done >= tasks {
                break;
            }
            self.done.wait(done);
        }
    }

    /// The pool is at its end.
    fn end(&self) {
        self.leave.swap(1, Ordering::SeqCst);
        loom::sync::atomic::fence(Ordering::SeqCst);
        (0..HANDS).for_each(|hand| self.wake(hand));
    }
}

#[test]
fn a_task_is_run_once_or_cancelled_once() {
    explore(3, 100, || {
        let pond = Pond::new();
        pond.submit(0, 0, 0, 0);
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let pond = Arc::clone(&pond);
                thread::spawn(move || pond.work(hand, &mut false))
            })
            .collect();
        let queued = Word::new(Phase::Queued, 0, 0);
        let cancelled = slot::free(&pond.words[0], queued).is_some();
        if cancelled {
            // It is the parent's again.
            pond.set(0, 9);
        }
        let found = hands.into_iter().map(|hand| hand.join().unwrap()).filter(|found| *found).count();
        assert_eq!(found + usize::from(cancelled), 1);
        assert_eq!(pond.ran.load(Ordering::Relaxed), found);
    });
}

/// Hands that live until the parent has seen `tasks` done. A wake-up that is lost is a model in which all sleep for ever.
fn all_is_done(hands: u16, tasks: u32) {
    let pond = Pond::new();
    let hands: Vec<_> = (0..hands)
        .map(|hand| {
            let pond = Arc::clone(&pond);
            thread::spawn(move || pond.live(hand, usize::MAX))
        })
        .collect();
    for task in 0..tasks {
        pond.submit(task, 0, task.into(), 0);
    }
    pond.wait_for(tasks);
    pond.end();
    hands.into_iter().for_each(|hand| hand.join().unwrap());
    assert_eq!(pond.ran.load(Ordering::Relaxed), tasks as usize);
}

#[test]
fn no_task_waits_while_the_hand_sleeps() {
    explore(3, 500, || all_is_done(1, 2));
}

#[test]
fn no_task_waits_while_one_of_two_hands_sleeps() {
    explore(2, 1000, || all_is_done(2, 2));
}

#[test]
fn a_hand_that_is_done_and_leaves_keeps_no_task_waiting() {
    explore(2, 500, || {
        let pond = Pond::new();
        let hands: Vec<_> = [1, usize::MAX]
            .into_iter()
            .zip(0..)
            .map(|(most, hand)| {
                let pond = Arc::clone(&pond);
                thread::spawn(move || pond.live(hand, most))
            })
            .collect();
        // The second comes when the hand of the first has said that it looks for more.
        pond.submit(0, 0, 0, 0);
        pond.wait_for(1);
        pond.submit(1, 0, 1, 0);
        pond.wait_for(2);
        pond.end();
        hands.into_iter().for_each(|hand| hand.join().unwrap());
        assert_eq!(pond.ran.load(Ordering::Relaxed), 2);
    });
}

/// Two tasks, of which the first runs until the second is done: each hand does one of them. `then` is what else the
/// parent does.
fn the_first_waits_for_the_second(then: impl Fn(&Pond)) {
    let pond = Pond::new();
    let hands: Vec<_> = (0..HANDS)
        .map(|hand| {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let mut looked = false;
                loop {
                    let Some((slot, generation)) = pond.take(hand) else {
                        let is_there_more = || line::len(&pond.ends) > 0;
                        pond.beds.search(hand);
                        if is_there_more() {
                            looked = true;
                            continue;
                        }
                        let bed = &pond.sleep[hand as usize];
                        looked = pond.beds.rest(hand, bed, is_there_more, || (), || bed.wait(1));
                        continue;
                    };
                    let searched = pond.beds.found(hand) | core::mem::take(&mut looked);
                    if searched && line::len(&pond.ends) > 0 {
                        pond.call();
                    }
                    while slot == 0 && pond.done.fetch_add(0, Ordering::AcqRel) == 0 {
                        pond.done.wait(0);
                    }
                    assert!(slot::done(&pond.words[slot as usize], generation, hand).is_some());
                    pond.done.fetch_add(1, Ordering::AcqRel);
                    pond.done.wake_all();
                    break;
                }
            })
        })
        .collect();
    pond.submit(0, 0, 0, 0);
    pond.submit(1, 0, 1, 0);
    then(&pond);
    hands.into_iter().for_each(|hand| hand.join().unwrap());
}

#[test]
fn a_task_that_waits_for_the_next_is_no_end() {
    explore(3, 1000, || the_first_waits_for_the_second(|_| ()));
}

/// The parent takes hands for stopped that are not.
#[test]
fn a_searcher_that_is_given_up_on_by_mistake_keeps_no_task_waiting() {
    explore(2, 1000, || {
        the_first_waits_for_the_second(|pond| {
            for hand in (0..HANDS).filter(|hand| pond.beds.is_searching(*hand)) {
                let another = pond.beds.give_up_on(hand, 0..HANDS);
                pond.wake(hand);
                another.into_iter().for_each(|another| pond.wake(another));
            }
        });
    });
}

#[test]
fn what_is_taken_was_written_before() {
    explore(3, 2, || {
        let pond = Pond::new();
        let hand = {
            let pond = Arc::clone(&pond);
            // A ticket may be read before the tail that says so: when the line has gone round.
            thread::spawn(move || slot::take(&pond.words[0], 0, 1).then(|| pond.get(0)))
        };
        pond.set(0, 7);
        slot::queue(&pond.words[0], 0, 0);
        assert!(hand.join().unwrap().is_none_or(|arguments| arguments == 7));
    });
}

#[test]
fn a_result_is_seen_by_who_sees_that_it_is_done() {
    explore(3, 2, || {
        let pond = Pond::new();
        pond.submit(0, 0, 0, 0);
        let parent = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || (Word::load(&pond.words[0]).phase() == Phase::Done).then(|| pond.get(0)))
        };
        assert!(pond.work(0, &mut false));
        assert!(parent.join().unwrap().is_none_or(|result| result == 8), "S1: an old result");
    });
}

#[test]
fn who_waits_for_a_task_is_woken_or_sees_that_it_is_done() {
    explore(3, 20, || {
        let pond = Pond::new();
        pond.submit(0, 0, 0, 0);
        let hand = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || {
                let (slot, generation) = pond.take(0).unwrap();
                assert_eq!(pond.get(slot as usize), 7);
                pond.set(slot as usize, 8);
                slot::done(&pond.words[slot as usize], generation, 0).unwrap()
            })
        };
        let watched = slot::flag(&pond.words[0], NOTIFY);
        let waited = slot::flag(&pond.words[0], WAITED);
        if waited.phase() == Phase::Done {
            assert_eq!(pond.get(0), 8, "the result is seen with DONE");
            assert!(slot::free(&pond.words[0], waited).is_some());
        }
        let seen = hand.join().unwrap();
        assert!(seen.has(WAITED) != (waited.phase() == Phase::Done), "S3");
        assert!(seen.has(NOTIFY) != (watched.phase() == Phase::Done), "S3");
    });
}

#[test]
fn a_task_whose_hand_died_is_run_by_another() {
    explore(3, 100, || {
        let pond = Pond::new();
        pond.submit(0, 0, 0, 0);
        let dead = {
            let pond = Arc::clone(&pond);
            // It takes the task by its word, and is killed before it moves the head.
            thread::spawn(move || slot::take(&pond.words[0], 0, 0))
        };
        let other = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || pond.work(1, &mut false))
        };
        let (died, done) = (dead.join().unwrap(), other.join().unwrap());
        assert!(died != done, "one of them had it");
        if died {
            pond.beds.bury(0);
            let seen = Word::load(&pond.words[0]);
            assert_eq!((seen.phase(), seen.hand()), (Phase::Taken, 0));
            assert!(slot::free(&pond.words[0], seen).is_some());
            // A late step of the dead one's, had it lived: it is good for nothing.
            assert!(slot::done(&pond.words[0], 0, 0).is_none());
            pond.submit(0, 1, 1, 0);
            assert!(pond.work(1, &mut false));
        }
        assert_eq!(pond.ran.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_revoked_task_is_not_done_and_a_done_one_not_revoked() {
    explore(3, 5, || {
        let pond = Pond::new();
        pond.submit(0, 0, 0, 0);
        let (slot, generation) = pond.take(0).unwrap();
        let hand = {
            let pond = Arc::clone(&pond);
            thread::spawn(move || slot::done(&pond.words[slot as usize], generation, 0).is_some())
        };
        let revoked = slot::free(&pond.words[0], Word::new(Phase::Taken, 0, 0)).is_some();
        assert!(hand.join().unwrap() != revoked);
    });
}
