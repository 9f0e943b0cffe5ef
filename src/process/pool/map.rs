//! One function over many items.

use core::fmt;
use core::marker::PhantomData;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ProcessPool;
use super::desk::Desk;
use super::forked::expect_not_forked;
use super::submit::{self, Draft, Letter, read};
use super::task::{Ending, cancel_waiting};
use crate::process::registry::{Chunk, Task};
use crate::task::{MapOptions, PoolError, TaskError, TaskHandle};

/// Chunks under way for each hand: one runs, the others wait for it.
const AHEAD: usize = 4;
/// A wait for a chunk that is shorter than this is one too many: the next is for a later one.
const SHORT: Duration = Duration::from_micros(200);
/// Chunks that are taken in at a time, at most.
const TOGETHER: usize = 32;
/// How much later, and how long at most: the next one's error may be there before.
const STRIDE: usize = 64;
const LATER: Duration = Duration::from_millis(1);

/// Sends items in one or more letters: in halves where they are too large for one.
fn send<T, F: 'static, A: Serialize>(
    desk: &Arc<Desk>,
    mut items: Vec<A>,
    to: &mut impl FnMut(Letter) -> Result<T, PoolError>,
    into: &mut impl Extend<T>,
) -> Result<(), PoolError> {
    match Draft::new::<F, Vec<A>>(desk, &items) {
        Ok(draft) => {
            let (letter, _rest) = draft.sealed(items, true)?;
            into.extend([to(letter)?]);
            Ok(())
        }
        Err(PoolError::TooLarge { .. }) if items.len() > 1 => {
            let half = items.split_off(items.len() / 2);
            send::<T, F, A>(desk, items, to, into)?;
            send::<T, F, A>(desk, half, to, into)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn starmap<F, A>(desk: &Arc<Desk>, options: MapOptions, items: Vec<A>) -> Result<Vec<F::Output>, TaskError>
where
    F: Task<A>,
    A: Serialize,
{
    desk.expect_open()?;
    let count = items.len();
    let size = options.pick(count, desk.terms.workers * desk.ground.plan.threads);
    let mut handles: Vec<TaskHandle<Chunk<F::Output>>> = Vec::with_capacity(count.div_ceil(size.max(1)));
    let mut results = Vec::with_capacity(count);
    let mut items = items.into_iter();
    let mut sent = Ok(());
    let (mut letters, mut together) = (Vec::new(), 1);
    while sent.is_ok() {
        let chunk: Vec<A> = items.by_ref().take(size).collect();
        let is_last = chunk.is_empty();
        if !is_last {
            sent = send::<_, F, A>(desk, chunk, &mut Ok, &mut letters);
        }
        if is_last || letters.len() >= together {
            // The first at once, and the more the longer it takes.
            together = (2 * together).min(TOGETHER);
            sent = sent.and_then(|()| submit::chunks(desk, core::mem::take(&mut letters), &mut handles));
        }
        if is_last {
            break;
        }
    }
    let all = sent.map_err(TaskError::from).and_then(|()| gather(&handles, &mut results));
    if all.is_err() {
        handles.iter().for_each(cancel_waiting);
    }
    all.map(|()| results)
}

/// Joins all, in order.
fn gather<R: serde::de::DeserializeOwned>(
    handles: &[TaskHandle<Chunk<R>>],
    results: &mut Vec<R>,
) -> Result<(), TaskError> {
    let mut short = false;
    for (n, handle) in handles.iter().enumerate() {
        if !handle.is_done() {
            let started = Instant::now();
            // Many short tasks: one wake-up for many of them.
            if short {
                handles[(n + STRIDE).min(handles.len() - 1)].wait_until(started + LATER)?;
            }
            handle.wait()?;
            short = started.elapsed() < SHORT;
        }
        let (values, message, panicked) = handle.join()?;
        results.extend(values);
        if panicked {
            return Err(TaskError::Panicked { message });
        }
    }
    Ok(())
}

/// What has come of a chunk, one by one.
struct Ready<R> {
    values: std::vec::IntoIter<R>,
    error: Option<TaskError>,
}

impl<R> Ready<R> {
    fn none() -> Self {
        Self { values: Vec::new().into_iter(), error: None }
    }

    fn of(chunk: Result<Chunk<R>, TaskError>) -> Self {
        match chunk {
            Ok((values, message, panicked)) => {
                let error = panicked.then_some(TaskError::Panicked { message });
                Self { values: values.into_iter(), error }
            }
            Err(error) => Self { values: Vec::new().into_iter(), error: Some(error) },
        }
    }

    fn next(&mut self) -> Option<Result<R, TaskError>> {
        self.values.next().map(Ok).or_else(|| self.error.take().map(Err))
    }
}

/// Items that are still to be sent, in chunks.
struct Source<I: Iterator> {
    items: core::iter::Fuse<I>,
    size: usize,
    most: usize,
    refused: Option<PoolError>,
}

impl<I: Iterator> Source<I> {
    fn new(pool: &ProcessPool, options: MapOptions, items: I) -> Result<Self, PoolError> {
        pool.desk.expect_open()?;
        let hands = pool.workers() * pool.threads_per_worker();
        let most = (hands * AHEAD).min(pool.desk.terms.bound);
        Ok(Self { items: items.fuse(), size: options.pick_lazily(), most, refused: None })
    }

    /// Keeps enough chunks under way.
    fn send<T, F>(
        &mut self,
        pool: &ProcessPool,
        mut under_way: usize,
        mut to: impl FnMut(Letter) -> Result<T, PoolError>,
        into: &mut impl Extend<T>,
    ) where
        F: Task<(I::Item,)>,
        (I::Item,): Serialize,
    {
        while self.refused.is_none() && under_way < self.most {
            let chunk: Vec<(I::Item,)> = self.items.by_ref().take(self.size).map(|item| (item,)).collect();
            if chunk.is_empty() {
                break;
            }
            under_way += 1;
            self.refused = send::<T, F, _>(&pool.desk, chunk, &mut to, into).err();
        }
    }

    /// What was accepted came first; then the reason why there is no more, once.
    fn refusal<R>(&mut self) -> Option<Result<R, TaskError>> {
        if self.most == 0 {
            return None;
        }
        let refused = self.refused.clone()?;
        self.most = 0;
        Some(Err(refused.into()))
    }
}

/// What [`ProcessPool::imap`] returns: results in the items' order.
///
/// Each is a `Result`: an item whose function panicked, or whose worker died, gives an error in its place, and the next ones
/// go on (with chunks of more than one item, those behind it in its chunk are missing). Dropping it cancels what has not
/// started.
#[must_use = "an iterator is lazy: items are submitted as results are asked for"]
pub struct Imap<'pool, I: Iterator, F: Task<(I::Item,)>> {
    pool: &'pool ProcessPool,
    source: Source<I>,
    under_way: VecDeque<TaskHandle<Chunk<F::Output>>>,
    ready: Ready<F::Output>,
}

impl<'pool, I, F> Imap<'pool, I, F>
where
    I: Iterator,
    F: Task<(I::Item,)>,
    (I::Item,): Serialize,
{
    pub(super) fn new(pool: &'pool ProcessPool, options: MapOptions, items: I) -> Result<Self, PoolError> {
        let source = Source::new(pool, options, items)?;
        let mut new = Self { pool, source, under_way: VecDeque::new(), ready: Ready::none() };
        new.send();
        match new.source.refused.clone() {
            Some(error) if new.under_way.is_empty() => Err(error),
            _ => Ok(new),
        }
    }

    fn send(&mut self) {
        let (pool, under_way) = (self.pool, self.under_way.len());
        let to = |letter| submit::chunk(&pool.desk, letter);
        self.source.send::<_, F>(pool, under_way, to, &mut self.under_way);
    }
}

impl<I, F> Iterator for Imap<'_, I, F>
where
    I: Iterator,
    F: Task<(I::Item,)>,
    (I::Item,): Serialize,
{
    type Item = Result<F::Output, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.ready.next() {
                return Some(result);
            }
            self.send();
            match self.under_way.pop_front() {
                Some(handle) => self.ready = Ready::of(handle.join()),
                None => return self.source.refusal(),
            }
        }
    }
}

impl<I: Iterator, F: Task<(I::Item,)>> Drop for Imap<'_, I, F> {
    fn drop(&mut self) {
        for handle in &self.under_way {
            cancel_waiting(handle);
        }
    }
}

impl<I: Iterator, F: Task<(I::Item,)>> fmt::Debug for Imap<'_, I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

/// What [`ProcessPool::imap_unordered`] returns: results as they come, each a `Result` as in [`Imap`].
#[must_use = "an iterator is lazy: items are submitted as results are asked for"]
pub struct ImapUnordered<'pool, I: Iterator, F: Task<(I::Item,)>> {
    pool: &'pool ProcessPool,
    source: Source<I>,
    to: Sender<Ending>,
    from: Receiver<Ending>,
    under_way: usize,
    ready: Ready<F::Output>,
    function: PhantomData<fn() -> F>,
}

impl<'pool, I, F> ImapUnordered<'pool, I, F>
where
    I: Iterator,
    F: Task<(I::Item,)>,
    (I::Item,): Serialize,
{
    pub(super) fn new(pool: &'pool ProcessPool, options: MapOptions, items: I) -> Result<Self, PoolError> {
        let source = Source::new(pool, options, items)?;
        let (to, from) = channel();
        let function = PhantomData;
        let mut new = Self { pool, source, to, from, under_way: 0, ready: Ready::none(), function };
        new.send();
        match new.source.refused.clone() {
            Some(error) if new.under_way == 0 => Err(error),
            _ => Ok(new),
        }
    }

    fn send(&mut self) {
        let (pool, to) = (self.pool, &self.to);
        let mut sent = Vec::new();
        let one = |letter: Letter| submit::chunk_into(&pool.desk, letter, to.clone());
        self.source.send::<(), F>(pool, self.under_way, one, &mut sent);
        self.under_way += sent.len();
    }
}

impl<I, F> Iterator for ImapUnordered<'_, I, F>
where
    I: Iterator,
    F: Task<(I::Item,)>,
    (I::Item,): Serialize,
{
    type Item = Result<F::Output, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.ready.next() {
                return Some(result);
            }
            self.send();
            if self.under_way == 0 {
                return self.source.refusal();
            }
            let ending = match expect_not_forked() {
                // We hold a sender ourselves, so there is always one more to come.
                Ok(()) => self.from.recv().ok()?,
                // What is under way is told to the other.
                Err(error) => Err(error.into()),
            };
            self.under_way -= 1;
            self.ready = Ready::of(ending.and_then(|bytes| read(bytes, core::any::type_name::<F>())));
        }
    }
}

impl<I: Iterator, F: Task<(I::Item,)>> fmt::Debug for ImapUnordered<'_, I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapUnordered").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}
