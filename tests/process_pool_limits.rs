//! Attributes, recycling, limits, handles as arguments, rest, and the end of a pool's parent.
#![expect(unsafe_code, reason = "asks and tells where threads may run")]

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use millpond::ipc::{Lock, PipeEnd, PipeError, Queue, SharedSlice, pipe};
use millpond::process::{self, Process, ProcessPool, stop_requested};
use millpond::thread::MapOptions;
use millpond::{Dispatch, PoolError, TaskError};

#[path = "common/audit.rs"]
mod audit;
use audit::{HANG, is_long};
#[path = "common/user.rs"]
mod user;

millpond::test_support!();

fn pid(_: u32) -> u32 {
    process::id()
}

fn eat(bytes: usize) -> u32 {
    static EATEN: std::sync::Mutex<Vec<Vec<u8>>> = std::sync::Mutex::new(Vec::new());
    EATEN.lock().unwrap().push(vec![1; bytes]);
    process::id()
}

/// Ends early when it is asked to.
fn patient(most: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < most {
        if stop_requested() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn put(queue: Queue<u64>, sum: Lock<u64>, n: u64) {
    *sum.lock().unwrap() += n;
    queue.put(n).unwrap();
}

fn answer(mut end: PipeEnd<u32, u32>) -> PipeEnd<u32, u32> {
    let asked = end.recv().unwrap();
    end.send(asked + 1).unwrap();
    end
}

fn double(mut slice: SharedSlice<u64>) -> SharedSlice<u64> {
    slice.iter_mut().for_each(|n| *n *= 2);
    slice
}

/// Has a task with a slice run in a pool of its own; one with the end of a pipe waits there for ever.
fn keep_in_a_pool(end: PipeEnd<u32, u32>, ready: Queue<u64>) {
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let sum = pool.apply(double, (SharedSlice::from_slice(&[3, 4]).unwrap(),)).unwrap().iter().sum();
    let _busy = pool.apply_async(patient, (10 * HANG,)).unwrap();
    while pool.queued() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _waiting = pool.apply_async(answer, (end,)).unwrap();
    ready.put(sum).unwrap();
    std::thread::sleep(10 * HANG);
}

static SET_UP: OnceLock<String> = OnceLock::new();

fn set_up(word: String) {
    eprintln!("set up with {word}");
    SET_UP.set(word).unwrap();
}

fn tear_down(left: Queue<u32>) {
    left.put(process::id()).unwrap();
}

fn what_it_has() -> (String, String, Option<String>, String, i32) {
    let folder = std::env::current_dir().unwrap().display().to_string();
    let nice = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let nice = nice.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap();
    let name = process::current_name().to_owned();
    (SET_UP.get().cloned().unwrap_or_default(), folder, std::env::var("MILL_TEST").ok(), name, nice)
}

fn endless() {
    loop {
        std::hint::spin_loop();
    }
}

/// Makes a pool of busy workers, says who they are, and never ends.
fn host(told: Queue<u32>) {
    let pool = ProcessPool::builder().workers(3).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let _busy: Vec<_> = (0..5).map(|_| pool.apply_async(endless, ()).unwrap()).collect();
    pool.worker_ids().into_iter().for_each(|id| told.put(id).unwrap());
    endless();
}

millpond::tasks![pid, eat, patient, put, answer, double, set_up, tear_down, what_it_has, endless, host, keep_in_a_pool];

#[test]
fn workers_are_replaced_after_so_many_tasks_and_none_is_lost() {
    for threads in [1, 3] {
        let builder = ProcessPool::builder().workers(2).threads_per_worker(threads);
        let pool = builder.recycle_after(20).build().unwrap();
        let handles: Vec<_> = (0..400).map(|n| pool.apply_async(pid, (n,)).unwrap()).collect();
        let pids: HashSet<u32> = handles.iter().map(|handle| handle.join_timeout(HANG).unwrap()).collect();
        assert!(pids.len() >= 10, "400 tasks, 20 each (threads may run a few more): {} workers", pids.len());
        assert_eq!(pool.progress().deaths, 0);
    }
}

#[test]
fn workers_are_replaced_when_they_have_grown() {
    let pool = ProcessPool::builder().workers(1).recycle_above(64 << 20).build().unwrap();
    let pids: HashSet<u32> = (0..200).map(|_| pool.apply(eat, (1 << 20,)).unwrap()).collect();
    assert!((2..=10).contains(&pids.len()), "200 MiB, 64 each: {} workers", pids.len());
    assert_eq!(pool.progress().deaths, 0);
}

/// Waits for so many numbers, which other tasks put.
fn take(queue: Queue<u64>, count: u64) -> u64 {
    (0..count).map(|_| queue.get_timeout(HANG / 2).unwrap()).sum()
}

/// Too deep for a stack of 256 KiB, and well within one of 2 MiB.
const DEPTH: usize = 1200;

#[derive(serde::Serialize, serde::Deserialize)]
struct List {
    next: Option<Box<List>>,
}

fn count(list: List) {
    let nodes = std::iter::successors(Some(&list), |list| list.next.as_deref()).count();
    assert_eq!(nodes, DEPTH);
}

millpond::tasks![take, count];

/// A worker that is old waits for its other threads, but not for ever: what one of them waits for may be in the queue.
#[test]
fn a_task_may_wait_for_later_ones_though_its_worker_is_old() {
    let pool = ProcessPool::builder().workers(1).threads_per_worker(2).recycle_after(10).build().unwrap();
    let (queue, sum) = (Queue::bounded(100).unwrap(), Lock::new(0_u64).unwrap());
    let waits = pool.apply_async(take, (queue.clone(), 25)).unwrap();
    let all: Vec<_> = (0..25).map(|n| pool.apply_async(put, (queue.clone(), sum.clone(), n)).unwrap()).collect();
    let sum = waits.join_timeout(HANG / 4);
    if sum.is_err() {
        // Or the rest would be waited for.
        pool.terminate();
    }
    assert_eq!(sum, Ok((0..25).sum()));
    all.iter().for_each(|one| one.join_timeout(HANG).unwrap());
    // It leaves all the same, when nothing holds it.
    let started = Instant::now();
    let pids = std::iter::repeat_with(|| pool.apply(pid, (0,)).unwrap());
    let mut pids = pids.take_while(|_| started.elapsed() < HANG);
    let first = pids.next().unwrap();
    assert!(pids.any(|pid| pid != first));
    assert_eq!(pool.progress().deaths, 0);
}

/// What a new worker is given is encoded on the pool's own thread, and dropped there.
#[test]
fn an_initializers_arguments_may_be_deep() {
    let list = (1..DEPTH).fold(List { next: None }, |list, _| List { next: Some(Box::new(list)) });
    let pool = ProcessPool::builder().workers(1).initializer(count, (list,)).build().unwrap();
    assert!(pool.apply(exit_well, ()).is_err());
    assert_eq!(pool.apply(pid, (0,)).unwrap(), pool.worker_ids()[0]);
    pool.close();
    pool.join().unwrap();
}

#[test]
fn a_task_that_is_late_is_asked_to_stop() {
    let pool = ProcessPool::builder().workers(2).task_soft_timeout(Duration::from_millis(50)).build().unwrap();
    assert!(pool.apply(patient, (HANG,)).unwrap());
    assert!(!pool.apply(patient, (Duration::ZERO,)).unwrap());
    assert!(!stop_requested(), "nobody is asked here");
}

#[test]
fn handles_are_arguments_and_results() {
    let pool = ProcessPool::builder().workers(2).threads_per_worker(2).build().unwrap();
    let (queue, sum) = (Queue::bounded(200).unwrap(), Lock::new(0_u64).unwrap());
    let all: Vec<_> = (0..100).map(|n| pool.apply_async(put, (queue.clone(), sum.clone(), n)).unwrap()).collect();
    all.iter().for_each(|one| one.join_timeout(HANG).unwrap());
    assert_eq!((queue.len(), *sum.lock().unwrap()), (100, 4950));

    let (mut mine, theirs) = pipe::<u32, u32>().unwrap();
    let asked = pool.apply_async(answer, (theirs,)).unwrap();
    mine.send(41).unwrap();
    assert_eq!(mine.recv().unwrap(), 42);
    let theirs = asked.join_timeout(HANG).unwrap();
    drop(theirs);
    assert!(mine.recv().is_err(), "the end came back, and was closed");

    let slices = (0..40_u64).map(|n| {
        let mut slice = SharedSlice::<u64>::new(1000).unwrap();
        slice.fill(n);
        slice
    });
    let doubled = pool.map_with(MapOptions::new().chunk_size(7), double, slices).unwrap();
    assert_eq!(doubled.len(), 40);
    assert!((0_u64..).zip(&doubled).all(|(n, slice)| slice.iter().all(|have| *have == 2 * n)));
}

/// What waits in a pool goes with the process that has the pool, and whoever is at the other end of it is told.
#[test]
fn arguments_that_wait_in_a_killed_processes_pool_are_released() {
    let (ready, (mut mine, theirs)) = (Queue::bounded(1).unwrap(), pipe::<u32, u32>().unwrap());
    let child = Process::spawn(keep_in_a_pool, (theirs, ready.clone())).unwrap();
    assert_eq!(ready.get_timeout(HANG).unwrap(), 14, "what its pool gave");
    child.kill().unwrap();
    assert!(child.join_timeout(HANG).is_err());
    assert_eq!(mine.recv_timeout(HANG / 4), Err(PipeError::Disconnected));
}

/// A pool of two places, where a worker is killed when no other can be started: what becomes of tasks meanwhile, values and errors,
/// then and later, and whether there are two again once some can be.
fn replaces_nobody() -> ([usize; 2], [usize; 2], bool) {
    user::stop_being_root();
    let pool = ProcessPool::builder().workers(2).dispatch(Dispatch::RoundRobin).build().unwrap();
    assert!((0..8).all(|n| pool.apply(pid, (n,)).is_ok()));
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit) }, 0);
    let before = std::mem::replace(&mut limit.rlim_cur, 1);
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }, 0);
    // SAFETY: sends a signal to a child.
    unsafe { libc::kill(libc::pid_t::try_from(pool.worker_ids()[0]).unwrap(), libc::SIGKILL) };
    while pool.worker_ids().len() == 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ten = || {
        let all: Vec<_> = (0..10).map(|n| pool.apply_async(pid, (n,)).unwrap()).collect();
        let until = Instant::now() + HANG / 2;
        let left = || until.saturating_duration_since(Instant::now());
        let all: Vec<_> = all.iter().map(|task| task.join_timeout(left())).collect();
        let failed = |result: &Result<u32, TaskError>| match result {
            Err(TaskError::Pool(PoolError::CrashLoop { deaths, .. })) => *deaths >= 20,
            _ => false,
        };
        [all.iter().filter(|result| result.is_ok()).count(), all.iter().filter(|result| failed(result)).count()]
    };
    let (then, later) = (ten(), ten());
    limit.rlim_cur = before;
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }, 0);
    let started = Instant::now();
    while pool.worker_ids().len() < 2 && started.elapsed() < HANG {
        std::thread::sleep(Duration::from_millis(1));
    }
    (then, later, pool.worker_ids().len() == 2)
}

millpond::tasks![replaces_nobody];

/// Half a minute of refusals before tasks of that place end, so only in the long form.
#[test]
fn a_place_whose_starts_are_refused_keeps_no_task_waiting() {
    if is_long() {
        let got = Process::spawn(replaces_nobody, ()).unwrap().join().unwrap();
        assert_eq!(got, ([5, 5], [10, 0], true));
    }
}

#[test]
fn workers_have_the_pools_attributes() {
    let left = Queue::bounded(10).unwrap();
    let builder = ProcessPool::builder().workers(2).name("mill").nice(7).env("MILL_TEST", "water").current_dir("/");
    let builder = builder.initializer(set_up, ("grain".to_owned(),)).on_exit(tear_down, (left.clone(),));
    let pool = builder.capture_stderr(4096).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    for _ in 0..20 {
        let (word, folder, variable, name, nice) = pool.apply(what_it_has, ()).unwrap();
        assert_eq!((word.as_str(), folder.as_str(), variable.as_deref(), nice), ("grain", "/", Some("water"), 7));
        assert!(name == "mill-0" || name == "mill-1", "{name}");
    }
    // What a worker says is read a moment later.
    let started = Instant::now();
    while !(0..2).all(|worker| pool.captured_stderr(worker).contains("set up with grain")) {
        assert!(started.elapsed() < HANG, "{:?}", [0, 1].map(|worker| pool.captured_stderr(worker)));
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut ids = pool.worker_ids();
    pool.close();
    pool.join().unwrap();
    let mut said = [left.try_get().unwrap(), left.try_get().unwrap()];
    ids.sort_unstable();
    said.sort_unstable();
    assert_eq!(said.as_slice(), ids.as_slice(), "each worker ran its exit hook, once");
    assert!(left.is_empty());
}

fn runs_on() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

millpond::tasks![runs_on];

/// Whoever has bound itself to one core can have workers on another.
#[test]
fn workers_run_on_the_cores_that_were_named() {
    let bind = |cores: &[usize]| {
        // SAFETY: a set is plain bits; no bits are an empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the numbers are below the set's size.
        cores.iter().for_each(|core| unsafe { libc::CPU_SET(*core, &mut set) });
        // SAFETY: the kernel reads the set.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0 }
    };
    let build = |core: usize| ProcessPool::builder().workers(1).threads_per_worker(2).affinity([core]).build();
    let all: Vec<usize> = (0..1024).filter(|core| is_allowed(*core)).collect();
    for core in all.iter().copied().take(2) {
        assert!(bind(&[all[0]]));
        let pool = build(core).unwrap();
        assert_eq!(runs_on(), all[0].to_string(), "the caller stays where it was");
        assert_eq!(pool.apply(runs_on, ()).unwrap(), core.to_string());
    }
    assert!(matches!(build(1023), Err(millpond::PoolError::NoSuchCore { core: 1023 })));
}

/// Whether this thread may run on a core.
fn is_allowed(core: usize) -> bool {
    // SAFETY: a set is plain bits; no bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the set.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_ISSET(core, &set) }
}

/// Processor time of a process, in clock ticks.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_pool_at_rest_uses_no_processor() {
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    assert_eq!(pool.map(pid, 0..100).unwrap().len(), 100);
    std::thread::sleep(Duration::from_millis(500));
    let ids = pool.worker_ids();
    let before: u64 = ids.iter().map(|id| ticks(*id)).sum();
    std::thread::sleep(Duration::from_secs(10));
    let used = ids.iter().map(|id| ticks(*id)).sum::<u64>() - before;
    // A tick is 10 ms, and a thousandth of 10 s.
    assert!(used <= 1, "{used} ticks");
}

#[test]
fn busy_workers_go_with_their_parent() {
    let told = Queue::bounded(10).unwrap();
    let parent = Process::spawn(host, (told.clone(),)).unwrap();
    let ids: Vec<u32> = (0..3).map(|_| told.get_timeout(HANG).unwrap()).collect();
    assert!(ids.iter().all(|id| std::fs::metadata(format!("/proc/{id}")).is_ok()));
    let killed = Instant::now();
    parent.kill().unwrap();
    let is_there =
        |id: &u32| std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
    while ids.iter().any(is_there) {
        assert!(killed.elapsed() < HANG, "left behind: {ids:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("3 busy workers gone {:?} after their parent was killed", killed.elapsed());
}

#[test]
fn a_full_queue_keeps_no_handle_and_lets_maps_wait() {
    use millpond::{PoolError, WhenFull};

    let full = |when_full| {
        let builder = ProcessPool::builder().workers(1).queue_bound(1).when_full(when_full);
        let pool = builder.build().unwrap();
        let first = pool.apply_async(patient, (Duration::from_millis(300),)).unwrap();
        while pool.queued() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = pool.apply_async(patient, (Duration::ZERO,)).unwrap();
        (pool, first, second)
    };
    let slice = || {
        let mut slice = SharedSlice::<u64>::new(1000).unwrap();
        slice.fill(21);
        slice
    };
    // It runs here, with the handle that was already on its way.
    let (pool, ..) = full(WhenFull::CallerRuns);
    assert!(pool.apply(double, (slice(),)).unwrap().iter().all(|n| *n == 42));
    let (tell, hear) = std::sync::mpsc::channel();
    let told = pool.apply_async_then(double, (slice(),), move |result| tell.send(result.unwrap()[999]).unwrap());
    told.unwrap();
    assert_eq!(hear.recv_timeout(HANG).unwrap(), 42);
    let tens = MapOptions::new().chunk_size(10);
    assert_eq!(pool.map_with(tens, pid, 0..100).unwrap().len(), 100, "more chunks than the queue takes");

    // It is refused, and goes.
    let (pool, ..) = full(WhenFull::Fail);
    let before = millpond::ipc::stats().unwrap();
    assert!(matches!(pool.apply_async(double, (slice(),)), Err(PoolError::Full { bound: 1 })));
    assert_eq!(
        millpond::ipc::stats().unwrap().queued,
        before.queued,
        "the slice that was refused is on its way to nobody"
    );
    assert_eq!(pool.map_with(tens, pid, 0..100).unwrap().len(), 100);
}

fn exit_well() {
    std::process::exit(0);
}

millpond::tasks![exit_well];

#[test]
fn a_task_that_exits_well_has_ended_its_worker_all_the_same() {
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    assert!(pool.apply(exit_well, ()).is_err());
    assert_eq!(pool.apply(pid, (0,)).unwrap(), pool.worker_ids()[0]);
    assert_eq!(pool.progress().deaths, 1);
}
