//! Halves of forks, which another thread may take.

use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::super::frame::Frame;
use super::super::group::Group;
use super::model;

/// What the halves of a fork leave behind, in a cell that loom watches.
struct Trace(UnsafeCell<u32>);
// SAFETY: loom watches every access.
unsafe impl Sync for Trace {}
// SAFETY: as above.
unsafe impl Send for Trace {}

impl Trace {
    fn new() -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(0)))
    }

    fn bump(&self) {
        // SAFETY: loom reports it if anybody else is at it.
        self.0.with_mut(|runs| unsafe { *runs += 1 });
    }

    fn runs(&self) -> u32 {
        // SAFETY: loom reports it if anybody writes meanwhile.
        self.0.with(|runs| unsafe { *runs })
    }
}

/// What a fork's thread does once its first half has ended, as `fork_join::offer`. True: the half was taken back.
fn take_back_or_wait<B: FnOnce() -> R, R>(group: &Group, frame: &Frame<B, R>, look: bool) -> bool {
    if group.take_back(NonNull::from(frame).cast()) {
        return true;
    }
    while look {
        // One look, then asleep.
        let (node, issue) = group.look(|| frame.is_done(), || false);
        if issue {
            group.give_up_ticket();
        }
        let Some(node) = node else { break };
        // SAFETY: taken from the list.
        let run = unsafe { node.as_ref() }.run;
        // SAFETY: as above.
        unsafe { run(node, group) };
    }
    group.wait_until(true, || frame.is_done());
    false
}

/// And what the half comes to.
fn close<B: FnOnce() -> R, R>(frame: Frame<B, R>, taken_back: bool) -> R {
    if taken_back {
        // SAFETY: taken back (F2).
        return unsafe { frame.run_here() };
    }
    // SAFETY: it is done.
    unsafe { frame.outcome() }.unwrap_or_else(|_| panic!("no half panics"))
}

/// A ticket's worker, for halves: it looks once more before it gives its ticket up.
fn come_for_halves(group: &Group) {
    loop {
        let (node, issue) = group.look(|| group.has_ended(), || false);
        assert!(!issue, "the worker's own ticket is out");
        let Some(node) = node.or_else(|| group.pop_or_give_up_ticket()) else { return };
        // SAFETY: taken from the list.
        let run = unsafe { node.as_ref() }.run;
        // SAFETY: as above.
        unsafe { run(node, group) };
    }
}

#[test]
fn a_half_is_run_once_by_its_thief_or_its_owner() {
    model(10, || {
        let group = Arc::new(Group::new(1));
        let trace = Trace::new();
        let frame = {
            let trace = Arc::clone(&trace);
            Frame::new(move || {
                trace.bump();
                7
            })
        };
        // SAFETY: it is closed below.
        assert!(unsafe { group.list_node(NonNull::from(&frame).cast()) });
        let thief = {
            let group = Arc::clone(&group);
            thread::spawn(move || come_for_halves(&group))
        };
        let taken_back = take_back_or_wait(&group, &frame, false);
        assert_eq!(close(frame, taken_back), 7);
        assert_eq!(trace.runs(), 1, "F2, and F3: what the thief did is seen");
        group.end();
        thief.join().unwrap();
    });
}

#[test]
fn a_thread_that_waits_for_its_half_helps_with_halves_of_its_thief() {
    model(100, || {
        let group = Arc::new(Group::new(1));
        let (outer, inner) = (Trace::new(), Trace::new());
        let frame = {
            let (group, outer, inner) = (Arc::clone(&group), Arc::clone(&outer), Arc::clone(&inner));
            Frame::new(move || {
                let half = Frame::new(|| inner.bump());
                // Its thief hands a half of its own over. SAFETY: it is closed below.
                if unsafe { group.list_node(NonNull::from(&half).cast()) } {
                    group.give_up_ticket();
                }
                outer.bump();
                let taken_back = take_back_or_wait(&group, &half, false);
                close(half, taken_back);
            })
        };
        // SAFETY: it is closed below.
        assert!(unsafe { group.list_node(NonNull::from(&frame).cast()) });
        let thief = {
            let group = Arc::clone(&group);
            thread::spawn(move || come_for_halves(&group))
        };
        let taken_back = take_back_or_wait(&group, &frame, true);
        close(frame, taken_back);
        assert_eq!((outer.runs(), inner.runs()), (1, 1), "F2, F3");
        group.end();
        thief.join().unwrap();
        // Nobody looks any more, and no ticket is out: the next half needs one.
        let late = Frame::new(|| ());
        // SAFETY: taken back below.
        assert!(unsafe { group.list_node(NonNull::from(&late).cast()) }, "G2: a looker was not counted out");
        let taken_back = take_back_or_wait(&group, &late, false);
        close(late, taken_back);
    });
}
