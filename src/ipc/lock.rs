//! A lock between processes and threads.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::codec::{self, Plain};
use super::error::LockError;
use super::handle;
use super::wait::{self, TICK};
use crate::os::shared::processors;
use crate::shm::lock::{Found, Holder, LockWord};
use crate::shm::making::Making;
use crate::shm::object::Hold;
use crate::shm::shape::{BODY, Kind, Shape};
use crate::shm::{self, ShmError};

/// Mutual exclusion over plain data in shared memory: one holder among all processes and threads.
///
/// Cloning it, or sending it to another process, gives another handle to the same lock and the same data. It is not
/// re-entrant. Uncontended it costs two exchanges of one word.
///
/// A process that dies while it holds the lock does not block the others: the next one that asks gets
/// [`OwnerDied`](LockError::OwnerDied), and all after it [`Poisoned`](LockError::Poisoned), until somebody takes the lock
/// by [`lock_recovering`](Self::lock_recovering) and repairs what it guards. A guard that is dropped by a panic poisons
/// it too.
///
/// ```
/// use millpond::ipc::Lock;
/// let balance = Lock::new(0_i64)?;
/// let same = balance.clone();
/// std::thread::spawn(move || same.lock().map(|mut balance| *balance += 1)).join().unwrap()?;
/// assert_eq!(*balance.lock()?, 1);
/// # Ok::<(), millpond::ipc::LockError>(())
/// ```
pub struct Lock<T> {
    pub(super) inner: Arc<Inner>,
    values: PhantomData<T>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) hold: Hold,
    value: NonNull<u8>,
    holder: Holder,
}

// SAFETY: the pointer is into shared memory that the hold keeps.
unsafe impl Send for Inner {}
// SAFETY: what it points to is reached by who holds the lock.
unsafe impl Sync for Inner {}

// SAFETY: the lock lets one thread at a time at the value, so sharing it only ever sends the value.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Spins before a locker sleeps, where another processor may be about to unlock.
const SPINS: u32 = 120;

/// How long a holder is believed that is no member.
const BELIEVED: Duration = Duration::from_secs(5);

/// Where the value lies in the body: behind the word, aligned.
fn offset<T>() -> usize {
    (BODY + size_of::<LockWord>()).next_multiple_of(align_of::<T>().max(8)) - BODY
}

impl Inner {
    fn new<T>(hold: Hold) -> Self {
        let holder = Holder::new(hold.here.member().index, hold.here.member().generation);
        // SAFETY: the body has room for the word and, behind it, the value.
        let value = unsafe { hold.body().add(offset::<T>()) };
        Self { hold, value, holder }
    }

    #[inline]
    pub(super) fn word(&self) -> &LockWord {
        // SAFETY: the body begins with the word, which is an atomic; the hold keeps it.
        unsafe { self.hold.body().cast::<LockWord>().as_ref() }
    }

    /// Takes the lock, however it is found.
    #[inline]
    pub(super) fn acquire(&self, deadline: Option<Instant>) -> Result<Found, LockError> {
        shm::here()?;
        match self.word().try_lock(self.holder) {
            Some(found) => Ok(found),
            None => self.acquire_slow(deadline),
        }
    }

    #[cold]
    fn acquire_slow(&self, deadline: Option<Instant>) -> Result<Found, LockError> {
        let spins = if MANY.with(Cell::get) { SPINS } else { 0 };
        let mut first = None;
        self.word().lock_slow(self.holder, spins, || {
            match first {
                None => first = Some(Instant::now()),
                Some(first) => {
                    self.hold.check()?;
                    self.check_holder(first)?;
                }
            }
            let left = deadline.map_or(TICK, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() { Err(LockError::TimedOut) } else { Ok(left.min(TICK)) }
        })
    }

    /// A holder that is no member at all is one that somebody wrote into the word. It may be one whose death is just
    /// being dealt with, so this is asked for some seconds before it is said.
    fn check_holder(&self, first: Instant) -> Result<(), LockError> {
        let Some(holder) = self.word().holder() else { return Ok(()) };
        if self.is_known(holder) || first.elapsed() < BELIEVED {
            Ok(())
        } else {
            Err(LockError::Memory(ShmError::Damaged))
        }
    }

    fn is_known(&self, holder: Holder) -> bool {
        let member = shm::member(self.hold.here.segment, holder.member());
        member.is_some_and(|member| holder == Holder::new(member.index, member.generation))
    }

    /// Who has it that there is not: somebody wrote it into the word. Not one that is no member, and said so when it took it: it
    /// gives it back, or nobody hears of its death.
    pub(super) fn made_up(&self) -> Option<Holder> {
        self.word().holder().filter(|holder| *holder != Holder::FOREIGN && !self.is_known(*holder))
    }

    /// Takes the lock away from one that there is not.
    fn disown(&self) {
        if let Some(holder) = self.made_up() {
            self.word().sweep(holder);
        }
    }
}

std::thread_local! {
    /// Whether this thread may run on more than one processor.
    static MANY: Cell<bool> = Cell::new(processors() > 1);
}

impl<T: Plain> Lock<T> {
    /// A lock around a value.
    ///
    /// # Errors
    /// [`Memory`](LockError::Memory): the system refused.
    pub fn new(value: T) -> Result<Self, LockError> {
        codec::expect_alignable::<T>();
        let making = Making::new(offset::<T>() + size_of::<T>())?;
        // SAFETY: the body has room for the value behind the word.
        let at = unsafe { making.body().add(offset::<T>()) };
        // SAFETY: aligned, and nobody else can see it yet.
        unsafe { at.cast::<T>().write(value) };
        Ok(Self::of(making.share(Shape::of::<T>(Kind::Lock))?))
    }

    fn of(hold: Hold) -> Self {
        Self { inner: Arc::new(Inner::new::<T>(hold)), values: PhantomData }
    }

    /// Takes the lock, waiting for it.
    ///
    /// # Errors
    /// [`OwnerDied`](LockError::OwnerDied), [`Poisoned`](LockError::Poisoned): the lock is not held then;
    /// [`Memory`](LockError::Memory).
    #[inline]
    pub fn lock(&self) -> Result<Guard<'_, T>, LockError> {
        let found = self.inner.acquire(None)?;
        self.guard(found)
    }

    /// Takes the lock, waiting for it for some time.
    ///
    /// # Errors
    /// [`TimedOut`](LockError::TimedOut), and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Guard<'_, T>, LockError> {
        let found = self.inner.acquire(wait::deadline(timeout))?;
        self.guard(found)
    }

    /// Takes the lock if it is free at this moment.
    ///
    /// # Errors
    /// [`Held`](LockError::Held), and those of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Guard<'_, T>, LockError> {
        shm::here()?;
        match self.inner.word().try_lock(self.inner.holder) {
            Some(found) => self.guard(found),
            None => Err(LockError::Held),
        }
    }

    #[inline]
    fn guard(&self, found: Found) -> Result<Guard<'_, T>, LockError> {
        let error = match found {
            Found::Clean => return Ok(Guard::new(self)),
            Found::Died => LockError::OwnerDied,
            Found::Poisoned => LockError::Poisoned,
        };
        self.inner.word().unlock(true);
        Err(error)
    }

    /// Takes the lock, waiting for it, and has `repair` set right what a dead holder may have left half changed. If there
    /// is nothing to repair, `repair` is not called. Who dies while it repairs leaves the lock to the next one as it was.
    ///
    /// In a process that is no member the lock is taken all the same; there a death is not noticed by anybody.
    pub fn lock_recovering(&self, repair: impl FnOnce(&mut T)) -> Guard<'_, T> {
        let (found, foreign) = loop {
            match self.inner.acquire(None) {
                Ok(found) => break (found, false),
                Err(error) => {
                    if error == LockError::Memory(ShmError::Damaged) {
                        self.inner.disown();
                    }
                    if let Some(found) = self.acquire_foreign() {
                        break found;
                    }
                }
            }
        };
        let mut guard = Guard::new(self);
        guard.foreign = foreign;
        if found != Found::Clean {
            guard.mending = true;
            repair(&mut guard);
            self.inner.word().mend();
            guard.mending = false;
        }
        guard
    }

    /// Takes the lock if it is free, whoever this process is, or gives it a moment; whether as one who is no member.
    fn acquire_foreign(&self) -> Option<(Found, bool)> {
        let foreign = !self.inner.hold.here.is_still();
        let holder = if foreign { Holder::FOREIGN } else { self.inner.holder };
        let found = self.inner.word().try_lock(holder);
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        found.map(|found| (found, foreign))
    }

    /// Whether somebody holds it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.inner.word().is_locked()
    }
}

impl<T> Clone for Lock<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), values: PhantomData }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({:?})", self.inner.word())
    }
}

/// Only inside Millpond's own messages: the other side gets a handle to the same lock.
impl<T: Plain> Serialize for Lock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::serialize(&self.inner.hold, serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Lock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        codec::expect_alignable::<T>();
        handle::deserialize(Shape::of::<T>(Kind::Lock), deserializer).map(Self::of)
    }
}

/// Proves that the lock is held, and gives it back when dropped.
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard<'a, T: Plain> {
    pub(super) lock: &'a Lock<T>,
    value: NonNull<T>,
    /// What the lock guards is not known to be whole.
    pub(super) mending: bool,
    /// Whether the thread panicked already when it took the lock.
    panicked: bool,
    /// The lock is not held any more: somebody wrote over it while this waited for a condition.
    pub(super) lost: bool,
    /// Taken by a process that is no member.
    foreign: bool,
    values: PhantomData<&'a mut T>,
}

impl<'a, T: Plain> Guard<'a, T> {
    #[inline]
    fn new(lock: &'a Lock<T>) -> Self {
        let (value, panicked) = (lock.inner.value.cast(), std::thread::panicking());
        Self { lock, value, mending: false, panicked, lost: false, foreign: false, values: PhantomData }
    }

    /// The lock can't be had again: from now on the guard is one of a value of its own, all zero.
    pub(super) fn lose(&mut self) {
        self.value = NonNull::from(Box::leak(Box::new(T::new_zeroed())));
        self.lost = true;
    }
}

// SAFETY: a guard is a unique reference to the value: it goes where that may go. Locks know members, not threads.
unsafe impl<T: Plain> Send for Guard<'_, T> {}
// SAFETY: a shared guard gives out shared references only.
unsafe impl<T: Plain + Sync> Sync for Guard<'_, T> {}

impl<T: Plain> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this thread holds the lock; the value was written before the lock could be had,
        // and any bytes are one.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Plain> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed uniquely.
        unsafe { self.value.as_mut() }
    }
}

impl<T: Plain> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.lost {
            // SAFETY: made of a box by `lose`; nobody has a reference to it, since they borrow this.
            drop(unsafe { Box::from_raw(self.value.as_ptr()) });
            return;
        }
        // A copy of the process, made by fork while this was held, has nothing to give back.
        if !self.foreign && !self.lock.inner.hold.here.is_still() {
            return;
        }
        let poisoned = self.mending || (std::thread::panicking() && !self.panicked);
        self.lock.inner.word().unlock(poisoned);
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Plain + fmt::Display> fmt::Display for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::time::Instant;

    use super::{BELIEVED, Holder, Lock};
    use crate::ipc::{Condition, LockError, ShmError};
    use crate::shm;

    /// A holder that there is not: of a member's number, in a generation that is not its, or of no member's number at all.
    const NOBODY: [u32; 2] = [0x1234_5001, 0x3FF];

    /// Whether the thread comes to its end; it is left alone where it does not.
    fn ends(test: impl FnOnce() + Send + 'static) -> bool {
        let thread = std::thread::spawn(test);
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.is_finished() && thread.join().is_ok()
    }

    #[test]
    fn rubbish_in_a_locks_word_holds_up_nobody_for_ever() {
        let _alone = shm::alone();
        for word in NOBODY {
            assert!(ends(move || {
                let lock = Lock::new(1_u8).unwrap();
                lock.inner.word().spoil(word);
                assert_eq!(*lock.lock_recovering(|value| *value = 2), 2, "{word:x}: it was repaired");
                assert_eq!(*lock.lock().unwrap(), 2, "{word:x}");
            }));
        }
    }

    /// However often whoever waits for it is woken and comes too late.
    #[test]
    fn a_forked_copy_that_often_has_the_lock_is_no_damage() {
        let _alone = shm::alone();
        let lock = Lock::new(1_u8).unwrap();
        let word = lock.inner.word();
        assert!(word.try_lock(Holder::FOREIGN).is_some());
        assert_eq!(lock.inner.made_up(), None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock.lock().map(drop));
            let start = Instant::now();
            while !waits.is_finished() && start.elapsed() < BELIEVED / 8 {
                // It sleeps, most likely.
                std::thread::sleep(Duration::from_millis(1));
                word.unlock(false);
                while word.try_lock(Holder::FOREIGN).is_none() && !waits.is_finished() {}
            }
            word.unlock(false);
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
        word.spoil(NOBODY[0]);
        assert!(lock.inner.made_up().is_some());
        word.spoil(0);
    }

    #[test]
    fn rubbish_in_a_locks_word_holds_up_no_wait_for_a_condition() {
        let _alone = shm::alone();
        assert!(ends(|| {
            let (lock, changed) = (Lock::new(1_u8).unwrap(), Condition::new().unwrap());
            let mut guard = lock.lock().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while lock.is_locked() {
                        std::thread::yield_now();
                    }
                    lock.inner.word().spoil(NOBODY[0]);
                    changed.notify_all();
                });
                let lost = Err(LockError::Memory(ShmError::Damaged));
                assert_eq!(changed.wait(&mut guard), lost);
                assert_eq!(changed.wait(&mut guard), lost, "it is not held any more");
            });
        }));
    }
}
