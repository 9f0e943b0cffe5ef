//! Workers that sleep, and are woken for tasks or at the end.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::super::queue::Queue;
use super::super::sleep::Sleep;
use super::{entry, model, take_all};
use crate::os::Futex;

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
