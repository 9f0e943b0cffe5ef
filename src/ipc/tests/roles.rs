//! What the children do, and what must hold when they are dead. Each role has a child's part and a parent's.

use std::time::{Duration, Instant};

use super::child::{self, Death, Victim};
use super::part::{Part, Value};
use crate::ipc::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, PipeError, Queue, QueueError, Semaphore, Shared,
    SharedSlice, pipe,
};
use crate::primitive::{AtomicU64, Ordering};

/// A hang, on however busy a machine.
pub(super) const HANG: Duration = Duration::from_secs(60);
/// How long a parent looks for something that may not come because the child is dead.
const LOOK: Duration = Duration::from_millis(20);

/// How long a child may take to come to the step at which it dies. Its first pass must come, on however busy a machine;
/// not every child comes to a later one.
pub(super) fn patience(death: Death) -> Duration {
    match death {
        Some((_, 1)) => HANG / 6,
        Some(_) => LOOK * 5,
        None => LOOK,
    }
}

/// What a child has done, as far as it knew: kept where its death doesn't matter.
pub(super) type Marks = Shared<[AtomicU64; 4]>;

fn marks() -> Marks {
    Shared::new([const { AtomicU64::new(0) }; 4]).unwrap()
}

/// A role: starts a child that dies as planned, or is killed by `kill`; then says what must hold.
pub(super) struct Role {
    pub(super) name: &'static str,
    /// The steps that the child passes.
    pub(super) steps: &'static [u32],
    pub(super) run: fn(&str, Death, Kill<'_>) -> bool,
}

pub(super) const ROLES: &[Role] = &[
    Role { name: "producer", steps: &[1, 2, 3, 4, 5, 6, 7, 20, 21, 24, 26, 30, 31, 32, 35, 37, 40, 41], run: producer },
    Role { name: "consumer", steps: &[10, 11, 12, 13, 14, 24, 33, 34, 35, 36, 37, 42, 80, 81], run: consumer },
    Role { name: "growing", steps: &[1, 2, 4, 6, 7, 38, 39], run: growing },
    Role { name: "large", steps: &[4, 27], run: large },
    Role { name: "dropper", steps: &[36, 37, 43], run: dropper },
    Role { name: "room", steps: &[20, 21, 22, 23, 24, 25, 26], run: room },
    Role { name: "lock", steps: &[50, 51, 52, 53], run: lock },
    Role { name: "semaphore", steps: &[60, 61, 62], run: semaphore },
    Role { name: "condition", steps: &[55, 56], run: condition },
    Role { name: "barrier", steps: &[75], run: barrier },
    Role { name: "event", steps: &[70], run: event },
    Role { name: "sweeper", steps: &[90, 91, 92, 93], run: sweeper },
    Role { name: "pipe", steps: &[1, 2, 6, 7, 10, 11, 13, 14], run: pipe_end },
    Role { name: "closer", steps: &[8, 9], run: closer },
    Role { name: "taker", steps: &[10, 11, 12, 13, 14], run: taker },
];

fn wait_for_start(marks: &Marks, victim: &mut Victim) {
    let start = Instant::now();
    while marks[0].load(Ordering::SeqCst) == 0 && !victim.has_ended() {
        assert!(start.elapsed() < HANG, "the child did not start");
        std::thread::sleep(Duration::from_micros(200));
    }
}

type Kill<'a> = &'a mut dyn FnMut(&mut Victim);

/// What a dead producer's `put` had returned is got, once and in order; and at most one more.
fn producer(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (queue, marks) = (Queue::bounded(8).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Producer(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let mut next = 0;
    let mut get = |queue: &Queue<Value>, wait| match queue.get_timeout(wait) {
        Ok(value) => {
            assert_eq!(value.check(), next, "lost, twice, or out of order");
            next += 1;
            true
        }
        Err(QueueError::TimedOut) => false,
        Err(other) => panic!("{other:?}"),
    };
    while get(&queue, LOOK) && next_below(&marks) && !victim.has_ended() {}
    kill(&mut victim);
    while !victim.has_ended() {
        get(&queue, LOOK);
    }
    let killed = victim.bury();
    while get(&queue, Duration::ZERO) {}
    let put = marks[1].load(Ordering::SeqCst);
    assert!(next == put || next == put + 1, "{put} were put, {next} were got");
    works_on(&queue);
    killed
}

fn next_below(marks: &Marks) -> bool {
    marks[1].load(Ordering::SeqCst) < 40
}

/// The same of values so large that each is in a block that is clean before; [`in_use`](super::in_use) looks what is left there.
fn large(test: &str, death: Death, kill: Kill<'_>) -> bool {
    crate::ipc::purge().unwrap();
    let (queue, marks) = (Queue::bounded(8).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Large(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    kill(&mut victim);
    let killed = victim.bury();
    let put = marks[1].load(Ordering::SeqCst);
    let mut got = 0;
    while let Ok(value) = queue.try_get() {
        assert!(value == Part::large(got), "value {got} of {put} is not what it was");
        got += 1;
    }
    assert!(got == put || got == put + 1, "{put} were put, {got} were got");
    killed
}

/// All places of the queue can be used, and it is empty afterwards.
fn works_on(queue: &Queue<Value>) {
    for n in 0..queue.capacity().unwrap() as u64 {
        queue.put_timeout(Value::new(n), HANG).unwrap();
    }
    assert!(matches!(queue.try_put(Value::Small(0)), Err(QueueError::Full)));
    for n in 0..queue.capacity().unwrap() as u64 {
        assert_eq!(queue.get_timeout(HANG).unwrap().check(), n);
    }
    assert!(queue.is_empty());
}

/// The same of a queue that grows while nobody gets anything from it.
fn growing(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (queue, marks) = (Queue::unbounded().unwrap(), marks());
    let mut victim = child::start(test, death, Part::Producer(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let start = Instant::now();
    while marks[1].load(Ordering::SeqCst) < 700 && !victim.has_ended() {
        assert!(start.elapsed() < HANG);
        std::thread::sleep(Duration::from_micros(200));
    }
    kill(&mut victim);
    let killed = victim.bury();
    let put = marks[1].load(Ordering::SeqCst);
    let mut next = 0;
    while let Ok(value) = queue.try_get() {
        assert_eq!(value.check(), next, "lost, twice, or out of order");
        next += 1;
    }
    assert!(next == put || next == put + 1, "{put} were put, {next} were got");
    for n in 0..1_500 {
        queue.put(Value::Small(n)).unwrap();
    }
    assert!((0..1_500).all(|n| queue.get_timeout(HANG).unwrap().check() == n));
    killed
}

/// The stages of a queue go with it, whoever made them, also if whoever dropped it last died over it.
fn dropper(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (queues, marks) = (Queue::bounded(4).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Dropper(queues.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    for _ in 0..4 {
        let growing = Queue::unbounded().unwrap();
        // More than the first stage holds; the next is made by this process, which lives.
        (0..300).for_each(|n| growing.put(n).unwrap());
        queues.put_timeout(growing, HANG).unwrap();
    }
    marks[1].store(1, Ordering::SeqCst);
    kill(&mut victim);
    if !victim.has_ended() {
        queues.close();
    }
    let killed = victim.bury();
    while queues.try_get().is_ok() {}
    killed
}

/// What a dead consumer had not got is got by others; at most one value is nobody's.
fn consumer(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (queue, marks) = (Queue::bounded(8).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Consumer(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let mut put = 0;
    while put < 60 && !victim.has_ended() {
        match queue.put_timeout(Value::new(put), LOOK) {
            Ok(()) => put += 1,
            Err(QueueError::TimedOut) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    kill(&mut victim);
    if death.is_some() {
        // It dies at the latest when it finds nothing to do.
        let start = Instant::now();
        while !victim.has_ended() && start.elapsed() < patience(death) {
            std::thread::sleep(Duration::from_micros(200));
        }
        if !victim.has_ended() {
            queue.close();
        }
    }
    let killed = victim.bury();
    let (last, got) = (marks[1].load(Ordering::SeqCst), marks[2].load(Ordering::SeqCst));
    let mut rest = Vec::new();
    while let Ok(value) = queue.try_get() {
        rest.push(value.check());
    }
    let undetermined = put - got - rest.len() as u64;
    assert!(undetermined <= 1, "{put} were put, {got} and {} were got", rest.len());
    let expected: Vec<u64> = (put - rest.len() as u64..put).collect();
    assert_eq!(rest, expected, "what is left is the end of what was put");
    assert!(last == got || last == got + 1);
    if !queue.is_closed() {
        works_on(&queue);
    }
    killed
}

/// What a dead process had of the memory is free, and zero when it is new.
fn room(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let marks = marks();
    let mut victim = child::start(test, death, Part::Room(marks.clone()));
    wait_for_start(&marks, &mut victim);
    kill(&mut victim);
    let killed = victim.bury();
    for bytes in [2_000, 1 << 20] {
        let mut many: Vec<_> = (0..80_u8).map(|n| (n + 1, SharedSlice::<u8>::new(bytes).unwrap())).collect();
        // Whole slices are compared: a sanitizer takes minutes for a byte at a time.
        let mut expected = vec![0; bytes];
        for (mark, slice) in &mut many {
            assert!(slice[..] == expected[..]);
            slice.fill(*mark);
        }
        for (mark, slice) in &many {
            expected.fill(*mark);
            assert!(slice[..] == expected[..]);
        }
    }
    killed
}

/// A dead holder is told to the next who asks, once; then the lock is poisoned until it is repaired.
fn lock(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (lock, marks) = (Lock::new([0_u64; 2]).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Lock(lock.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let mut rounds = 0;
    let mut told = false;
    let start = Instant::now();
    // Somebody must have slept, and woken, before it dies at the steps of that.
    while !victim.has_ended() && (death.is_some() || rounds < 2_000) && start.elapsed() < patience(death) {
        match lock.lock_timeout(LOOK) {
            Ok(mut pair) => {
                assert_eq!(pair[0], pair[1]);
                pair[0] += 1;
                // Long enough that somebody sleeps behind us.
                if rounds % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
                pair[1] += 1;
                rounds += 1;
            }
            Err(LockError::TimedOut) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    kill(&mut victim);
    let killed = victim.bury();
    match lock.lock_timeout(HANG).map(|pair| *pair) {
        Ok(pair) => assert_eq!(pair[0], pair[1]),
        Err(LockError::OwnerDied) => told = true,
        Err(other) => panic!("{other:?}"),
    }
    if told {
        assert_eq!(lock.lock().map(|_| ()), Err(LockError::Poisoned));
        drop(lock.lock_recovering(|pair| pair[1] = pair[0]));
    }
    let pair = lock.lock_timeout(HANG).unwrap();
    assert_eq!(pair[0], pair[1]);
    killed
}

/// All permits are there when the one who had some is dead.
fn semaphore(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (semaphore, marks) = (Semaphore::new(2).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Semaphore(semaphore.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    for _ in 0..500 {
        drop(semaphore.acquire_timeout(HANG).unwrap());
    }
    kill(&mut victim);
    let killed = victim.bury();
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (2, 0));
    let both = [semaphore.acquire_timeout(HANG).unwrap(), semaphore.acquire_timeout(HANG).unwrap()];
    assert!(semaphore.try_acquire().is_err());
    drop(both);
    killed
}

/// Those that wait beside one that was killed are woken all the same.
fn condition(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (lock, changed, marks) = (Lock::new(0_u64).unwrap(), Condition::new().unwrap(), marks());
    let mut victim = child::start(test, death, Part::Condition(lock.clone(), changed.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let other = {
        let (lock, changed) = (lock.clone(), changed.clone());
        std::thread::spawn(move || {
            let mut n = lock.lock_recovering(|_| ());
            while *n != u64::MAX {
                if changed.wait(&mut n).is_err() {
                    drop(n);
                    n = lock.lock_recovering(|_| ());
                }
            }
        })
    };
    for _ in 0..20 {
        let mut n = lock.lock_recovering(|_| ());
        *n |= 1;
        drop(n);
        changed.notify_one();
        std::thread::yield_now();
    }
    kill(&mut victim);
    if death.is_some() {
        let start = Instant::now();
        while !victim.has_ended() && start.elapsed() < HANG {
            let mut n = lock.lock_recovering(|_| ());
            *n |= 1;
            drop(n);
            changed.notify_all();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let killed = victim.bury();
    *lock.lock_recovering(|_| ()) = u64::MAX;
    changed.notify_all();
    other.join().unwrap();
    killed
}

/// A barrier is broken for all when a party is killed.
fn barrier(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (barrier, marks) = (Barrier::new(2).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Barrier(barrier.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let other = {
        let barrier = barrier.clone();
        std::thread::spawn(move || while barrier.wait().is_ok() {})
    };
    std::thread::sleep(Duration::from_millis(2));
    kill(&mut victim);
    let killed = victim.bury();
    other.join().unwrap();
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
    killed
}

/// Whoever waits for an event whose setter was killed can be let go by another.
fn event(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (event, marks) = (Event::new().unwrap(), marks());
    let mut victim = child::start(test, death, Part::Event(event.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    for _ in 0..200 {
        let _ = event.wait_timeout(Duration::from_micros(100)).unwrap();
    }
    kill(&mut victim);
    let killed = victim.bury();
    event.clear();
    let waiting = {
        let event = event.clone();
        std::thread::spawn(move || event.wait_timeout(HANG))
    };
    event.set();
    assert_eq!(waiting.join().unwrap(), Ok(true));
    killed
}

/// One who dies sweeping is swept, with all that it was sweeping.
fn sweeper(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (queue, marks) = (Queue::bounded(4).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Sweeper(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    for _ in 0..3 {
        let _ = queue.get_timeout(LOOK);
    }
    kill(&mut victim);
    let killed = victim.bury();
    while queue.try_get().is_ok() {}
    queue.put_timeout(Queue::bounded(1).unwrap(), HANG).unwrap();
    assert!(queue.get_timeout(HANG).unwrap().is_empty());
    killed
}

/// The other end of a killed process's pipe is told, in `send` and in `recv`.
fn pipe_end(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let marks = marks();
    let (mut near, far) = pipe().unwrap();
    let mut victim = child::start(test, death, Part::Pipe(far, marks.clone()));
    wait_for_start(&marks, &mut victim);
    for n in 0..200_u64 {
        if near.send(n).is_err() || victim.has_ended() {
            break;
        }
        match near.recv_timeout(LOOK) {
            Ok(answer) => assert_eq!(answer, n + 1),
            Err(PipeError::TimedOut | PipeError::Disconnected) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    kill(&mut victim);
    let waiting = std::thread::spawn(move || {
        while near.recv().is_ok() {}
        near
    });
    let killed = victim.bury();
    let mut near = waiting.join().unwrap();
    assert_eq!(near.recv(), Err(PipeError::Disconnected));
    assert_eq!(near.send(1), Err(PipeError::Disconnected));
    killed
}

/// Whoever waits at a queue that a dead process closed is told, whether or not it came to wake them.
fn closer(test: &str, death: Death, kill: Kill<'_>) -> bool {
    let (empty, full, growing) = (Queue::bounded(2).unwrap(), Queue::bounded(1).unwrap(), Queue::unbounded().unwrap());
    full.put(1).unwrap();
    let marks = marks();
    // None of them has a clock.
    let waiting: [_; 3] = [
        {
            let queue: Queue<u8> = empty.clone();
            std::thread::spawn(move || queue.get().map(drop))
        },
        {
            let queue: Queue<u8> = full.clone();
            std::thread::spawn(move || queue.put(2))
        },
        {
            let queue: Queue<u8> = growing.clone();
            std::thread::spawn(move || queue.get().map(drop))
        },
    ];
    let part = Part::Closer(empty.clone(), full.clone(), growing.clone(), marks.clone());
    let mut victim = child::start(test, death, part);
    wait_for_start(&marks, &mut victim);
    kill(&mut victim);
    let killed = victim.bury();
    for queue in [&empty, &full, &growing] {
        if !queue.is_closed() {
            queue.close();
        }
    }
    let start = Instant::now();
    for waiting in waiting {
        while !waiting.is_finished() {
            assert!(start.elapsed() < HANG, "nobody told the waiters that the queue is closed");
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(waiting.join().unwrap(), Err(QueueError::Closed));
    }
    assert_eq!((full.get(), full.get()), (Ok(1), Err(QueueError::Closed)), "what was put before is got");
    killed
}

/// A pipe's end that is on its way to a process that is killed comes back, or its other end is told: never silence.
fn taker(test: &str, death: Death, kill: Kill<'_>) -> bool {
    const ENDS: usize = 8;
    let (queue, marks) = (Queue::bounded(ENDS).unwrap(), marks());
    let mut victim = child::start(test, death, Part::Taker(queue.clone(), marks.clone()));
    wait_for_start(&marks, &mut victim);
    let mut ours = Vec::new();
    for _ in 0..ENDS {
        let (near, far) = pipe::<u8, u8>().unwrap();
        queue.put_timeout(far, HANG).unwrap();
        ours.push(near);
    }
    kill(&mut victim);
    let killed = victim.bury();
    let mut back = 0;
    while let Ok(mut end) = queue.try_get() {
        end.send(7).unwrap();
        back += 1;
    }
    let mut heard = 0;
    for (n, mut near) in ours.into_iter().enumerate() {
        match near.recv_timeout(HANG) {
            Ok(7) => heard += 1,
            Err(PipeError::Disconnected) => assert_eq!(near.send(1), Err(PipeError::Disconnected)),
            other => panic!("end {n}: {other:?}"),
        }
    }
    assert_eq!(heard, back);
    killed
}
