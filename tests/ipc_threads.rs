//! What processes share works between the threads of one process just as well, before there is any other process.

#![cfg(feature = "process")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use millpond::ipc::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, PipeEnd, PipeError, Queue, QueueError, Raw, Semaphore,
    SemaphoreError, Shared, SharedSlice, ShmError, Wait, one_way, pipe,
};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn each_value_is_got_once_and_a_producers_values_in_their_order() {
    let queue: Queue<(u32, u32)> = Queue::bounded(7).unwrap();
    let got: Vec<(u32, u32)> = thread::scope(|scope| {
        for producer in 0..3 {
            let queue = queue.clone();
            scope.spawn(move || (0..20_000).for_each(|n| queue.put((producer, n)).unwrap()));
        }
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                scope.spawn(move || {
                    let mut got = Vec::new();
                    while let Ok(value) = queue.get() {
                        got.push(value);
                    }
                    for producer in 0..3 {
                        let mine: Vec<_> = got.iter().filter(|(from, _)| *from == producer).collect();
                        assert!(mine.is_sorted(), "one consumer saw a producer's values out of order");
                    }
                    got
                })
            })
            .collect();
        while !queue.is_empty() {
            thread::yield_now();
        }
        // All producers end by themselves; the queue is closed when they have.
        let queue = queue.clone();
        scope.spawn(move || {
            let mut idle = 0;
            while idle < 50 {
                thread::sleep(SHORT);
                idle = if queue.is_empty() { idle + 1 } else { 0 };
            }
            queue.close();
        });
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
    });
    let mut sorted = got;
    sorted.sort_unstable();
    let expected: Vec<_> = (0..3).flat_map(|producer| (0..20_000).map(move |n| (producer, n))).collect();
    assert_eq!(sorted, expected);
}

#[test]
fn a_queue_holds_as_many_as_it_was_made_for() {
    for places in [1, 2, 3, 1000] {
        let queue: Queue<usize> = Queue::bounded(places).unwrap();
        for round in 0..5 {
            for n in 0..places {
                assert_eq!(queue.len(), n);
                queue.try_put(round * places + n).unwrap();
            }
            assert!(queue.is_full());
            assert_eq!(queue.try_put(0), Err(QueueError::Full));
            assert_eq!(queue.put_timeout(0, SHORT), Err(QueueError::TimedOut));
            for n in 0..places {
                assert_eq!(queue.try_get(), Ok(round * places + n));
            }
            assert_eq!(queue.try_get(), Err(QueueError::Empty));
            assert_eq!(queue.get_timeout(SHORT), Err(QueueError::TimedOut));
        }
    }
    assert!(matches!(Queue::<u8>::bounded(0), Err(QueueError::Capacity { values: 0, .. })));
    assert!(matches!(Queue::<u8>::bounded(usize::MAX), Err(QueueError::Capacity { .. })));
}

#[test]
fn a_queue_without_a_bound_grows_and_keeps_the_order() {
    let queue: Queue<u64> = Queue::unbounded().unwrap();
    assert_eq!(queue.capacity(), None);
    for n in 0..10_000 {
        queue.put(n).unwrap();
    }
    assert_eq!(queue.len(), 10_000);
    assert!((0..10_000).all(|n| queue.get() == Ok(n)));
    thread::scope(|scope| {
        for producer in 0..2 {
            let queue = queue.clone();
            scope.spawn(move || (0..30_000).for_each(|n| queue.put(n * 2 + producer).unwrap()));
        }
        let mut got: Vec<u64> = (0..60_000).map(|_| queue.get().unwrap()).collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..60_000));
    });
    queue.put(1).unwrap();
    queue.close();
    assert_eq!((queue.put(2), queue.get(), queue.get()), (Err(QueueError::Closed), Ok(1), Err(QueueError::Closed)));
}

#[test]
fn a_closed_queue_gives_what_it_has_and_then_says_so() {
    let queue: Queue<String> = Queue::bounded(10).unwrap();
    queue.put("last".into()).unwrap();
    queue.close();
    assert_eq!(queue.put("late".into()), Err(QueueError::Closed));
    assert_eq!(queue.get().unwrap(), "last");
    assert_eq!(queue.get(), Err(QueueError::Closed));
    assert_eq!(queue.try_get(), Err(QueueError::Closed));
    // Whoever waits is woken.
    let queue: Queue<u8> = Queue::bounded(1).unwrap();
    let other = queue.clone();
    let waiting = thread::spawn(move || other.get());
    thread::sleep(SHORT);
    queue.close();
    assert_eq!(waiting.join().unwrap(), Err(QueueError::Closed));
}

#[test]
fn values_of_every_size_arrive_as_they_were() {
    let queue: Queue<Vec<u8>> = Queue::bounded(4).unwrap();
    let texts: Queue<Vec<String>> = Queue::bounded(4).unwrap();
    for size in (0..300).chain([1 << 10, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 3]) {
        let bytes: Vec<u8> = (0..size).map(|n| ((n * 7 + size) % 256).try_into().unwrap()).collect();
        queue.put(bytes.clone()).unwrap();
        assert!(queue.get().unwrap() == bytes, "{size} bytes");
        let text = vec!["x".repeat(size), "y".into()];
        texts.put(text.clone()).unwrap();
        assert!(texts.get().unwrap() == text, "{size} letters");
    }
}

#[test]
fn what_does_not_decode_is_an_error_and_the_queue_lives_on() {
    /// Encodes, but decodes only if even.
    #[derive(Debug, PartialEq, Serialize)]
    struct Even(u32);
    impl<'de> Deserialize<'de> for Even {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let n = u32::deserialize(deserializer)?;
            if n % 2 == 0 { Ok(Self(n)) } else { Err(serde::de::Error::custom("odd")) }
        }
    }
    let queue: Queue<Even> = Queue::bounded(4).unwrap();
    queue.put(Even(1)).unwrap();
    queue.put(Even(2)).unwrap();
    let error = queue.get().unwrap_err();
    assert!(matches!(error, QueueError::Decode(_)), "{error:?}");
    assert_eq!(queue.get(), Ok(Even(2)));
}

#[test]
fn a_decoder_that_panics_leaves_no_handle_claimed() {
    /// Encodes, and panics when it is decoded.
    #[derive(Debug, Serialize)]
    struct Bad;
    impl<'de> Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("bad")
        }
    }
    let queue: Queue<(Bad, PipeEnd<u8, u8>)> = Queue::bounded(4).unwrap();
    let (mut near, far) = pipe().unwrap();
    queue.put((Bad, far)).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.get().map(|_| ()))).is_err());
    assert_eq!(near.recv_timeout(SHORT), Err(PipeError::Disconnected), "the other end waits");
    queue.put((Bad, pipe().unwrap().1)).unwrap();
    assert_eq!(queue.len(), 1, "the queue lives on");
}

#[test]
fn what_does_not_encode_is_an_error_and_its_handles_stay() {
    struct Never(Queue<u8>);
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // One handle is written before it fails.
            let mut tuple = serializer.serialize_tuple(2)?;
            serde::ser::SerializeTuple::serialize_element(&mut tuple, &self.0)?;
            Err(serde::ser::Error::custom("never"))
        }
    }
    let before = millpond::ipc::stats().unwrap();
    let inner: Queue<u8> = Queue::bounded(1).unwrap();
    let queue: Queue<Never> = Queue::bounded(4).unwrap();
    let error = queue.put(Never(inner.clone())).unwrap_err();
    assert!(matches!(error, QueueError::Encode(_)), "{error:?}");
    inner.put(1).unwrap();
    assert_eq!(inner.get(), Ok(1));
    drop((queue, inner));
    let _ = before;
}

#[test]
fn plain_data_travels_as_it_is() {
    let queue: Queue<Raw<[u64; 8]>> = Queue::bounded(4).unwrap();
    queue.put(Raw([u64::MAX; 8])).unwrap();
    assert_eq!(queue.get().unwrap(), Raw([u64::MAX; 8]));
}

#[test]
fn both_ends_of_a_pipe_talk_until_one_goes() {
    let (mut near, mut far): (PipeEnd<u64, String>, PipeEnd<String, u64>) = pipe().unwrap();
    let other = thread::spawn(move || {
        while let Ok(n) = far.recv() {
            far.send(format!("{n}")).unwrap();
        }
        assert_eq!(far.send("nobody".into()), Err(PipeError::Disconnected));
    });
    for n in 0..20_000 {
        near.send(n).unwrap();
        assert_eq!(near.recv().unwrap(), n.to_string());
    }
    assert!(!near.is_disconnected());
    drop(near);
    other.join().unwrap();
}

#[test]
fn what_was_sent_before_an_end_went_is_received() {
    let (mut tx, mut rx) = one_way::<u32>().unwrap();
    for n in 0..64 {
        tx.try_send(n).unwrap();
    }
    assert_eq!(tx.try_send(64), Err(PipeError::Full));
    assert_eq!(tx.send_timeout(64, SHORT), Err(PipeError::TimedOut));
    drop(tx);
    for n in 0..64 {
        assert_eq!(rx.recv(), Ok(n));
    }
    assert_eq!(rx.recv(), Err(PipeError::Disconnected));
    let (mut tx, rx) = one_way::<u32>().unwrap();
    let waiting = thread::spawn(move || (0..).map(|n| tx.send(n)).find_map(Result::err));
    thread::sleep(SHORT);
    drop(rx);
    assert_eq!(waiting.join().unwrap(), Some(PipeError::Disconnected), "it waited for room");
}

#[test]
fn each_way_of_waiting_gets_its_answer() {
    for wait in [Wait::Brief, Wait::Sleep, Wait::Spin] {
        let (mut near, mut far): (PipeEnd<u32, u32>, PipeEnd<u32, u32>) = pipe().unwrap();
        near.set_wait(wait);
        far.set_wait(wait);
        let other =
            thread::spawn(move || (0..200).for_each(|n| far.send(n).and_then(|()| far.recv()).map(|_| ()).unwrap()));
        for n in 0..200 {
            assert_eq!(near.recv(), Ok(n));
            near.send(n).unwrap();
        }
        assert_eq!(near.recv_timeout(LONG), Err(PipeError::Disconnected));
        other.join().unwrap();
    }
}

#[test]
fn handles_travel_inside_values() {
    #[derive(Serialize, Deserialize)]
    struct Everything {
        queue: Queue<u32>,
        lock: Lock<u64>,
        semaphore: Semaphore,
        event: Event,
        condition: Condition,
        barrier: Barrier,
        shared: Shared<[u32; 3]>,
        slice: SharedSlice<u32>,
        end: PipeEnd<u8, u8>,
        more: Vec<Queue<u32>>,
    }
    let before = settled();
    {
        let carrier: Queue<Everything> = Queue::bounded(2).unwrap();
        let (near, mut far): (PipeEnd<u8, u8>, PipeEnd<u8, u8>) = pipe().unwrap();
        let queue = Queue::bounded(2).unwrap();
        let all = Everything {
            queue: queue.clone(),
            lock: Lock::new(7).unwrap(),
            semaphore: Semaphore::new(1).unwrap(),
            event: Event::new().unwrap(),
            condition: Condition::new().unwrap(),
            barrier: Barrier::new(1).unwrap(),
            shared: Shared::new([1, 2, 3]).unwrap(),
            slice: SharedSlice::from_slice(&[9; 100]).unwrap(),
            end: near,
            more: vec![queue.clone(); 40],
        };
        carrier.put(all).unwrap();
        let mut all = carrier.get().unwrap();
        all.queue.put(5).unwrap();
        assert_eq!(queue.get(), Ok(5));
        assert_eq!(*all.lock.lock().unwrap(), 7);
        drop(all.semaphore.acquire().unwrap());
        all.event.set();
        all.condition.notify_all();
        assert!(all.barrier.wait().unwrap().is_leader());
        assert_eq!(*all.shared, [1, 2, 3]);
        assert_eq!(all.slice[..], [9; 100]);
        all.end.send(3).unwrap();
        assert_eq!(far.recv(), Ok(3));
        assert_eq!(all.more.len(), 40);
        // Unread, all of it goes with the queue.
        carrier.put(all).unwrap();
        drop(carrier);
        assert_eq!(far.recv(), Err(PipeError::Disconnected));
    }
    assert_eq!(settled(), before, "something was left in shared memory");
}

/// What is in shared memory that other tests of this file don't use: they run one at a time where it counts.
fn settled() -> (usize, usize, usize) {
    let stats = millpond::ipc::stats().unwrap();
    (stats.queued, stats.tokens, 0)
}

#[test]
fn a_handle_goes_nowhere_but_through_millpond() {
    let queue: Queue<u8> = Queue::bounded(1).unwrap();
    let error = serde_json::to_string(&queue).unwrap_err().to_string();
    assert!(error.contains("Millpond"), "{error}");
    assert!(serde_json::from_str::<Queue<u8>>("1").is_err());
    let slice = SharedSlice::<u8>::new(4).unwrap();
    assert!(serde_json::to_string(&slice).is_err());
    assert_eq!(slice.len(), 4);
}

#[test]
fn what_a_slice_leaves_is_not_found_in_what_is_made_after_it() {
    let soil = || {
        let mut slice = SharedSlice::<u8>::unspecified(1000).unwrap();
        slice.fill(0xFF);
    };
    // Other tests may take the block in between, but not each time.
    for round in 0..50 {
        soil();
        let slice = SharedSlice::<u8>::new(1000).unwrap();
        assert!(slice.iter().all(|byte| *byte == 0), "a slice of zeros, round {round}");
        drop(slice);
        soil();
        let queue = Queue::<u8>::bounded(4).unwrap();
        queue.put(1).unwrap();
        assert_eq!(queue.get(), Ok(1), "round {round}");
        soil();
        assert_eq!(*Lock::new([7_u8; 700]).unwrap().try_lock().unwrap(), [7; 700], "round {round}");
    }
}

#[test]
fn slices_are_zero_when_new_and_keep_what_they_have() {
    for len in [0_usize, 1, 100, 70_000, 3 << 20] {
        let mut slice = SharedSlice::<u32>::new(len).unwrap();
        assert!(slice.iter().all(|n| *n == 0), "{len}");
        slice.iter_mut().enumerate().for_each(|(n, value)| *value = n.try_into().unwrap());
        assert!(slice.iter().enumerate().all(|(n, value)| *value as usize == n));
        drop(slice);
        let again = SharedSlice::<u32>::new(len).unwrap();
        assert!(again.iter().all(|n| *n == 0), "{len}: a recycled slice was not cleared");
    }
    assert!(matches!(SharedSlice::<u64>::new(usize::MAX), Err(ShmError::TooLarge { .. })));
}

#[test]
fn ten_threads_under_a_lock_leave_the_balance_at_zero() {
    let balance = Lock::new(0_i64).unwrap();
    thread::scope(|scope| {
        for _ in 0..10 {
            let balance = balance.clone();
            scope.spawn(move || {
                for n in 0..20_000 {
                    let mut guard = balance.lock().unwrap();
                    let seen = *guard;
                    std::hint::black_box(seen);
                    *guard = if n % 2 == 0 { seen + 3 } else { seen - 3 };
                }
            });
        }
    });
    assert_eq!(*balance.lock().unwrap(), 0);
}

#[test]
fn a_panic_poisons_a_lock_until_it_is_repaired() {
    let lock = Lock::new([1_u32, 1]).unwrap();
    let same = lock.clone();
    let _ = thread::spawn(move || {
        let mut guard = same.lock().unwrap();
        guard[0] = 2;
        panic!("in the middle (a test)");
    })
    .join();
    assert_eq!(lock.lock().map(|_| ()), Err(LockError::Poisoned));
    assert_eq!(lock.lock().map(|_| ()), Err(LockError::Poisoned));
    *lock.lock_recovering(|pair| pair[1] = pair[0]) = [5, 5];
    assert_eq!(*lock.lock().unwrap(), [5, 5]);
    let guard = lock.lock().unwrap();
    assert_eq!(lock.try_lock().map(|_| ()), Err(LockError::Held));
    assert_eq!(lock.lock_timeout(SHORT).map(|_| ()), Err(LockError::TimedOut));
    drop(guard);
}

#[test]
fn permits_are_never_more_than_there_are() {
    let semaphore = Semaphore::new(3).unwrap();
    let inside = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let permit = semaphore.acquire().unwrap();
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (3, 0));
    semaphore.acquire().unwrap().forget();
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (2, 1));
    semaphore.release(2).unwrap();
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (4, 0));
    assert!(matches!(semaphore.release(usize::MAX), Err(SemaphoreError::TooMany { .. })));
    let all: Vec<_> = (0..4).map(|_| semaphore.try_acquire().unwrap()).collect();
    assert_eq!(semaphore.try_acquire().map(|_| ()), Err(SemaphoreError::NoPermits));
    assert_eq!(semaphore.acquire_timeout(SHORT).map(|_| ()), Err(SemaphoreError::TimedOut));
    drop(all);
}

#[test]
fn a_release_brings_forgotten_permits_back_and_none_that_live() {
    let semaphore = Semaphore::new(2).unwrap();
    let living = semaphore.acquire().unwrap();
    semaphore.release(1).unwrap();
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (2, 1), "one is new, and one is held");
    semaphore.acquire().unwrap().forget();
    semaphore.release(2).unwrap();
    assert_eq!(
        (semaphore.available(), semaphore.held().unwrap()),
        (3, 1),
        "one came back, one is new, and one is held"
    );
    drop(living);
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), (4, 0));
}

#[test]
fn a_release_that_is_too_large_does_nothing_though_some_of_it_was_forgotten() {
    let semaphore = Semaphore::new(1).unwrap();
    semaphore.acquire().unwrap().forget();
    thread::scope(|scope| {
        let waits = scope.spawn(|| semaphore.acquire_timeout(LONG).map(drop));
        thread::sleep(SHORT);
        // All but one would be new, and those alone would find room.
        let too_many = SemaphoreError::TooMany { permits: 1 << 20, most: (1 << 20) - 1 };
        assert_eq!(semaphore.release(1 << 20), Err(too_many));
        assert_eq!((semaphore.available(), semaphore.held().unwrap()), (0, 1));
        semaphore.release((1 << 20) - 1).unwrap();
        assert_eq!(waits.join().unwrap(), Ok(()));
    });
    assert_eq!((semaphore.available(), semaphore.held().unwrap()), ((1 << 20) - 1, 0));
}

#[test]
fn an_event_lets_everybody_go_who_waited_even_if_it_is_cleared_at_once() {
    let event = Event::new().unwrap();
    assert_eq!(event.wait_timeout(SHORT), Ok(false));
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let event = event.clone();
            thread::spawn(move || event.wait_timeout(LONG))
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    event.set();
    event.clear();
    // One that had not begun to wait yet is let go here.
    thread::sleep(Duration::from_millis(50));
    event.set();
    assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == Ok(true)));
    assert!(event.is_set());
    event.wait().unwrap();
}

#[test]
fn a_condition_wakes_those_that_wait() {
    let (lock, changed) = (Lock::new(0_u32).unwrap(), Condition::new().unwrap());
    thread::scope(|scope| {
        for n in 0..4 {
            let (lock, changed) = (lock.clone(), changed.clone());
            scope.spawn(move || {
                let mut turn = lock.lock().unwrap();
                for round in 0..500 {
                    changed.wait_while(&mut turn, |turn| *turn != round * 4 + n).unwrap();
                    *turn += 1;
                    changed.notify_all();
                }
            });
        }
    });
    let mut turn = lock.lock().unwrap();
    assert_eq!(*turn, 2_000);
    assert_eq!(changed.wait_timeout(&mut turn, SHORT), Ok(false));
    assert_eq!(changed.wait_while_timeout(&mut turn, SHORT, |_| true), Ok(false));
}

#[test]
fn who_was_notified_in_time_is_told_so_however_late_it_gets_the_lock() {
    let (lock, changed) = (Lock::new(0_u8).unwrap(), Condition::new().unwrap());
    let time = Duration::from_millis(200);
    // On a busy machine whoever notifies may come too late for this; not each time.
    for _ in 0..100 {
        let guard = &mut lock.lock().unwrap();
        let start = std::time::Instant::now();
        let (told, in_time) = thread::scope(|scope| {
            let notifier = scope.spawn(|| {
                let guard = lock.lock().unwrap();
                changed.notify_one();
                let in_time = start.elapsed() < time;
                thread::sleep((2 * time).saturating_sub(start.elapsed()));
                drop(guard);
                in_time
            });
            (changed.wait_timeout(guard, time).unwrap(), notifier.join().unwrap())
        });
        if in_time {
            return assert!(told, "nobody else was");
        }
    }
    panic!("nobody notified within {time:?}");
}

#[test]
fn time_is_over_for_two_that_wait_and_nobody_notifies() {
    let (lock, changed) = (Lock::new(0_u8).unwrap(), Condition::new().unwrap());
    let wait = &|delay: u64| {
        thread::sleep(Duration::from_millis(delay));
        let mut guard = lock.lock().unwrap();
        changed.wait_timeout(&mut guard, Duration::from_millis(60)).unwrap()
    };
    // The second begins to wait while the first sleeps. On a busy machine it may do so just before that, and then the first
    // wakes early; not each time.
    let told = (0..9).map(|_| {
        thread::scope(|scope| [0, 20].map(|delay| scope.spawn(move || wait(delay))).map(|one| one.join().unwrap()))
    });
    assert!(told.filter(|told| *told == [false; 2]).count() >= 5, "nobody notified");
}

#[test]
fn a_lock_that_was_poisoned_during_a_wait_stays_so_until_it_is_recovered() {
    let (lock, changed) = (Lock::new([0_u32; 2]).unwrap(), Condition::new().unwrap());
    let (same, notifies) = (lock.clone(), changed.clone());
    let mut pair = lock.lock().unwrap();
    let panics = thread::spawn(move || {
        // Had once the other waits.
        let mut pair = same.lock().unwrap();
        notifies.notify_all();
        pair[0] = 1;
        panic!("in the middle (a test)");
    });
    assert_eq!(changed.wait_while(&mut pair, |_| true), Err(LockError::Poisoned));
    assert_eq!(*pair, [1, 0], "the guard holds the lock");
    // Nobody is told that this is all that there was to repair.
    pair[1] = 1;
    assert_eq!(changed.wait_timeout(&mut pair, SHORT), Err(LockError::Poisoned));
    drop(pair);
    assert!(panics.join().is_err());
    assert_eq!(lock.lock().map(|_| ()), Err(LockError::Poisoned));
    let mut pair = lock.lock_recovering(|pair| pair[1] = pair[0]);
    assert_eq!((changed.wait_timeout(&mut pair, SHORT), *pair), (Ok(false), [1, 1]));
    drop(pair);
    assert_eq!(*lock.lock().unwrap(), [1, 1]);
}

#[test]
fn a_barrier_lets_all_through_in_rounds_and_breaks_for_all() {
    let barrier = Barrier::new(4).unwrap();
    let leaders = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    assert!(leaders.load(Ordering::SeqCst) <= round + 1);
                    if barrier.wait().unwrap().is_leader() {
                        leaders.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(leaders.load(Ordering::SeqCst), 500);
    assert_eq!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut));
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
    assert!(matches!(Barrier::new(0), Err(BarrierError::Parties { .. })));
}

#[test]
fn a_reset_breaks_the_turn_that_is_waited_for_and_no_other() {
    let barrier = Barrier::new(2).unwrap();
    for _ in 0..200 {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            while barrier.waiting() == 0 {
                thread::yield_now();
            }
            barrier.reset();
            assert_eq!(waiting.join().unwrap().map(drop), Err(BarrierError::Broken));
            let waiting = scope.spawn(|| barrier.wait());
            assert!(barrier.wait().is_ok() && waiting.join().unwrap().is_ok(), "it is as new");
        });
    }
}

#[test]
fn counters_are_shared() {
    let hits = Shared::new([const { AtomicU64::new(0) }; 4]).unwrap();
    thread::scope(|scope| {
        for n in 0..4 {
            let hits = hits.clone();
            scope.spawn(move || (0..1_000).for_each(|_| _ = hits[n].fetch_add(1, Ordering::Relaxed)));
        }
    });
    assert!(hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1_000));
}
