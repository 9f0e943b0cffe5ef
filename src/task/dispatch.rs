//! How tasks find workers.

/// How a pool hands its tasks to its workers.
///
/// | | who picks | idle workers | use it when |
/// |---|---|---|---|
/// | [`SharedQueue`](Self::SharedQueue) | the first free worker | sleep; a task wakes one | always, unless one of the others fits better |
/// | [`RoundRobin`](Self::RoundRobin) | the pool, in turn | sleep until their own turn | tasks cost the same, or each worker is to get its share |
/// | [`Random`](Self::Random) | the pool, by drawing | sleep until they are drawn | as round robin, where the tasks' order has a rhythm of its own |
///
/// Under `SharedQueue` no task waits while a worker is free: workers take tasks from one queue, and from each other.
/// Under the other two a task belongs to the worker that was picked: it waits for that worker, though others may be
/// idle. What that costs is measured in the module's README (`src/thread/README.md`, "Which dispatch should I choose").
///
/// The operating system decides when a worker runs: no policy promises an order in which tasks start or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dispatch {
    /// One queue. Idle workers sleep on it; a new task wakes one of them, and exactly one takes it.
    #[default]
    SharedQueue,
    /// Each worker in turn. A task is never taken by another worker.
    RoundRobin,
    /// A worker drawn for each task. A task is never taken by another worker.
    Random,
}

/// What happens to a task that finds the pool's bounded queue full.
///
/// A worker that submits to its own pool never waits for room, since it might wait for itself: under
/// [`Block`](Self::Block) it runs the task itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The submitter waits until there is room, or the pool closes.
    #[default]
    Block,
    /// The submitter gets [`PoolError::Full`](crate::PoolError::Full), and the task is dropped.
    Fail,
    /// The submitter runs the task itself, at once.
    CallerRuns,
}
