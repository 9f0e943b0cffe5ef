//! Programs for thread pools: whole lives of them, with tasks that are cancelled, panic, add tasks, and hold memory.
//!
//! The model knows of every task whether it was accepted and what may become of it; at a pool's end it knows what must
//! have become of it. Which of two things that race comes first, it leaves open.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::panic;
use std::sync::{Arc, Once};

use arbitrary::Arbitrary;
use millpond::thread::{MapOptions, ThreadPool};
use millpond::{BlockPool, Dispatch, Heap, OwnedBlock, PoolError, TaskError, TaskHandle, WhenFull};

use super::Operation;

/// Longer than anything takes, on however busy a machine.
const HANG: Duration = Duration::from_secs(60);
/// Handles that a program keeps.
const HANDLES: usize = 64;
/// What a task says that panics.
const SAID: &str = "as the program wants it";

/// One step of a program.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Op {
    /// Ends the pool that there is, and makes another.
    Build {
        workers: u8,
        dispatch: u8,
        bound: u8,
        full: u8,
    },
    Spawn {
        what: u8,
    },
    Burst {
        what: u8,
        count: u8,
    },
    Async {
        what: u8,
    },
    Then {
        what: u8,
    },
    Apply {
        what: u8,
    },
    Join {
        which: u8,
    },
    JoinSoon {
        which: u8,
    },
    Cancel {
        which: u8,
    },
    Forget {
        which: u8,
    },
    Map {
        items: u8,
        chunk: u8,
        panics: bool,
    },
    Imap {
        items: u8,
        taken: u8,
        ordered: bool,
    },
    Scope {
        tasks: u8,
        inner: u8,
    },
    Fork {
        depth: u8,
    },
    Figures,
    Close,
    Terminate,
    End,
}

/// What became of one task.
#[derive(Debug, Default)]
struct Fate {
    ran: AtomicU32,
    /// The closure, which is dropped once, whatever happens.
    dropped: AtomicU32,
    called: AtomicU32,
}

/// Lies in a task's closure.
struct Mark(Arc<Fate>, Option<OwnedBlock>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Mark {
    /// The task itself.
    fn run(mut self, what: u8, pool: &Arc<ThreadPool>) -> u32 {
        let before = self.0.ran.fetch_add(1, Ordering::SeqCst);
        if let Some(block) = &mut self.1 {
            block[7].write(what);
        }
        match what % 8 {
            0 => panic!("{SAID}"),
            1 => std::thread::yield_now(),
            2 => std::thread::sleep(Duration::from_micros(30)),
            // A task that adds one: it may be refused.
            3 => drop(pool.spawn(|| ())),
            4 => assert_eq!(pool.fork_join(|| 1, || 2), (1, 2)),
            5 => {
                // Another thread may close the pool between any two of these steps.
                let closed_before = pool.is_closed();
                match pool.join() {
                    Err(PoolError::OwnWorker) => assert!(pool.is_closed()),
                    Err(PoolError::NotClosed) => assert!(!closed_before),
                    other => panic!("a worker joined its own pool: {other:?}"),
                }
            }
            _ => {}
        }
        before + 1
    }
}

/// An accepted task, as the model knows it.
struct Accepted {
    fate: Arc<Fate>,
    what: u8,
    handle: Option<TaskHandle<u32>>,
    cancelled: bool,
}

/// A pool and its model.
struct Mill {
    pool: Arc<ThreadPool>,
    memory: Arc<BlockPool>,
    bound: usize,
    full: WhenFull,
    closed: bool,
    terminated: bool,
    accepted: Vec<Accepted>,
}

impl Mill {
    fn new(workers: u8, dispatch: u8, bound: u8, full: u8) -> Self {
        let dispatch = [Dispatch::SharedQueue, Dispatch::RoundRobin, Dispatch::Random][usize::from(dispatch) % 3];
        let full = [WhenFull::Block, WhenFull::Fail, WhenFull::CallerRuns][usize::from(full) % 3];
        let mut builder =
            ThreadPool::builder().workers(1 + usize::from(workers) % 4).dispatch(dispatch).when_full(full);
        let bound = if bound < 128 { usize::MAX } else { 1 + usize::from(bound - 128) % 9 };
        if bound < usize::MAX {
            builder = builder.queue_bound(bound);
        }
        let memory = Arc::new(BlockPool::builder().block_size(48).build().expect("a small pool"));
        let pool = Arc::new(builder.build().expect("a few threads"));
        Self { pool, memory, bound, full, closed: false, terminated: false, accepted: Vec::new() }
    }

    /// A closure's mark, and what its task's fate will be seen by.
    fn mark(&self, what: u8) -> (Mark, Arc<Fate>) {
        let fate = Arc::<Fate>::default();
        let block = (what >= 128).then(|| self.memory.take_owned().expect("there is memory"));
        (Mark(Arc::clone(&fate), block), fate)
    }

    fn submitted(&mut self, what: u8, fate: Arc<Fate>, result: Result<Option<TaskHandle<u32>>, PoolError>) {
        match result {
            Ok(handle) => {
                assert!(!self.closed, "a closed pool took a task");
                self.accepted.push(Accepted { fate, what, handle, cancelled: false });
            }
            Err(error) => {
                self.refused(&error);
                let (ran, dropped) = (fate.ran.load(Ordering::SeqCst), fate.dropped.load(Ordering::SeqCst));
                assert_eq!((ran, dropped), (0, 1), "a refused task's closure is dropped, not run: {error}");
            }
        }
    }

    fn refused(&self, error: &PoolError) {
        match error {
            PoolError::Closed => assert!(self.closed, "an open pool says that it is closed"),
            PoolError::Full { bound } => {
                assert!(*bound == self.bound && self.full == WhenFull::Fail, "{error}");
            }
            _ => panic!("{error}"),
        }
    }

    fn spawn(&mut self, what: u8) {
        let ((mark, fate), pool) = (self.mark(what), Arc::clone(&self.pool));
        let result = self.pool.spawn(move || {
            mark.run(what, &pool);
        });
        self.submitted(what, fate, result.map(|()| None));
    }

    fn spawn_async(&mut self, what: u8) {
        let ((mark, fate), pool) = (self.mark(what), Arc::clone(&self.pool));
        let result = self.pool.apply_async(move || mark.run(what, &pool));
        self.submitted(what, fate, result.map(Some));
    }

    fn spawn_then(&mut self, what: u8) {
        let ((mark, fate), pool) = (self.mark(what), Arc::clone(&self.pool));
        let seen = Arc::clone(&fate);
        let then = move |result: Result<u32, TaskError>| {
            match result {
                Ok(runs) => assert_eq!(runs, 1),
                Err(TaskError::Panicked { message, .. }) => assert_eq!(message, SAID),
                Err(error) => assert_eq!(error, TaskError::Cancelled),
            }
            seen.called.fetch_add(1, Ordering::SeqCst);
        };
        let result = self.pool.apply_async_then(move || mark.run(what, &pool), then);
        // It counts as called by `finish`, where `what` says so.
        if result.is_ok() {
            fate.called.fetch_add(1 << 16, Ordering::SeqCst);
        }
        self.submitted(what, fate, result.map(|()| None));
    }

    fn apply(&mut self, what: u8) {
        let ((mark, fate), pool) = (self.mark(what), Arc::clone(&self.pool));
        match self.pool.apply(move || mark.run(what, &pool)) {
            Ok(runs) => assert!(runs == 1 && !what.is_multiple_of(8)),
            Err(TaskError::Panicked { message, .. }) => assert!(message == SAID && what.is_multiple_of(8), "{message}"),
            Err(TaskError::Pool(error)) => {
                self.refused(&error);
                assert_eq!(fate.ran.load(Ordering::SeqCst), 0);
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(fate.dropped.load(Ordering::SeqCst), 1, "the closure of a task that is over");
    }

    /// A task that still has its handle.
    fn choose(&mut self, which: u8) -> Option<&mut Accepted> {
        let mut held: Vec<_> = self.accepted.iter_mut().filter(|task| task.handle.is_some()).collect();
        let count = held.len().max(1);
        if held.is_empty() { None } else { Some(held.swap_remove(usize::from(which) % count)) }
    }

    fn join(&mut self, which: u8, limit: Duration) {
        let terminated = self.terminated;
        let Some(task) = self.choose(which) else { return };
        let Some(handle) = task.handle.take() else { return };
        match handle.join_timeout(limit) {
            Ok(runs) => assert!(runs == 1 && !task.what.is_multiple_of(8)),
            Err(TaskError::Panicked { message, .. }) => {
                assert!(message == SAID && task.what.is_multiple_of(8), "{message}")
            }
            Err(TaskError::Cancelled) => {
                assert!(task.cancelled || terminated, "nobody has cancelled it");
                assert_eq!(task.fate.ran.load(Ordering::SeqCst), 0, "a cancelled task ran");
            }
            Err(TaskError::TimedOut) => {
                assert!(limit < HANG, "a task that never ends");
                task.handle = Some(handle);
                return;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(matches!(handle.join(), Err(TaskError::AlreadyJoined)) && handle.is_finished() && !handle.cancel());
    }

    fn map(&self, items: u32, chunk: usize, panics: bool) {
        let options = MapOptions::new().chunk_size(chunk);
        let result = self.pool.map_with(options, 0..items, |n| {
            assert!(!panics || n != items / 2, "{SAID}");
            n * 3
        });
        match result {
            Ok(all) => assert!(!(panics && items > 0) && all.iter().copied().eq((0..items).map(|n| n * 3))),
            Err(TaskError::Panicked { message, .. }) => assert!(panics && message == SAID, "{message}"),
            Err(TaskError::Pool(error)) => self.refused(&error),
            Err(error) => panic!("{error}"),
        }
    }

    fn imap(&self, items: u32, taken: usize, ordered: bool) {
        let double = |n: u32| n * 2;
        let got: Vec<_> = if ordered {
            match self.pool.imap(0..items, double) {
                Ok(all) => all.take(taken).collect(),
                Err(error) => return self.refused(&error),
            }
        } else {
            match self.pool.imap_unordered(0..items, double) {
                Ok(all) => all.take(taken).collect(),
                Err(error) => return self.refused(&error),
            }
        };
        // Other tasks may have filled the queue, or somebody may have closed the pool, before all items were in it.
        let mut refused = false;
        let mut got: Vec<_> = got
            .into_iter()
            .filter_map(|result| match result {
                Err(TaskError::Pool(error)) => {
                    self.refused(&error);
                    refused = true;
                    None
                }
                result => Some(result.expect("a function that does not panic")),
            })
            .collect();
        assert!(got.len() == taken.min(items as usize) || refused, "{} of {taken} and {items}", got.len());
        if ordered {
            assert!(got.is_sorted());
        }
        got.sort_unstable();
        got.dedup();
        assert!(got.iter().all(|n| n % 2 == 0 && *n < items * 2), "twice, or from nowhere");
    }

    fn scope(&self, tasks: usize, inner: usize) {
        let done = AtomicU32::new(0);
        self.pool.scope(|scope| {
            for _ in 0..tasks {
                scope.spawn(|| {
                    done.fetch_add(1, Ordering::SeqCst);
                    self.pool.scope(|scope| {
                        (0..inner).for_each(|_| scope.spawn(|| _ = done.fetch_add(1, Ordering::SeqCst)));
                    });
                });
            }
        });
        assert_eq!(done.into_inner() as usize, tasks * (1 + inner), "a scope ends after all of its tasks");
    }

    fn fork(pool: &ThreadPool, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let (a, b) = pool.fork_join(|| Self::fork(pool, depth - 1), || Self::fork(pool, depth - 1));
        a + b
    }

    fn close(&mut self) {
        self.pool.close();
        self.closed = true;
        assert!(self.pool.is_closed() && matches!(self.pool.spawn(|| ()), Err(PoolError::Closed)));
    }

    fn cancel(&mut self, which: u8) {
        let Some(task) = self.choose(which) else { return };
        let cancelled = task.handle.as_ref().is_some_and(TaskHandle::cancel);
        task.cancelled |= cancelled;
        if cancelled {
            let (ran, dropped) = (task.fate.ran.load(Ordering::SeqCst), task.fate.dropped.load(Ordering::SeqCst));
            assert_eq!((ran, dropped), (0, 1), "a cancelled task's closure is dropped, not run");
        }
    }

    /// Closes and waits; then everything has become of every task that had to.
    fn finish(mut self) {
        if !self.closed {
            assert!(matches!(self.pool.join(), Err(PoolError::NotClosed)));
            self.close();
        }
        self.pool.join_timeout(HANG).expect("the workers end");
        for task in &self.accepted {
            let [ran, dropped, called] =
                [&task.fate.ran, &task.fate.dropped, &task.fate.called].map(|n| n.load(Ordering::SeqCst));
            assert_eq!(dropped, 1, "a closure is dropped once");
            assert!(ran <= 1, "a task ran {ran} times");
            assert!(!task.cancelled || ran == 0, "a cancelled task ran");
            assert!(ran == 1 || task.cancelled || self.terminated, "an accepted task was lost");
            assert!(called == 0 || called == (1 << 16) + 1, "a callback is called once");
            assert!(task.handle.as_ref().is_none_or(TaskHandle::is_finished), "a handle that nothing happens to");
        }
        let progress = self.pool.progress();
        assert_eq!((progress.unfinished(), self.pool.queued()), (0, 0), "{progress:?}");
        drop(self.accepted);
        drop(self.pool);
        assert_eq!(self.memory.stats().live, 0, "tasks kept blocks: {}", self.memory.stats());
    }
}

/// Panics of tasks are what the program wants; nobody needs to read of them.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(SAID) {
                usual(info);
            }
        }));
    });
}

impl Operation for Op {
    fn run(program: Vec<Self>) {
        quiet();
        let before = Heap::stats().live_blocks;
        let mut mill = Mill::new(1, 0, 0, 0);
        for op in program {
            match op {
                Self::Build { workers, dispatch, bound, full } => {
                    mill.finish();
                    mill = Mill::new(workers, dispatch, bound, full);
                }
                Self::Spawn { what } => mill.spawn(what),
                Self::Burst { what, count } => (0..count % 64).for_each(|n| mill.spawn(what.wrapping_add(n))),
                Self::Async { what } if mill.accepted.len() < HANDLES => mill.spawn_async(what),
                Self::Async { what } | Self::Then { what } => mill.spawn_then(what),
                Self::Apply { what } => mill.apply(what),
                Self::Join { which } => mill.join(which, HANG),
                Self::JoinSoon { which } => mill.join(which, Duration::from_micros(20)),
                Self::Cancel { which } => mill.cancel(which),
                Self::Forget { which } => {
                    if let Some(task) = mill.choose(which) {
                        task.handle = None;
                    }
                }
                Self::Map { items, chunk, panics } => mill.map(items.into(), usize::from(chunk) + 1, panics),
                Self::Imap { items, taken, ordered } => mill.imap(items.into(), taken.into(), ordered),
                Self::Scope { tasks, inner } => mill.scope(usize::from(tasks) % 20, usize::from(inner) % 4),
                Self::Fork { depth } => assert_eq!(Mill::fork(&mill.pool, u32::from(depth) % 7), 1 << (depth % 7)),
                Self::Figures => {
                    let progress = mill.pool.progress();
                    assert!(mill.pool.sleeping() <= mill.pool.workers(), "{progress:?}");
                }
                Self::Close => mill.close(),
                Self::Terminate => {
                    mill.pool.terminate();
                    (mill.closed, mill.terminated) = (true, true);
                }
                Self::End => {
                    mill.finish();
                    mill = Mill::new(2, 0, 0, 0);
                }
            }
        }
        mill.finish();
        assert_eq!(Heap::stats().live_blocks, before, "a thread pool does not live in the process's heap");
    }
}
