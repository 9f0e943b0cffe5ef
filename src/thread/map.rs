//! A function of many items: pieces of the items are claimed by the workers, one counter for all.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use std::sync::Arc;

use super::crew::Crew;
use super::group::{Group, Node};
use super::here;
use super::shared::Shared;
use crate::os::Lock;
use crate::panics::{drop_quietly, guarded, message};
use crate::primitive::{AtomicUsize, Ordering};
use crate::task::{MapOptions, PoolError, Ran, TaskError};

/// A map that is under way, on the stack of whoever waits for it.
struct Map<'a, T, R, F> {
    items: NonNull<T>,
    results: NonNull<R>,
    count: usize,
    chunk: usize,
    pieces: usize,
    next: AtomicUsize,
    failure: Lock<Failure>,
    f: &'a F,
    shared: &'a Shared,
}

/// What is known of a map that failed.
#[derive(Debug, Default)]
struct Failure {
    /// What the first panic said.
    message: Option<String>,
    /// Pieces that were claimed before nobody could claim any more.
    claimed: usize,
    /// Pieces that failed, and how many results of each there are.
    short: Vec<(usize, usize)>,
}

/// How far a piece has come: said when it is over, by a panic too.
struct Progress<'a> {
    at: usize,
    seen: &'a mut usize,
}

impl Drop for Progress<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.seen = self.at;
    }
}

// SAFETY: items, results and the function are used by other threads: `run` demands it.
unsafe impl<T: Send, R: Send, F: Sync> Sync for Map<'_, T, R, F> {}

impl<T, R, F: Fn(T) -> R> Map<'_, T, R, F> {
    /// Claims pieces and does them until there are none.
    fn work(&self) {
        loop {
            // Relaxed: items were there before the map began; results are published by the end of the group.
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            let start = piece * self.chunk;
            let end = self.count.min(start + self.chunk);
            let mut begun = start;
            let outcome = guarded(|| {
                // In this loop's own variables: what others can see would be read and written again for each item.
                let (items, results) = (self.items, self.results);
                let mut progress = Progress { at: start, seen: &mut begun };
                while progress.at < end {
                    // SAFETY: inside the items, and this one is ours: its piece was claimed once.
                    let item = unsafe { items.add(progress.at) };
                    // SAFETY: inside the results, which have as many places.
                    let place = unsafe { results.add(progress.at) };
                    // Counted before it is used: if `f` panics, the item is `f`'s.
                    progress.at += 1;
                    // SAFETY: moved out once.
                    let result = (self.f)(unsafe { item.read() });
                    // SAFETY: this place is ours.
                    unsafe { place.write(result) };
                }
            });
            let failed = outcome.is_err();
            self.shared.note_group_task(if failed { Ran::Panicked } else { Ran::Task });
            if let Err(payload) = outcome {
                self.drop_items(begun, end);
                self.fail(piece, begun - start - 1, message(payload));
                return;
            }
        }
    }

    /// Notes a piece that failed. The first failure is the map's, and drops what nobody has claimed.
    fn fail(&self, piece: usize, results: usize, message: String) {
        // Relaxed: as in `work`. Nobody claims anything after this.
        let claimed = self.next.fetch_add(self.pieces, Ordering::Relaxed).min(self.pieces);
        {
            let mut failure = self.failure.lock();
            failure.short.push((piece, results));
            // Later failures find the counter behind the end.
            failure.claimed = if failure.message.is_none() { claimed } else { failure.claimed.min(claimed) };
            failure.message.get_or_insert(message);
        }
        self.drop_items(claimed * self.chunk, self.count);
    }

    fn drop_items(&self, from: usize, to: usize) {
        for index in from..to {
            // SAFETY: inside the items, and claimed by the caller, who does not use it any more.
            let item = unsafe { self.items.add(index) };
            // SAFETY: moved out once.
            drop_quietly(unsafe { item.read() });
        }
    }

    /// Drops the results there are: the map failed.
    fn drop_results(&self, failure: &Failure) {
        for piece in 0..failure.claimed {
            let start = piece * self.chunk;
            let whole = self.chunk.min(self.count - start);
            let short = failure.short.iter().find(|(failed, _)| *failed == piece);
            for index in start..start + short.map_or(whole, |(_, results)| *results) {
                // SAFETY: inside the results.
                let place = unsafe { self.results.add(index) };
                // SAFETY: a claimed piece has been done, as far as is noted; nobody else has the result.
                drop_quietly(unsafe { place.read() });
            }
        }
    }
}

/// A worker's part in a map: a node on the waiter's stack.
#[repr(C)]
struct Part<'a, T, R, F> {
    node: Node,
    map: &'a Map<'a, T, R, F>,
}

impl<T, R, F: Fn(T) -> R> Part<'_, T, R, F> {
    /// # Safety
    /// `node` begins a `Self` taken from the list of `group`.
    unsafe fn run(node: NonNull<Node>, group: &Group) {
        // SAFETY: the caller's duty: live until it has finished.
        let part = unsafe { node.cast::<Self>().as_ref() };
        here::apart(|| part.map.work());
        group.finished();
        // The first part to end knows that every piece is claimed: the waiter takes back those that have not started.
        group.ring();
    }
}

/// See [`ThreadPool::map`](super::ThreadPool::map).
pub(super) fn map<T, R, F>(shared: &Arc<Shared>, options: MapOptions, items: Vec<T>, f: &F) -> Result<Vec<R>, TaskError>
where
    T: Send,
    R: Send,
    F: Fn(T) -> R + Sync,
{
    let count = items.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let crew = Crew::new(shared, None, shared.workers())?;
    let mut results: Vec<R> = Vec::new();
    results.try_reserve_exact(count).map_err(|_| PoolError::OutOfMemory)?;
    let chunk = options.pick(count, shared.workers());
    // The items' memory stays until the end; the items themselves are moved out one by one.
    let mut items = ManuallyDrop::new(items);
    let (start, capacity) = (items.as_mut_ptr().cast::<MaybeUninit<T>>(), items.capacity());
    // SAFETY: the vector's own parts, of a type that is laid out like `T` and has nothing to drop.
    let mut items = unsafe { Vec::from_raw_parts(start, count, capacity) };
    let map = Map {
        items: NonNull::from(items.as_mut_slice()).cast(),
        results: NonNull::from(results.spare_capacity_mut()).cast(),
        count,
        chunk,
        pieces: count.div_ceil(chunk),
        next: AtomicUsize::new(0),
        failure: Lock::new(Failure::default()),
        f,
        shared,
    };
    let parts: Vec<_> = (0..shared.workers().min(map.pieces))
        .map(|_| Part { node: Node::new(Part::<T, R, F>::run), map: &map })
        .collect();
    for part in &parts {
        // SAFETY: the parts live until the group has finished, which is waited for below.
        if unsafe { crew.add(NonNull::from(part).cast()) } {
            crew.issue_ticket();
        }
    }
    let help = shared.seat().is_some();
    // Relaxed: only a hint that no part need start any more.
    let _ = crew.wait_until(help, || map.next.load(Ordering::Relaxed) >= map.pieces);
    for part in &parts {
        if crew.take_back(NonNull::from(part).cast()) {
            crew.finished();
        }
    }
    // In a copy that the function forked, items and results are left as they are: nobody knows how far the others are.
    crew.wait(help)?;
    drop(parts);
    let failure = core::mem::take(&mut *map.failure.lock());
    if failure.message.is_some() {
        map.drop_results(&failure);
    }
    drop(items);
    match failure.message {
        Some(message) => Err(TaskError::Panicked { message }),
        None => {
            // SAFETY: every piece is done, so every place was written.
            unsafe { results.set_len(count) };
            Ok(results)
        }
    }
}
