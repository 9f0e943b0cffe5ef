//! Objects that are dear to make: kept constructed, reset between uses.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::error::Error;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::panics::{drop_quietly, guarded};

/// Why there is no object.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecyclerError {
    /// As many objects are in use as the limit allows, with those that are kept for threads that wait.
    LimitReached {
        /// The limit.
        limit: usize,
    },
    /// As many objects were in use as the limit allows, all the time.
    TimedOut {
        /// The limit.
        limit: usize,
        /// How long one was waited for.
        waited: Duration,
    },
    /// `create` failed.
    Create(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for RecyclerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitReached { limit } => {
                write!(f, "all {limit} objects that the limit allows are in use: drop one, wait, or raise the limit")
            }
            Self::TimedOut { limit, waited } => {
                write!(f, "all {limit} objects that the limit allows were in use for {waited:?}")
            }
            Self::Create(error) => write!(f, "an object could not be made: {error}"),
        }
    }
}

impl Error for RecyclerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Create(error) => Some(&**error),
            _ => None,
        }
    }
}

/// What `create` may return: an object, or a result of one.
pub trait Created<T> {
    /// The object, or why there is none.
    ///
    /// # Errors
    /// The creator's own.
    fn created(self) -> Result<T, Box<dyn Error + Send + Sync>>;
}

impl<T> Created<T> for T {
    fn created(self) -> Result<T, Box<dyn Error + Send + Sync>> {
        Ok(self)
    }
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Created<T> for Result<T, E> {
    fn created(self) -> Result<T, Box<dyn Error + Send + Sync>> {
        self.map_err(Into::into)
    }
}

type Create<T> = dyn Fn() -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync;
type Reset<T> = dyn Fn(&mut T) + Send + Sync;

struct Shelf<T> {
    idle: Vec<T>,
    /// In use or idle.
    made: usize,
    /// Threads that wait. What comes free is kept for them: they don't have to win a race for it.
    waiting: usize,
}

/// Keeps objects constructed and resets them between uses: connections, parsers, large buffers.
///
/// ```
/// use millpond::Recycler;
///
/// let buffers: Recycler<Vec<u8>> =
///     Recycler::builder().create(|| Vec::with_capacity(4096)).reset(|buffer| buffer.clear()).limit(64).build();
/// let mut buffer = buffers.get()?;
/// buffer.extend_from_slice(b"mill");
/// drop(buffer); // reset, and the next to be handed out
/// assert!(buffers.get()?.is_empty());
/// # Ok::<(), millpond::RecyclerError>(())
/// ```
///
/// One lock for `get` and one for the return, both held for a few instructions; `create`, `reset` and the objects' own
/// drops run outside it.
pub struct Recycler<T> {
    shelf: Mutex<Shelf<T>>,
    returned: Condvar,
    create: Box<Create<T>>,
    reset: Box<Reset<T>>,
    limit: usize,
}

impl<T> Recycler<T> {
    /// Sets one up. `create` has to be said.
    pub fn builder() -> RecyclerBuilder<T, ()> {
        RecyclerBuilder { create: (), reset: Box::new(|_| ()), limit: usize::MAX }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        // Nothing panics under the lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object: the one most recently returned, or a new one.
    ///
    /// # Errors
    /// [`RecyclerError::LimitReached`] if as many are in use as may be, with those that are kept for threads that
    /// wait ([`get_timeout`](Self::get_timeout)); [`RecyclerError::Create`] if making one failed.
    ///
    /// # Panics
    /// If `create` does; the place of its object is free again.
    pub fn get(&self) -> Result<Recycled<'_, T>, RecyclerError> {
        let mut shelf = self.shelf();
        let ahead = shelf.waiting;
        match self.take_from(&mut shelf, ahead) {
            Some(taken) => {
                drop(shelf);
                self.finish(taken)
            }
            None => Err(RecyclerError::LimitReached { limit: self.limit }),
        }
    }

    /// An object, waited for as long as `timeout` if as many are in use as may be. What comes free goes to those who wait:
    /// no `get` is in time for it.
    ///
    /// # Errors
    /// [`RecyclerError::TimedOut`]; [`RecyclerError::Create`] if making one failed.
    ///
    /// # Panics
    /// As for [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Recycled<'_, T>, RecyclerError> {
        let start = Instant::now();
        let mut shelf = self.shelf();
        let ahead = shelf.waiting;
        let mut taken = self.take_from(&mut shelf, ahead);
        // From here on it is one of those who wait: nobody is ahead of it.
        shelf.waiting += 1;
        while taken.is_none()
            && let Some(left) = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
        {
            shelf = self.returned.wait_timeout(shelf, left).unwrap_or_else(PoisonError::into_inner).0;
            taken = self.take_from(&mut shelf, 0);
        }
        shelf.waiting -= 1;
        drop(shelf);
        match taken {
            Some(taken) => self.finish(taken),
            None => Err(RecyclerError::TimedOut { limit: self.limit, waited: start.elapsed() }),
        }
    }

    /// An object that keeps its recycler alive: for threads and async tasks.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    /// As for [`get`](Self::get).
    pub fn get_owned(self: &Arc<Self>) -> Result<Recycled<'static, T>, RecyclerError>
    where
        T: 'static,
    {
        let mut borrowed = self.get()?;
        let object = borrowed.object.take();
        Ok(Recycled { object, home: Home::Owned(Arc::clone(self)) })
    }

    /// An idle object, or the right to make one (the inner `None`), if there are more than for those who are ahead.
    fn take_from(&self, shelf: &mut Shelf<T>, ahead: usize) -> Option<Option<T>> {
        let in_use = shelf.made - shelf.idle.len();
        if self.limit - in_use <= ahead {
            return None;
        }
        let object = shelf.idle.pop();
        if object.is_none() {
            shelf.made += 1;
        }
        Some(object)
    }

    fn finish(&self, taken: Option<T>) -> Result<Recycled<'_, T>, RecyclerError> {
        let object = match taken {
            Some(object) => object,
            None => {
                let place = Places { of: self, count: 1 };
                let object = (self.create)().map_err(RecyclerError::Create)?;
                core::mem::forget(place);
                object
            }
        };
        Ok(Recycled { object: Some(object), home: Home::Borrowed(self) })
    }

    fn give_back(&self, mut object: T) {
        // A panicking reset leaves nobody knows what: the object is dropped.
        if let Err(panic) = guarded(|| (self.reset)(&mut object)) {
            let _place = Places { of: self, count: 1 };
            drop_quietly(object);
            if !std::thread::panicking() {
                panic::resume_unwind(panic);
            }
            drop_quietly(panic);
            return;
        }
        self.shelf().idle.push(object);
        self.returned.notify_one();
    }

    /// Objects that wait to be handed out.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.shelf().idle.len()
    }

    /// Objects that are in use, or on their way out of here.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let shelf = self.shelf();
        shelf.made - shelf.idle.len()
    }

    /// Drops all idle objects. Others may be made in their places once they are gone.
    pub fn clear(&self) {
        let idle = core::mem::take(&mut self.shelf().idle);
        let _places = Places { of: self, count: idle.len() };
        drop(idle);
    }
}

/// The places of objects that come to their end, or never come to be: free again when this is dropped, even by a panic.
struct Places<'r, T> {
    of: &'r Recycler<T>,
    count: usize,
}

impl<T> Drop for Places<'_, T> {
    fn drop(&mut self) {
        self.of.shelf().made -= self.count;
        self.of.returned.notify_all();
    }
}

impl<T> fmt::Debug for Recycler<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycler")
            .field("of", &core::any::type_name::<T>())
            .field("idle", &self.idle())
            .field("in_use", &self.in_use())
            .field("waiting", &self.shelf().waiting)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

enum Home<'r, T> {
    Borrowed(&'r Recycler<T>),
    Owned(Arc<Recycler<T>>),
}

/// An object of a [`Recycler`]: reset and kept when this is dropped.
#[must_use = "dropping it returns the object at once"]
pub struct Recycled<'r, T> {
    /// Empty only while this is taken apart.
    object: Option<T>,
    home: Home<'r, T>,
}

impl<T> Recycled<'_, T> {
    fn recycler(&self) -> &Recycler<T> {
        match &self.home {
            Home::Borrowed(recycler) => recycler,
            Home::Owned(recycler) => recycler,
        }
    }

    /// Keeps the object for good: for one that is broken, say. Another may be made in its place.
    #[must_use]
    pub fn detach(mut self) -> T {
        drop(Places { of: self.recycler(), count: 1 });
        match self.object.take() {
            Some(object) => object,
            None => unreachable!("the object is taken only when this ends"),
        }
    }
}

impl<T> Deref for Recycled<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.object {
            Some(object) => object,
            None => unreachable!("the object is taken only when this ends"),
        }
    }
}

impl<T> DerefMut for Recycled<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.object {
            Some(object) => object,
            None => unreachable!("the object is taken only when this ends"),
        }
    }
}

impl<T> Drop for Recycled<'_, T> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.recycler().give_back(object);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Recycled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Sets up a [`Recycler`]: see [`Recycler::builder`].
#[must_use = "a builder makes a recycler with `build`"]
pub struct RecyclerBuilder<T, C> {
    create: C,
    reset: Box<Reset<T>>,
    limit: usize,
}

impl<T, C> RecyclerBuilder<T, C> {
    /// How an object is made: a function that returns one, or a `Result` of one. With a `Result`, say what the object is:
    /// `Recycler::<Conn>::builder()`.
    pub fn create<F, R>(self, create: F) -> RecyclerBuilder<T, Box<Create<T>>>
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Created<T>,
    {
        RecyclerBuilder { create: Box::new(move || create().created()), reset: self.reset, limit: self.limit }
    }

    /// What makes a used object as good as new. If it panics, the object is dropped.
    pub fn reset(mut self, reset: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        self.reset = Box::new(reset);
        self
    }

    /// The most objects, in use and idle together. With 0 there are none: every `get` is an error.
    pub fn limit(mut self, objects: usize) -> Self {
        self.limit = objects;
        self
    }
}

impl<T> RecyclerBuilder<T, Box<Create<T>>> {
    /// Makes the recycler.
    #[must_use]
    pub fn build(self) -> Recycler<T> {
        Recycler {
            shelf: Mutex::new(Shelf { idle: Vec::new(), made: 0, waiting: 0 }),
            returned: Condvar::new(),
            create: self.create,
            reset: self.reset,
            limit: self.limit,
        }
    }
}

impl<T, C> fmt::Debug for RecyclerBuilder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecyclerBuilder").field("limit", &self.limit).finish_non_exhaustive()
    }
}
