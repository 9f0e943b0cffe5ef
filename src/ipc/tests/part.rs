//! What a child does until it is killed, and the values that travel.

use serde::{Deserialize, Serialize};

use super::child;
use super::roles::Marks;
use crate::ipc::{Barrier, Condition, Event, Lock, PipeEnd, Queue, Semaphore, SharedSlice, pipe};
use crate::primitive::Ordering;

/// Values of every way to travel: in the slot, in a block, with a slice, with a queue, with a pipe's end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Value {
    Small(u64),
    Large(u64, String),
    Slice(u64, SharedSlice<u64>),
    Queue(u64, Queue<u8>),
    End(u64, Vec<PipeEnd<u8, u8>>),
}

impl Value {
    pub(super) fn new(n: u64) -> Self {
        match n % 5 {
            0 => Self::Small(n),
            1 => Self::Large(n, "large".repeat(100)),
            2 => Self::Slice(n, SharedSlice::from_slice(&[n; 300]).unwrap()),
            3 => Self::Queue(n, Queue::bounded(1).unwrap()),
            _ => {
                let (near, far) = pipe().unwrap();
                Self::End(n, vec![near, far])
            }
        }
    }

    /// The number, if all of the value is what it was.
    pub(super) fn check(mut self) -> u64 {
        match &mut self {
            Self::Small(n) => *n,
            Self::Large(n, text) => {
                assert_eq!(*text, "large".repeat(100));
                *n
            }
            Self::Slice(n, slice) => {
                assert_eq!(slice[..], [*n; 300]);
                *n
            }
            Self::Queue(n, queue) => {
                queue.put(1).unwrap();
                assert_eq!(queue.get(), Ok(1));
                *n
            }
            Self::End(n, ends) => {
                ends[0].send(2).unwrap();
                assert_eq!(ends[1].recv(), Ok(2));
                *n
            }
        }
    }
}

/// The child's part, whichever it is.
#[derive(Serialize, Deserialize)]
pub(super) enum Part {
    Producer(Queue<Value>, Marks),
    Consumer(Queue<Value>, Marks),
    Large(Queue<Vec<u8>>, Marks),
    Room(Marks),
    Lock(Lock<[u64; 2]>, Marks),
    Semaphore(Semaphore, Marks),
    Condition(Lock<u64>, Condition, Marks),
    Barrier(Barrier, Marks),
    Event(Event, Marks),
    Sweeper(Queue<Queue<u8>>, Marks),
    Pipe(PipeEnd<u64, u64>, Marks),
    Closer(Queue<u8>, Queue<u8>, Queue<u8>, Marks),
    Taker(Queue<PipeEnd<u8, u8>>, Marks),
    Dropper(Queue<Queue<u64>>, Marks),
}

/// Rounds of a child that nobody kills.
const ROUNDS: u64 = 10_000_000;

impl Part {
    /// The large value of this number.
    pub(super) fn large(n: u64) -> Vec<u8> {
        vec![u8::try_from(n % 255 + 1).unwrap(); 200 << 10]
    }

    /// Runs until it is killed, or has nothing left to do.
    pub(super) fn play(self) -> ! {
        let started = |marks: &Marks| marks[0].store(1, Ordering::SeqCst);
        match self {
            Self::Producer(queue, marks) => {
                started(&marks);
                for n in 0..ROUNDS {
                    queue.put(Value::new(n)).unwrap();
                    marks[1].store(n + 1, Ordering::SeqCst);
                }
            }
            Self::Consumer(queue, marks) => {
                started(&marks);
                while let Ok(value) = queue.get() {
                    let n = value.check();
                    marks[1].store(n + 1, Ordering::SeqCst);
                    marks[2].fetch_add(1, Ordering::SeqCst);
                }
            }
            Self::Large(queue, marks) => {
                started(&marks);
                for n in 0..ROUNDS {
                    queue.put(Self::large(n)).unwrap();
                    marks[1].store(n + 1, Ordering::SeqCst);
                }
            }
            Self::Room(marks) => {
                started(&marks);
                let mut kept = Vec::new();
                for n in 0..20_000_u32 {
                    kept.push(SharedSlice::<u8>::new(2_000).unwrap());
                    if n % 64 == 0 {
                        // More than free blocks may keep: some of it goes back to the system.
                        drop((0..70).map(|_| SharedSlice::<u8>::unspecified(1 << 20).unwrap()).collect::<Vec<_>>());
                    }
                }
            }
            Self::Lock(lock, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    let Ok(mut pair) = lock.lock() else { break };
                    pair[0] += 1;
                    pair[1] += 1;
                }
            }
            Self::Semaphore(semaphore, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    drop(semaphore.acquire().unwrap());
                }
            }
            Self::Condition(lock, changed, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    let Ok(mut n) = lock.lock() else { break };
                    if changed.wait_while(&mut n, |n| *n % 2 == 0).is_err() {
                        break;
                    }
                    *n += 1;
                    changed.notify_all();
                }
            }
            Self::Barrier(barrier, marks) => {
                started(&marks);
                while barrier.wait().is_ok() {}
            }
            Self::Event(event, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    event.set();
                    event.clear();
                }
            }
            Self::Sweeper(queue, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    let inner = Queue::bounded(1).unwrap();
                    let member = crate::shm::enlist().unwrap();
                    // Something is on its way to one who never comes.
                    let _ = crate::shm::message::encode(inner.clone()).unwrap().send_to(member, |_| true).unwrap();
                    crate::shm::member_died(member);
                    let _ = queue.try_put(inner);
                }
            }
            Self::Pipe(mut end, marks) => {
                started(&marks);
                while let Ok(n) = end.recv() {
                    if end.send(n + 1).is_err() {
                        break;
                    }
                }
            }
            Self::Closer(empty, full, growing, marks) => {
                started(&marks);
                for _ in 0..ROUNDS {
                    [&empty, &full, &growing].into_iter().for_each(Queue::close);
                }
            }
            Self::Dropper(queues, marks) => {
                started(&marks);
                // Those that come are nobody else's by then.
                while marks[1].load(Ordering::SeqCst) == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                while queues.get().is_ok() {}
            }
            Self::Taker(queue, marks) => {
                started(&marks);
                let mut taken = Vec::new();
                while let Ok(end) = queue.get() {
                    taken.push(end);
                }
            }
        }
        child::done()
    }
}
