//! The pool's one thread in its parent: it starts workers and replaces them, keeps time limits, and ends the pool.
//!
//! No task waits for it: callers and workers wake each other. It sleeps on the bell until somebody rings: a worker that has
//! come or gone, a task whose end it was asked to hear of, a line that gets short.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::error::ProcessError;
use super::super::record::{Phase as Life, Watcher};
use super::desk::{Desk, Ended, Inner, Stage, as_u32};
use super::ground;
use super::plan::MAGIC;
use super::slot::{Phase, STOP, Word};
use super::spec::{LEAVE, Origin, READY, STARTING};
use super::stats::Count;
use super::{burial, line, slot, trace};
use crate::primitive::{AtomicU64, Ordering};
use crate::task::{PoolError, TaskError};

/// How often things are looked at that should never be wrong, while there are tasks.
const TICK: Duration = Duration::from_millis(100);

/// The longest that the pool's own thread sleeps without asking whether there is something to do.
const REST: Duration = Duration::from_millis(500);

/// Rings the bell when a worker has ended.
impl Watcher for Desk {
    fn ended(&self) {
        self.ground.ring_for_sure();
    }
}

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Foreman {
    desk: Arc<Desk>,
    origin: Origin,
    ticked: Instant,
    /// The number of the next task at the last tick.
    next: u64,
    /// Each line's head at the last tick, where tasks waited in it then.
    heads: Vec<Option<u64>>,
    /// What each hand had run at the last tick, where tasks waited for it then and it searched.
    searched: Vec<Option<u64>>,
}

impl Foreman {
    pub(super) fn new(desk: Arc<Desk>, origin: Origin) -> Self {
        let heads = vec![None; desk.ground.plan.lines];
        let searched = vec![None; desk.ground.plan.hands()];
        Self { desk, origin, ticked: Instant::now(), next: 0, heads, searched }
    }

    pub(super) fn run(mut self) {
        // Before anything is told: a waker may want to join the pool.
        self.desk.terms.callbacks.foreman_is_here();
        loop {
            let bell = self.desk.ground.bell();
            // Acquire: pairs with the Release of whoever rang.
            bell.swap(0, Ordering::Acquire);
            let (limit, over) = self.step();
            if over {
                break;
            }
            self.sleep(limit);
        }
        self.desk.terms.callbacks.finish();
        self.desk.lock().ended = true;
        self.desk.changed.notify_all();
    }

    /// Sleeps until somebody rings, or for so long. Never without end: what lies in the bell's word may be rubbish, and a ring may have
    /// been written over; so now and then it asks the desk, which nobody else can write to.
    fn sleep(&self, limit: Option<Duration>) {
        let bell = self.desk.ground.bell();
        let at_rest = || {
            let inner = self.desk.lock();
            limit.is_none() && inner.unfinished == 0 && inner.stage == Stage::Open
        };
        loop {
            ground::sleep(bell, 0, Some(limit.map_or(REST, |limit| limit.min(REST))));
            // Relaxed: what was done before the ring is seen by whoever takes the bell's word.
            if bell.load(Ordering::Relaxed) != 0 || !at_rest() {
                return;
            }
        }
    }

    /// Sees to everything. How long until something is to be seen to again, and whether the pool is at its end.
    fn step(&mut self) -> (Option<Duration>, bool) {
        let desk = Arc::clone(&self.desk);
        let mut ended = Ended::new();
        let mut inner = desk.lock();
        for line in 0..desk.ground.plan.lines {
            desk.harvest(&mut inner, line, &mut ended);
            desk.refill(&mut inner, line, &mut ended);
        }
        let buried = self.look_after_workers(&mut inner, &mut ended);
        let mut next = self.keep_limits(&mut inner, &mut ended);
        // As long as tasks come: whoever brings one to a thread that sleeps without end has to wake it, which costs time.
        let busy = inner.unfinished > 0 || inner.next != self.next;
        let now = Instant::now();
        if buried || busy && now >= self.ticked + TICK {
            self.ticked = now;
            self.next = inner.next;
            self.tick(&mut inner, &mut ended);
        }
        if busy {
            next = sooner(next, Some(self.ticked + TICK));
        }
        self.go_on_to_the_end(&mut inner, &mut ended);
        let (start, later) = self.places_to_fill(&mut inner);
        next = sooner(next, later);
        let over = inner.stage != Stage::Open && inner.unfinished == 0 && start.is_empty() && inner.crew.is_empty();
        inner.looks_at = if start.is_empty() { next } else { Some(now) };
        desk.changed.notify_all();
        drop(inner);
        desk.tell(ended);
        for worker in start {
            self.start(worker);
        }
        let left = next.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_micros(100));
        (left, over)
    }

    /// Sees who is ready, and who has ended: whether anybody has.
    fn look_after_workers(&self, inner: &mut Inner, ended: &mut Ended) -> bool {
        let mut buried = false;
        for index in 0..inner.crew.workers.len() {
            let Some(record) = inner.crew.workers[index].record.clone() else { continue };
            let post = self.desk.ground.post(index);
            let worker = &inner.crew.workers[index];
            let is_ready = post.phase.load(Ordering::Acquire) >= READY;
            if is_ready && !worker.ready {
                trace::worker_ready(&self.desk.terms.name, index, worker.pid);
                inner.crew.one_is_ready(index);
            }
            let worker = &inner.crew.workers[index];
            if !worker.of_use && self.desk.ground.ran(index) != worker.ran_before {
                inner.crew.one_is_of_use(index);
            }
            let mut state = record.state();
            if let Life::Ended { end, outcome } = &mut state.phase {
                let (end, outcome) = (*end, outcome.take());
                drop(state);
                let said = record.last_words();
                burial::bury(&self.desk, inner, index, end, outcome, &said, ended);
                buried = true;
            }
        }
        buried
    }

    /// Asks late tasks to stop, and ends those that are too late. When to look again.
    fn keep_limits(&self, inner: &mut Inner, ended: &mut Ended) -> Option<Instant> {
        let desk = &self.desk;
        let mut next = None;
        for index in 0..as_u32(inner.placed.len()) {
            let Some(placed) = &mut inner.placed[index as usize] else { continue };
            let limits = placed.task.limits;
            let Some(first) = limits.first() else { continue };
            let Some(slot) = desk.ground.slot(index) else { continue };
            let word = Word::load(&slot.word);
            let now = Instant::now();
            if word.phase() != Phase::Taken {
                if word.phase() == Phase::Queued {
                    // It can't be late before this.
                    next = sooner(next, Some(now + first));
                }
                continue;
            }
            let taken = *placed.taken.get_or_insert_with(|| started(&slot.started, placed.at, now));
            if let Some(soft) = limits.soft
                && !placed.asked_to_stop
            {
                if now >= taken + soft {
                    placed.asked_to_stop = true;
                    slot::flag(&slot.word, STOP);
                } else {
                    next = sooner(next, Some(taken + soft));
                }
            }
            let Some(hard) = limits.hard else { continue };
            if now < taken + hard {
                next = sooner(next, Some(taken + hard));
            } else if let Some((placed, word)) = desk.revoke(inner, index, true) {
                inner.crew.kill(desk.ground.plan.worker_of(word.hand()));
                desk.end(inner, placed.task, Err(TaskError::TimedOut), ended);
            }
        }
        next
    }

    /// Looks whether the segment says what it must, and whether tasks wait though nobody is at work.
    fn tick(&mut self, inner: &mut Inner, ended: &mut Ended) {
        let desk = Arc::clone(&self.desk);
        let mut damaged = desk.ground.head().magic.load(Ordering::Relaxed) != MAGIC;
        for index in 0..as_u32(inner.placed.len()) {
            if inner.placed[index as usize].is_none() || desk.collect(inner, index, ended) {
                continue;
            }
            let Some(slot) = desk.ground.slot(index) else { continue };
            let word = Word::load(&slot.word);
            let sane = match word.phase() {
                Phase::Queued => true,
                // By a hand that there is.
                Phase::Taken => {
                    usize::from(word.hand()) < desk.ground.plan.hands()
                        && inner.crew.workers[desk.ground.plan.worker_of(word.hand())].record.is_some()
                }
                Phase::Done => true,
                Phase::Free | Phase::Rubbish => false,
            };
            damaged |= !sane || word.generation() != inner.generations[index as usize];
        }
        for (index, state) in inner.lines.iter().enumerate() {
            let (ends, places) = (desk.ground.ends(index), desk.ground.places(index));
            let tail = ends.tail.0.load(Ordering::Relaxed);
            let head = ends.head.0.load(Ordering::Relaxed);
            let waiting = state.tail.wrapping_sub(head);
            let is_as_written = |at: u64| {
                let place = line::place(places, at);
                places[place].load(Ordering::Relaxed) == state.written[place]
            };
            damaged |= tail != state.tail || waiting > places.len() as u64;
            damaged |= !(0..waiting.min(places.len() as u64)).all(|n| is_as_written(head.wrapping_add(n)));
            self.give_up_on_searchers(index, waiting > 0);
            let waits_at = (waiting > 0).then_some(head);
            if waits_at.is_some() && self.heads[index] == waits_at {
                desk.hands(index).for_each(|hand| desk.ground.wake(hand));
            }
            self.heads[index] = waits_at;
        }
        if damaged && !matches!(inner.stage, Stage::Broken(_)) {
            self.give_up(inner, PoolError::Damaged, ended);
        }
    }

    /// A hand that was woken and stopped, or that somebody died over before it was woken, searches for ever, and while
    /// it does nobody wakes another. One that still searches at the second look, and has run nothing since the first,
    /// counts no more (Z4).
    fn give_up_on_searchers(&mut self, line: usize, tasks_wait: bool) {
        let (ground, hands) = (&self.desk.ground, self.desk.hands(line));
        for hand in hands.clone() {
            // Relaxed: one that is taken for stopped by mistake is called in vain.
            let searches = (tasks_wait && ground.head().beds.is_searching(hand))
                .then(|| ground.hand(hand).ran.load(Ordering::Relaxed));
            let before = core::mem::replace(&mut self.searched[usize::from(hand)], searches);
            if searches.is_some() && before == searches {
                let another = ground.head().beds.give_up_on(hand, hands.clone());
                ground.wake(hand);
                another.into_iter().for_each(|another| ground.wake(another));
            }
        }
    }

    fn give_up(&self, inner: &mut Inner, error: PoolError, ended: &mut Ended) {
        inner.stage = Stage::Broken(error.clone());
        self.desk.end_all(inner, &TaskError::Pool(error), ended);
        // Whoever sleeps on a slot, also where the mark that somebody does was written over.
        let slots = (0..as_u32(inner.placed.len())).filter_map(|index| self.desk.ground.slot(index));
        slots.for_each(|slot| ground::Ground::wake_all_on(&slot.word));
        inner.crew.kill_all();
    }

    /// What follows from the stage that the pool is in.
    fn go_on_to_the_end(&self, inner: &mut Inner, ended: &mut Ended) {
        if let Some((deaths, last_words)) = inner.crew.crash_loop()
            && !matches!(inner.stage, Stage::Broken(_))
        {
            let error = PoolError::CrashLoop { deaths, last_words: last_words.to_owned() };
            self.give_up(inner, error, ended);
        }
        match inner.stage {
            Stage::Open => {}
            Stage::Closed if inner.unfinished > 0 => self.desk.watch_all(inner),
            Stage::Closed => self.send_off(inner),
            Stage::Terminated | Stage::Broken(_) => inner.crew.kill_all(),
        }
    }

    /// Has all workers leave: there is nothing to do for them any more. Whoever is stopped on the way goes on at the next look.
    fn send_off(&self, inner: &Inner) {
        let ground = &self.desk.ground;
        // SeqCst: before a hand is woken, and looked at after lying down.
        if ground.head().orders.swap(LEAVE, Ordering::SeqCst) != LEAVE {
            (0..ground.plan.hands()).for_each(|hand| ground.wake(u16::try_from(hand).unwrap_or(0)));
        }
        inner.crew.resume_all();
    }

    /// Which places want a worker now, and when another will.
    fn places_to_fill(&self, inner: &mut Inner) -> (Vec<usize>, Option<Instant>) {
        let (mut now, mut later) = (Vec::new(), None);
        let wanted = match inner.stage {
            Stage::Open => true,
            Stage::Closed => inner.unfinished > 0,
            Stage::Terminated | Stage::Broken(_) => false,
        };
        for index in 0..inner.crew.workers.len() {
            let worker = &inner.crew.workers[index];
            let idle = index == self.desk.terms.workers && {
                let line = self.desk.terms.suspects_line();
                self.desk.waiting_in(inner, line) == 0
            };
            if !wanted || idle || worker.record.is_some() || worker.starting {
                continue;
            }
            match worker.not_before.filter(|at| *at > Instant::now()) {
                Some(at) => later = sooner(later, Some(at)),
                None => {
                    inner.crew.workers[index].starting = true;
                    now.push(index);
                }
            }
        }
        (now, later)
    }

    fn start(&self, worker: usize) {
        if let Err(error) = start(&self.desk, &self.origin, worker) {
            let mut ended = Ended::new();
            let mut inner = self.desk.lock();
            inner.crew.could_not_start(worker, &error.to_string());
            burial::end_those_of(&self.desk, &mut inner, worker, &mut ended);
            drop(inner);
            self.desk.tell(ended);
            self.desk.ground.ring_for_sure();
        }
    }
}

/// Starts a worker at a place that was marked as `starting`.
pub(super) fn start(desk: &Arc<Desk>, origin: &Origin, worker: usize) -> Result<(), ProcessError> {
    let post = desk.ground.post(worker);
    // Before there is a process, which says there itself that it is ready.
    post.phase.store(STARTING, Ordering::Relaxed);
    let (since, ran_before) = (ground::now(), desk.ground.ran(worker));
    let started = origin.start(worker, desk.ground.file().as_fd(), Arc::clone(desk) as Arc<dyn Watcher>);
    let mut inner = desk.lock();
    let place = &mut inner.crew.workers[worker];
    place.starting = false;
    let (pid, record) = started.inspect_err(|_| {
        place.killed = false;
        post.phase.store(0, Ordering::Relaxed);
    })?;
    // One that was refused was none.
    place.incarnation += 1;
    let incarnation = place.incarnation;
    place.pid = pid;
    place.ready = false;
    place.ready_at = None;
    place.of_use = false;
    place.ran_before = ran_before;
    place.refused = 0;
    place.record = Some(record);
    place.keep_killed();
    post.pid.store(pid, Ordering::Relaxed);
    post.incarnation.store(incarnation, Ordering::Relaxed);
    post.since.store(since, Ordering::Relaxed);
    if matches!(inner.stage, Stage::Terminated | Stage::Broken(_)) {
        inner.crew.kill(worker);
    }
    if incarnation > 1 {
        desk.counts.add(&desk.ground, Count::Restarts, 1);
    }
    trace::worker_started(&desk.terms.name, worker, pid);
    drop(inner);
    // It may have ended before it was on record.
    desk.ground.ring_for_sure();
    Ok(())
}

fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// When a task was taken, as its hand says, if that can be.
fn started(word: &AtomicU64, placed: Instant, now: Instant) -> Instant {
    let since = ground::now().saturating_sub(word.load(Ordering::Relaxed));
    now.checked_sub(Duration::from_nanos(since)).filter(|at| *at >= placed).unwrap_or(now)
}
