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
        let (header, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(UnsafeCell::new(0_u32)));
        Word::free(0).step(&header, Word::owned(1, 0)).unwrap();
        let sender = {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            thread::spawn(move || {
                // SAFETY: loom reports it if anybody else is at it.
                bytes.with_mut(|bytes| unsafe { *bytes = 7 });
                Word::owned(1, 0).step(&header, Word::queued(NOBODY, 1)).unwrap();
            })
        };
        let claim = |me| {
            let (header, bytes) = (Arc::clone(&header), Arc::clone(&bytes));
            thread::spawn(move || {
                let claimed = Word::queued(NOBODY, 1).step(&header, Word::owned(me, 1)).is_ok();
                if claimed {
                    // SAFETY: as above.
                    assert_eq!(bytes.with(|bytes| unsafe { *bytes }), 7, "what was sent is seen");
                }
                claimed
            })
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

/// An object with a mark for each of three members, and one token.
struct Object {
    header: AtomicU64,
    marks: [AtomicU64; 3],
    token: AtomicU64,
    alive: UnsafeCell<bool>,
}

impl Object {
    fn held_by(marks: [u64; 3]) -> Arc<Self> {
        let object = Self {
            header: AtomicU64::new(0),
            marks: marks.map(AtomicU64::new),
            token: AtomicU64::new(0),
            alive: UnsafeCell::new(true),
        };
        Word::free(0).step(&object.header, Word::shared(0, 0)).unwrap();
        Arc::new(object)
    }

    /// As `free::retire`: tokens first, then marks.
    fn retire(&self) {
        let held =
            || self.token.load(Ordering::SeqCst) != 0 || self.marks.iter().any(|mark| mark.load(Ordering::SeqCst) != 0);
        if Word::retire(&self.header, Word::owned(9, 0), held) {
            // SAFETY: loom reports it if anybody still uses it.
            self.alive.with_mut(|alive| unsafe {
                assert!(*alive, "O2: freed twice");
                *alive = false;
            });
        }
    }

    /// As `transit::make_token`.
    fn pass_on(&self) {
        self.token.store(1, Ordering::SeqCst);
        Word::stamp(&self.header, 0);
    }

    /// As `Hold::get`, and the token is freed after it. False: there is no token.
    fn get_hold(&self, me: usize) -> bool {
        if self.token.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.marks[me].fetch_or(1, Ordering::SeqCst);
        assert!(Word::stamp(&self.header, 0), "O1: freed on its way");
        self.token.store(0, Ordering::SeqCst);
        self.retire();
        true
    }

    fn use_it(&self) {
        // SAFETY: loom reports it if it is freed meanwhile.
        self.alive.with(|alive| unsafe { assert!(*alive, "O1: freed while held") });
    }

    fn let_go(&self, me: usize) {
        self.marks[me].fetch_and(0, Ordering::SeqCst);
        self.retire();
    }
}

/// Holder 0 hands the object on to holder 1 by a token and lets go, while holder 1 gets hold and lets go too.
#[test]
fn an_object_is_freed_once_and_not_while_anybody_holds_it() {
    model(80, || {
        let object = Object::held_by([1, 0, 0]);
        let first = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                object.pass_on();
                object.use_it();
                object.let_go(0);
            })
        };
        let second = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                let held = object.get_hold(1);
                if held {
                    object.use_it();
                    object.let_go(1);
                }
                held
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

/// Holder 0 lets go while holder 1 passes the object on and lets go: whoever looks for marks and tokens meanwhile finds a
/// moment at which it saw neither. A third gets it then.
#[test]
fn an_object_on_its_way_is_not_freed_by_one_that_lets_go() {
    model(50, || {
        let object = Object::held_by([1, 1, 0]);
        let first = {
            let object = Arc::clone(&object);
            thread::spawn(move || object.let_go(0))
        };
        let second = {
            let object = Arc::clone(&object);
            thread::spawn(move || {
                object.pass_on();
                object.let_go(1);
            })
        };
        first.join().unwrap();
        second.join().unwrap();
        assert!(object.get_hold(2), "nobody took the token");
        object.use_it();
        object.let_go(2);
        assert_eq!(Word::load(&object.header).state(), State::Owned, "O3: let go by all, and never freed");
    });
}
