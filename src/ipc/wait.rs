//! Waiting: a brief spin where somebody can answer it, then sleep, and now and then a look whether all is well.

use core::time::Duration;
use std::time::Instant;

use crate::os::shared::{fence_others, online, processors};
use crate::primitive::{AtomicU32, Ordering, spin_loop};
use crate::shm::object::Hold;
use crate::shm::wake::Signal;
use crate::shm::{ShmError, sleepers};

/// How a pipe's end or a queue waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Spins for a few microseconds where another processor can answer meanwhile and answers have come as quickly, then
    /// sleeps. A wake-up costs some 5 µs on one processor and 30 µs across two.
    #[default]
    Brief,
    /// Sleeps at once.
    Sleep,
    /// Never sleeps: answers within a microsecond where the other side runs, and uses a whole processor meanwhile.
    Spin,
}

/// Whoever sleeps with a clock looks after so long whether what it waits for still exists. Setting a clock costs a
/// quarter of a microsecond, so most sleep without one: a death that this process is told of wakes them to look.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Looks at most, before it sleeps: ten microseconds or so in all.
const MOST_SPINS: u32 = 32;
/// Pauses between two looks, at most, as a power of two: each look takes the line away from who is writing into it.
const PAUSES: u32 = 4;
/// After so many sleeps a waiter that doesn't spin any more tries again.
const RETRY: u32 = 64;
/// Pauses before the first look of a queue's waiter, some four microseconds: so much is put meanwhile that it has work for a
/// while, in lines that nobody else is at. Whoever looks at once finds one value, and takes its line from who writes.
const GATHERING: u32 = 256;
/// How long a queue's waiter sleeps at most where the system makes no fence for it: it might have been overlooked.
const OVERLOOKED: Duration = Duration::from_millis(1);
/// Looks of one that never sleeps, between two at the clock.
const SPINS_A_LOOK: u32 = 1 << 12;

/// How a handle waits, and what it has learnt.
#[derive(Debug)]
pub(super) struct Waiter {
    way: AtomicU32,
    spins: AtomicU32,
    sleeps: AtomicU32,
    /// Pauses before the first look; whoever gathers sees to the fence, too (`shm::ring::Fence`).
    gathering: u32,
}

impl Waiter {
    /// Who waits for an answer: each is one message.
    pub(super) fn new() -> Self {
        Self { way: AtomicU32::new(0), spins: AtomicU32::new(0), sleeps: AtomicU32::new(RETRY - 1), gathering: 0 }
    }

    /// Who waits for values, or places, of which there may soon be many.
    pub(super) fn gathering() -> Self {
        Self { gathering: GATHERING, ..Self::new() }
    }

    // Relaxed, here and below: each is a figure on its own.
    pub(super) fn set(&self, wait: Wait) {
        self.way.store(wait as u32, Ordering::Relaxed);
    }

    fn spins(&self) -> u32 {
        match self.way.load(Ordering::Relaxed) {
            way if way == Wait::Sleep as u32 => 0,
            way if way == Wait::Spin as u32 => SPINS_A_LOOK,
            _ => self.spins.load(Ordering::Relaxed),
        }
    }

    fn sleeps(&self) -> bool {
        self.way.load(Ordering::Relaxed) != Wait::Spin as u32
    }

    /// A spin was answered.
    fn answered(&self) {
        self.spins.store(MOST_SPINS, Ordering::Relaxed);
    }

    /// It slept: spinning had no answer, or was not tried.
    fn slept(&self) {
        let sleeps = self.sleeps.load(Ordering::Relaxed).wrapping_add(1);
        self.sleeps.store(sleeps, Ordering::Relaxed);
        let spins = if sleeps.is_multiple_of(RETRY) && online() > 1 {
            MOST_SPINS
        } else {
            self.spins.load(Ordering::Relaxed) / 2
        };
        self.spins.store(spins, Ordering::Relaxed);
    }

    /// Tries until it is done, the deadline is over, or the object is gone. `done` gives `None` for "not yet"; `late`
    /// is the error for the deadline.
    pub(super) fn until<R, E: From<ShmError>>(
        &self,
        signal: &Signal,
        hold: &Hold,
        deadline: Option<Instant>,
        late: impl FnOnce() -> E,
        mut done: impl FnMut() -> Option<Result<R, E>>,
    ) -> Result<R, E> {
        loop {
            let spins = self.spins();
            if spins > 0 && self.sleeps() {
                (0..self.gathering).for_each(|_| spin_loop());
            }
            for look in 0..spins {
                if let Some(result) = done() {
                    self.answered();
                    return result;
                }
                (0..1 << look.min(PAUSES)).for_each(|_| spin_loop());
            }
            let left = deadline.map_or(TICK, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return done().unwrap_or_else(|| Err(late()));
            }
            if self.sleeps() {
                let announced = signal.announce();
                let fenced = self.gathering == 0 || fence_others();
                if let Some(result) = done() {
                    return result;
                }
                let sleep = || {
                    signal.sleep(announced, None);
                };
                let untimed = fenced && deadline.is_none() && sleepers::without_clock(signal, sleep);
                if !untimed {
                    signal.sleep(announced, Some(left.min(if fenced { TICK } else { OVERLOOKED })));
                }
                self.slept();
            } else if processors() == 1 {
                std::thread::yield_now();
            }
            if let Some(result) = done() {
                return result;
            }
            hold.check()?;
        }
    }
}

/// When so much time will be over; never, if that is beyond the clock.
pub(super) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
