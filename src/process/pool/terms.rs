//! What a pool was asked to be.

use core::fmt;
use core::ops::Range;
use std::sync::PoisonError;
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, ThreadId};
use std::time::Instant;

use super::plan::Plan;
use super::task::{Callback, Ending, Limits};
use crate::panics::{forget_payload, guarded};
use crate::primitive::plain::{Mutex, MutexGuard};
use crate::task::{Dispatch, WhenFull};

/// The settings that the parent's side works by.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) name: String,
    /// Workers that serve; the one for suspects is not among them.
    pub(super) workers: usize,
    /// Whether there is a place for suspects.
    pub(super) suspects: bool,
    pub(super) dispatch: Dispatch,
    pub(super) bound: usize,
    pub(super) when_full: WhenFull,
    pub(super) retries: u32,
    pub(super) limits: Limits,
    pub(super) since: Instant,
    pub(super) callbacks: Callbacks,
}

impl Terms {
    /// The worker that alone takes tasks of a line; None: all do.
    pub(super) fn worker_of_line(&self, line: usize) -> Option<usize> {
        if self.suspects && line == self.suspects_line() {
            return Some(self.workers);
        }
        (self.dispatch != Dispatch::SharedQueue).then_some(line)
    }

    /// The hands that take tasks of a line.
    pub(super) fn hands_of_line(&self, plan: Plan, line: usize) -> Range<u16> {
        match self.worker_of_line(line) {
            Some(worker) => plan.hands_of(worker),
            None => plan.hands_of(0).start..plan.hands_of(self.workers - 1).end,
        }
    }

    /// Where a worker takes tasks from.
    pub(super) fn line_of_worker(&self, worker: usize) -> usize {
        if worker == self.workers {
            self.suspects_line()
        } else if self.dispatch == Dispatch::SharedQueue {
            0
        } else {
            worker
        }
    }

    /// Lines that tasks come to: not the one for suspects, which is the last.
    pub(super) fn lines(&self) -> usize {
        self.suspects_line()
    }

    /// The line of tasks that ran together when their worker died.
    pub(super) fn suspects_line(&self) -> usize {
        if self.dispatch == Dispatch::SharedQueue { 1 } else { self.workers }
    }
}

/// Where callbacks go. The thread that calls them, and with it the pool, does not end while anybody has one.
pub(super) type Post = Sender<(Callback, Ending)>;

/// The thread that calls callbacks, started for the first of them.
#[derive(Default)]
pub(super) struct Callbacks(Mutex<Caller>);

#[derive(Default)]
struct Caller {
    to: Option<Post>,
    thread: Option<JoinHandle<()>>,
    /// Which thread it is. Kept, for it may ask while it is waited for.
    id: Option<ThreadId>,
    /// The pool's own thread, which calls wakers.
    foreman: Option<ThreadId>,
    /// Threads that run their own tasks, and then have callbacks called.
    submitters: Vec<ThreadId>,
    /// The pool has ended: nobody would wait for another.
    over: bool,
}

impl Callbacks {
    fn lock(&self) -> MutexGuard<'_, Caller> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that there is a thread. Where the system gives none, callbacks run where a task's end is seen, and the pool's end
    /// does not wait for them.
    pub(super) fn prepare(&self) -> Option<Post> {
        let mut caller = self.lock();
        if caller.to.is_none() && !caller.over {
            let (to, from) = channel::<(Callback, Ending)>();
            let thread = std::thread::Builder::new().name("millpond-calls".to_owned());
            let made = thread.spawn(move || from.iter().for_each(|(callback, ending)| call(callback, ending)));
            if let Ok(thread) = made {
                caller.id = Some(thread.thread().id());
                (caller.to, caller.thread) = (Some(to), Some(thread));
            }
        }
        caller.to.clone()
    }

    /// Has it called after those that came before. It comes back where there is no thread.
    pub(super) fn put(&self, callback: Callback, ending: Ending) -> Option<(Callback, Ending)> {
        put(self.lock().to.as_ref(), callback, ending)
    }

    /// Runs a task on the thread that submits it, which the pool's end waits for.
    pub(super) fn run_here<R>(&self, run: impl FnOnce() -> R) -> R {
        let me = std::thread::current().id();
        self.lock().submitters.push(me);
        let result = run();
        let submitters = &mut self.lock().submitters;
        let mine = submitters.iter().rposition(|one| *one == me);
        if let Some(mine) = mine {
            submitters.swap_remove(mine);
        }
        result
    }

    /// The calling thread is the pool's own.
    pub(super) fn foreman_is_here(&self) {
        self.lock().foreman = Some(std::thread::current().id());
    }

    /// Whether the pool's end waits for the calling thread.
    pub(super) fn is_here(&self) -> bool {
        let me = std::thread::current().id();
        let caller = self.lock();
        caller.id == Some(me) || caller.foreman == Some(me) || caller.submitters.contains(&me)
    }

    /// Waits until all have been called.
    pub(super) fn finish(&self) {
        let mut caller = self.lock();
        caller.over = true;
        let (to, thread) = (caller.to.take(), caller.thread.take());
        drop(caller);
        drop(to);
        // A callback's panic was caught there.
        thread.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Has it called after those that came before. It comes back where there is no thread.
pub(super) fn put(to: Option<&Post>, callback: Callback, ending: Ending) -> Option<(Callback, Ending)> {
    match to {
        Some(to) => to.send((callback, ending)).err().map(|unsent| unsent.0),
        None => Some((callback, ending)),
    }
}

/// A callback that panics harms nobody, and neither does what it panics with.
pub(super) fn call(callback: Callback, ending: Ending) {
    if let Err(payload) = guarded(|| callback(ending)) {
        forget_payload(payload);
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lock().to.is_some() { "running" } else { "none" })
    }
}
