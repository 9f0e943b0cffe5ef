//! What the threads of this process sleep on without a clock, so that a death seen by this process wakes them all, even
//! where shared memory was written over and nothing in it can be believed.

use core::cell::Cell;
use core::ptr;

use super::wake::Signal;
use crate::primitive::{AtomicPtr, AtomicU32, Ordering};

/// Threads that sleep without a clock; others look at their objects every tick.
const MOST: usize = 256;

/// This process's sleepers: not shared.
static SLEEPERS: [AtomicPtr<Signal>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];
/// Places that were ever taken.
static EVER: AtomicU32 = AtomicU32::new(0);
/// What a place holds whose thread does not sleep.
static AWAKE: AtomicU32 = AtomicU32::new(0);

fn awake() -> *mut Signal {
    ptr::from_ref(&AWAKE).cast_mut().cast()
}

/// A thread's place, given back when it ends.
struct Place(Cell<Option<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            SLEEPERS[place].store(ptr::null_mut(), Ordering::Release);
        }
    }
}

std::thread_local! {
    static PLACE: Place = const { Place(Cell::new(None)) };
}

fn place() -> Option<usize> {
    PLACE
        .try_with(|place| {
            if place.0.get().is_none() {
                place.0.set(take_place());
            }
            place.0.get()
        })
        .ok()
        .flatten()
}

fn take_place() -> Option<usize> {
    let free = |at: &AtomicPtr<Signal>| {
        at.compare_exchange(ptr::null_mut(), awake(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let place = SLEEPERS.iter().position(free)?;
    EVER.fetch_max(u32::try_from(place).unwrap_or(0) + 1, Ordering::AcqRel);
    Some(place)
}

/// Runs `sleep` while a death seen by this process wakes the signal. False: there is no place, so the sleep must end by
/// itself.
pub(crate) fn without_clock(signal: &Signal, sleep: impl FnOnce()) -> bool {
    let Some(place) = place() else { return false };
    // SeqCst: before the sleep; whoever looks later finds it and changes the word.
    SLEEPERS[place].store(ptr::from_ref(signal).cast_mut(), Ordering::SeqCst);
    sleep();
    SLEEPERS[place].store(awake(), Ordering::SeqCst);
    true
}

/// After a death: whoever sleeps in this process looks whether all is well.
pub(crate) fn wake_all() {
    let ever = EVER.load(Ordering::Acquire) as usize;
    for at in &SLEEPERS[..ever.min(MOST)] {
        let signal = at.load(Ordering::SeqCst);
        if !signal.is_null() && signal != awake() {
            // SAFETY: signals lie in the segment, which is never unmapped: at worst it is another object's by now, and
            // that is woken for nothing.
            unsafe { &*signal }.wake_all_surely();
        }
    }
}
