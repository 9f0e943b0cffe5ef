//! Groups of tasks, and who waits for them.

use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::super::group::{Group, Node};
use super::model;

/// A group's task: counts its runs in a cell that loom watches.
#[repr(C)]
struct Piece {
    node: Node,
    runs: UnsafeCell<u32>,
}

impl Piece {
    fn new() -> Self {
        Self { node: Node::new(Self::run), runs: UnsafeCell::new(0) }
    }

    unsafe fn run(node: NonNull<Node>, group: &Group) {
        // SAFETY: the model's pieces live until the group is over.
        let piece = unsafe { node.cast::<Self>().as_ref() };
        // SAFETY: loom reports it if anybody else is at it.
        piece.runs.with_mut(|runs| unsafe { *runs += 1 });
        group.finished();
    }
}

/// What the model's threads share. Nodes go from thread to thread as in the pool.
struct Crew {
    group: Group,
    pieces: [Piece; 2],
}
// SAFETY: nodes are linked under the list's lock; loom watches what lies beside them.
unsafe impl Sync for Crew {}
// SAFETY: as above.
unsafe impl Send for Crew {}

/// A ticket's worker.
fn come(crew: &Crew) {
    while let Some(node) = crew.group.pop_or_give_up_ticket() {
        // SAFETY: taken from the list.
        let run = unsafe { node.as_ref() }.run;
        // SAFETY: as above.
        unsafe { run(node, &crew.group) };
    }
}

fn groups(least: usize, help: bool) {
    model(least, move || {
        let crew = Arc::new(Crew { group: Group::new(1), pieces: [Piece::new(), Piece::new()] });
        let mut workers = Vec::new();
        for piece in &crew.pieces {
            // SAFETY: the pieces live longer than the group is waited for.
            if unsafe { crew.group.add(NonNull::from(piece).cast()) } {
                let crew = Arc::clone(&crew);
                workers.push(thread::spawn(move || come(&crew)));
            }
        }
        crew.group.wait(help);
        for piece in &crew.pieces {
            // SAFETY: G3: the tasks have ended, and what they did is seen here.
            assert_eq!(piece.runs.with(|runs| unsafe { *runs }), 1, "G1");
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn a_scope_ends_after_its_last_task() {
    groups(20, false);
}

#[test]
fn a_scopes_waiter_that_helps_runs_no_task_twice() {
    groups(20, true);
}

#[test]
fn a_waiter_that_helps_is_woken_for_a_task_that_a_task_added() {
    model(10, || {
        // No tickets: nobody but the waiter comes for what is listed.
        let crew = Arc::new(Crew { group: Group::new(0), pieces: [Piece::new(), Piece::new()] });
        // SAFETY: as above.
        assert!(!unsafe { crew.group.add(NonNull::from(&crew.pieces[0]).cast()) });
        let first = crew.group.pop().unwrap();
        let first = Handed(first);
        let worker = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                let first = first.node();
                // SAFETY: as above.
                assert!(!unsafe { crew.group.add(NonNull::from(&crew.pieces[1]).cast()) });
                // SAFETY: popped above.
                unsafe { Piece::run(first, &crew.group) };
            })
        };
        crew.group.wait(true);
        worker.join().unwrap();
        for piece in &crew.pieces {
            // SAFETY: G3.
            assert_eq!(piece.runs.with(|runs| unsafe { *runs }), 1, "G4");
        }
    });
}

/// A node on its way to another thread.
struct Handed(NonNull<Node>);
// SAFETY: it is handed over before the other thread starts.
unsafe impl Send for Handed {}

impl Handed {
    fn node(self) -> NonNull<Node> {
        self.0
    }
}

#[test]
fn a_waiter_whose_tickets_are_discarded_does_the_rest() {
    model(10, || {
        let crew = Arc::new(Crew { group: Group::new(1), pieces: [Piece::new(), Piece::new()] });
        // SAFETY: as above.
        assert!(unsafe { crew.group.add(NonNull::from(&crew.pieces[0]).cast()) });
        let terminator = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.group.give_up_ticket())
        };
        crew.group.wait(false);
        terminator.join().unwrap();
        // SAFETY: as above.
        assert_eq!(crew.pieces[0].runs.with(|runs| unsafe { *runs }), 1);
    });
}
