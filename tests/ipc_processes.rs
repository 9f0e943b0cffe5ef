//! What processes share, between processes: every handle as an argument, in a queue and as a result; ends that are told;
//! deaths; processes that are no members.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "a process is made by fork")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond::ipc::{
    self, Barrier, BarrierError, Condition, Event, Lock, LockError, PipeEnd, PipeError, Queue, QueueError, Semaphore,
    Shared, SharedSlice, ShmError, one_way, pipe,
};
use millpond::process::{self, Process};

millpond::test_support!();

/// Nothing here takes so long: a test that waits for it hangs.
const HANG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(5);

type Everything = (Queue<u32>, Lock<i64>, Semaphore, Event, Condition, Barrier, Shared<[u32; 4]>, SharedSlice<u32>);

fn use_everything(all: Everything, mut end: PipeEnd<String, u32>) -> (u32, SharedSlice<u32>, Queue<u32>) {
    let (queue, lock, semaphore, event, condition, barrier, shared, mut slice) = all;
    let n = queue.get().unwrap();
    end.send(format!("{n} of {}", shared[3])).unwrap();
    *lock.lock().unwrap() += i64::from(n);
    drop(semaphore.acquire().unwrap());
    condition.notify_all();
    event.set();
    slice.iter_mut().for_each(|value| *value += n);
    barrier.wait().unwrap();
    (n + 1, slice, queue)
}

fn take_part(balance: Lock<i64>, times: u32) {
    for n in 0..times {
        let mut guard = balance.lock().unwrap();
        let seen = *guard;
        std::hint::black_box(seen);
        *guard = if n % 2 == 0 { seen + 7 } else { seen - 7 };
    }
}

fn hold_and_wait(lock: Lock<[u32; 2]>, held: Event, semaphore: Semaphore) {
    semaphore.acquire().unwrap().forget();
    let mut pair = lock.lock().unwrap();
    pair[0] = 1;
    held.set();
    std::thread::sleep(HANG);
}

fn wait_in_get(queue: Queue<u32>, ready: Event) -> u32 {
    ready.set();
    queue.get().unwrap()
}

fn echo(mut end: PipeEnd<u64, u64>) {
    while let Ok(n) = end.recv() {
        if end.send(n + 1).is_err() {
            break;
        }
    }
}

fn wait_at(barrier: Barrier, ready: Event) -> bool {
    ready.set();
    barrier.wait() == Err(BarrierError::Broken)
}

fn never_takes_it(_: PipeEnd<u8, u8>, hold: Event) {
    hold.set();
    std::thread::sleep(HANG);
}

fn pass_on(from: Queue<Queue<u64>>, to: Queue<Queue<u64>>) {
    while let Ok(queue) = from.get() {
        queue.put(1).unwrap();
        to.put(queue).unwrap();
    }
}

fn produce(queue: Queue<(u32, u64)>, me: u32, count: u64) {
    (0..count).for_each(|n| queue.put((me, n)).unwrap());
}

fn grandchild(event: Event) -> u32 {
    let child = Process::spawn(set, (event,)).unwrap();
    child.join().unwrap();
    process::id()
}

fn set(event: Event) {
    event.set();
}

millpond::tasks![
    use_everything,
    take_part,
    hold_and_wait,
    wait_in_get,
    echo,
    wait_at,
    never_takes_it,
    pass_on,
    produce,
    grandchild,
    set
];

#[test]
fn every_handle_travels_as_an_argument_and_as_a_result() {
    let queue = Queue::bounded(4).unwrap();
    let (lock, semaphore, event) = (Lock::new(1).unwrap(), Semaphore::new(1).unwrap(), Event::new().unwrap());
    let (condition, barrier) = (Condition::new().unwrap(), Barrier::new(2).unwrap());
    let shared = Shared::new([1, 2, 3, 4]).unwrap();
    let slice = SharedSlice::from_slice(&[10; 50_000]).unwrap();
    let (mut near, far): (PipeEnd<u32, String>, PipeEnd<String, u32>) = pipe().unwrap();
    let all: Everything =
        (queue.clone(), lock.clone(), semaphore, event.clone(), condition, barrier.clone(), shared, slice);
    let child = Process::spawn(use_everything, (all, far)).unwrap();
    queue.put(5).unwrap();
    assert_eq!(near.recv().unwrap(), "5 of 4");
    assert_eq!(event.wait_timeout(HANG), Ok(true));
    barrier.wait_timeout(HANG).unwrap();
    let (n, slice, same) = child.join().unwrap();
    assert_eq!((n, slice[0], slice[49_999], *lock.lock().unwrap()), (6, 15, 15, 6));
    same.put(9).unwrap();
    assert_eq!(queue.get(), Ok(9), "it is the same queue");
    assert_eq!(near.recv(), Err(PipeError::Disconnected));
}

#[test]
fn ten_processes_leave_the_balance_at_zero() {
    let balance = Lock::new(0_i64).unwrap();
    let children: Vec<_> = (0..10).map(|_| Process::spawn(take_part, (balance.clone(), 10_000)).unwrap()).collect();
    children.iter().for_each(|child| child.join().unwrap());
    assert_eq!(*balance.lock().unwrap(), 0);
}

#[test]
fn a_killed_holder_is_told_once_and_its_permit_comes_back() {
    let (lock, held) = (Lock::new([0_u32; 2]).unwrap(), Event::new().unwrap());
    let semaphore = Semaphore::new(1).unwrap();
    let child = Process::spawn(hold_and_wait, (lock.clone(), held.clone(), semaphore.clone())).unwrap();
    assert_eq!(held.wait_timeout(HANG), Ok(true));
    assert_eq!(semaphore.available(), 0);
    assert_eq!(lock.try_lock().map(|_| ()), Err(LockError::Held));
    child.kill().unwrap();
    let start = Instant::now();
    assert_eq!(lock.lock_timeout(HANG).map(|_| ()), Err(LockError::OwnerDied));
    println!("told {:?} after the kill", start.elapsed());
    assert_eq!(lock.lock().map(|_| ()), Err(LockError::Poisoned));
    assert_eq!(*lock.lock_recovering(|pair| pair[1] = pair[0]), [1, 1]);
    assert_eq!(*lock.lock().unwrap(), [1, 1]);
    drop(semaphore.acquire_timeout(HANG).unwrap());
}

#[test]
fn a_reader_terminated_in_get_harms_nobody() {
    let (queue, ready) = (Queue::bounded(10).unwrap(), Event::new().unwrap());
    let child = Process::spawn(wait_in_get, (queue.clone(), ready.clone())).unwrap();
    let other = Process::spawn(wait_in_get, (queue.clone(), ready.clone())).unwrap();
    assert_eq!(ready.wait_timeout(HANG), Ok(true));
    child.terminate().unwrap();
    assert!(child.join_timeout(HANG).is_err());
    // The other may have been waiting behind it.
    queue.put(1).unwrap();
    assert_eq!(other.join_timeout(HANG).unwrap(), 1);
    queue.put(2).unwrap();
    assert_eq!(queue.get(), Ok(2));
}

#[test]
fn the_other_end_of_a_killed_process_is_disconnected_in_send_and_in_recv() {
    let (mut near, far) = pipe().unwrap();
    let child = Process::spawn(echo, (far,)).unwrap();
    near.send(1).unwrap();
    assert_eq!(near.recv(), Ok(2));
    let waiting = std::thread::spawn(move || (near.recv_timeout(HANG), near));
    std::thread::sleep(SHORT);
    child.kill().unwrap();
    let (received, mut near) = waiting.join().unwrap();
    assert_eq!(received, Err(PipeError::Disconnected));
    assert_eq!(near.send(1), Err(PipeError::Disconnected));
}

#[test]
fn a_killed_party_breaks_the_barrier_for_all() {
    let (barrier, ready) = (Barrier::new(3).unwrap(), [Event::new().unwrap(), Event::new().unwrap()]);
    let dies = Process::spawn(wait_at, (barrier.clone(), ready[0].clone())).unwrap();
    let lives = Process::spawn(wait_at, (barrier.clone(), ready[1].clone())).unwrap();
    assert!(ready.iter().all(|ready| ready.wait_timeout(HANG) == Ok(true)));
    dies.kill().unwrap();
    assert!(lives.join_timeout(HANG).unwrap());
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
}

#[test]
fn an_end_in_a_killed_process_is_disconnected_though_it_was_never_used() {
    let (mut near, far) = pipe::<u8, u8>().unwrap();
    let hold = Event::new().unwrap();
    let child = Process::spawn(never_takes_it, (far, hold.clone())).unwrap();
    assert_eq!(hold.wait_timeout(HANG), Ok(true));
    child.kill().unwrap();
    assert_eq!(near.recv_timeout(HANG), Err(PipeError::Disconnected));
}

#[test]
fn a_queue_goes_through_queues_to_others() {
    let (there, back) = (Queue::bounded(2).unwrap(), Queue::bounded(2).unwrap());
    let child = Process::spawn(pass_on, (there.clone(), back.clone())).unwrap();
    for _ in 0..50 {
        let queue = Queue::bounded(2).unwrap();
        there.put(queue.clone()).unwrap();
        drop(back.get().unwrap());
        assert_eq!(queue.get(), Ok(1));
    }
    there.close();
    child.join().unwrap();
}

#[test]
fn values_of_four_producers_arrive_each_once_and_each_ones_in_order() {
    let queue = Queue::unbounded().unwrap();
    let children: Vec<_> = (0..4).map(|me| Process::spawn(produce, (queue.clone(), me, 5_000)).unwrap()).collect();
    let mut next = [0; 4];
    for _ in 0..20_000 {
        let (from, n) = queue.get_timeout(HANG).unwrap();
        assert_eq!(n, next[from as usize]);
        next[from as usize] += 1;
    }
    children.iter().for_each(|child| child.join().unwrap());
    assert_eq!(queue.try_get(), Err(QueueError::Empty));
}

#[test]
fn grandchildren_share_too() {
    let event = Event::new().unwrap();
    let child = Process::spawn(grandchild, (event.clone(),)).unwrap();
    assert_eq!(child.join().unwrap(), child.id());
    assert!(event.is_set());
}

#[test]
fn counters_are_common_and_threads_may_share_them_with_processes() {
    let hits = Shared::new([const { AtomicU64::new(0) }; 2]).unwrap();
    let (mut tx, mut rx) = one_way::<Shared<[AtomicU64; 2]>>().unwrap();
    tx.send(hits.clone()).unwrap();
    rx.recv().unwrap()[0].fetch_add(3, Ordering::SeqCst);
    assert_eq!(hits[0].load(Ordering::SeqCst), 3);
}

#[test]
fn a_process_made_by_fork_is_no_member() {
    let (queue, lock) = (Queue::<u8>::bounded(2).unwrap(), Lock::new(1).unwrap());
    let slice = SharedSlice::<u8>::new(10).unwrap();
    queue.put(1).unwrap();
    // SAFETY: the child uses what is meant to be used there, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let stranger = ShmError::NotAMember;
        let good = queue.get() == Err(QueueError::Memory(stranger.clone()))
            && queue.put(1) == Err(QueueError::Memory(stranger.clone()))
            && lock.lock().map(|_| ()) == Err(LockError::Memory(stranger.clone()))
            && slice.is_empty()
            && ipc::stats() == Err(stranger);
        drop((queue, lock, slice));
        // SAFETY: ends the child without running what the parent registered.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(
        (queue.get(), *lock.lock().unwrap(), slice.len()),
        (Ok(1), 1, 10),
        "what the child dropped is still here"
    );
}

#[test]
fn a_copy_does_not_give_its_parents_lock_back() {
    let (lock, changed) = (Lock::new(1).unwrap(), Condition::new().unwrap());
    let mut guard = lock.lock().unwrap();
    // SAFETY: the child uses what is meant to be used there, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let waited = changed.wait_timeout(&mut guard, Duration::from_millis(1));
        let good = waited == Err(LockError::Memory(ShmError::NotAMember));
        drop(guard);
        // SAFETY: ends the child without running what the parent registered.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(lock.try_lock().map(|_| ()), Err(LockError::Held), "the parent holds it");
    assert_eq!(status, 0);
    *guard = 2;
    drop(guard);
    assert_eq!(*lock.lock().unwrap(), 2);
}
