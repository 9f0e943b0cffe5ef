//! Idle workers sleep, and a task wakes one: an event count with the sleepers' names.
//!
//! ```text
//!  counts (one word):  [ asleep: 16 bits | searching: 16 bits ]
//!
//!            found nothing              nothing still              looked once more
//!  working ───────────────> searching ───────────────> listed ───────────────────> asleep
//!     ^                        │  ^                        │ there is work            │
//!     └────────────────────────┘  └────────────────────────┴──────────────────────────┘
//!          found something                                       a waker's choice
//! ```
//!
//! Whoever adds work then looks at the counts: it wakes somebody only if somebody sleeps and nobody searches, since a
//! searcher looks everywhere before it sleeps. A searcher that found work and was the last one looks whether there is
//! more, and passes the wake on. A worker lists itself first and looks for work then; whoever adds work does so first and
//! looks at the list then: one of the two sees the other.
//!
//! W1. No work stays in a queue while a worker sleeps, nobody searches, and nobody is about to wake somebody.
//! W2. A worker is woken by one waker, and the counts' sum is the number of workers that are not working.
//! W3. A wake is for one worker; the others stay asleep.

use crate::os::{Futex, Lock};
use crate::primitive::{AtomicU32, AtomicUsize, Ordering};

const SEARCHING: u32 = 1;
const ASLEEP: u32 = 1 << 16;

/// The most workers that the counts have room for.
pub(super) const MOST_WORKERS: usize = 1 << 15;

const AWAKE: u32 = 0;
const SLEEPS: u32 = 1;

/// The workers' beds.
pub(super) struct Sleep {
    counts: AtomicU32,
    /// Who sleeps; the last to fall asleep is woken first, its memory is the warmest.
    sleepers: Lock<Vec<usize>>,
    beds: Vec<Bed>,
    wakes: AtomicUsize,
}

#[repr(align(128))]
struct Bed(Futex);

/// What comes before it and what comes after it are steps in the one order of all threads (`SeqCst`): nothing need be done
/// here for that. Loom takes `SeqCst` for acquire and release, so it gets the fence that says the same.
#[inline(always)]
pub(super) fn in_one_order() {
    #[cfg(millpond_loom)]
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}

impl Sleep {
    /// All workers are searchers to begin with: they look before they sleep for the first time.
    pub(super) fn new(workers: usize) -> Self {
        debug_assert!(workers <= MOST_WORKERS);
        Self {
            counts: AtomicU32::new(u32::try_from(workers).unwrap_or_default() * SEARCHING),
            sleepers: Lock::new(Vec::with_capacity(workers)),
            beds: (0..workers).map(|_| Bed(Futex::new(AWAKE))).collect(),
            wakes: AtomicUsize::new(0),
        }
    }

    /// To be called after work was added, with the add in the order of all threads (a `SeqCst` store or
    /// read-modify-write, or a `SeqCst` fence after it).
    #[inline]
    pub(super) fn work_was_added(&self) {
        in_one_order();
        // SeqCst: after the add; pairs with the addition in `sleep`, which comes before the worker's last look (W1).
        let counts = self.counts.load(Ordering::SeqCst);
        if counts >= ASLEEP && counts.is_multiple_of(ASLEEP) {
            self.wake_one();
        }
    }

    /// Whether the worker's own queue has to wake it: it sleeps, or is about to.
    #[inline]
    pub(super) fn own_work_was_added(&self, worker: usize) {
        in_one_order();
        // SeqCst: as in `work_was_added`; pairs with the store in `sleep`.
        if self.beds[worker].0.load(Ordering::SeqCst) == SLEEPS {
            self.wake(Some(worker));
        }
    }

    #[cold]
    fn wake_one(&self) {
        self.wake(None);
    }

    /// Wakes this sleeper, or the last to have fallen asleep unless somebody searches.
    #[cold]
    fn wake(&self, whom: Option<usize>) {
        let mut sleepers = self.sleepers.lock();
        let chosen = match whom {
            Some(worker) => remove(&mut sleepers, worker).then_some(worker),
            // Another waker was here first: its sleeper searches now. Relaxed: changed to searching under the lock.
            None if !self.counts.load(Ordering::Relaxed).is_multiple_of(ASLEEP) => None,
            None => sleepers.pop(),
        };
        let Some(worker) = chosen else { return };
        // Relaxed: in the order of this word's changes; whoever sleeps or wakes holds the lock.
        self.counts.fetch_sub(ASLEEP - SEARCHING, Ordering::Relaxed);
        // Release: the woken worker sees what its waker did; pairs with the Acquire in `sleep`.
        self.beds[worker].0.swap(AWAKE, Ordering::Release);
        drop(sleepers);
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.beds[worker].0.wake_one();
    }

    /// Wakes everybody: the pool closes.
    pub(super) fn wake_all(&self) {
        let mut sleepers = self.sleepers.lock();
        while let Some(worker) = sleepers.pop() {
            self.counts.fetch_sub(ASLEEP - SEARCHING, Ordering::Relaxed);
            self.beds[worker].0.swap(AWAKE, Ordering::Release);
            self.beds[worker].0.wake_one();
        }
    }

    /// The worker found nothing to do and looks for it from now on.
    pub(super) fn search(&self) {
        // SeqCst: before its look; whoever adds work and sees a searcher leaves the work to it.
        self.counts.fetch_add(SEARCHING, Ordering::SeqCst);
    }

    /// The searcher found something. True: it was the last one, and has to look whether there is more.
    #[must_use]
    pub(super) fn found(&self) -> bool {
        // SeqCst: before its look for more, as in `sleep`.
        let before = self.counts.fetch_sub(SEARCHING, Ordering::SeqCst);
        in_one_order();
        before % ASLEEP == SEARCHING
    }

    /// A searcher goes to sleep, unless `work` sees any (or that the pool has closed). It is a searcher afterwards. False:
    /// it did not sleep.
    pub(super) fn sleep(&self, worker: usize, work: impl Fn() -> bool) -> bool {
        let bed = &self.beds[worker].0;
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.push(worker);
            // SeqCst: before the look; pairs with `own_work_was_added`.
            bed.store(SLEEPS, Ordering::SeqCst);
            // SeqCst: before the look; pairs with `work_was_added` (W1).
            self.counts.fetch_add(ASLEEP - SEARCHING, Ordering::SeqCst);
        }
        in_one_order();
        if work() {
            let mut sleepers = self.sleepers.lock();
            if remove(&mut sleepers, worker) {
                self.counts.fetch_sub(ASLEEP - SEARCHING, Ordering::Relaxed);
                bed.store(AWAKE, Ordering::Relaxed);
                return false;
            }
            // Somebody woke it meanwhile (W2).
        }
        // Acquire: pairs with the Release in `wake`.
        while bed.load(Ordering::Acquire) == SLEEPS {
            bed.wait(SLEEPS);
        }
        true
    }

    /// How many workers were ever woken by work.
    pub(super) fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// How many workers sleep now.
    pub(super) fn asleep(&self) -> usize {
        (self.counts.load(Ordering::Relaxed) / ASLEEP) as usize
    }
}

/// Takes a worker off the list, wherever it stands.
fn remove(sleepers: &mut Vec<usize>, worker: usize) -> bool {
    let place = sleepers.iter().rposition(|sleeper| *sleeper == worker);
    place.map(|place| sleepers.remove(place)).is_some()
}

impl core::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let counts = self.counts.load(Ordering::Relaxed);
        write!(f, "Sleep({} asleep, {} searching)", counts / ASLEEP, counts % ASLEEP)
    }
}
