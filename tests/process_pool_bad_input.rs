//! What is asked of a pool in vain: a clear error each, and the pool works on.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "forks")]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use millpond::ipc::SharedSlice;
use millpond::process::{self, Process, ProcessPool, WorkerState};
use millpond::thread::MapOptions;
use millpond::{Dispatch, PoolError, TaskError, WhenFull};
use serde::{Deserialize, Serialize};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, alone};
#[path = "common/user.rs"]
mod user;

millpond::test_support!();

fn work(n: u64, microseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(microseconds));
    3 * n + 1
}

fn pid() -> u32 {
    std::process::id()
}

fn work_a_while(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(20));
    n
}

fn not_listed(n: u64) -> u64 {
    n
}

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn many(bytes: usize) -> Vec<u8> {
    vec![7; bytes]
}

#[derive(Debug, PartialEq)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(serde::ser::Error::custom("it will not")) } else { serializer.serialize_u8(1) }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).and_then(|_| Err(serde::de::Error::custom("it does not want to be read")))
    }
}

fn takes(_: Stubborn) -> u8 {
    1
}

fn gives(unencodable: bool) -> Stubborn {
    Stubborn(unencodable)
}

/// A slice, and more bytes than a result may have.
fn gives_too_much(bytes: usize) -> (SharedSlice<u8>, Vec<u8>) {
    (SharedSlice::from_slice(&[1; 5000]).unwrap(), vec![2; bytes])
}

/// A value of a slice and bytes, more than fit into a task's place.
struct Odd {
    slice: SharedSlice<u8>,
    /// Its slice is sent twice, which can't be.
    twice: bool,
    /// It panics when it is dropped: where it was made, not where it arrives.
    bomb: bool,
}

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let again = self.twice.then_some(&self.slice);
        (&self.slice, again, vec![5_u8; 1000]).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = <(SharedSlice<u8>, Option<SharedSlice<u8>>, Vec<u8>)>::deserialize(deserializer)?;
        Ok(Self { slice: all.0, twice: false, bomb: false })
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        assert!(!self.bomb, "as it should");
    }
}

fn odd(twice: bool, bomb: bool) -> Odd {
    Odd { slice: SharedSlice::from_slice(&[1; 5000]).unwrap(), twice, bomb }
}

/// What cannot be encoded while `REFUSED` says so, and how often it was tried then.
#[derive(Deserialize)]
struct Refusable;

static REFUSED: AtomicBool = AtomicBool::new(false);
static TRIED: AtomicU32 = AtomicU32::new(0);

impl Serialize for Refusable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if REFUSED.load(Ordering::SeqCst) {
            TRIED.fetch_add(1, Ordering::SeqCst);
            return Err(serde::ser::Error::custom("not now"));
        }
        serializer.serialize_unit_struct("Refusable")
    }
}

fn sets_up(_: Refusable) {}

/// Comes back, and has the process end when it is ready.
fn dies_soon(exits: bool) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        eprintln!("no such device");
        if exits {
            std::process::exit(0);
        }
        std::process::abort();
    });
}

millpond::tasks![sets_up, dies_soon];

/// Ends a pool's tasks also where a test fails, which would wait for them else.
struct Terminate<'a>(&'a ProcessPool);

impl Drop for Terminate<'_> {
    fn drop(&mut self) {
        self.0.terminate();
    }
}

fn builds() -> Result<u64, String> {
    let pool = ProcessPool::builder().workers(1).build().map_err(|error| error.to_string())?;
    pool.apply(work, (2, 0)).map_err(|error| error.to_string())
}

fn not_three(n: u64) -> u64 {
    assert!(n != 3, "three");
    n
}

fn panics_at_length(bytes: usize) {
    panic!("{}", "ä".repeat(bytes / 2));
}

fn says_and_leaves(what: String) {
    eprintln!("{what}");
    std::process::exit(3);
}

fn says_and_panics(what: String) {
    panic!("{what}");
}

/// The first worker at each place fails; the next ones are ready once all of those have.
fn fails_at_first(folder: PathBuf, places: usize) {
    if std::fs::File::create_new(folder.join(process::current_name())).is_ok() {
        std::process::exit(3);
    }
    let started = Instant::now();
    while std::fs::read_dir(&folder).unwrap().count() < places {
        assert!(started.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn never_returns() {
    loop {
        std::thread::sleep(HANG);
    }
}

fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

/// An ordinary user's pool with a nice value.
fn builds_as_nobody(nice: i32) -> String {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads the limit: of how far the nice value may be lowered.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NICE, &raw const limit) }, 0);
    user::stop_being_root();
    format!("{:?}", ProcessPool::builder().workers(1).nice(nice).build().map(drop))
}

millpond::tasks![
    never_returns,
    variable,
    builds_as_nobody,
    work,
    pid,
    work_a_while,
    echo,
    many,
    takes,
    gives,
    gives_too_much,
    odd,
    builds,
    not_three,
    panics_at_length,
    says_and_leaves,
    says_and_panics,
    fails_at_first
];

#[test]
fn numbers_that_make_no_sense() {
    let _alone = alone();
    let audit = Audit::now();
    let build = || ProcessPool::builder().workers(1);
    assert!(matches!(build().workers(0).build(), Err(PoolError::NoWorkers)));
    assert!(matches!(build().threads_per_worker(0).build(), Err(PoolError::NoWorkers)));
    assert!(
        [-21, 20, i32::MAX].iter().all(|nice| matches!(build().nice(*nice).build(), Err(PoolError::NoSuchNice { .. })))
    );
    assert!(matches!(build().workers(usize::MAX).build(), Err(PoolError::TooManyWorkers { .. })));
    for threads in [513, 1024, 2000, usize::MAX] {
        let error = build().threads_per_worker(threads).build().unwrap_err();
        assert_eq!(error, PoolError::TooManyThreads { threads, most: 512 });
        assert!(error.to_string().starts_with(&format!("{threads} threads in each worker ")), "{error}");
    }
    let error = build().workers(2).threads_per_worker(512).build().unwrap_err();
    assert_eq!(error, PoolError::TooManyWorkers { workers: 2, most: 1 });
    assert!(matches!(build().queue_bound(0).build(), Err(PoolError::ZeroBound)));
    assert!(matches!(build().name("a\0b").build(), Err(PoolError::NameWithNul { at: 1 })));
    assert!(matches!(build().initializer(not_listed, (1,)).build(), Err(PoolError::NotRegistered { .. })));
    // Limits that are none.
    let pool = build().task_timeout(Duration::MAX).task_soft_timeout(Duration::MAX).payload_limit(usize::MAX);
    let pool = pool.handshake_timeout(Duration::MAX).build().unwrap();
    assert_eq!(pool.apply(work, (1, 1000)), Ok(4));
    assert!(pool.join_timeout(Duration::ZERO).is_err_and(|error| error == PoolError::NotClosed));
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.wait_ready(Duration::MAX), Err(PoolError::Closed), "no worker will be ready any more");
    assert_eq!(pool.join(), Ok(()), "again");
    drop(pool);
    audit.expect_unchanged();
}

/// What no environment can hold, and what would have a worker take itself for the program: which then runs again.
#[test]
fn variables_that_no_worker_can_have() {
    let _alone = alone();
    let audit = Audit::now();
    let build = || ProcessPool::builder().workers(1);
    let set = [("", "r"), ("=", "r"), ("B=D", "q"), ("B\0C", "z"), ("A", "x\0y"), ("MILLPOND_CHILD", "x")];
    let refused = |name: &str, built: Result<ProcessPool, PoolError>| {
        let error = built.unwrap_err();
        assert!(matches!(&error, PoolError::BadVariable { name: named, .. } if named == name), "{error:?}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    };
    for (name, value) in set {
        refused(name, build().env(name, value).build());
        refused(name, build().env("FINE", "f").env(name, value).env(name, "later").env_remove("FINE").build());
    }
    for name in ["", "B=D", "B\0C"] {
        refused(name, build().env_remove(name).build());
    }
    // Those are as any others.
    let pool = build().env("MILLPOND_CHILDREN", "a=b").env("E", "").env_remove("MILLPOND_CHILD").build().unwrap();
    let found = |name: &str| pool.apply(variable, (name.to_owned(),)).unwrap();
    assert_eq!((found("MILLPOND_CHILDREN").as_deref(), found("E").as_deref()), (Some("a=b"), Some("")));
    drop(pool);
    audit.expect_unchanged();
}

/// Known before a worker is started, and so no worker ends for it.
#[test]
fn a_folder_or_a_nice_value_that_workers_cannot_have() {
    let _alone = alone();
    let audit = Audit::now();
    for folder in ["", "/nonexistent", "/dev/null", "a\0b"] {
        let error = ProcessPool::builder().workers(1).current_dir(folder).build().unwrap_err();
        assert!(
            matches!(&error, PoolError::BadFolder { folder: named, .. } if named.as_os_str() == folder),
            "{error:?}"
        );
    }
    let nice = Process::spawn(builds_as_nobody, (-1,)).unwrap().join().unwrap();
    assert!(nice.contains("NiceRefused { nice: -1, code: Some("), "{nice}");
    let pool = ProcessPool::builder().workers(1).current_dir("/").nice(19).build().unwrap();
    assert_eq!(pool.apply(work, (1, 0)), Ok(4));
    drop(pool);
    audit.expect_unchanged();
}

fn folder() -> PathBuf {
    std::env::current_dir().unwrap()
}

millpond::tasks![folder];

/// Where this process goes later is nothing to workers that are started then.
#[test]
fn a_relative_folder_is_that_of_the_pools_start() {
    let _alone = alone();
    let audit = Audit::now();
    let here = folder();
    let place = std::env::temp_dir().join(format!("millpond-relative-{}", std::process::id()));
    std::fs::create_dir_all(place.join("inner")).unwrap();
    let place = place.canonicalize().unwrap();
    std::env::set_current_dir(&place).unwrap();
    let pool = ProcessPool::builder().workers(1).current_dir("inner").recycle_after(1).build().unwrap();
    let mut all = vec![pool.apply(folder, ())];
    std::env::set_current_dir("/").unwrap();
    all.extend((0..3).map(|_| pool.apply_async(folder, ()).unwrap().join_timeout(HANG)));
    std::env::set_current_dir(&here).unwrap();
    assert!(all.iter().all(|folder| *folder == Ok(place.join("inner"))), "{all:?}");
    std::fs::remove_dir_all(&place).unwrap();
    drop(pool);
    audit.expect_unchanged();
}

/// Nothing limits an initializer or an exit hook; what waits for one that never returns goes on once the pool is terminated.
#[test]
fn hooks_that_never_return_end_with_the_pool() {
    let _alone = alone();
    let audit = Audit::now();
    let a_while = Duration::from_millis(200);
    let build = || ProcessPool::builder().workers(2).task_timeout(Duration::from_secs(1));
    let pool = build().initializer(never_returns, ()).build().unwrap();
    let task = pool.apply_async(work, (1, 0)).unwrap();
    assert!(matches!(pool.wait_ready(a_while), Err(PoolError::StillRunning { workers: 2, .. })));
    pool.close();
    assert!(matches!(pool.join_timeout(a_while), Err(PoolError::StillRunning { workers: 2, .. })));
    pool.terminate();
    assert_eq!((task.join_timeout(HANG), pool.join_timeout(HANG)), (Err(TaskError::Cancelled), Ok(())));
    drop((task, pool));
    let pool = build().on_exit(never_returns, ()).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    pool.close();
    assert!(matches!(pool.join_timeout(a_while), Err(PoolError::StillRunning { workers: 2, .. })));
    pool.terminate();
    assert_eq!(pool.join_timeout(HANG), Ok(()));
    drop(pool);
    audit.expect_unchanged();
}

/// Sets the most descriptors that this process may have; what it was.
fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let before = limit.rlim_cur;
    limit.rlim_cur = most.min(limit.rlim_max);
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    before
}

/// A pool that is made half, for the system gives no more descriptors: at each of them.
#[test]
fn a_pool_that_cannot_be_made_leaves_nothing() {
    let _alone = alone();
    let audit = Audit::now();
    let mut failed = 0;
    let made = (3..).map(|more| {
        let before = limit_descriptors(more + audit::open_descriptors() as u64);
        let pool = ProcessPool::builder().workers(3).build();
        limit_descriptors(before);
        pool
    });
    for pool in made {
        match pool {
            Ok(_) => break,
            Err(PoolError::WorkerNotStarted { worker: 1.., .. }) => failed += 1,
            Err(PoolError::WorkerNotStarted { .. } | PoolError::NoSharedMemory { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(failed > 1, "some of its workers were started");
    audit.expect_unchanged();
}

/// A worker that the system gives no descriptors for is missing until it does; the others work on.
#[test]
fn a_worker_that_cannot_be_replaced_now_is_replaced_later() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    let terminate = Terminate(&pool);
    pool.wait_ready(HANG).unwrap();
    let long = pool.apply_async(work, (1, u64::MAX >> 20)).unwrap();
    let other = pool.apply_async(pid, ()).unwrap().join_timeout(HANG).unwrap();
    let before = limit_descriptors(audit::open_descriptors() as u64);
    // SAFETY: sends a signal to a child.
    unsafe { libc::kill(libc::pid_t::try_from(other).unwrap(), libc::SIGKILL) };
    std::thread::sleep(Duration::from_millis(2500));
    limit_descriptors(before);
    assert!(!long.is_finished(), "{:?}", long.join());
    assert_eq!(pool.wait_ready(HANG), Ok(()));
    assert_ne!(pool.apply_async(pid, ()).unwrap().join_timeout(HANG).unwrap(), other);
    assert_eq!(pool.progress().deaths, 1);
    drop(terminate);
    drop((long, pool));
    audit.expect_unchanged();
}

/// A start that fails before there is a process is none: it is not counted, and nobody is seen there.
#[test]
fn a_refused_start_is_no_process() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).initializer(sets_up, (Refusable,)).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    let died = pool.worker_ids()[1];
    REFUSED.store(true, Ordering::SeqCst);
    // SAFETY: sends a signal to a child.
    unsafe { libc::kill(libc::pid_t::try_from(died).unwrap(), libc::SIGKILL) };
    let killed = Instant::now();
    let seen = || process::look(process::id()).unwrap().remove(0);
    // While it is tried the place is that of one which starts.
    while TRIED.load(Ordering::SeqCst) < 3 || seen().workers[1].state != WorkerState::Empty {
        assert!(killed.elapsed() < HANG, "{}", seen());
        std::thread::sleep(Duration::from_millis(1));
    }
    let view = seen();
    let refused = (view.workers[1].pid, view.workers[1].started, view.restarts, pool.worker_stats()[1].started);
    REFUSED.store(false, Ordering::SeqCst);
    assert_eq!(refused, (0, 1, 0, 1));
    assert_eq!(pool.wait_ready(HANG), Ok(()));
    let (view, stats) = (seen(), pool.worker_stats());
    assert_eq!((view.workers[1].started, view.restarts, stats[1].started), (2, 1, 2));
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn values_that_do_not_travel() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).payload_limit(100_000).build().unwrap();
    let error = pool.apply_async(not_listed, (1,)).unwrap_err();
    assert!(error.to_string().contains("millpond::tasks![not_listed];"), "{error}");
    let error = pool.apply_async(takes, (Stubborn(true),)).unwrap_err();
    assert!(matches!(&error, PoolError::Encode { reason, .. } if !reason.is_empty()), "{error:?}");
    let error = pool.apply(takes, (Stubborn(false),)).unwrap_err();
    assert!(matches!(&error, TaskError::Decode { reason, .. } if !reason.is_empty()), "{error:?}");
    let error = pool.apply(gives, (true,)).unwrap_err();
    assert!(matches!(&error, TaskError::Encode { reason, .. } if !reason.is_empty()), "{error:?}");
    let error = pool.apply(gives, (false,)).unwrap_err();
    assert!(matches!(&error, TaskError::Decode { reason, .. } if !reason.is_empty()), "{error:?}");
    assert!(matches!(pool.apply_async(echo, (vec![0; 100_001],)), Err(PoolError::TooLarge { limit: 100_000, .. })));
    let error = pool.apply(many, (100_001,)).unwrap_err();
    assert!(matches!(error, TaskError::TooLarge { limit: 100_000, .. }), "{error:?}");
    assert_eq!(pool.apply(many, (99_000,)), Ok(vec![7; 99_000]));
    // More at once than there is room for, joined from the last.
    let all: Vec<_> = (0..100).map(|_| pool.apply_async(echo, (vec![1; 90_000],)).unwrap()).collect();
    assert!(all.iter().rev().all(|task| task.join_timeout(HANG) == Ok(vec![1; 90_000])));
    drop(all);
    drop(pool);
    audit.expect_unchanged();
}

/// What was to travel with a result that doesn't is released.
#[test]
fn a_result_that_is_too_large_keeps_its_handles() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).payload_limit(100_000).build().unwrap();
    let (slice, bytes) = pool.apply(gives_too_much, (90_000,)).unwrap();
    assert_eq!((slice.len(), bytes.len()), (5000, 90_000));
    drop(slice);
    let before = millpond::ipc::stats().unwrap();
    for _ in 0..20 {
        let error = pool.apply(gives_too_much, (100_001,)).unwrap_err();
        assert!(matches!(error, TaskError::TooLarge { bytes: 100_001.., limit: 100_000, .. }), "{error:?}");
    }
    let after = millpond::ipc::stats().unwrap();
    assert_eq!((after.owned, after.queued, after.tokens), (before.owned, before.queued, before.tokens));
    drop(pool);
    audit.expect_unchanged();
}

/// A large result with a slice in it twice, and one that panics when it has been sent, take no room from those that follow.
#[test]
fn a_result_that_cannot_move_and_one_that_panics_behind_itself_take_no_room() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let terminate = Terminate(&pool);
    let run = |twice, bomb| pool.apply_async(odd, (twice, bomb)).unwrap().join_timeout(HANG);
    drop(run(false, false).unwrap());
    let before = millpond::ipc::stats().unwrap();
    for _ in 0..4 {
        assert!(matches!(run(true, false), Err(TaskError::Encode { .. })));
        // It was returned, and has arrived; what happens to the worker's copy is nobody's business.
        assert_eq!(run(false, true).unwrap().slice.len(), 5000);
        let large = || pool.apply_async(many, (1000,)).unwrap().join_timeout(HANG / 8);
        assert!((0..3).all(|_| large() == Ok(vec![7; 1000])));
    }
    let after = millpond::ipc::stats().unwrap();
    assert_eq!((after.owned, after.queued, after.tokens), (before.owned, before.queued, before.tokens));
    drop(terminate);
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn a_crash_loop_ends_in_an_error_with_the_last_words() {
    let _alone = alone();
    let audit = Audit::now();
    for panics in [false, true] {
        let words = "no such database";
        let builder = ProcessPool::builder().workers(2).capture_stderr(4096);
        let pool = match panics {
            true => builder.initializer(says_and_panics, (words.to_owned(),)).build().unwrap(),
            false => builder.initializer(says_and_leaves, (words.to_owned(),)).build().unwrap(),
        };
        // A task may come too late: the pool may have given up before.
        let task = pool.apply_async(work, (1, 0)).map_err(TaskError::from).and_then(|task| task.join_timeout(HANG));
        let Err(TaskError::Pool(error @ PoolError::CrashLoop { .. })) = task else { panic!("{task:?}") };
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(pool.wait_ready(HANG), Err(error.clone()));
        assert_eq!(pool.apply_async(work, (1, 0)).map(drop), Err(error.clone()));
        pool.close();
        assert_eq!(pool.join(), Err(error));
    }
    audit.expect_unchanged();
}

/// Workers that get ready and die at once, before they have run anything, are such a loop too.
#[test]
fn workers_that_die_as_soon_as_they_are_ready_are_a_crash_loop() {
    let _alone = alone();
    for exits in [false, true] {
        let audit = Audit::now();
        let pool =
            ProcessPool::builder().workers(1).capture_stderr(4096).initializer(dies_soon, (exits,)).build().unwrap();
        let terminate = Terminate(&pool);
        let made = Instant::now();
        while !pool.is_closed() {
            assert!(made.elapsed() < HANG / 2, "{:?}", pool.worker_stats());
            std::thread::sleep(Duration::from_millis(1));
        }
        pool.close();
        let ended = pool.join();
        let Err(error @ PoolError::CrashLoop { deaths: 20, .. }) = ended else { panic!("{ended:?}") };
        assert!(error.to_string().contains("no such device"), "{error}");
        assert!(pool.progress().deaths > 0, "exits: {exits}");
        drop(terminate);
        drop(pool);
        audit.expect_unchanged();
    }
}

/// Whoever kills idle workers as soon as they are ready ends no pool by that.
#[test]
fn idle_workers_that_are_killed_are_no_crash_loop() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    for _ in 0..25 {
        pool.wait_ready(HANG).unwrap();
        let before = pool.worker_ids();
        // SAFETY: sends a signal to a child.
        unsafe { libc::kill(libc::pid_t::try_from(before[0]).unwrap(), libc::SIGKILL) };
        let killed = Instant::now();
        while pool.worker_ids() == before {
            assert!(killed.elapsed() < HANG, "{:?}", pool.worker_stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    pool.wait_ready(HANG).unwrap();
    pool.close();
    assert_eq!(pool.join(), Ok(()));
    drop(pool);
    audit.expect_unchanged();
}

/// A pool of many workers bears what a pool of one does: each of them may fail a few times.
#[test]
fn many_workers_that_fail_once_each_are_no_crash_loop() {
    let _alone = alone();
    let audit = Audit::now();
    let places = 40;
    let folder = std::env::temp_dir().join(format!("millpond-places-{}", std::process::id()));
    // One of the same number may have left its own when it failed.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let pool = ProcessPool::builder().workers(places).capture_stderr(4096);
    let pool = pool.initializer(fails_at_first, (folder.clone(), places)).build().unwrap();
    assert_eq!(pool.wait_ready(HANG), Ok(()));
    assert_eq!(pool.apply(work, (1, 0)), Ok(4));
    assert!(pool.worker_stats().iter().all(|place| (place.started, place.deaths) == (2, 1)));
    drop(pool);
    std::fs::remove_dir_all(folder).unwrap();
    audit.expect_unchanged();
}

/// Works in one place only.
fn is_for(place: String) {
    if process::current_name() != place {
        std::process::exit(3);
    }
}

millpond::tasks![is_for];

/// Others may be at work, but tasks of that place would wait for ever.
#[test]
fn a_place_that_always_fails_keeps_no_task_waiting() {
    let _alone = alone();
    let audit = Audit::now();
    let failed = |result: &Result<u64, TaskError>| match result {
        Err(TaskError::Pool(PoolError::CrashLoop { deaths, .. })) => *deaths >= 20,
        _ => false,
    };
    for dispatch in [Dispatch::RoundRobin, Dispatch::Random] {
        let pool = ProcessPool::builder().workers(2).dispatch(dispatch).name("mill").capture_stderr(4096);
        let pool = pool.initializer(is_for, ("mill-0".to_owned(),)).build().unwrap();
        let _end = Terminate(&pool);
        let all: Vec<_> = (0..100).map(|n| pool.apply_async(work, (n, 0)).unwrap()).collect();
        let until = Instant::now() + HANG / 4;
        let left = || until.saturating_duration_since(Instant::now());
        let all: Vec<_> = all.iter().map(|task| task.join_timeout(left())).collect();
        let values = (0..).zip(&all).filter(|(n, result)| **result == Ok(3 * n + 1)).count();
        let errors = all.iter().filter(|result| failed(result)).count();
        assert!(values > 0 && errors > 0 && values + errors == 100, "{dispatch:?}: {all:?}");
        for n in 0..100 {
            assert_eq!(pool.apply(work, (n, 0)), Ok(3 * n + 1), "{dispatch:?}");
        }
    }
    // The one for suspects.
    let pool = ProcessPool::builder().workers(1).threads_per_worker(2).name("mill").capture_stderr(4096);
    let pool = pool.initializer(is_for, ("mill-0".to_owned(),)).build().unwrap();
    let end = Terminate(&pool);
    let long = pool.apply_async(work, (1, 60_000_000)).unwrap();
    let started = Instant::now();
    while pool.queued() > 0 {
        assert!(started.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: sends a signal to a child.
    let kill = |id: u32| unsafe { libc::kill(libc::pid_t::try_from(id).unwrap(), libc::SIGKILL) };
    let other = pool.apply_async(work, (2, 60_000_000)).unwrap();
    while pool.queued() > 0 {
        assert!(started.elapsed() < HANG);
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(pool.worker_ids()[0]);
    let both = [long.join_timeout(HANG / 4), other.join_timeout(HANG / 4)];
    assert!(both.iter().all(failed), "{both:?}");
    assert_eq!(pool.apply(work, (3, 0)), Ok(10));
    drop(end);
    drop((long, other, pool));
    audit.expect_unchanged();
}

#[test]
fn pools_inside_workers_and_processes() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let inside = pool.apply(builds, ()).unwrap().unwrap_err();
    assert_eq!(inside, PoolError::InsideWorker.to_string());
    assert_eq!(Process::spawn(builds, ()).unwrap().join().unwrap(), Ok(7));
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn a_full_queue_does_what_was_said() {
    let _alone = alone();
    let audit = Audit::now();
    let build = |when| ProcessPool::builder().workers(1).queue_bound(3).when_full(when).build().unwrap();
    let pool = build(WhenFull::Fail);
    let mut taken = Vec::new();
    let error = loop {
        match pool.apply_async(work, (1, 50_000)) {
            Ok(task) => taken.push(task),
            Err(error) => break error,
        }
        assert!(taken.len() < 10);
    };
    assert_eq!(error, PoolError::Full { bound: 3 });
    assert!(taken.iter().all(|task| task.join_timeout(HANG) == Ok(4)));
    for when in [WhenFull::Block, WhenFull::CallerRuns] {
        let pool = build(when);
        let all: Vec<_> = (0..200).map(|n| pool.apply_async(work, (n, 200)).unwrap()).collect();
        assert!((0..).zip(&all).all(|(n, task)| task.join_timeout(HANG) == Ok(3 * n + 1)));
    }
    // Many at once are no more than the queue takes either.
    let small = build(WhenFull::Fail);
    let most = std::thread::scope(|scope| {
        let one_by_one = MapOptions::new().chunk_size(1);
        let items: Vec<_> = (0..500).map(|n| (n, 500)).collect();
        let pool = &small;
        let map = scope.spawn(move || pool.starmap_with(one_by_one, work, items).unwrap().len());
        let mut most = 0;
        while !map.is_finished() {
            most = most.max(small.queued());
        }
        assert_eq!(map.join().unwrap(), 500);
        most
    });
    assert!((1..=3).contains(&most), "{most} waited");
    drop(small);
    // A handle holds its pool's memory.
    drop(taken);
    drop(pool);
    audit.expect_unchanged();
}

/// A panic that says more than a message may have is still a panic.
#[test]
fn a_panic_may_say_more_than_fits() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).payload_limit(70_001).build().unwrap();
    for (bytes, said) in [(300, 300), (70_000, 70_000), (70_002, 70_000), (1_000_000, 70_000)] {
        let result = pool.apply(panics_at_length, (bytes,));
        let Err(TaskError::Panicked { message, .. }) = result else { panic!("{result:?}") };
        assert!(message.starts_with(&"ä".repeat(said / 2)) && message.len() <= said + 3, "{}", message.len());
        let result = pool.map(panics_at_length, [bytes]);
        assert!(matches!(&result, Err(TaskError::Panicked { message, .. }) if message.starts_with("ää")), "{result:?}");
    }
    let (progress, workers) = (pool.progress(), pool.worker_stats());
    assert_eq!((progress.panicked, progress.failed, workers[0].panicked), (8, 0, 8));
    drop(pool);
    audit.expect_unchanged();
}

#[test]
fn panics_in_maps_are_counted() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    let three = |error: &TaskError| matches!(error, TaskError::Panicked { message, .. } if message == "three");
    let size = |size| MapOptions::new().chunk_size(size);
    let mut chunks = 0;
    for round in 1..=3 {
        let one = pool.imap_with(size(1), not_three, 0..6).unwrap().collect::<Vec<_>>();
        let any = pool.imap_unordered_with(size(2), not_three, 0..6).unwrap().collect::<Vec<_>>();
        assert!(one.len() == 6 && three(one[3].as_ref().unwrap_err()), "{one:?}");
        assert!(
            any.len() == 6 && any.iter().filter(|result| result.as_ref().is_err_and(three)).count() == 1,
            "{any:?}"
        );
        assert!(three(&pool.map_with(size(6), not_three, 0..6).unwrap_err()));
        assert_eq!(pool.map(not_three, 4..10).unwrap(), [4, 5, 6, 7, 8, 9]);
        chunks += 6 + 3 + 1 + 6;
        let progress = pool.progress();
        let panicked: u64 = pool.worker_stats().iter().map(|worker| worker.panicked).sum();
        assert_eq!((progress.panicked, panicked), (3 * round, 3 * round));
        assert_eq!((progress.finished, progress.failed), (chunks, 0));
    }
    drop(pool);
    audit.expect_unchanged();
}

/// Tasks that were cancelled wait for nothing any more.
#[test]
fn cancelled_tasks_make_room_in_a_full_queue() {
    let _alone = alone();
    let audit = Audit::now();
    for dispatch in [Dispatch::SharedQueue, Dispatch::RoundRobin] {
        let builder = ProcessPool::builder().workers(1).dispatch(dispatch).queue_bound(3).when_full(WhenFull::Fail);
        let pool = builder.build().unwrap();
        let _terminate = Terminate(&pool);
        let long = pool.apply_async(work, (1, u64::MAX >> 20)).unwrap();
        let asked = Instant::now();
        while pool.queued() > 0 {
            assert!(asked.elapsed() < HANG);
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..3 {
            let waiting = [1, 2, 3].map(|n| pool.apply_async(work, (n, 0)).unwrap());
            assert_eq!(pool.apply_async(work, (1, 0)).map(drop), Err(PoolError::Full { bound: 3 }));
            // Not the first: tickets that are good stand before those that aren't.
            assert!(waiting[1].cancel() && waiting[2].cancel());
            assert_eq!(pool.queued(), 1);
            let again = pool.apply_async(work, (4, 0)).unwrap();
            assert_eq!(pool.queued(), 2);
            assert!(waiting[0].cancel() && again.cancel());
            assert_eq!(pool.queued(), 0);
        }
        assert!(!long.is_finished());
    }
    audit.expect_unchanged();
}

#[test]
fn callbacks_that_panic_or_join_harm_nobody() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = Arc::new(ProcessPool::builder().workers(1).build().unwrap());
    let (to, from) = std::sync::mpsc::channel();
    std::panic::set_hook(Box::new(|_| {}));
    pool.apply_async_then(work, (1, 0), |_| panic!("in a callback")).unwrap();
    let (same, again) = (Arc::clone(&pool), to.clone());
    pool.apply_async_then(work, (1, 0), move |_| {
        same.close();
        again.send(same.join() == Err(PoolError::OwnWorker)).unwrap();
    })
    .unwrap();
    assert!(from.recv_timeout(HANG).unwrap());
    pool.join().unwrap();
    drop(std::panic::take_hook());
    drop(pool);
    audit.expect_unchanged();
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park_timeout(HANG),
        }
    }
}

#[test]
fn handles_are_futures_with_and_without_a_backlog() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    for n in 0..200 {
        assert_eq!(block_on(pool.apply_async(work, (n, n % 300)).unwrap()), Ok(3 * n + 1));
    }
    let mut all: Vec<_> = (0..5000).map(|n| pool.apply_async(work, (n, 0)).unwrap()).collect();
    for (n, task) in (0..5000_u64).zip(all.drain(..)).collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(block_on(task), Ok(3 * n + 1));
    }
    drop(pool);
    audit.expect_unchanged();
}

/// How a forked copy has ended.
fn status_of(copy: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: waits for the copy.
    assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
    status
}

#[test]
fn a_forked_copy_is_told_so_and_takes_nothing() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    let handle = pool.apply_async(work, (1, 200_000)).unwrap();
    // SAFETY: the copy makes no use of what other threads may hold, but for what is tested here.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        let refused = matches!(pool.apply_async(work, (1, 0)), Err(PoolError::Forked))
            && matches!(ProcessPool::builder().workers(1).build(), Err(PoolError::Forked))
            && matches!(pool.join(), Err(PoolError::Forked));
        let joined = handle.join() == Err(TaskError::Pool(PoolError::Forked));
        drop(pool);
        // SAFETY: ends the copy.
        unsafe { libc::_exit(i32::from(!refused) + 2 * i32::from(!joined)) };
    }
    assert_eq!(status_of(copy), 0, "1: not refused; 2: a handle was not");
    assert_eq!(handle.join_timeout(HANG), Ok(4));
    // A handle holds its pool's memory.
    drop(handle);
    drop(pool);
    audit.expect_unchanged();
}

/// Results that lie there, which nobody has asked for yet, are the other's.
#[test]
fn a_forked_copy_that_asks_for_the_progress_takes_no_results() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    for round in 1..=5 {
        let handles: Vec<_> = (0..20).map(|n| pool.apply_async(work, (n, 0)).unwrap()).collect();
        // This does not take them in.
        while pool.worker_stats()[0].run < 20 * round {
            std::thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: the copy makes no use of what other threads may hold.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            let (_, queued) = (pool.progress(), pool.queued());
            // SAFETY: ends the copy.
            unsafe { libc::_exit(i32::try_from(queued).unwrap_or(1)) };
        }
        assert_eq!(status_of(copy), 0);
        // The pool looks after its memory now and then.
        std::thread::sleep(Duration::from_millis(150));
        assert!((0..).zip(&handles).all(|(n, handle)| handle.join_timeout(HANG) == Ok(3 * n + 1)), "round {round}");
    }
    drop(pool);
    audit.expect_unchanged();
}

/// What came of items is told to the pool's own process alone: in a copy each is an error, and nobody waits for another.
#[test]
fn a_forked_copy_waits_for_no_item_and_no_worker() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).build().unwrap();
    for items in [3, 100] {
        let mut results = pool.imap_unordered(work_a_while, 0..items).unwrap();
        // SAFETY: the copy makes no use of what other threads may hold.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            // SAFETY: ends a copy that waits.
            unsafe { libc::alarm(60) };
            let is_forked = |result| result == Err(TaskError::Pool(PoolError::Forked));
            let ready = pool.wait_ready(Duration::MAX) == Err(PoolError::Forked);
            let told = results.next().is_some_and(is_forked) && results.all(is_forked);
            // SAFETY: ends the copy.
            unsafe { libc::_exit(i32::from(!ready) + 2 * i32::from(!told)) };
        }
        assert_eq!(status_of(copy), 0, "14: it waits");
        assert_eq!(results.map(Result::unwrap).count(), usize::try_from(items).unwrap());
    }
    drop(pool);
    audit.expect_unchanged();
}
