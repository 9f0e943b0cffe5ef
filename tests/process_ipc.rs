//! What processes share, between real processes: queues, pipes, locks and slices as arguments and as results, at every
//! depth, and what becomes of them when somebody is killed.
#![cfg(feature = "process")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millpond::ipc::{
    Barrier, BarrierError, Event, Lock, LockError, PipeEnd, PipeError, Queue, QueueError, SharedSlice, pipe,
};
use millpond::process::Process;

millpond::test_support!();

/// Nothing here takes so long: a test that waits for it hangs.
const HANG: Duration = Duration::from_secs(120);

fn produce(queue: Queue<(u32, u32)>, producer: u32, count: u32) {
    for n in 0..count {
        queue.put((producer, n)).unwrap();
    }
}

fn consume(queue: Queue<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut got = Vec::new();
    loop {
        match queue.get() {
            Ok(value) => got.push(value),
            Err(QueueError::Closed) => return got,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Puts numbers for ever, and writes down what was put: the count follows each `put` that returned.
fn produce_for_ever(queue: Queue<(u32, u64)>, producer: u32, done: Lock<u64>) {
    for n in 0.. {
        queue.put((producer, n)).unwrap();
        *done.lock().unwrap() = n + 1;
    }
}

fn consume_for_ever(queue: Queue<(u32, u64)>, onwards: Queue<(u32, u64)>) {
    while let Ok(value) = queue.get() {
        onwards.put(value).unwrap();
    }
}

fn hold(lock: Lock<u64>, held: Event) {
    let mut guard = lock.lock().unwrap();
    *guard += 1;
    held.set();
    std::thread::sleep(Duration::from_secs(1000));
}

/// The holder is a grandchild, whose parent does nothing but wait.
fn hold_below(lock: Lock<u64>, held: Event) {
    let child = Process::spawn(hold, (lock, held)).unwrap();
    let _ = child.join();
}

fn add_up(lock: Lock<u64>, times: u64) {
    for _ in 0..times {
        *lock.lock().unwrap() += 1;
    }
}

fn echo(mut end: PipeEnd<u64, u64>) {
    while let Ok(number) = end.recv() {
        if end.send(number + 1).is_err() {
            break;
        }
    }
}

fn keep(end: PipeEnd<u64, u64>) {
    std::thread::sleep(Duration::from_secs(1000));
    drop(end);
}

fn make_queue() -> Queue<String> {
    let queue = Queue::bounded(4).unwrap();
    queue.put("from the child".to_owned()).unwrap();
    queue
}

fn make_below() -> Queue<String> {
    Process::spawn(make_queue, ()).unwrap().join().unwrap()
}

fn doubled(mut slice: SharedSlice<u64>) -> SharedSlice<u64> {
    for value in slice.iter_mut() {
        *value *= 2;
    }
    slice
}

/// Writes lines letter by letter, each line under the lock.
fn write_in_turn(lock: Lock<u64>, path: String, writer: u32) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    for line in 0..5 {
        let mut lines = lock.lock().unwrap();
        for letter in format!("writer {writer} line {line}\n").into_bytes() {
            file.write_all(&[letter]).unwrap();
            std::thread::yield_now();
        }
        *lines += 1;
    }
}

millpond::tasks![
    write_in_turn,
    produce,
    consume,
    produce_for_ever,
    consume_for_ever,
    hold,
    hold_below,
    add_up,
    echo,
    keep,
    make_queue,
    make_below,
    doubled,
];

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < HANG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_queue_carries_each_value_once_between_many_processes() {
    const EACH: u32 = 2_000;
    let queue = Queue::bounded(64).unwrap();
    let producers: Vec<_> = (0..3).map(|n| Process::spawn(produce, (queue.clone(), n, EACH)).unwrap()).collect();
    let consumers: Vec<_> = (0..3).map(|_| Process::spawn(consume, (queue.clone(),)).unwrap()).collect();
    producers.iter().for_each(|producer| producer.join().unwrap());
    queue.close();
    let mut all: Vec<_> = consumers.iter().flat_map(|consumer| consumer.join().unwrap()).collect();
    all.sort_unstable();
    let expected: Vec<_> = (0..3).flat_map(|producer| (0..EACH).map(move |n| (producer, n))).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_lock_keeps_the_count_of_many_processes() {
    let lock = Lock::new(0_u64).unwrap();
    let children: Vec<_> = (0..4).map(|_| Process::spawn(add_up, (lock.clone(), 10_000)).unwrap()).collect();
    children.iter().for_each(|child| child.join().unwrap());
    assert_eq!(*lock.lock().unwrap(), 40_000);
}

#[test]
fn a_killed_holder_keeps_nobody_out_at_any_depth() {
    for depth in 0..2 {
        let (lock, held) = (Lock::new(0_u64).unwrap(), Event::new().unwrap());
        let holder = match depth {
            0 => Process::spawn(hold, (lock.clone(), held.clone())).unwrap(),
            _ => Process::spawn(hold_below, (lock.clone(), held.clone())).unwrap(),
        };
        assert!(held.wait_timeout(HANG).unwrap());
        assert!(matches!(lock.try_lock(), Err(LockError::Held)));
        holder.kill().unwrap();
        let started = Instant::now();
        let error = lock.lock_timeout(HANG).map(drop).unwrap_err();
        assert!(matches!(error, LockError::OwnerDied), "{error}");
        println!("depth {depth}: {:?} from the kill to the error", started.elapsed());
        assert!(holder.join().is_err());
        assert_eq!(*lock.lock_recovering(|value| *value += 10), 11);
        assert_eq!(*lock.lock().unwrap(), 11, "repaired");
    }
}

#[test]
fn a_pipe_ends_when_the_process_at_its_other_end_does() {
    let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
    let child = Process::spawn(echo, (theirs,)).unwrap();
    for n in 0..1_000 {
        ours.send(n).unwrap();
        assert_eq!(ours.recv().unwrap(), n + 1);
    }
    child.kill().unwrap();
    let error = ours.recv_timeout(HANG).unwrap_err();
    assert!(matches!(error, PipeError::Disconnected), "{error}");
    assert!(matches!(ours.send(1), Err(PipeError::Disconnected)));
    // Ours goes first: the child ends by itself.
    let (ours, theirs) = pipe::<u64, u64>().unwrap();
    let child = Process::spawn(echo, (theirs,)).unwrap();
    drop(ours);
    child.join().unwrap();
}

#[test]
fn an_end_on_its_way_to_a_process_that_never_takes_it_is_disconnected() {
    // Killed at once, some before they have read their arguments.
    for n in 0..30 {
        let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
        let child = Process::spawn(keep, (theirs,)).unwrap();
        std::thread::sleep(Duration::from_micros(n * 50));
        child.kill().unwrap();
        let error = ours.recv_timeout(HANG).unwrap_err();
        assert!(matches!(error, PipeError::Disconnected), "{n}: {error}");
        assert!(child.join().is_err());
    }
}

fn waits_for_all(barrier: Barrier) {
    let _ = barrier.wait();
}

millpond::tasks![waits_for_all];

#[test]
fn a_party_that_is_killed_at_any_moment_breaks_the_barrier() {
    // At once, before it has read its arguments, and later.
    for n in 0..30 {
        let barrier = Barrier::new(3).unwrap();
        let child = Process::spawn(waits_for_all, (barrier.clone(),)).unwrap();
        std::thread::sleep(Duration::from_micros(n * 100));
        child.kill().unwrap();
        assert_eq!(barrier.wait_timeout(HANG / 8), Err(BarrierError::Broken), "{n}");
    }
}

#[test]
fn handles_come_back_as_results_from_every_depth() {
    for make in [|| Process::spawn(make_queue, ()), || Process::spawn(make_below, ())] {
        let queue = make().unwrap().join().unwrap();
        assert_eq!(queue.get().unwrap(), "from the child", "the queue outlives the process that made it");
        queue.put("and on".to_owned()).unwrap();
        assert_eq!(queue.get().unwrap(), "and on");
    }
    let slice = SharedSlice::from_slice(&[1_u64, 2, 3]).unwrap();
    assert_eq!(*Process::spawn(doubled, (slice,)).unwrap().join().unwrap(), [2, 4, 6]);
}

#[test]
fn ten_processes_that_print_under_one_lock_never_interleave() {
    let path = std::env::temp_dir().join(format!("millpond-turns-{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    let lock = Lock::new(0_u64).unwrap();
    let name = path.to_str().unwrap().to_owned();
    let writers: Vec<_> =
        (0..10).map(|n| Process::spawn(write_in_turn, (lock.clone(), name.clone(), n)).unwrap()).collect();
    writers.iter().for_each(|writer| writer.join().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    let expected: Vec<_> = (0..10).flat_map(|n| (0..5).map(move |line| format!("writer {n} line {line}"))).collect();
    assert_eq!(lines, expected);
    assert_eq!(*lock.lock().unwrap(), 50);
}

/// Values whose `put` returned are got once, whoever is killed when: at most one undetermined for each consumer killed.
#[test]
fn values_survive_hundreds_of_kills() {
    const KILLS: u32 = 150;
    let queue = Queue::bounded(32).unwrap();
    let onwards = Queue::bounded(32).unwrap();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut put, mut got) = (BTreeMap::<u32, u64>::new(), BTreeMap::<(u32, u64), u32>::new());
    let mut consumers_killed = 0;
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut got = BTreeMap::<(u32, u64), u32>::new();
            let mut empty = false;
            while !(stop.load(std::sync::atomic::Ordering::SeqCst) && empty) {
                match onwards.get_timeout(Duration::from_millis(50)) {
                    Ok(value) => *got.entry(value).or_default() += 1,
                    Err(QueueError::TimedOut) => empty = true,
                    Err(error) => panic!("{error}"),
                }
            }
            got
        });
        for producer in 0..KILLS / 2 {
            let done = Lock::new(0_u64).unwrap();
            let from = Process::spawn(produce_for_ever, (queue.clone(), producer, done.clone())).unwrap();
            let to = Process::spawn(consume_for_ever, (queue.clone(), onwards.clone())).unwrap();
            until("nothing was put", || *done.lock().unwrap() > draw(300) || !from.is_alive());
            std::thread::sleep(Duration::from_micros(draw(500)));
            let (first, second) = if draw(2) == 0 { (&from, &to) } else { (&to, &from) };
            first.kill().unwrap();
            std::thread::sleep(Duration::from_micros(draw(500)));
            second.kill().unwrap();
            consumers_killed += 1;
            assert!(from.join().is_err() && to.join().is_err());
            put.insert(producer, *done.lock_recovering(|_| ()));
        }
        // What is left in the queue comes by a consumer that nobody kills.
        let last = Process::spawn(consume_for_ever, (queue.clone(), onwards.clone())).unwrap();
        until("the queue is never empty", || queue.is_empty());
        queue.close();
        last.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        got = collector.join().unwrap();
    });
    let twice: Vec<_> = got.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "got more than once: {twice:?}");
    let lost: Vec<_> = put
        .iter()
        .flat_map(|(producer, count)| (0..*count).map(move |n| (*producer, n)))
        .filter(|value| !got.contains_key(value))
        .collect();
    let all: u64 = put.values().sum();
    println!("{all} values put, {} undetermined, of {consumers_killed} consumers killed", lost.len());
    assert!(lost.len() <= consumers_killed, "{lost:?}");
}
