//! Results one by one: in the items' order, or as they come. Items are taken as results are asked for.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use super::ThreadPool;
use super::shared::Shared;
use crate::os::{Futex, Lock};
use crate::panics::{drop_quietly, guarded, message};
use crate::primitive::Ordering;
use crate::task::{MapOptions, PoolError, TaskError, TaskHandle};

/// Pieces under way for each worker: one runs, the others wait for it.
const AHEAD: usize = 4;

/// The results of one piece, and the panic that ended it early.
type Piece<R> = (Vec<R>, Option<TaskError>);

/// The function on one piece. What `f` panics with ends the piece: later items of it are dropped.
fn piece<T, R>(items: Vec<T>, f: &impl Fn(T) -> R) -> Piece<R> {
    let mut results = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    let outcome = guarded(|| items.by_ref().for_each(|item| results.push(f(item))));
    let error = outcome.err().map(|payload| TaskError::Panicked { message: message(payload) });
    // Not by the panic: one in them would end the process.
    for item in items {
        drop_quietly(item);
    }
    (results, error)
}

/// What all pieces need.
struct Work<F> {
    f: F,
    shared: Arc<Shared>,
}

/// What both have: items that come, results that go.
struct Stream<'pool, I: Iterator, F, R> {
    pool: &'pool ThreadPool,
    items: core::iter::Fuse<I>,
    work: Arc<Work<F>>,
    size: usize,
    /// Pieces under way at once.
    most: usize,
    ready: std::vec::IntoIter<R>,
    error: Option<TaskError>,
    refused: Option<PoolError>,
}

impl<'pool, I, F, R> Stream<'pool, I, F, R>
where
    I: Iterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    fn new(pool: &'pool ThreadPool, options: MapOptions, items: I, f: F) -> Self {
        Self {
            pool,
            items: items.fuse(),
            work: Arc::new(Work { f, shared: pool.shared() }),
            size: options.pick_lazily(),
            most: (pool.workers() * AHEAD).min(pool.bound()),
            ready: Vec::new().into_iter(),
            error: None,
            refused: None,
        }
    }

    /// The next piece as a task, if there is room beside those under way; `None` also at the items' end.
    fn next_task(&mut self, under_way: usize) -> Option<impl FnOnce() -> Piece<R> + Send + 'static> {
        if self.refused.is_some() || under_way >= self.most {
            return None;
        }
        let items: Vec<_> = self.items.by_ref().take(self.size).collect();
        let work = Arc::clone(&self.work);
        (!items.is_empty()).then_some(move || {
            let piece = piece(items, &work.f);
            if piece.1.is_some() {
                // For the pool it is a task that gave a value.
                work.shared.note_panic();
            }
            piece
        })
    }

    fn arrived(&mut self, (results, error): Piece<R>) {
        self.ready = results.into_iter();
        self.error = error;
    }

    /// What has arrived: results first, then the error that ended their piece.
    fn next_ready(&mut self) -> Option<Result<R, TaskError>> {
        self.ready.next().map(Ok).or_else(|| self.error.take().map(Err))
    }
}

/// What [`ThreadPool::imap`](super::ThreadPool::imap) returns: the results, in the items' order.
///
/// Each is a `Result`: an item whose function panicked gives an error in its place, and the next ones go on (with
/// pieces of more than one item, those behind it in its piece are missing). Dropping it cancels what has not started.
#[must_use = "an iterator is lazy: items are submitted as results are asked for"]
pub struct Imap<'pool, I: Iterator, F, R> {
    stream: Stream<'pool, I, F, R>,
    under_way: VecDeque<TaskHandle<Piece<R>>>,
}

impl<'pool, I, F, R> Imap<'pool, I, F, R>
where
    I: Iterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    pub(super) fn new(pool: &'pool ThreadPool, options: MapOptions, items: I, f: F) -> Result<Self, PoolError> {
        let mut new = Self { stream: Stream::new(pool, options, items, f), under_way: VecDeque::new() };
        new.submit()?;
        Ok(new)
    }

    /// Keeps enough pieces under way.
    fn submit(&mut self) -> Result<(), PoolError> {
        while let Some(task) = self.stream.next_task(self.under_way.len()) {
            self.under_way.push_back(self.stream.pool.apply_async(task)?);
        }
        Ok(())
    }
}

impl<I, F, R> Iterator for Imap<'_, I, F, R>
where
    I: Iterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.stream.next_ready() {
                return Some(result);
            }
            if let Err(error) = self.submit() {
                self.stream.refused = Some(error);
            }
            let Some(handle) = self.under_way.pop_front() else {
                // What was accepted comes first; then the reason why there is no more, once.
                let refused = self.stream.refused.clone().filter(|_| self.stream.most > 0)?;
                self.stream.most = 0;
                return Some(Err(refused.into()));
            };
            self.stream.arrived(handle.join().unwrap_or_else(|error| (Vec::new(), Some(error))));
        }
    }
}

impl<I: Iterator, F, R> Drop for Imap<'_, I, F, R> {
    fn drop(&mut self) {
        for handle in &self.under_way {
            handle.cancel();
        }
    }
}

impl<I: Iterator, F, R> fmt::Debug for Imap<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

/// Where pieces are put down as they end.
struct Basket<R> {
    pieces: Lock<VecDeque<Piece<R>>>,
    /// How many pieces were ever put down: the consumer sleeps on it.
    count: Futex,
}

/// Puts down an error if the piece's task is dropped without having run: the pool was terminated.
struct Promise<R: Send>(Option<Arc<Basket<R>>>);

impl<R: Send> Promise<R> {
    fn keep(mut self, piece: Piece<R>) {
        if let Some(basket) = self.0.take() {
            basket.put(piece);
        }
    }
}

impl<R: Send> Drop for Promise<R> {
    fn drop(&mut self) {
        if let Some(basket) = self.0.take() {
            basket.put((Vec::new(), Some(TaskError::Cancelled)));
        }
    }
}

impl<R> Basket<R> {
    fn put(&self, piece: Piece<R>) {
        self.pieces.lock().push_back(piece);
        // Release: pairs with the Acquire in `take`.
        self.count.fetch_add(1, Ordering::Release);
        self.count.wake_one();
    }

    fn is_empty(&self) -> bool {
        self.pieces.lock().is_empty()
    }

    fn take(&self) -> Piece<R> {
        loop {
            // Acquire: pairs with the Release in `put`.
            let seen = self.count.load(Ordering::Acquire);
            if let Some(piece) = self.pieces.lock().pop_front() {
                return piece;
            }
            self.count.wait(seen);
        }
    }
}

/// What [`ThreadPool::imap_unordered`](super::ThreadPool::imap_unordered) returns: the results, as they come.
///
/// Each is a `Result`, as for [`Imap`]. Dropping it leaves what is under way to run, and drops its results.
#[must_use = "an iterator is lazy: items are submitted as results are asked for"]
pub struct ImapUnordered<'pool, I: Iterator, F, R> {
    stream: Stream<'pool, I, F, R>,
    under_way: usize,
    /// All tasks that have not finished, and some that have: a worker of the pool that wants a result does what has not
    /// started. The iterator may have been made elsewhere.
    tasks: VecDeque<TaskHandle<()>>,
    basket: Arc<Basket<R>>,
}

impl<'pool, I, F, R> ImapUnordered<'pool, I, F, R>
where
    I: Iterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    pub(super) fn new(pool: &'pool ThreadPool, options: MapOptions, items: I, f: F) -> Result<Self, PoolError> {
        let mut new = Self {
            stream: Stream::new(pool, options, items, f),
            under_way: 0,
            tasks: VecDeque::new(),
            basket: Arc::new(Basket { pieces: Lock::new(VecDeque::new()), count: Futex::new(0) }),
        };
        new.submit()?;
        Ok(new)
    }

    fn submit(&mut self) -> Result<(), PoolError> {
        while let Some(task) = self.stream.next_task(self.under_way) {
            let promise = Promise(Some(Arc::clone(&self.basket)));
            self.under_way += 1;
            // A refused task is dropped, and its promise put down as cancelled: it counts as under way.
            let task = move || promise.keep(task());
            if self.tasks.len() >= 2 * self.stream.most {
                self.tasks.retain(|task| !task.is_finished());
            }
            self.tasks.push_back(self.stream.pool.apply_async(task)?);
        }
        Ok(())
    }

    /// The next piece that was put down.
    fn wait(&mut self) -> Piece<R> {
        // Outside the pool there is nothing to do but to sleep. A worker may sleep when no task is left that it could do.
        while self.stream.pool.is_own_worker()
            && self.basket.is_empty()
            && let Some(oldest) = self.tasks.pop_front()
        {
            // Its piece is in the basket then; a task that never ran has put down that it was cancelled.
            let _ = oldest.join();
        }
        self.basket.take()
    }
}

impl<I, F, R> Iterator for ImapUnordered<'_, I, F, R>
where
    I: Iterator<Item: Send + 'static>,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.stream.next_ready() {
                return Some(result);
            }
            if self.under_way > 0
                && let Err(forked) = self.stream.pool.expect_own()
            {
                // Nobody puts anything down here.
                self.under_way = 0;
                self.stream.refused = Some(forked.clone());
                return Some(Err(forked.into()));
            }
            if let Err(error) = self.submit() {
                self.stream.refused = Some(error);
            }
            if self.under_way == 0 {
                return None;
            }
            let (results, error) = self.wait();
            self.under_way -= 1;
            let error = match (error, &self.stream.refused) {
                (Some(TaskError::Cancelled), Some(refused)) => Some(refused.clone().into()),
                (error, _) => error,
            };
            self.stream.arrived((results, error));
        }
    }
}

impl<I: Iterator, F, R> fmt::Debug for ImapUnordered<'_, I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}
