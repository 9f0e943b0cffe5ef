//! Lives of a process pool's segment in long random schedules: hands that take and run tasks, and are killed before and after each step, and a
//! parent that submits, cancels, takes results out, buries the dead and starts others in their places. The words of slots, the
//! line and the beds are the real ones; the lives of the hands and of the parent are restated, as in the models.
//!
//! `RUSTFLAGS="--cfg millpond_loom --cfg millpond_shuttle" cargo test --release --no-default-features --features thread --lib
//! schedules`; `MILLPOND_SCHEDULES` says how many. Every step is in one order here: what a weaker ordering does, only loom sees.

#[path = "beds.rs"]
mod beds;
#[path = "line.rs"]
mod line;
#[path = "models/pond.rs"]
mod pond;
#[path = "slot.rs"]
mod slot;

use std::panic::AssertUnwindSafe;

use loom::rand::{Rng, thread_rng};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use self::pond::{HANDS, Pond, SLOTS};
use self::slot::{Phase, Word};
use crate::primitive::{AtomicUsize, Ordering, schedules};

const TASKS: usize = 8;
/// Hands that may be killed in one life.
const DEATHS: usize = 4;

/// How a hand came to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Left,
    Killed,
}

/// A moment at which a hand that may be killed is, perhaps: it takes no further step. (Unwinding stops it inside of what it calls, too;
/// nothing there is undone.)
fn moment(mortal: bool) {
    if mortal && thread_rng().gen_range(0..12) == 0 {
        std::panic::resume_unwind(Box::new(End::Killed));
    }
}

/// A hand's life, of whose end the system tells the parent.
fn live(pond: &Pond, hand: u16, mortal: bool, ended: &AtomicUsize) -> End {
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| live_on(pond, hand, mortal)));
    let end = match lived {
        Ok(()) => End::Left,
        Err(killed) if killed.is::<End>() => End::Killed,
        Err(failed) => std::panic::resume_unwind(failed),
    };
    ended.store(1, Ordering::SeqCst);
    pond.done.fetch_add(1, Ordering::SeqCst);
    pond.done.wake_one();
    end
}

fn live_on(pond: &Pond, hand: u16, mortal: bool) {
    let mut looked = false;
    loop {
        moment(mortal);
        let taken = line::get(&pond.ends, &pond.places, |slot, generation| {
            let taken = slot::take(&pond.words[slot as usize], generation, hand);
            // Before the head is moved on.
            moment(mortal);
            taken
        });
        let Some((slot, generation)) = taken else {
            if pond.leave.load(Ordering::SeqCst) == 1 {
                return;
            }
            let is_there_more = || {
                moment(mortal);
                line::len(&pond.ends) > 0 || pond.leave.load(Ordering::SeqCst) == 1
            };
            let bed = &pond.sleep[hand as usize];
            let doze = || {
                moment(mortal);
                bed.wait(1);
                moment(mortal);
            };
            looked = pond.beds.rest(hand, bed, is_there_more, || moment(mortal), doze);
            continue;
        };
        let searched = pond.beds.found(hand) | core::mem::take(&mut looked);
        moment(mortal);
        if searched && line::len(&pond.ends) > 0 {
            pond.call();
        }
        moment(mortal);
        assert_eq!(pond.get(slot as usize), 7, "the arguments are there");
        pond.set(slot as usize, 8);
        moment(mortal);
        // Nobody revokes what a live hand runs.
        assert!(slot::done(&pond.words[slot as usize], generation, hand).is_some());
        moment(mortal);
        pond.beds.search(hand);
        moment(mortal);
        pond.done.fetch_add(1, Ordering::SeqCst);
        pond.done.wake_one();
    }
}

/// A hand that was started, and whether it has ended.
struct Hand {
    thread: JoinHandle<End>,
    ended: Arc<AtomicUsize>,
}

/// What the parent knows.
struct Parent {
    pond: Arc<Pond>,
    tail: u64,
    /// Each slot's generation, and its task if there is one.
    slots: [(u32, Option<usize>); SLOTS],
    backlog: Vec<usize>,
    hands: Vec<Option<Hand>>,
    deaths: usize,
    /// By task: how it ended.
    done: [usize; TASKS],
    cancelled: [usize; TASKS],
}

impl Parent {
    fn start(&mut self, hand: u16) {
        let (pond, mortal) = (Arc::clone(&self.pond), self.deaths < DEATHS);
        let ended = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&ended);
        let thread = thread::spawn(move || live(&pond, hand, mortal, &told));
        self.hands[usize::from(hand)] = Some(Hand { thread, ended });
    }

    /// Puts tasks into slots and the line, as long as there is room.
    fn refill(&mut self) {
        let words = &self.pond.words;
        line::clean(&self.pond.ends, &self.pond.places, |ticket| {
            let (slot, generation) = line::parts(ticket);
            let seen = Word::load(&words[slot as usize]);
            seen.phase() == Phase::Queued && seen.generation() == generation
        });
        while let Some(free) = self.slots.iter().position(|(_, task)| task.is_none()) {
            let full = self.tail.wrapping_sub(line::head(&self.pond.ends)) >= SLOTS as u64;
            let task = if full { None } else { self.backlog.pop() };
            let Some(task) = task else { return };
            let (generation, held) = &mut self.slots[free];
            *held = Some(task);
            self.pond.submit(u32::try_from(free).unwrap(), *generation, self.tail, 0);
            self.tail += 1;
        }
    }

    /// Takes a slot's word from what it was to free. The task that was in it.
    fn take_out(&mut self, slot: usize, seen: Word) -> Option<usize> {
        slot::free(&self.pond.words[slot], seen)?;
        let (generation, task) = &mut self.slots[slot];
        assert_eq!(seen.generation(), *generation, "S2: a step for a task that was here before");
        *generation += 1;
        task.take()
    }

    fn collect(&mut self) {
        for slot in 0..SLOTS {
            let seen = Word::load(&self.pond.words[slot]);
            if seen.phase() == Phase::Done {
                assert_eq!(self.pond.get(slot), 8, "the result is there");
                let task = self.take_out(slot, seen).expect("what is done is there until the parent takes it out");
                self.done[task] += 1;
            }
        }
    }

    /// Sees who was killed, and starts another in its place.
    fn bury(&mut self) {
        for hand in 0..HANDS {
            let ended = |hand: &mut Hand| hand.ended.load(Ordering::SeqCst) == 1;
            let Some(dead) = self.hands[usize::from(hand)].take_if(ended) else { continue };
            let end = dead.thread.join().unwrap();
            // It may have done tasks of which it told nobody.
            self.collect();
            for slot in 0..SLOTS {
                let seen = Word::load(&self.pond.words[slot]);
                if seen.phase() == Phase::Taken && seen.hand() == hand {
                    let task = self.take_out(slot, seen).expect("a dead hand takes no step");
                    self.backlog.push(task);
                }
            }
            self.pond.beds.bury(hand);
            self.pond.sleep[usize::from(hand)].store(0, Ordering::SeqCst);
            if end == End::Killed {
                self.deaths += 1;
                // Some places stay empty, as of a worker that is not started again.
                let alone = self.hands.iter().all(Option::is_none);
                if alone || thread_rng().gen_range(0..2) == 0 {
                    self.start(hand);
                }
            }
            self.refill();
            if line::len(&self.pond.ends) > 0 {
                self.pond.call();
            }
        }
    }

    /// Cancels a task that nobody has taken.
    fn cancel(&mut self) {
        let slot = thread_rng().gen_range(0..SLOTS);
        if let (generation, Some(task)) = self.slots[slot]
            && self.take_out(slot, Word::new(Phase::Queued, generation, 0)).is_some()
        {
            self.cancelled[task] += 1;
        }
    }

    fn are_all_ended(&self) -> bool {
        self.backlog.is_empty() && self.slots.iter().all(|(_, task)| task.is_none())
    }
}

/// A pool from its start to its end.
fn life(deadly: bool, cancels: bool) {
    let mut parent = Parent {
        pond: Pond::new(),
        tail: 0,
        slots: [(0, None); SLOTS],
        backlog: (0..TASKS).collect(),
        hands: (0..HANDS).map(|_| None).collect(),
        deaths: if deadly { 0 } else { DEATHS },
        done: [0; TASKS],
        cancelled: [0; TASKS],
    };
    (0..HANDS).for_each(|hand| parent.start(hand));
    loop {
        let heard = parent.pond.done.load(Ordering::SeqCst);
        parent.collect();
        parent.bury();
        if cancels && thread_rng().gen_range(0..4) == 0 {
            parent.cancel();
        }
        parent.refill();
        if parent.are_all_ended() {
            break;
        }
        parent.pond.done.wait(heard);
    }
    parent.pond.leave.store(1, Ordering::SeqCst);
    while parent.hands.iter().any(Option::is_some) {
        let heard = parent.pond.done.load(Ordering::SeqCst);
        (0..HANDS).for_each(|hand| parent.pond.wake(hand));
        parent.bury();
        if parent.hands.iter().any(Option::is_some) {
            parent.pond.done.wait(heard);
        }
    }
    for task in 0..TASKS {
        let (done, cancelled) = (parent.done[task], parent.cancelled[task]);
        assert_eq!(done + cancelled, 1, "task {task}: done {done} times, cancelled {cancelled} times");
    }
    assert!(parent.pond.words.iter().all(|word| Word::load(word).phase() == Phase::Free));
}

#[test]
fn every_task_is_done_once_by_whoever_lives() {
    schedules(|| life(true, false));
}

#[test]
fn a_task_is_done_or_cancelled_whoever_dies() {
    schedules(|| life(true, true));
}
