//! Loom explores a task's life: a runner against a handle that joins, cancels, awaits or goes away.
//!
//! The block's body is a cell that loom watches: whoever is at it without an order between them is reported, and so is
//! an outcome that is moved out, or dropped, twice or never.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Outcome, State};
use crate::primitive::model::explore;

/// At three preemptions.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(3, least, check);
}

const CLOSURE: u32 = 1;
const VALUE: u32 = 2;
const GONE: u32 = 3;

/// A task's block, kept by the model beyond its end so that the end can be looked at.
struct Block {
    state: State,
    /// The closure, then the outcome.
    body: UnsafeCell<u32>,
    /// The waker's place: how many wakers are in it.
    waker: UnsafeCell<u32>,
    woken: AtomicUsize,
    freed: AtomicUsize,
    /// Values that were moved out or dropped, closures that were run or dropped.
    ended: AtomicUsize,
}

impl Block {
    fn new() -> Self {
        Self {
            state: State::new(),
            body: UnsafeCell::new(CLOSURE),
            waker: UnsafeCell::new(0),
            woken: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }

    /// Changes the body, which must be `from`.
    fn step(&self, from: u32, to: u32) {
        // SAFETY: loom reports it if anybody else is at it.
        self.body.with_mut(|body| unsafe {
            assert_eq!(*body, from, "the body is not what it has to be");
            *body = to;
        });
    }

    fn finish(&self, outcome: Outcome, release: bool) {
        let done = self.state.finish(outcome, release);
        let mut last = done.last;
        if done.slept {
            self.state.word().wake_all();
        }
        if done.waker {
            // SAFETY: as above.
            self.waker.with_mut(|waker| unsafe {
                assert_eq!(*waker, 1, "T3: no waker in its place");
                *waker = 0;
            });
            if release {
                last = self.state.drop_queue();
            }
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
        if last {
            self.free();
        }
    }

    /// What a worker does with the entry.
    fn run(&self) {
        if self.state.start() {
            self.step(CLOSURE, VALUE);
            self.finish(Outcome::Value, true);
        } else if self.state.drop_queue() {
            self.free();
        }
    }

    /// What a waiting worker of the same pool does.
    fn help(&self) {
        if self.state.start() {
            self.step(CLOSURE, VALUE);
            self.finish(Outcome::Value, false);
        }
    }

    fn cancel(&self) -> bool {
        if !self.state.start_cancelling() {
            return false;
        }
        self.step(CLOSURE, GONE);
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.finish(Outcome::Cancelled, false);
        true
    }

    fn join(&self) -> Outcome {
        while self.state.outcome().is_none() {
            self.state.sleep();
        }
        assert!(self.state.take(), "T4");
        let outcome = self.state.outcome().unwrap();
        if outcome == Outcome::Value {
            self.step(VALUE, GONE);
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn drop_handle(&self) {
        if self.state.drop_handle() {
            self.free();
        }
    }

    fn free(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
        if self.state.untaken() == Some(Outcome::Value) {
            self.step(VALUE, GONE);
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        // Whoever frees has it alone, the waker's place too.
        self.step(GONE, GONE);
        // SAFETY: as above.
        self.waker.with_mut(|waker| unsafe { assert_eq!(*waker, 0, "T3: a waker is left") });
    }

    fn check(&self) {
        assert_eq!(self.freed.load(Ordering::Relaxed), 1, "T2: freed once");
        assert_eq!(self.ended.load(Ordering::Relaxed), 1, "T4: the value, or the closure, ended once");
    }
}

/// A runner, and what the handle's thread does.
fn against(least: usize, handle: impl Fn(&Block) + Send + Sync + Copy + 'static) {
    model(least, move || {
        let block = Arc::new(Block::new());
        let runner = {
            let block = Arc::clone(&block);
            thread::spawn(move || block.run())
        };
        handle(&block);
        block.drop_handle();
        runner.join().unwrap();
        block.check();
    });
}

#[test]
fn a_joined_task_gives_its_value_once() {
    against(5, |block| assert_eq!(block.join(), Outcome::Value));
}

#[test]
fn a_detached_task_runs_and_its_value_is_dropped_once() {
    against(3, |_| ());
}

#[test]
fn a_task_is_cancelled_or_runs_never_both() {
    against(10, |block| {
        let cancelled = block.cancel();
        let expected = if cancelled { Outcome::Cancelled } else { Outcome::Value };
        assert_eq!(block.join(), expected);
    });
}

#[test]
fn a_cancelled_task_may_be_dropped_at_once() {
    against(10, |block| {
        let _ = block.cancel();
    });
}

#[test]
fn a_waiter_that_helps_and_a_worker_run_a_task_once() {
    against(10, |block| {
        block.help();
        assert_eq!(block.join(), Outcome::Value);
    });
}

/// Puts a waker in its place, as a poll does. False: the task is done.
fn register(block: &Block) -> bool {
    let Some(old) = block.state.clear_waker() else { return false };
    // SAFETY: loom reports it if anybody else is at it.
    block.waker.with_mut(|waker| unsafe {
        assert_eq!(*waker, u32::from(old));
        *waker = 1;
    });
    if block.state.set_waker() {
        return true;
    }
    // SAFETY: as above.
    block.waker.with_mut(|waker| unsafe { *waker = 0 });
    false
}

#[test]
fn an_awaited_task_wakes_its_waker_once() {
    model(10, || {
        let block = Arc::new(Block::new());
        let runner = {
            let block = Arc::clone(&block);
            thread::spawn(move || block.run())
        };
        // Polled twice: the second waker takes the first one's place.
        let waits = register(&block) && register(&block);
        runner.join().unwrap();
        // SAFETY: the runner has ended.
        let left = block.waker.with(|waker| unsafe { *waker });
        assert_eq!(left, 0, "T3: a waker was forgotten");
        if waits {
            assert_eq!(block.woken.load(Ordering::Relaxed), 1, "T3");
        }
        assert_eq!(block.join(), Outcome::Value);
        block.drop_handle();
        block.check();
    });
}

#[test]
fn a_handle_dropped_after_a_poll_forgets_no_waker() {
    model(10, || {
        let block = Arc::new(Block::new());
        let runner = {
            let block = Arc::clone(&block);
            thread::spawn(move || block.run())
        };
        let _ = register(&block);
        block.drop_handle();
        runner.join().unwrap();
        // SAFETY: the runner has ended.
        assert_eq!(block.waker.with(|waker| unsafe { *waker }), 0, "T3: a waker was forgotten");
        block.check();
    });
}
