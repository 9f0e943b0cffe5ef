//! The closing of a pipe's ends.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::model;
use super::ring::Two;
use crate::primitive::{AtomicU64, Ordering};
use crate::shm::block::{NOBODY, State, Word};
use crate::shm::ends;
use crate::shm::ring::Fence;
use crate::shm::wake::Signal;

const NEAR: usize = 0;
const FAR: usize = 1;
/// Who frees the pipe.
const LAST: u16 = 9;

/// A pipe whose ends two members have, and on which either sleeps.
struct Pipe {
    header: AtomicU64,
    ends: [AtomicU64; 2],
    signal: Signal,
    /// What is in the block: the next pipe's, or anything's, once this one is freed.
    alive: UnsafeCell<bool>,
}

impl Pipe {
    fn of(ends: [Word; 2]) -> Arc<Self> {
        let at = |word: Word| {
            let at = AtomicU64::new(0);
            Word::free(0).step(&at, word).unwrap();
            at
        };
        let pipe = Self {
            header: at(Word::shared(0, 0)),
            ends: ends.map(at),
            signal: Signal::new(),
            alive: UnsafeCell::new(true),
        };
        Arc::new(pipe)
    }

    fn wake(&self) {
        // SAFETY: loom reports it if somebody frees the pipe meanwhile.
        self.alive.with(|alive| unsafe { assert!(*alive, "E2: woken where something else is by now") });
        self.signal.wake_all_surely();
    }

    /// As `free::retire`.
    fn retire(&self) {
        if Word::retire(&self.header, Word::owned(LAST, 0), || ends::hold(&self.ends)) {
            // SAFETY: loom reports it if anybody still wakes somebody in it.
            self.alive.with_mut(|alive| unsafe {
                assert!(*alive, "E3: freed twice");
                *alive = false;
            });
        }
    }

    /// As `free::close`.
    fn close(&self, side: usize, closing: Word) {
        if ends::finish(&self.ends[side], closing, || self.wake()) {
            self.retire();
        }
    }

    /// As a pipe's end that is dropped.
    fn drop_end(&self, side: usize, me: u16, generation: u32) {
        if let Some(closing) = ends::begin(&self.ends[side], me, generation) {
            self.close(side, closing);
        }
    }

    /// As `ipc::wait`, of one that nothing but the other end's going can wake.
    fn sleep_until_closed(&self, side: usize) {
        while !ends::is_closed(&self.ends[side]) {
            let announced = self.signal.announce();
            if ends::is_closed(&self.ends[side]) {
                break;
            }
            self.signal.sleep(announced, None);
        }
    }

    /// As `sweep::sweep_block`: a pin keeps the pipe meanwhile, if it is there still.
    fn sweep(&self, dead: u16) {
        if !Word::change(&self.header, 0, |seen| Some(seen.pinned(true))) {
            return;
        }
        for (side, end) in self.ends.iter().enumerate() {
            if let Some(closing) = ends::begin_for(end, 3, dead) {
                self.close(side, closing);
            }
        }
        if Word::change(&self.header, 0, |seen| Some(seen.pinned(false))) {
            self.retire();
        }
    }

    fn assert_freed(&self) {
        assert_eq!(Word::load(&self.header).state(), State::Owned, "E3: both ends are gone, and it was never freed");
    }
}

/// Both ends are closed at once, each of them however slowly: the pipe is freed once, by one of the two, after both have
/// woken whom they had to wake.
#[test]
fn a_pipe_is_freed_once_and_not_before_the_slower_of_two_has_closed_its_end() {
    model(40, || {
        let pipe = Pipe::of([Word::owned(1, 0), Word::owned(2, 0)]);
        let other = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || pipe.drop_end(FAR, 2, 0))
        };
        pipe.drop_end(NEAR, 1, 0);
        other.join().unwrap();
        pipe.assert_freed();
    });
}

/// One waits at its end; the other closes its own. Then the waiter closes, too, beside the slow one.
#[test]
fn who_waits_at_a_pipe_is_woken_when_the_other_end_goes() {
    model(40, || {
        let pipe = Pipe::of([Word::owned(1, 0), Word::owned(2, 0)]);
        let waiter = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || {
                pipe.sleep_until_closed(NEAR);
                pipe.drop_end(FAR, 2, 0);
            })
        };
        pipe.drop_end(NEAR, 1, 0);
        waiter.join().unwrap();
        pipe.assert_freed();
    });
}

/// A sweep of somebody who has nothing to do with it keeps the pipe while its ends are closed, and frees it then.
#[test]
fn a_pipe_that_a_sweep_looks_into_is_freed_by_the_last_to_let_go() {
    model(60, || {
        let pipe = Pipe::of([Word::owned(1, 0), Word::owned(2, 0)]);
        let other = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || pipe.drop_end(FAR, 2, 0))
        };
        let sweeper = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || pipe.sweep(7))
        };
        pipe.drop_end(NEAR, 1, 0);
        other.join().unwrap();
        sweeper.join().unwrap();
        pipe.assert_freed();
    });
}

/// Where the dead one came to.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Died {
    WithItsEnd,
    Closing,
    AfterItWoke,
    AfterItClosed,
}

/// One dies at each step in its turn, and is swept, while the other waits at its own end until it is told, or does not, and
/// closes that.
#[test]
fn a_dead_ones_end_is_closed_beside_the_other_who_waits() {
    for died in [Died::WithItsEnd, Died::Closing, Died::AfterItWoke, Died::AfterItClosed] {
        for waits in [false, true] {
            model(20, move || {
                let pipe = Pipe::of([Word::owned(1, 0), Word::owned(2, 0)]);
                let dying = {
                    let pipe = Arc::clone(&pipe);
                    thread::spawn(move || {
                        let closing = (died >= Died::Closing).then(|| ends::begin(&pipe.ends[NEAR], 1, 0).unwrap());
                        if died >= Died::AfterItWoke {
                            pipe.wake();
                        }
                        if let Some(closing) = closing.filter(|_| died == Died::AfterItClosed) {
                            closing.step(&pipe.ends[NEAR], Word::free(1)).unwrap();
                        }
                    })
                };
                let other = {
                    let pipe = Arc::clone(&pipe);
                    thread::spawn(move || {
                        if waits {
                            pipe.sleep_until_closed(NEAR);
                        }
                        pipe.drop_end(FAR, 2, 0);
                    })
                };
                dying.join().unwrap();
                pipe.sweep(1);
                other.join().unwrap();
                pipe.assert_freed();
            });
        }
    }
}

/// An end was on its way to one who died: the other end's owner is told, by nobody but the sweep.
#[test]
fn an_end_on_its_way_to_a_dead_one_is_closed() {
    model(20, || {
        let pipe = Pipe::of([Word::queued(1, 0), Word::owned(2, 0)]);
        let other = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || {
                pipe.sleep_until_closed(NEAR);
                pipe.drop_end(FAR, 2, 0);
            })
        };
        pipe.sweep(1);
        other.join().unwrap();
        pipe.assert_freed();
    });
}

/// An end is on its way, and comes back to the member that had sent it: whoever knows the number from before closes nothing, nor
/// does the sweep of another.
#[test]
fn an_end_that_has_moved_on_is_closed_by_its_new_owner_alone() {
    model(20, || {
        let pipe = Pipe::of([Word::owned(1, 0), Word::queued(NOBODY, 1)]);
        let next = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || {
                let claimed = Word::queued(NOBODY, 1).step(&pipe.ends[FAR], Word::owned(1, 1)).is_ok();
                assert!(claimed, "it was taken from its way");
                pipe.drop_end(FAR, 1, 1);
            })
        };
        assert_eq!(ends::begin(&pipe.ends[FAR], 1, 0), None, "closed by who had it");
        assert_eq!(ends::begin_for(&pipe.ends[FAR], 3, 2), None, "closed for somebody else");
        pipe.drop_end(NEAR, 1, 0);
        next.join().unwrap();
        pipe.assert_freed();
    });
}

/// One sends while the other closes the end that was to receive it: the message is taken out, by one of the two.
#[test]
fn a_message_that_crosses_the_close_of_its_end_is_taken_out_once() {
    struct Crossing {
        lane: Arc<Two>,
        end: AtomicU64,
        taken: AtomicU64,
    }

    impl Crossing {
        /// As `free::discard`.
        fn discard(&self, me: u16) {
            while self.lane.get(me).is_ok() {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    model(20, || {
        let end = AtomicU64::new(0);
        Word::free(0).step(&end, Word::owned(2, 0)).unwrap();
        let pipe = Arc::new(Crossing { lane: Two::new(), end, taken: AtomicU64::new(0) });
        let closer = {
            let pipe = Arc::clone(&pipe);
            thread::spawn(move || {
                let closing = ends::begin(&pipe.end, 2, 0).unwrap();
                assert!(ends::finish(&pipe.end, closing, || pipe.discard(2)));
            })
        };
        // As `PipeEnd::try_ready`.
        if !ends::is_closed(&pipe.end) {
            pipe.lane.put_with(1, 7, Fence::Mine).unwrap();
            if ends::was_closed(&pipe.end) {
                pipe.discard(1);
            }
            closer.join().unwrap();
            assert_eq!(pipe.taken.load(Ordering::Relaxed), 1, "E4: it lies there for ever, or was taken out twice");
        }
    });
}
