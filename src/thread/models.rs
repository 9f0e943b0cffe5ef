//! Loom explores the pool's protocols with the real queue, sleep, room and group: what a worker does around them is a
//! loop of a few lines here.

use std::ptr::NonNull;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::frame::Frame;
use super::group::{Group, Node};
use super::queue::{Queue, Refusal};
use super::room::Room;
use super::sleep::Sleep;
use crate::os::Futex;
use crate::primitive::model::explore;

/// At two preemptions.
fn model(least: usize, check: impl Fn() + Sync + Send + 'static) {
    explore(2, least, check);
}

/// Entries are numbers.
fn entry(number: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(number)).unwrap()
}

fn take_all(queue: &Queue<u8>, most: usize, sharers: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    queue.take(most, sharers, |entry| taken.push(entry.addr().get()));
    taken
}

#[test]
fn what_is_put_into_a_queue_comes_out_once() {
    model(50, || {
        // Segments of two: they are linked and given back on the way.
        let queue = Arc::new(Queue::<u8>::new(usize::MAX));
        let putter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (1..=2).for_each(|n| queue.push(entry(n)).unwrap()))
        };
        let taker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut taken = take_all(&queue, 2, 1);
                taken.extend(take_all(&queue, 1, 2));
                taken
            })
        };
        queue.push(entry(3)).unwrap();
        let mut all = take_all(&queue, 1, 1);
        putter.join().unwrap();
        let theirs = taker.join().unwrap();
        let order = |taken: &[usize]| taken.iter().filter(|n| **n < 3).is_sorted();
        assert!(order(&theirs), "Q1: one thread's entries keep their order");
        all.extend(theirs);
        all.extend(take_all(&queue, 9, 1));
        all.sort();
        assert_eq!(all, [1, 2, 3], "Q1");
        assert!(queue.is_empty());
    });
}

#[test]
fn nothing_is_put_into_a_closed_queue() {
    model(3, || {
        let queue = Arc::new(Queue::<u8>::new(usize::MAX));
        let putter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(entry(1)))
        };
        queue.close();
        let found = take_all(&queue, 9, 1).len();
        match putter.join().unwrap() {
            Ok(()) => assert_eq!(found, 1, "Q3: accepted, so it was there when close returned"),
            Err(refusal) => assert_eq!((refusal, found), (Refusal::Closed, 0)),
        }
        assert!(queue.is_empty());
    });
}

/// A pool as far as its sleep is concerned.
struct Mill {
    queue: Queue<u8>,
    sleep: Sleep,
    closed: AtomicUsize,
    /// 1: the queue is closed too.
    shut: Futex,
    runs: [AtomicUsize; 3],
    done: Futex,
}

impl Mill {
    fn new(workers: usize) -> Self {
        Self {
            queue: Queue::new(usize::MAX),
            sleep: Sleep::new(workers),
            closed: AtomicUsize::new(0),
            shut: Futex::new(0),
            runs: Default::default(),
            done: Futex::new(0),
        }
    }

    fn submit(&self, number: usize) {
        self.queue.push(entry(number)).unwrap();
        self.sleep.work_was_added();
    }

    fn take(&self) -> Option<usize> {
        let mut taken = None;
        self.queue.take(1, 1, |entry| taken = Some(entry.addr().get()));
        taken
    }

    fn run(&self, number: usize) {
        self.runs[number].fetch_add(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Release);
        self.done.wake_all();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) == 1
    }

    /// The worker's loop, without its spinning.
    fn work(&self, me: usize) {
        loop {
            if let Some(number) = self.take() {
                if self.sleep.found() && !self.queue.is_empty() {
                    self.sleep.work_was_added();
                }
                self.run(number);
                while let Some(number) = self.take() {
                    self.run(number);
                }
                self.sleep.search();
            } else if self.is_closed() && self.queue.is_closed() && self.queue.is_empty() {
                let _ = self.sleep.found();
                return;
            } else if !self.sleep.sleep(me, || !self.queue.is_empty() || self.is_closed()) {
                if self.is_closed() {
                    // The pool is about to close. The worker's loop comes round again; here it waits, for loom would let two
                    // that yield to each other do so for ever.
                    self.shut.wait(0);
                } else {
                    thread::yield_now();
                }
            }
        }
    }

    fn wait_for(&self, tasks: u32) {
        loop {
            let seen = self.done.load(Ordering::Acquire);
            if seen >= tasks {
                return;
            }
            self.done.wait(seen);
        }
    }

    fn close(&self) {
        self.closed.store(1, Ordering::SeqCst);
        self.queue.close();
        self.shut.fetch_add(1, Ordering::Release);
        self.shut.wake_all();
        self.sleep.wake_all();
    }
}

/// Workers, and a submitter that waits for its tasks before it closes: a lost wake-up is a deadlock, which loom reports.
fn sleepers(least: usize, workers: usize, tasks: usize) {
    model(least, move || {
        let mill = Arc::new(Mill::new(workers));
        let threads: Vec<_> = (0..workers)
            .map(|me| {
                let mill = Arc::clone(&mill);
                thread::spawn(move || mill.work(me))
            })
            .collect();
        (0..tasks).for_each(|n| mill.submit(n + 1));
        mill.wait_for(u32::try_from(tasks).unwrap());
        mill.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for number in 1..=tasks {
            assert_eq!(mill.runs[number].load(Ordering::Relaxed), 1, "task {number}");
        }
        assert!(mill.queue.is_empty());
    });
}

#[test]
fn no_wake_up_is_lost_by_one_worker() {
    sleepers(20, 1, 2);
}

#[test]
fn no_wake_up_is_lost_between_two_workers() {
    sleepers(100, 2, 1);
}

#[test]
fn a_task_is_run_or_discarded_once_when_the_pool_terminates() {
    model(50, || {
        let mill = Arc::new(Mill::new(1));
        let worker = {
            let mill = Arc::clone(&mill);
            thread::spawn(move || mill.work(0))
        };
        mill.submit(1);
        mill.submit(2);
        mill.close();
        let discarded = take_all(&mill.queue, 9, 1);
        worker.join().unwrap();
        let ran = (1..=2).map(|n| mill.runs[n].load(Ordering::Relaxed)).sum::<usize>();
        assert_eq!(ran + discarded.len(), 2, "{discarded:?} were discarded");
        assert!(discarded.iter().all(|n| mill.runs[*n].load(Ordering::Relaxed) == 0));
    });
}

#[test]
fn a_submitter_that_waits_for_room_gets_it() {
    model(20, || {
        let queue = Arc::new(Queue::<u8>::new(1));
        let room = Arc::new(Room::new());
        queue.push(entry(1)).unwrap();
        let taker = {
            let (queue, room) = (Arc::clone(&queue), Arc::clone(&room));
            thread::spawn(move || {
                let taken = take_all(&queue, 1, 1);
                room.made();
                taken
            })
        };
        room.wait(|| queue.push(entry(2)) != Err(Refusal::Full));
        assert_eq!(taker.join().unwrap(), [1]);
        assert_eq!(take_all(&queue, 1, 1), [2]);
    });
}

/// A group's task: counts its runs in a cell that loom watches.
#[repr(C)]
struct Piece {
    node: Node,
    runs: loom::cell::UnsafeCell<u32>,
}

impl Piece {
    fn new() -> Self {
        Self { node: Node::new(Self::run), runs: loom::cell::UnsafeCell::new(0) }
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

/// What the halves of a fork leave behind, in a cell that loom watches.
struct Trace(loom::cell::UnsafeCell<u32>);
// SAFETY: loom watches every access.
unsafe impl Sync for Trace {}
// SAFETY: as above.
unsafe impl Send for Trace {}

impl Trace {
    fn new() -> Arc<Self> {
        Arc::new(Self(loom::cell::UnsafeCell::new(0)))
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

/// The last of a worker's entries, where others can steal it: put there and looked at as `crossbeam-deque` does, without
/// being in the order of all threads.
struct Shelf(AtomicUsize);

impl Shelf {
    fn put(&self, number: usize) {
        // A swap: loom lets others' swaps miss a plain store.
        self.0.swap(number, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        loom::sync::atomic::fence(Ordering::SeqCst);
        self.0.load(Ordering::Acquire) == 0
    }

    fn steal(&self) -> Option<usize> {
        Some(self.0.swap(0, Ordering::AcqRel)).filter(|number| *number != 0)
    }
}

/// A worker that took a batch runs the first, which needs the second: another worker has to be awake for it, or be woken.
#[test]
fn what_a_worker_took_and_did_not_run_is_stolen() {
    model(20, || {
        let mill = Arc::new(Mill::new(2));
        let shelf = Arc::new(Shelf(AtomicUsize::new(0)));
        mill.queue.push(entry(1)).unwrap();
        mill.queue.push(entry(2)).unwrap();
        let thief = {
            let (mill, shelf) = (Arc::clone(&mill), Arc::clone(&shelf));
            thread::spawn(move || {
                loop {
                    if let Some(number) = shelf.steal() {
                        mill.run(number);
                        return;
                    }
                    mill.sleep.sleep(1, || !shelf.is_empty());
                }
            })
        };
        // As `Worker::take`, and `Worker::found` after it.
        let taken = take_all(&mill.queue, 2, 1);
        assert_eq!(taken, [1, 2]);
        shelf.put(2);
        loom::sync::atomic::fence(Ordering::SeqCst);
        mill.sleep.work_was_added();
        if mill.sleep.found() && !shelf.is_empty() {
            mill.sleep.work_was_added();
        }
        mill.wait_for(1);
        assert_eq!(mill.runs[2].load(Ordering::Relaxed), 1);
        thief.join().unwrap();
    });
}
