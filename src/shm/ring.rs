//! A ring of slots between many producers and many consumers, of whom any may be killed at any instruction.
//!
//! ```text
//!  63                    32 31    20 19           4 3     0
//! +------------------------+--------+--------------+-------+
//! |          turn          | owner  |     note     | state |
//! +------------------------+--------+--------------+-------+
//!
//!   EMPTY t → WRITING t, p → FULL t → TAKEN t, c → EMPTY t+1
//!                   └ p died → SKIPPED t ────────→ EMPTY t+1
//! ```
//!
//! A slot's word is the truth: claiming a slot and saying by whom is one compare-and-swap. The places of head and tail
//! are hints: whoever finds them late walks on, and a ring whose hints were lost works as before (R1–R4 in `README.md`).

use core::fmt;

use super::block::Owner;
use super::step;
use crate::primitive::{AtomicU64, Ordering};

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Waits for the producer of its turn.
    Empty,
    /// A producer writes into it.
    Writing,
    /// Waits for a consumer.
    Full,
    /// A consumer reads it.
    Taken,
    /// Its producer died, or gave up: consumers step over it, and producers of the next turn too.
    Skipped,
    /// Somebody wrote over the word.
    Damaged,
}

/// A slot's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotWord(u64);

impl SlotWord {
    #[inline]
    fn new(state: SlotState, turn: u32, owner: Owner, note: u16) -> Self {
        let state = match state {
            SlotState::Empty => 0,
            SlotState::Writing => 1,
            SlotState::Full => 2,
            SlotState::Taken => 3,
            SlotState::Skipped => 4,
            SlotState::Damaged => 15,
        };
        Self(u64::from(turn) << 32 | u64::from(owner & 0xFFF) << 20 | u64::from(note) << 4 | state)
    }

    #[inline]
    pub(crate) fn load(from: &AtomicU64) -> Self {
        // SeqCst: a sleeper's second look, after it announced itself; pairs with what is said at `Fence`. Acquire: what the
        // last owner did to the slot.
        Self(from.load(Ordering::SeqCst))
    }

    #[inline]
    fn step(self, at: &AtomicU64, next: Self) -> bool {
        // SeqCst: a producer's claim comes before its look at whether the ring is closed. Acquire: whoever claims a slot
        // sees what the last owner did to it; pairs with `publish` and `release`.
        at.compare_exchange(self.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// SKIPPED t → EMPTY t+1, by who has come to it and knows that all before it was taken. Who skips it does not know that,
    /// and a consumer whose hint is late takes a slot of the next turn as a sign of it.
    #[inline]
    fn pass(self, at: &AtomicU64) -> bool {
        self.step(at, Self::new(SlotState::Empty, self.turn().wrapping_add(1), 0, 0))
    }

    #[inline]
    pub(crate) fn state(self) -> SlotState {
        match self.0 & 15 {
            0 => SlotState::Empty,
            1 => SlotState::Writing,
            2 => SlotState::Full,
            3 => SlotState::Taken,
            4 => SlotState::Skipped,
            _ => SlotState::Damaged,
        }
    }

    #[inline]
    pub(crate) fn turn(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn owner(self) -> Owner {
        (self.0 >> 20 & 0xFFF) as Owner
    }

    #[expect(clippy::cast_possible_truncation, reason = "the note's 16 bits")]
    #[inline]
    pub(crate) fn note(self) -> u16 {
        (self.0 >> 4) as u16
    }
}

impl fmt::Debug for SlotWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} turn {} owner {} note {:#x}", self.state(), self.turn(), self.owner(), self.note())
    }
}

/// A place in the ring: turn and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    turn: u32,
    index: usize,
}

/// A slot that the caller owns.
#[derive(Debug)]
#[must_use = "a slot that is claimed and not given on stops the ring"]
pub(crate) struct Claim {
    pub(crate) index: usize,
    turn: u32,
    owner: Owner,
    /// What the producer noted, for a consumer.
    pub(crate) note: u16,
}

/// Why no slot could be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// Every slot is in use, or none is full.
    NotNow,
    /// The words make no sense.
    Damaged,
}

/// Who sees to it that giving a slot on comes before the look at who sleeps: of two processes that each say something and
/// then look what the other said, one must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Whoever gives it on, by an exchange.
    Mine,
    /// Whoever is going to sleep, by a fence of all processes, which the system makes after it announced itself.
    Sleepers,
}

/// The words of the slots, wherever they lie.
pub(crate) trait Slots {
    /// How many there are; at least one.
    fn count(&self) -> usize;
    /// A slot's word; `index` is below [`count`](Self::count).
    fn word(&self, index: usize) -> &AtomicU64;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring<'a, S> {
    pub(crate) slots: S,
    pub(crate) head: &'a AtomicU64,
    pub(crate) tail: &'a AtomicU64,
}

/// No consumer is to come to it any more in its turn.
fn is_read(state: SlotState) -> bool {
    matches!(state, SlotState::Taken | SlotState::Skipped)
}

/// No producer is to come to it any more in its turn.
fn is_claimed(state: SlotState) -> bool {
    state != SlotState::Empty
}

impl<S: Slots> Ring<'_, S> {
    #[inline]
    fn place(&self, hint: &AtomicU64) -> Place {
        // Relaxed: a hint. The index is checked here, once.
        let hint = hint.load(Ordering::Relaxed);
        let index = (hint & 0xFFFF_FFFF) as usize;
        Place { turn: (hint >> 32) as u32, index: if index < self.slots.count() { index } else { 0 } }
    }

    #[inline]
    fn hint(&self, at: &AtomicU64, place: Place) {
        // Relaxed: a hint. Somebody slow may put it back; whoever reads it walks forward.
        at.store(u64::from(place.turn) << 32 | place.index as u64, Ordering::Relaxed);
    }

    #[inline]
    fn after(&self, place: Place) -> Place {
        if place.index + 1 < self.slots.count() {
            Place { turn: place.turn, index: place.index + 1 }
        } else {
            Place { turn: place.turn.wrapping_add(1), index: 0 }
        }
    }

    /// How many slots are looked at before the words are said to make no sense.
    #[inline]
    fn patience(&self) -> usize {
        2 * self.slots.count() + 4096
    }

    /// Claims the next empty slot for writing.
    #[inline]
    pub(crate) fn claim_empty(&self, owner: Owner) -> Result<Claim, NoSlot> {
        let mut place = self.place(self.tail);
        for _ in 0..self.patience() {
            let word = self.slots.word(place.index);
            let seen = SlotWord::load(word);
            let ahead = seen.turn().wrapping_sub(place.turn).cast_signed();
            if ahead < 0 {
                if seen.state() == SlotState::Skipped {
                    // No consumer has come to it yet. None needs to: we have come round, so all before it has been read.
                    seen.pass(word);
                    continue;
                }
                // The last lap's value is still there.
                return Err(NoSlot::NotNow);
            }
            if ahead > 0 {
                // Used in the turn before and read since: the tail is behind it.
                place.turn = seen.turn().wrapping_sub(1);
                place = self.after(place);
                continue;
            }
            match seen.state() {
                SlotState::Empty => {
                    step::reach(1);
                    if seen.step(word, SlotWord::new(SlotState::Writing, place.turn, owner, 0)) {
                        step::reach(2);
                        self.hint(self.tail, self.after(place));
                        return Ok(Claim { index: place.index, turn: place.turn, owner, note: 0 });
                    }
                }
                SlotState::Damaged => return Err(NoSlot::Damaged),
                _ => place = self.after(place),
            }
        }
        Err(NoSlot::Damaged)
    }

    /// Says what a claimed slot has in it, before it is published: for who sweeps after a death.
    pub(crate) fn annotate(&self, claim: &Claim, note: u16) {
        let word = SlotWord::new(SlotState::Writing, claim.turn, claim.owner, note);
        // Release: the sweep sees the bytes that the note speaks of.
        self.slots.word(claim.index).store(word.0, Ordering::Release);
    }

    /// Hands a written slot to the consumers.
    #[inline]
    pub(crate) fn publish(&self, claim: Claim, note: u16, fence: Fence) {
        let word = SlotWord::new(SlotState::Full, claim.turn, claim.owner, note);
        self.give_on(claim.index, word, fence);
    }

    /// The last step of a slot's owner, who alone may step from its word.
    #[inline]
    fn give_on(&self, index: usize, next: SlotWord, fence: Fence) {
        let word = self.slots.word(index);
        match fence {
            // SeqCst: before the look at who sleeps. Release: pairs with the next owner's claim.
            Fence::Mine => _ = word.swap(next.0, Ordering::SeqCst),
            // Release: as above.
            Fence::Sleepers => word.store(next.0, Ordering::Release),
        }
    }

    /// Gives up a slot that was claimed for writing.
    pub(crate) fn abandon(&self, claim: Claim) {
        let word = SlotWord::new(SlotState::Skipped, claim.turn, claim.owner, 0);
        self.slots.word(claim.index).swap(word.0, Ordering::SeqCst);
    }

    /// Claims the oldest full slot for reading. `freed` is told of a skipped slot that became empty.
    #[inline]
    pub(crate) fn claim_full(&self, owner: Owner, freed: impl Fn()) -> Result<Claim, NoSlot> {
        let mut place = self.place(self.head);
        for _ in 0..self.patience() {
            let word = self.slots.word(place.index);
            let seen = SlotWord::load(word);
            let ahead = seen.turn().wrapping_sub(place.turn).cast_signed();
            if ahead < 0 {
                // A slow consumer of the last lap is still at it: nothing can have come after.
                return Err(NoSlot::NotNow);
            }
            if ahead > 0 {
                // Read already, this lap or laps ago.
                place.turn = seen.turn().wrapping_sub(1);
                place = self.after(place);
                continue;
            }
            match seen.state() {
                SlotState::Empty | SlotState::Writing => return Err(NoSlot::NotNow),
                SlotState::Full => {
                    step::reach(10);
                    if seen.step(word, SlotWord::new(SlotState::Taken, place.turn, owner, seen.note())) {
                        step::reach(11);
                        self.hint(self.head, self.after(place));
                        return Ok(Claim { index: place.index, turn: place.turn, owner, note: seen.note() });
                    }
                }
                SlotState::Taken => place = self.after(place),
                SlotState::Skipped => {
                    if seen.pass(word) {
                        freed();
                    }
                }
                SlotState::Damaged => return Err(NoSlot::Damaged),
            }
        }
        Err(NoSlot::Damaged)
    }

    /// Gives a slot that was read to the producers of the next turn.
    #[inline]
    pub(crate) fn release(&self, claim: Claim, fence: Fence) {
        let word = SlotWord::new(SlotState::Empty, claim.turn.wrapping_add(1), 0, 0);
        self.give_on(claim.index, word, fence);
    }

    /// Where a hint should be: behind all slots that are done, of its turn or of an earlier one.
    fn walk(&self, hint: &AtomicU64, done: impl Fn(SlotState) -> bool) -> Place {
        let mut place = self.place(hint);
        for _ in 0..self.patience() {
            let seen = SlotWord::load(self.slots.word(place.index));
            let ahead = seen.turn().wrapping_sub(place.turn).cast_signed();
            if ahead > 0 {
                place.turn = seen.turn().wrapping_sub(1);
            } else if ahead < 0 || !done(seen.state()) {
                break;
            }
            place = self.after(place);
        }
        place
    }

    /// Whether a value can be claimed: the oldest, not one behind another that is still being written.
    pub(crate) fn has_full(&self) -> bool {
        let place = self.walk(self.head, is_read);
        let seen = SlotWord::load(self.slots.word(place.index));
        seen.turn() == place.turn && seen.state() == SlotState::Full
    }

    /// Whether a slot can be claimed for writing: the next, not one behind another that is still being read.
    pub(crate) fn has_empty(&self) -> bool {
        let place = self.walk(self.tail, is_claimed);
        let seen = SlotWord::load(self.slots.word(place.index));
        match seen.state() {
            SlotState::Empty => seen.turn() == place.turn,
            SlotState::Skipped => seen.turn() == place.turn.wrapping_sub(1),
            _ => false,
        }
    }

    /// How many values wait to be read. Close, while others are at it; it takes as long as the hints are late.
    pub(crate) fn len(&self) -> usize {
        let head = self.walk(self.head, is_read);
        let tail = self.walk(self.tail, is_claimed);
        let turns = tail.turn.wrapping_sub(head.turn).cast_signed();
        let between = i64::from(turns) * self.slots.count() as i64 + tail.index as i64 - head.index as i64;
        usize::try_from(between).unwrap_or(0).min(self.slots.count())
    }

    /// After a death: slots that the dead one wrote are skipped, those that it read are free. `release` gets each with
    /// its note, to release what is in it. True if anything changed.
    pub(crate) fn sweep(&self, dead: Owner, mut release: impl FnMut(usize, u16)) -> bool {
        let mut changed = false;
        for index in 0..self.slots.count() {
            let word = self.slots.word(index);
            let seen = SlotWord::load(word);
            if seen.owner() != dead {
                continue;
            }
            let next = match seen.state() {
                SlotState::Writing => SlotWord::new(SlotState::Skipped, seen.turn(), 0, 0),
                SlotState::Taken => SlotWord::new(SlotState::Empty, seen.turn().wrapping_add(1), 0, 0),
                _ => continue,
            };
            release(index, seen.note());
            changed |= seen.step(word, next);
        }
        changed
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use super::*;

    struct Words([AtomicU64; 3]);

    impl Slots for &Words {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn word(&self, index: usize) -> &AtomicU64 {
            &self.0[index]
        }
    }

    /// A ring of three slots, at the start of this turn.
    fn with_ring(turn: u32, work: impl FnOnce(&Ring<'_, &Words>)) {
        let start = u64::from(turn) << 32;
        let words = Words([start, start, start].map(AtomicU64::new));
        let (head, tail) = (AtomicU64::new(start), AtomicU64::new(start));
        work(&Ring { slots: &words, head: &head, tail: &tail });
    }

    impl Ring<'_, &Words> {
        fn put(&self, note: u16) {
            let claim = self.claim_empty(1).unwrap();
            self.publish(claim, note, Fence::Mine);
        }

        fn take(&self) -> Claim {
            self.claim_full(2, || ()).unwrap()
        }

        fn get(&self) -> u16 {
            let claim = self.take();
            let note = claim.note;
            self.release(claim, Fence::Sleepers);
            note
        }

        /// As if whoever came last had died before it said where it was.
        fn hints(&self, head: (u32, usize), tail: (u32, usize)) {
            self.hint(self.head, Place { turn: head.0, index: head.1 });
            self.hint(self.tail, Place { turn: tail.0, index: tail.1 });
        }
    }

    #[test]
    fn a_hint_comes_back_as_it_was_and_one_outside_is_the_start() {
        with_ring(0, |ring| {
            for place in [(0, 0), (7, 2), (u32::MAX, 1)].map(|(turn, index)| Place { turn, index }) {
                ring.hint(ring.head, place);
                assert_eq!(ring.place(ring.head), place);
            }
            for index in [3, 4, 0xFFFF_FFFF] {
                ring.head.store(9 << 32 | index, Ordering::Relaxed);
                assert_eq!(ring.place(ring.head), Place { turn: 9, index: 0 });
            }
        });
    }

    #[test]
    fn whoever_claims_a_slot_says_where_the_next_one_is() {
        with_ring(5, |ring| {
            let claim = ring.claim_empty(1).unwrap();
            assert_eq!((claim.index, claim.turn), (0, 5));
            assert_eq!(ring.place(ring.tail), Place { turn: 5, index: 1 });
            ring.publish(claim, 77, Fence::Mine);
            for note in [78, 79] {
                ring.put(note);
            }
            assert_eq!(ring.place(ring.tail), Place { turn: 6, index: 0 });
            assert_eq!(ring.get(), 77);
            assert_eq!(ring.place(ring.head), Place { turn: 5, index: 1 });
        });
    }

    #[test]
    fn a_late_hint_leads_to_the_right_slot_and_turn() {
        with_ring(u32::MAX, |ring| {
            for note in 0..3 {
                ring.put(note);
                assert_eq!(ring.get(), note);
            }
            ring.hints((u32::MAX, 0), (u32::MAX, 0));
            let claim = ring.claim_empty(1).unwrap();
            assert_eq!((claim.index, claim.turn), (0, 0), "a turn is counted on past the last one");
            ring.publish(claim, 3, Fence::Sleepers);
            ring.put(4);
            ring.hints((u32::MAX, 0), (0, 0));
            assert_eq!((ring.len(), ring.has_full(), ring.has_empty()), (2, true, true));
            assert_eq!((ring.get(), ring.get()), (3, 4));
        });
    }

    #[test]
    fn what_can_be_claimed_and_how_many_wait() {
        with_ring(0, |ring| {
            let now = || (ring.len(), ring.has_full(), ring.has_empty());
            assert_eq!(now(), (0, false, true));
            (0..3).for_each(|note| ring.put(note));
            assert_eq!(now(), (3, true, false));
            assert_eq!(ring.claim_empty(1).unwrap_err(), NoSlot::NotNow);
            // The oldest is being read: the next can be, and nobody may write yet.
            let slow = ring.take();
            ring.hints((0, 0), (0, 0));
            assert_eq!(now(), (2, true, false));
            // All others were read, also where the slow one comes next in the turn after.
            assert_eq!((ring.get(), ring.get()), (1, 2));
            assert_eq!(now(), (0, false, false));
            ring.release(slow, Fence::Mine);
            assert_eq!(now(), (0, false, true));
        });
    }

    #[test]
    fn a_skipped_slot_has_room_in_the_next_turn_only() {
        with_ring(0, |ring| {
            for _ in 0..3 {
                let claim = ring.claim_empty(1).unwrap();
                ring.abandon(claim);
            }
            assert!(ring.has_empty(), "the first is a turn behind, and nobody reads it");
            assert!(!ring.has_full());
            ring.hints((0, 0), (2, 0));
            assert!(!ring.has_empty(), "two turns behind");
            ring.hints((0, 0), (1, 0));
            let claim = ring.claim_empty(1).unwrap();
            assert_eq!((claim.index, claim.turn), (0, 1));
            ring.abandon(claim);
        });
    }

    #[test]
    fn what_the_dead_had_is_known_and_goes_on() {
        with_ring(3, |ring| {
            ring.put(0x5);
            let _taken = ring.take();
            let claims = [ring.claim_empty(9).unwrap(), ring.claim_empty(9).unwrap()];
            ring.annotate(&claims[0], 0xABC);
            let word = |index| format!("{:?}", SlotWord::load(ring.slots.word(index)));
            assert_eq!(word(1), "Writing turn 3 owner 9 note 0xabc");
            let swept = |dead| {
                let mut slots = Vec::new();
                (ring.sweep(dead, |index, note| slots.push((index, note))), slots)
            };
            assert_eq!(swept(9), (true, vec![(1, 0xABC), (2, 0)]));
            assert_eq!(word(1), "Skipped turn 3 owner 0 note 0x0");
            assert_eq!(swept(2), (true, vec![(0, 0x5)]));
            assert_eq!(word(0), "Empty turn 4 owner 0 note 0x0");
            assert_eq!((swept(9), swept(2)), ((false, vec![]), (false, vec![])));
        });
    }

    #[test]
    fn rubbish_in_a_slot_is_an_error_for_both_sides() {
        with_ring(1, |ring| {
            ring.slots.word(0).store(1 << 32 | 15, Ordering::Relaxed);
            assert_eq!(ring.claim_empty(1).unwrap_err(), NoSlot::Damaged);
            assert_eq!(ring.claim_full(1, || ()).unwrap_err(), NoSlot::Damaged);
            assert!(ring.has_empty(), "a producer does not sleep: it meets the error");
        });
    }
}
