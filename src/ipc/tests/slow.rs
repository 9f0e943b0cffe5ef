//! Somebody is slow, in a place that it has claimed, while others sleep.

use std::time::{Duration, Instant};

use super::roles::HANG;
use crate::ipc::{Queue, QueueError, SharedSlice, ShmError};
use crate::primitive::Ordering;
use crate::shm::step::plan::stopped_at;
use crate::shm::{free, transit};

type Waiting<R> = std::thread::JoinHandle<R>;

/// Threads that have found nothing to do and sleep, as far as one can see from outside.
fn asleep<R: Send + 'static>(count: usize, wait: impl Fn() -> R + Clone + Send + 'static) -> Vec<Waiting<R>> {
    let threads = (0..count).map(|_| std::thread::spawn(wait.clone())).collect();
    std::thread::sleep(Duration::from_millis(50));
    threads
}

/// What they return, soon.
fn soon<R>(threads: Vec<Waiting<R>>, what: &str) -> Vec<R> {
    let start = Instant::now();
    while threads.iter().any(|thread| !thread.is_finished()) {
        assert!(start.elapsed() < HANG / 4, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

const CLAIMED: u32 = 2;
const TAKEN: u32 = 11;

fn queues() -> [Queue<u64>; 2] {
    [Queue::bounded(4).unwrap(), Queue::unbounded().unwrap()]
}

/// What comes of a value that is put slowly, and of those who sleep for one: a producer stops at a step of its put, and goes on when
/// `meanwhile` is done and whoever that woke sleeps again.
fn beside_a_late_value(
    queue: &Queue<u64>,
    (sleepers, step): (usize, u32),
    meanwhile: impl FnOnce(),
) -> (Result<(), QueueError>, Vec<Result<u64, QueueError>>) {
    let (for_consumers, for_producer) = (queue.clone(), queue.clone());
    let consumers = asleep(sleepers, move || for_consumers.get());
    let late = stopped_at(step, move || for_producer.put(1));
    meanwhile();
    std::thread::sleep(Duration::from_millis(50));
    let put = late.finish();
    (put, soon(consumers, "there is a value, or no more to come, and a consumer sleeps"))
}

/// W1: of two values the second is put first, and whoever it woke found only that the first is not there yet.
#[test]
fn a_value_behind_one_that_is_late_is_got_by_who_sleeps() {
    let _alone = crate::shm::alone();
    for queue in queues() {
        let (put, mut got) = beside_a_late_value(&queue, (2, CLAIMED), || queue.put(2).unwrap());
        got.sort_by_key(|got| got.clone().unwrap());
        assert_eq!((put, &got[..]), (Ok(()), &[Ok(1), Ok(2)][..]));
    }
}

/// Whoever waits at a queue that was closed while a producer was at it is told, all of them: it finds the queue closed, and gives
/// its place up.
#[test]
fn everybody_hears_of_the_end_behind_a_value_that_is_late() {
    let _alone = crate::shm::alone();
    for queue in queues() {
        let (put, got) = beside_a_late_value(&queue, (3, CLAIMED), || queue.close());
        assert_eq!((put, &got[..]), (Err(QueueError::Closed), &[const { Err(QueueError::Closed) }; 3][..]));
    }
}

/// The same where the value comes after all.
#[test]
fn everybody_hears_of_the_end_behind_a_value_that_comes_late() {
    const WRITTEN: u32 = 6;
    let _alone = crate::shm::alone();
    for queue in queues() {
        let (put, got) = beside_a_late_value(&queue, (3, WRITTEN), || queue.close());
        assert_eq!(put, Ok(()));
        assert_eq!(got.iter().filter(|got| **got == Ok(1)).count(), 1);
        assert_eq!(got.iter().filter(|got| **got == Err(QueueError::Closed)).count(), 2);
    }
}

/// A place behind one that is still being read is given to who sleeps for it.
#[test]
fn a_place_behind_one_that_is_read_slowly_is_given_to_who_sleeps() {
    let _alone = crate::shm::alone();
    let queue = Queue::bounded(2).unwrap();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let producers = {
        let queue: Queue<u64> = queue.clone();
        asleep(2, move || queue.put(3))
    };
    let slow = {
        let queue = queue.clone();
        stopped_at(TAKEN, move || queue.get())
    };
    assert_eq!(queue.get(), Ok(2));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(slow.finish(), Ok(1));
    assert_eq!(soon(producers, "there is a place, and a producer sleeps"), [Ok(()), Ok(())]);
}

/// A place that a producer gave up, since somebody wrote over what says that its slice is its own, is given to who sleeps for it.
#[test]
fn a_place_that_is_given_up_is_given_to_who_sleeps() {
    const NOTED: u32 = 4;
    let _alone = crate::shm::alone();
    let queue: Queue<Option<SharedSlice<u8>>> = Queue::bounded(1).unwrap();
    let slice = SharedSlice::from_slice(&[1]).unwrap();
    let (here, id) = slice.block();
    let header = transit::header(here.segment, id).unwrap();
    let failing = {
        let queue = queue.clone();
        stopped_at(NOTED, move || queue.put(Some(slice)))
    };
    let owned = header.swap(0, Ordering::Relaxed);
    let producers = {
        let queue = queue.clone();
        asleep(1, move || queue.put(None))
    };
    assert_eq!(failing.finish(), Err(QueueError::Memory(ShmError::Stale)));
    assert_eq!(soon(producers, "there is a place, and a producer sleeps"), [Ok(())]);
    header.store(owned, Ordering::Relaxed);
    free::release(here.segment, here.me(), id);
}
