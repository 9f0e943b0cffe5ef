//! A process that writes random bytes over the whole segment: the others get errors, and nothing worse.
//!
//! The one that is attacked is a child too, so that the segment of the other tests stays whole: it makes a segment of its
//! own, writes over it, and uses everything that it has. It ends by itself, with all handles dropped, or the test fails.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::child;
use crate::ipc::{Barrier, Condition, Event, Lock, Queue, Semaphore, Shared, SharedSlice, pipe};
use crate::shm;

const NAME: &str = "ipc::tests::hostile::rubbish_in_the_segment_gives_errors_and_nothing_worse";
const SEED: &str = "MILLPOND_TEST_SEED";
/// Longer than any wait may be that is no hang.
const HANG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(1);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Uses everything while rubbish is written over it, many times.
fn suffer(seed: u64) {
    let mut random = Random(seed | 1);
    for round in 0..12 {
        let Ok(queue) = Queue::<Vec<u8>>::bounded(4) else { continue };
        let handles = Queue::<(Queue<u8>, SharedSlice<u64>)>::bounded(4);
        let ends = pipe::<String, Vec<u8>>();
        let lock = Lock::new([0_u64; 4]);
        let (semaphore, event, condition) = (Semaphore::new(2), Event::new(), Condition::new());
        let (barrier, shared) = (Barrier::new(2), Shared::new([1_u64; 8]));
        let _ = queue.try_put(vec![1; 10]);
        let _ = queue.try_put(vec![2; 3_000]);
        if let (Ok(handles), Ok(slice), Ok(inner)) = (&handles, SharedSlice::new(100), Queue::bounded(1)) {
            let _ = handles.try_put((inner, slice));
        }
        let segment = shm::here().unwrap().segment;
        // Everywhere, thickly or thinly, or a single word at a time.
        let thin = [1, 7, 64, 4_096][(random.next() % 4) as usize];
        segment.scribble(
            |word| if random.next().is_multiple_of(thin) { random.next() >> (random.next() % 64) } else { word },
        );
        for _ in 0..6 {
            let _ = queue.try_put(vec![3; 200]);
            let _ = queue.try_get();
            let _ = queue.put_timeout(vec![4; 5], SHORT);
            let _ = queue.get_timeout(SHORT);
            let _ = (queue.len(), queue.is_closed(), format!("{queue:?}"));
            if let Ok(handles) = &handles {
                if let Ok((inner, slice)) = handles.try_get() {
                    let _ = (inner.try_put(1), slice.len(), slice.iter().fold(0, |sum, n| sum ^ n));
                }
                if let (Ok(inner), Ok(slice)) = (Queue::bounded(1), SharedSlice::new(10)) {
                    let _ = handles.try_put((inner, slice));
                }
            }
            let _ = SharedSlice::<u8>::new(100_000).map(|mut slice| slice.fill(1));
            if let Ok(semaphore) = &semaphore {
                let _ = semaphore.acquire_timeout(SHORT);
                let _ = semaphore.release(1);
            }
            let _ = event.as_ref().map(|event| event.wait_timeout(SHORT));
            let _ = barrier.as_ref().map(|barrier| barrier.wait_timeout(SHORT));
            let _ = shared.as_ref().map(|shared| shared.iter().fold(0, |sum, n| sum ^ n));
            if let (Ok(lock), Ok(condition)) = (&lock, &condition)
                && let Ok(mut guard) = lock.lock_timeout(SHORT)
            {
                let _ = condition.wait_timeout(&mut guard, SHORT);
                guard[0] = 1;
            }
            segment.scribble(|word| if random.next().is_multiple_of(thin * 16) { random.next() } else { word });
        }
        if let Ok((mut near, mut far)) = ends {
            let _ = near.send_timeout("x".repeat(round * 40), SHORT);
            let _ = far.recv_timeout(SHORT);
            let _ = far.send_timeout(vec![1; 500], SHORT);
            let _ = near.recv_timeout(SHORT);
        }
        let _ = crate::ipc::stats();
        // What a supervisor does when the one who wrote it is dead.
        if let Ok(member) = shm::enlist() {
            shm::member_died(member);
        }
    }
}

#[test]
fn rubbish_in_the_segment_gives_errors_and_nothing_worse() {
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        suffer(seed);
        child::done();
    }
    let rounds = std::env::var("MILLPOND_RUBBISH").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    for seed in 1..=rounds {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--test-threads", "1", "--nocapture"]);
        command.env(SEED, u64::from(seed * 7_919_u32).to_string());
        command.stdout(Stdio::null()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > HANG {
                let _ = child.kill();
                panic!("seed {seed}: it hangs");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "seed {seed}: {status}");
    }
}
