//! What goes through a queue, and who waits for room in it.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::super::queue::{Queue, Refusal};
use super::super::room::Room;
use super::{entry, model, take_all};

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

#[test]
fn a_submitter_that_waits_gets_the_room_of_a_task_that_is_over() {
    model(20, || {
        let queue = Arc::new(Queue::<u8>::new(1));
        let room = Arc::new(Room::new());
        let cancelled = Arc::new(AtomicUsize::new(0));
        queue.push(entry(1)).unwrap();
        let canceller = {
            let (room, cancelled) = (Arc::clone(&room), Arc::clone(&cancelled));
            thread::spawn(move || {
                cancelled.store(1, Ordering::Relaxed);
                room.task_over();
            })
        };
        room.wait(|| {
            // As a pool does.
            let mut outcome = queue.push(entry(2));
            if outcome == Err(Refusal::Full) && room.ever_over() > 0 {
                let weeds = queue.weed(room.ever_over(), |_| cancelled.load(Ordering::Relaxed) == 1);
                assert_eq!(weeds, [entry(1)], "R2: counted, so it is seen to be over");
                outcome = queue.push(entry(2));
            }
            outcome != Err(Refusal::Full)
        });
        canceller.join().unwrap();
        assert_eq!(take_all(&queue, 9, 1), [2]);
    });
}

#[test]
fn what_is_weeded_comes_out_once_and_the_others_keep_their_order() {
    model(10, || {
        // In two segments.
        let queue = Arc::new(Queue::<u8>::new(3));
        (1..=3).for_each(|n| queue.push(entry(n)).unwrap());
        let taker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || [(); 2].map(|()| take_all(&queue, 1, 1)).concat())
        };
        let weeds = queue.weed(1, |n| n == entry(2));
        let again = queue.weed(1, |_| true);
        assert!(again.is_empty(), "no news");
        let mut all = taker.join().unwrap();
        all.extend(take_all(&queue, 9, 1));
        assert!(all.is_sorted(), "Q1: {all:?}");
        all.extend(weeds.iter().map(|n| n.addr().get()));
        all.sort();
        assert_eq!(all, [1, 2, 3], "Q1");
        assert!(queue.is_empty());
    });
}
