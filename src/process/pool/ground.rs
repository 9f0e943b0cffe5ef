//! The pool's segment, mapped: the only place that turns numbers into addresses.
//!
//! Whatever the bytes say, a number is checked against the plan, which each side keeps for itself.

use core::ptr::NonNull;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::line::Ends;
use super::plan::{Hand, Head, MAGIC, Plan, Post, Shared, Slot};
use super::slot::Word;
use crate::os::shared as os;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};

/// The mapped segment.
#[derive(Debug)]
pub(super) struct Ground {
    base: NonNull<u8>,
    file: OwnedFd,
    pub(super) plan: Plan,
}

// SAFETY: all that is reached through it is atomic, or bytes that are copied.
unsafe impl Send for Ground {}
// SAFETY: as above.
unsafe impl Sync for Ground {}

impl Ground {
    /// A new segment, with room for all but large messages.
    pub(super) fn create(plan: Plan) -> io::Result<Self> {
        let file = os::memory_file(plan.len())?;
        let base = os::map_shared(file.as_fd(), plan.len())?;
        let ground = Self { base, file, plan };
        os::take_room(ground.file(), 0, plan.inbox().start)?;
        let head = ground.head();
        for (word, number) in [
            (&head.parent, crate::os::shared::process_id() as usize),
            (&head.workers, plan.workers),
            (&head.threads, plan.threads),
            (&head.lines, plan.lines),
            (&head.per_line, plan.per_line),
        ] {
            word.store(u32::try_from(number).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        head.magic.store(MAGIC, Ordering::Release);
        Ok(ground)
    }

    /// Writes what whoever looks on wants to know.
    pub(super) fn introduce(&self, name: &str) {
        let head = self.head();
        head.since.store(now(), Ordering::Relaxed);
        let mut bytes = [0; 64];
        let len = name.len().min(bytes.len());
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        for (word, bytes) in head.name.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// Maps the segment that this process was given.
    pub(super) fn open(file: OwnedFd, plan: Plan) -> io::Result<Self> {
        if os::sealed_length(file.as_fd())? != plan.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let base = os::map_shared(file.as_fd(), plan.len())?;
        Ok(Self { base, file, plan })
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The structure at an offset.
    fn at<T: Shared>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.plan.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping, as just checked.
        let place = unsafe { self.base.byte_add(offset) };
        // SAFETY: mapped as long as `self`, aligned (the base is to a page), and any bytes are a value (`Shared`).
        unsafe { place.cast::<T>().as_ref() }
    }

    fn list<T: Shared>(&self, offset: usize, len: usize) -> &[T] {
        assert!(offset + len * size_of::<T>() <= self.plan.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the mapping, as just checked.
        let place = unsafe { self.base.byte_add(offset) };
        // SAFETY: as in `at`.
        unsafe { core::slice::from_raw_parts(place.cast::<T>().as_ptr(), len) }
    }

    pub(super) fn head(&self) -> &Head {
        self.at(0)
    }

    pub(super) fn post(&self, worker: usize) -> &Post {
        assert!(worker < self.plan.workers);
        self.at(self.plan.post_at(worker))
    }

    pub(super) fn hand(&self, hand: u16) -> &Hand {
        assert!(usize::from(hand) < self.plan.hands());
        self.at(self.plan.hand_at(hand))
    }

    /// Tasks that were run at a worker's place, by all that were there.
    pub(super) fn ran(&self, worker: usize) -> u64 {
        // A worker may have written anything there.
        let hands = self.plan.hands_of(worker);
        hands.fold(0, |sum: u64, hand| sum.wrapping_add(self.hand(hand).ran.load(Ordering::Relaxed)))
    }

    fn line_at(&self, line: usize) -> usize {
        assert!(line < self.plan.lines);
        self.plan.lines_at() + line * self.plan.line()
    }

    pub(super) fn ends(&self, line: usize) -> &Ends {
        self.at(self.line_at(line))
    }

    pub(super) fn places(&self, line: usize) -> &[AtomicU64] {
        self.list(self.line_at(line) + size_of::<Ends>(), self.plan.per_line)
    }

    /// A bit for each slot of a line: its task is done, and that is to be seen to.
    pub(super) fn done(&self, line: usize) -> &[AtomicU64] {
        let at = self.line_at(line) + size_of::<Ends>() + self.plan.per_line * 8;
        self.list(at, self.plan.per_line / 64)
    }

    fn slot_at(&self, slot: u32) -> Option<usize> {
        let slot = slot as usize;
        let (line, index) = (slot / self.plan.per_line, slot % self.plan.per_line);
        (line < self.plan.lines).then(|| self.plan.slots_of_line(line) + index * size_of::<Slot>())
    }

    /// A slot by its number, counted through all lines. `None` for a number that is none.
    pub(super) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slot_at(slot).map(|at| self.at(at))
    }

    /// Where a slot's own room is.
    pub(super) fn room(&self, slot: u32) -> Option<usize> {
        self.slot_at(slot).map(|at| at + core::mem::offset_of!(Slot, room))
    }

    /// Copies bytes into the segment.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.plan.len()));
        // SAFETY: inside the mapping, as just checked.
        let to = unsafe { self.base.byte_add(at) };
        // SAFETY: both ranges are valid; a slice of ours is not in the segment, of which there are no slices.
        unsafe { os::copy_in(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    /// Copies bytes out of the segment, over those that `into` had.
    pub(super) fn read(&self, at: usize, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.plan.len()));
        into.clear();
        into.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: inside the mapping, as just checked.
        let from = unsafe { self.base.byte_add(at) };
        // SAFETY: both ranges are valid, the second since there is room for so many bytes.
        unsafe { os::copy_out(from.as_ptr(), into.as_mut_ptr(), len) };
        // SAFETY: written just now.
        unsafe { into.set_len(len) };
        Ok(())
    }

    /// Takes pages for a range, so that touching them cannot fail.
    pub(super) fn take_room(&self, range: core::ops::Range<usize>) -> io::Result<()> {
        os::take_room(self.file(), range.start, range.len())
    }

    pub(super) fn give_room(&self, range: core::ops::Range<usize>) {
        // Where the system refuses, the pages stay.
        let _ = os::give_room(self.file(), range.start, range.len());
    }

    /// Has the parent's thread look.
    pub(super) fn ring(&self) {
        let bell = self.bell();
        // AcqRel: what was done before is seen by whoever takes the bell's word.
        if bell.swap(1, Ordering::AcqRel) == 0 {
            os::shared_wake(bell, 1);
        }
    }

    /// The same by the parent, which does not believe that a bell was rung before: rubbish may lie in its word.
    pub(super) fn ring_for_sure(&self) {
        // Release: as above.
        self.bell().store(1, Ordering::Release);
        os::shared_wake(self.bell(), 1);
    }

    /// The bell's word: 1 after it was rung.
    pub(super) fn bell(&self) -> &AtomicU32 {
        &self.head().bell.0
    }

    /// Sleeps on a slot's word while its lower half is as it was seen.
    pub(super) fn sleep_on(word: &AtomicU64, seen: Word, most: Option<Duration>) {
        os::shared_wait(lower(word), seen.low(), most);
    }

    /// Wakes all who sleep on a slot's word.
    pub(super) fn wake_all_on(word: &AtomicU64) {
        os::shared_wake(lower(word), i32::MAX);
    }

    /// Wakes a hand.
    pub(super) fn wake(&self, hand: u16) {
        let hand = self.hand(hand);
        // Release: pairs with the Acquire of the hand that gets up.
        if hand.bed.swap(0, Ordering::Release) == 1 {
            // Others are called in vain: they are up, or on their way.
            hand.woken.fetch_add(1, Ordering::Relaxed);
        }
        os::shared_wake(&hand.bed, 1);
    }

    /// A task has come to a line: wakes one of its hands, if one sleeps and none searches.
    pub(super) fn call(&self, hands: core::ops::Range<u16>) {
        if let Some(hand) = self.head().beds.pick(hands) {
            self.wake(hand);
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference any more: all are borrowed from `self`.
        unsafe { os::unmap_shared(self.base, self.plan.len()) };
    }
}

/// The lower half of a word, for the system's calls alone: nobody here reads it as such.
fn lower(word: &AtomicU64) -> &AtomicU32 {
    let at = if cfg!(target_endian = "little") { 0 } else { 4 };
    // SAFETY: inside the word.
    let half = unsafe { NonNull::from(word).byte_add(at) };
    // SAFETY: half of an atomic word: aligned, lives as long, and any bytes are a value.
    unsafe { half.cast::<AtomicU32>().as_ref() }
}

/// The monotonic clock, which all processes share, in nanoseconds.
pub(super) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

pub(super) fn sleep(word: &AtomicU32, expected: u32, most: Option<Duration>) {
    os::shared_wait(word, expected, most);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_was_written_over_is_rung_all_the_same() {
        let plan = Plan { workers: 1, threads: 1, lines: 1, per_line: 64, most: 5000 };
        let ground = Ground::create(plan).unwrap();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| sleep(ground.bell(), 0, Some(Duration::from_secs(60))));
            // Most likely it sleeps by then; if not, it sees the rubbish, and the test shows nothing.
            std::thread::sleep(Duration::from_millis(50));
            ground.bell().store(7, Ordering::Relaxed);
            ground.ring_for_sure();
            let rung = std::time::Instant::now();
            sleeper.join().unwrap();
            assert!(rung.elapsed() < Duration::from_secs(30));
        });
    }

    #[test]
    fn nothing_overlaps_and_all_is_inside() {
        for (workers, threads, lines, per_line) in [(1, 1, 2, 64), (4, 1, 2, 1024), (3, 5, 4, 64), (64, 16, 65, 128)] {
            let plan = Plan { workers, threads, lines, per_line, most: 5000 };
            let ground = Ground::create(plan).unwrap();
            let mut ranges = vec![(0, size_of::<Head>())];
            let address = |place: *const u8| place.addr() - ground.base.as_ptr().addr();
            let mut add = |place: *const u8, len: usize| ranges.push((address(place), len));
            (0..workers).for_each(|n| add(core::ptr::from_ref(ground.post(n)).cast(), size_of::<Post>()));
            (0..plan.hands()).for_each(|n| {
                add(core::ptr::from_ref(ground.hand(u16::try_from(n).unwrap())).cast(), size_of::<Hand>())
            });
            for line in 0..lines {
                add(core::ptr::from_ref(ground.ends(line)).cast(), size_of::<Ends>());
                add(ground.places(line).as_ptr().cast(), 8 * per_line);
                add(ground.done(line).as_ptr().cast(), per_line / 8);
            }
            for slot in 0..u32::try_from(plan.slots()).unwrap() {
                add(core::ptr::from_ref(ground.slot(slot).unwrap()).cast(), size_of::<Slot>());
            }
            ranges.push((plan.inbox().start, plan.inbox().len()));
            for hand in 0..u16::try_from(plan.hands()).unwrap() {
                (0..2).for_each(|which| ranges.push((plan.outbox(hand, which).start, plan.outbox(hand, which).len())));
            }
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{plan:?}");
            assert!(ranges.last().is_some_and(|last| last.0 + last.1 <= plan.len()));
            assert!(ground.slot(u32::try_from(plan.slots()).unwrap()).is_none());
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let plan = Plan { workers: 1, threads: 1, lines: 1, per_line: 64, most: 1 << 20 };
        let ground = Ground::create(plan).unwrap();
        let bytes: Vec<u8> = (0..200_u8).collect();
        let mut back = Vec::new();
        ground.write(ground.room(63).unwrap(), &bytes);
        ground.read(ground.room(63).unwrap(), 200, &mut back).unwrap();
        assert_eq!(back, bytes);
        ground.take_room(plan.outbox(0, 1)).unwrap();
        ground.write(plan.outbox(0, 1).start, &bytes);
        ground.read(plan.outbox(0, 1).start, 200, &mut back).unwrap();
        assert_eq!(back, bytes);
    }
}
