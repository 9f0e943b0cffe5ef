//! Headers of blocks, things in transit, and objects that several hold.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use crate::primitive::{AtomicU64, Ordering};
use crate::shm::block::{NOBODY, State, Word};

// ── a block's header ───────────────────────────────────────────────────────────────────────────────────────────────

/// Two claim the same free block, and one of them dies with it: it is swept while the other tries again.
#[test]
fn a_block_has_one_owner_and_comes_back_from_a_dead_one() {
    model(20, || {
        let header = Arc::new(AtomicU64::new(0));
        let bytes = Arc::new(UnsafeCell::new(0_u32));
        let take = |me, header: &AtomicU64, bytes: &UnsafeCell<u32>| {
            let seen = Word::load(header);
            let mine = Word::owned(me, seen.generation());
            let got = seen.state() == State::Free && seen.step(header, mine).is_ok();
            if got {
                // SAFETY: loom reports it if anybody else is at it.
                bytes.with_mut(|bytes| unsafe { *bytes += 1 });
            }
            got.then_some(mine)
        };
        let dies = {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            // Dies right after it claimed it, or finds it taken.
            thread::spawn(move || take(1, &header, &bytes).is_some())
        };
        let lives = {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            thread::spawn(move || {
                let Some(mine) = take(2, &header, &bytes) else { return 0 };
                // Passed on, claimed by anybody, given back.
                let sent = Word::queued(NOBODY, mine.generation() + 1);
                mine.step(&header, sent).unwrap();
                let claimed = Word::owned(2, sent.generation());
                sent.step(&header, claimed).unwrap();
                claimed.step(&header, Word::free(claimed.generation() + 1)).unwrap();
                1
            })
        };
        let died_with_it = dies.join().unwrap();
        // The sweep, beside the one that lives.
        let seen = Word::load(&header);
        let swept = seen.state() == State::Owned
            && seen.owner() == 1
            && seen.step(&header, Word::free(seen.generation() + 1)).is_ok();
        let used = lives.join().unwrap();
        assert_eq!(swept, died_with_it, "B1: what the dead one owned, and nothing else, is swept");
        let end = Word::load(&header);
        assert_eq!(end.state(), State::Free);
        assert_eq!(end.generation(), u32::from(died_with_it) + 2 * used, "B2: every owner leaves a new generation");
    });
}

/// A handle is sent, and two try to claim it: a slot's consumer, and the sweep that releases what goes unread.
#[test]
fn a_handle_in_transit_is_claimed_once() {
    model(5, || {
        let header = Arc::new(AtomicU64::new(0));
        Word::free(0).step(&header, Word::owned(1, 0)).unwrap();
        let sender = {
            let header = Arc::clone(&header);
            thread::spawn(move || Word::owned(1, 0).step(&header, Word::queued(NOBODY, 1)).unwrap())
        };
        let claim = |me| {
            let header = Arc::clone(&header);
            thread::spawn(move || Word::queued(NOBODY, 1).step(&header, Word::owned(me, 1)).is_ok())
        };
        let (one, other) = (claim(2), claim(3));
        sender.join().unwrap();
        let claims = usize::from(one.join().unwrap()) + usize::from(other.join().unwrap());
        assert!(claims <= 1, "B3: claimed twice");
        let end = Word::load(&header);
        assert_eq!(end.state() == State::Owned, claims == 1);
    });
}

// ── shared objects ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Holder 0 hands the object on to holder 1 by a token and lets go, while holder 1 gets hold and lets go too.
#[test]
fn an_object_is_freed_once_and_not_while_anybody_holds_it() {
    struct Object {
        header: AtomicU64,
        marks: [AtomicU64; 2],
        token: AtomicU64,
        alive: UnsafeCell<bool>,
    }
    impl Object {
        /// As `object::retire`: tokens first, then marks, then a step from the header that was looked at.
        fn retire(&self) {
            loom::sync::atomic::fence(Ordering::SeqCst);
            loop {
                let seen = Word::load(&self.header);
                if seen.state() != State::Shared {
                    return;
                }
                if self.token.load(Ordering::SeqCst) != 0
                    || self.marks.iter().any(|mark| mark.load(Ordering::SeqCst) != 0)
                {
                    return;
                }
                if seen.step(&self.header, Word::owned(9, 0)).is_ok() {
                    // SAFETY: loom reports it if anybody still uses it.
                    self.alive.with_mut(|alive| unsafe {
                        assert!(*alive, "O2: freed twice");
                        *alive = false;
                    });
                    return;
                }
            }
        }

        fn stamp(&self) {
            loop {
                let seen = Word::load(&self.header);
                if seen.state() != State::Shared || seen.step(&self.header, seen.stamped()).is_ok() {
                    return;
                }
            }
        }

        fn use_it(&self) {
            // SAFETY: loom reports it if it is freed meanwhile.
            self.alive.with(|alive| unsafe { assert!(*alive, "O1: freed while held") });
        }
    }
    model(80, || {
        let object = Arc::new(Object {
            header: AtomicU64::new(0),
            marks: [AtomicU64::new(1), AtomicU64::new(0)],
            token: AtomicU64::new(0),
            alive: UnsafeCell::new(true),
        });
        Word::free(0).step(&object.header, Word::shared(0, 0)).unwrap();
        let first = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                object.token.store(1, Ordering::SeqCst);
                object.stamp();
                object.use_it();
                object.marks[0].fetch_and(0, Ordering::SeqCst);
                object.retire();
            })
        };
        let second = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                if object.token.load(Ordering::SeqCst) == 0 {
                    return false;
                }
                object.marks[1].fetch_or(1, Ordering::SeqCst);
                object.stamp();
                object.token.store(0, Ordering::SeqCst);
                object.retire();
                object.use_it();
                object.marks[1].fetch_and(0, Ordering::SeqCst);
                object.retire();
                true
            })
        };
        first.join().unwrap();
        if !second.join().unwrap() {
            object.token.store(0, Ordering::SeqCst);
            object.retire();
        }
        assert_eq!(Word::load(&object.header).state(), State::Owned, "O3: let go by all, and never freed");
    });
}
