//! P3, no orphans, and hosts of every kind: this program starts itself as a program with children, under one fault or
//! another, and looks at what is left.
//!
//! Each case is a pair: what the host does, in a process of its own, and what is checked about it from outside.
#![expect(unsafe_code, reason = "limits, signals and users are set by system calls")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millpond::ipc::{Event, Queue};
use millpond::process::{self, Process, ProcessError, ProcessPool};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

#[path = "common/host.rs"]
mod host;
#[path = "common/user.rs"]
mod user;

use host::{CASE, HANG, Host, alive, numbers, own_folder, until_gone};

// ── what runs in children ──────────────────────────────────────────────────────────

fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Says that it lives, and stays: busy or asleep, at the bottom of so many others, with a command of its own.
fn tree(depth: u32, busy: bool) {
    let mut command = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    println!("alive {} command {}", process::id(), command.id());
    let children: Vec<_> =
        (0..if depth > 0 { 2 } else { 0 }).map(|n| Process::spawn(tree, (depth - 1, n == 0)).unwrap()).collect();
    if busy {
        loop {
            std::hint::black_box(children.len());
        }
    }
    let _ = command.wait();
}

fn late(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
    println!("late {}", process::id());
}

fn forever() {
    println!("alive {}", process::id());
    std::thread::sleep(Duration::from_secs(1000));
}

/// Deaf to signals, and to the system's word on the parent's death; busy.
fn deaf() {
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) }, 0);
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: writes the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: reads the set.
    assert_eq!(unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) }, 0);
    println!("alive {}", process::id());
    loop {
        std::hint::black_box(());
    }
}

/// Whether the signals are those of any Rust program: ignored ones, then blocked ones.
fn signals() -> (bool, u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: reads the action.
    unsafe { libc::sigaction(libc::SIGSEGV, std::ptr::null(), old.as_mut_ptr()) };
    // SAFETY: written, or zero.
    let guarded = unsafe { old.assume_init() }.sa_sigaction != libc::SIG_DFL;
    (guarded, mask("SigIgn:"), mask("SigBlk:"))
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(n: u64) -> u64 {
    let room = std::hint::black_box([n; 100]);
    overflow(n + 1) + room[3]
}

/// Many processes with many threads: each of which starts processes, at once.
fn hybrid(threads: u32) -> u32 {
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|n| scope.spawn(move || Process::spawn(add, (n, 1)).unwrap().join().unwrap())).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn exits() {
    std::process::exit(1);
}

#[expect(clippy::needless_pass_by_value, reason = "values travel to a task")]
fn put(queue: Queue<u32>) {
    queue.put(1).unwrap();
}

fn queue() -> Queue<u32> {
    Queue::bounded(1).unwrap()
}

/// Starts processes where it has nothing in common with its own parent, nor they with it.
fn children_apart() -> u32 {
    let killed = Process::spawn(forever, ()).unwrap();
    killed.kill().unwrap();
    assert!(killed.join().is_err());
    let sum = Process::spawn(add, (1, 2)).unwrap().join().unwrap();
    assert_eq!(millpond::ipc::stats().unwrap().members, 1, "their seats are given up here, and nowhere else");
    sum
}

millpond::tasks![
    put,
    queue,
    children_apart,
    exits,
    stays,
    stays_below,
    add,
    tree,
    late,
    forever,
    deaf,
    signals,
    overflow,
    hybrid
];

// ── what hosts do ──────────────────────────────────────────────────────────────────

fn limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit.rlim_cur
}

/// A socket with many descriptors in it that nobody receives: as many as one message takes.
fn sends_to_nobody() -> (UnixStream, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    let many = [here.as_fd(); 253];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut descriptors = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.push(SendAncillaryMessage::ScmRights(&many)));
    let sent = rustix::net::sendmsg(&here, &[IoSlice::new(b".")], &mut descriptors, SendFlags::empty());
    assert_eq!(sent, Ok(1));
    (here, there)
}

/// Closes the standard streams from this one on. Then nothing of ours may get their numbers, and what is printed goes nowhere.
fn closes_standard_streams(first: i32) {
    let mut out = fs::File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let words = out.try_clone().unwrap();
    // Not waiting for children that wait for this one.
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(&words, "{panic}");
        std::process::abort();
    }));
    for fd in first..3 {
        // SAFETY: numbers only; nobody uses them any more.
        unsafe { libc::close(fd) };
    }
    let of = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let expect_closed = |what: &str| {
        let started = Instant::now();
        // A descriptor may have such a number for the moment until it gets another.
        while let Some(taken) = (first..3).find_map(of) {
            assert!(started.elapsed() < HANG / 3, "{what}: {} has the number of a standard stream", taken.display());
            std::thread::yield_now();
        }
        println!("a line that nobody reads");
        eprintln!("another");
    };
    let queue = Queue::bounded(3).unwrap();
    queue.put(1_u32).unwrap();
    expect_closed("the shared memory");
    let (come, go) = (Event::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(stays_below, (come.clone(), go.clone())).unwrap();
    come.wait().unwrap();
    // Those of the child and of its own child, of which this process hears as the root.
    while (0..100).filter_map(of).filter(|target| target.ends_with("anon_inode:[pidfd]")).count() < 2 {
        std::thread::yield_now();
    }
    expect_closed("processes");
    let pool = ProcessPool::builder().workers(2).capture_stderr(100).build().unwrap();
    assert_eq!(pool.apply(add, (1, 2)), Ok(3));
    expect_closed("a pool");
    go.set();
    child.join().unwrap();
    drop(pool);
    assert_eq!((queue.get().unwrap(), three()), (1, 3));
    expect_closed("what is left");
    writeln!(out, "fine\nend of main").unwrap();
}

/// What the keeper waits on ends while a copy of this process holds it all. Then the keeper rests.
fn keeper_beside_a_copy() {
    let pidfds = || {
        let of = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        (0..200).filter_map(of).filter(|target| target.ends_with("anon_inode:[pidfd]")).count()
    };
    let until = |what: &str, so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !so() {
            assert!(started.elapsed() < HANG / 3, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (come, go) = (Event::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(stays_below, (come.clone(), go.clone())).unwrap();
    come.wait().unwrap();
    // The child's, and that of its own child, of which this process hears as the root.
    until("the root hears of both", &|| pidfds() == 2);
    let killed = Process::spawn(forever, ()).unwrap();
    let pool = ProcessPool::builder().workers(2).build().unwrap();
    assert_eq!(pool.apply(add, (1, 2)), Ok(3));
    let me = process::id();
    // SAFETY: the copy only sleeps.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        // It goes with this process, whatever becomes of that.
        // SAFETY: numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        while std::os::unix::process::parent_id() == me {
            std::thread::sleep(Duration::from_secs(1));
        }
        // SAFETY: ends the copy.
        unsafe { libc::_exit(0) };
    }
    go.set();
    killed.kill().unwrap();
    // Joining would take them out of the keeper's hands.
    until("the children have ended", &|| !child.is_alive() && !killed.is_alive());
    drop(pool);
    until("all descriptors are closed", &|| pidfds() == 0);
    let half = Duration::from_millis(500);
    let rests = || {
        let before = keepers_ticks();
        std::thread::sleep(half);
        keepers_ticks() - before <= 1
    };
    assert!((0..20).any(|_| rests()), "the keeper has nothing to do, and does not rest");
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::kill(copy, libc::SIGKILL) }, 0);
    // SAFETY: waits for the copy, and wants no status.
    assert_eq!(unsafe { libc::waitpid(copy, std::ptr::null_mut(), 0) }, copy);
    println!("fine");
}

/// The processor's time that the keeper has had, in hundredths of a second.
fn keepers_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let keepers: Vec<String> = stats.filter(|stat| stat.contains("(millpond-keeper)")).collect();
    assert_eq!(keepers.len(), 1);
    let fields = keepers[0].rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// At the bottom of another, until it may go.
fn stays_below(come: Event, go: Event) {
    Process::spawn(stays, (come, go)).unwrap().join().unwrap();
}

#[expect(clippy::needless_pass_by_value, reason = "values travel to a task")]
fn stays(come: Event, go: Event) {
    come.set();
    go.wait().unwrap();
}

fn three() -> u32 {
    Process::spawn(add, (1, 2)).unwrap().join().unwrap()
}

fn host(case: &str) {
    if case == "forgot" {
        let error = Process::spawn(add, (1, 2)).unwrap_err();
        assert!(matches!(error, ProcessError::NotInitialized { .. }), "{error:?}");
        println!("{error}");
        return;
    }
    let early = (case == "early-handle").then(|| Queue::<u32>::bounded(1).unwrap());
    process::init();
    println!("host {}", process::id());
    match case {
        "unjoined" => std::mem::forget(Process::spawn(late, (300,)).unwrap()),
        "unjoined-exit" => {
            std::mem::forget(Process::spawn(late, (300,)).unwrap());
            std::process::exit(7);
        }
        "unjoined-panic" => {
            std::mem::forget(Process::spawn(late, (300,)).unwrap());
            std::panic::set_hook(Box::new(|_| {}));
            panic!("the host panics");
        }
        "detached" => Process::spawn(forever, ()).unwrap().detach(),
        "tree" => {
            let _trees = [Process::spawn(tree, (2, false)).unwrap(), Process::spawn(tree, (2, true)).unwrap()];
            std::thread::sleep(Duration::from_secs(1000));
        }
        "ctrl-c" => {
            let child = Process::spawn(forever, ()).unwrap();
            let _ = child.join();
        }
        "ctrl-c-handled" => {
            static INTERRUPTED: AtomicBool = AtomicBool::new(false);
            extern "C" fn interrupted(_: libc::c_int) {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
            let handler: extern "C" fn(libc::c_int) = interrupted;
            // SAFETY: the handler stores a flag.
            unsafe { libc::signal(libc::SIGINT, handler as *const () as libc::sighandler_t) };
            let child = Process::spawn(forever, ()).unwrap();
            while !INTERRUPTED.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(child.is_alive(), "the signal went to the child too");
            child.terminate().unwrap();
            println!("decided: {}", child.join().unwrap_err());
        }
        "ignores-sigchld" => {
            // SAFETY: ignores a signal.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            for _ in 0..20 {
                assert_eq!(three(), 3);
            }
            let killed = Process::spawn(forever, ()).unwrap();
            killed.kill().unwrap();
            let error = killed.join().unwrap_err();
            assert!(matches!(error, ProcessError::Died { signal: Some(9) | None, .. }), "{error:?}");
            // The child finds the signal as every program does.
            let (_, ignored, _) = Process::spawn(signals, ()).unwrap().join().unwrap();
            assert_eq!(ignored & (1 << (libc::SIGCHLD - 1)), 0);
            println!("fine");
        }
        "reaps-everything" => {
            static REAPED: AtomicU32 = AtomicU32::new(0);
            std::thread::spawn(|| {
                loop {
                    // SAFETY: waits for any child, and wants no status.
                    if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {
                        REAPED.fetch_add(1, Ordering::Relaxed);
                    } else {
                        std::thread::yield_now();
                    }
                }
            });
            for _ in 0..50 {
                assert_eq!(three(), 3);
            }
            let mut told = 0;
            for _ in 0..20 {
                let killed = Process::spawn(forever, ()).unwrap();
                killed.kill().unwrap();
                match killed.join() {
                    Err(ProcessError::Died { signal: Some(9), code: None, .. }) => told += 1,
                    Err(ProcessError::Died { signal: None, code: None, .. }) => assert!(killed.exit_status().is_none()),
                    other => panic!("{other:?}"),
                }
            }
            println!("fine; of 70, the host reaped {}; of 20, {told} statuses known", REAPED.load(Ordering::Relaxed));
        }
        "few-descriptors" => {
            assert_eq!(three(), 3);
            let before = soft_limit(libc::RLIMIT_NOFILE);
            let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            limit(libc::RLIMIT_NOFILE, used + 20);
            let mut children = Vec::new();
            let error = loop {
                match Process::spawn(forever, ()) {
                    Ok(child) => children.push(child),
                    Err(error) => break error,
                }
                assert!(children.len() < 100, "no limit was met");
            };
            assert!(
                matches!(&error, ProcessError::Spawn { source, .. } if source.raw_os_error() == Some(libc::EMFILE)),
                "{error:?}"
            );
            assert!(children.iter().all(Process::is_alive) && children.len() > 3);
            children.drain(..).for_each(|child| child.kill().unwrap());
            assert_eq!(three(), 3, "the rest works on");
            limit(libc::RLIMIT_NOFILE, before);
            println!("fine after {error}");
        }
        "few-processes" => {
            // The limit does not bind root.
            user::stop_being_root();
            assert_eq!(three(), 3);
            let before = soft_limit(libc::RLIMIT_NPROC);
            limit(libc::RLIMIT_NPROC, 1);
            let error = Process::spawn(add, (1, 2)).unwrap_err();
            assert!(
                matches!(&error, ProcessError::Spawn { source, .. } if source.raw_os_error() == Some(libc::EAGAIN)),
                "{error:?}"
            );
            limit(libc::RLIMIT_NPROC, before);
            assert_eq!(three(), 3, "the rest works on");
            println!("fine after {error}");
        }
        "becomes-another-user" => {
            assert_eq!(three(), 3);
            let pool = ProcessPool::builder().workers(1).build().unwrap();
            assert_eq!(pool.apply(add, (1, 2)), Ok(3));
            user::stop_being_root();
            assert_eq!(three(), 3);
            assert!(pool.apply(exits, ()).is_err());
            assert_eq!(pool.apply(add, (1, 2)), Ok(3), "by the worker that replaces it");
            println!("fine");
        }
        "too-many-in-flight" => {
            user::stop_being_root();
            assert_eq!(three(), 3);
            // The limit is on a user's descriptors in messages that nobody has received.
            limit(libc::RLIMIT_NOFILE, 200);
            let unread = sends_to_nobody();
            let error = Process::spawn(add, (1, 2)).unwrap_err();
            assert!(
                matches!(&error, ProcessError::Spawn { step: "telling the child", source }
                    if source.raw_os_error() == Some(libc::ETOOMANYREFS)),
                "{error:?}"
            );
            assert_eq!(process::children(), []);
            drop(unread);
            assert_eq!(three(), 3, "the rest works on");
            println!("fine after {error}");
        }
        "deleted" => {
            let me = std::env::current_exe().unwrap();
            fs::remove_file(&me).unwrap();
            assert_eq!(three(), 3);
            fs::write(&me, "not a program").unwrap();
            assert_eq!(three(), 3);
            println!("fine");
        }
        "forks" => {
            let kept = Process::spawn(forever, ()).unwrap();
            // SAFETY: the child makes no use of what other threads may hold but for what is tested here.
            let forked = unsafe { libc::fork() };
            if forked == 0 {
                let refused = matches!(Process::spawn(add, (1, 2)), Err(ProcessError::Forked));
                let mine = process::children().len();
                let unheard = matches!(kept.join(), Err(ProcessError::Forked));
                drop(kept);
                let code = i32::from(!(refused && unheard)) + 2 * i32::try_from(mine).unwrap();
                // SAFETY: ends the copy.
                unsafe { libc::_exit(code) };
            }
            let mut status = 0;
            // SAFETY: waits for the copy.
            assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
            assert_eq!(ExitStatus::from_raw(status).code(), Some(0));
            kept.kill().unwrap();
            println!("fine");
        }
        "forks-first" => {
            let queue = Queue::<u32>::bounded(1).unwrap();
            // SAFETY: nothing else has happened here that another thread could have a part in.
            let forked = unsafe { libc::fork() };
            if forked == 0 {
                let error = Process::spawn(put, (queue,)).map(drop).unwrap_err();
                println!("{error}");
                assert_eq!(three(), 3, "what needs no handle runs");
                // SAFETY: ends the copy.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: waits for the copy.
            assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
            assert_eq!(ExitStatus::from_raw(status).code(), Some(0));
            println!("fine");
        }
        "early-handle" => {
            // Each child has made one too by now.
            assert_eq!(three(), 3);
            let refused = |error: ProcessError| {
                let said = error.to_string();
                assert!(said.contains("before `millpond::process::init()`"), "{said}");
                println!("{said}");
            };
            refused(Process::spawn(put, (early.unwrap(),)).unwrap().join().unwrap_err());
            refused(Process::spawn(queue, ()).unwrap().join().map(drop).unwrap_err());
            let pool = ProcessPool::builder().workers(1).build().unwrap();
            let error = pool.apply(put, (queue(),)).unwrap_err().to_string();
            assert!(error.contains("before `millpond::process::init()`"), "{error}");
            // What such a child shares with its own children is another memory.
            assert_eq!(Process::spawn(children_apart, ()).unwrap().join().unwrap(), 3);
            println!("fine");
        }
        "deaf-child" => {
            let _child = Process::spawn(deaf, ()).unwrap();
            std::thread::sleep(Duration::from_secs(1000));
        }
        "copied" => {
            let _child = Process::spawn(forever, ()).unwrap();
            // SAFETY: the copy only sleeps.
            let copy = unsafe { libc::fork() };
            if copy == 0 {
                std::thread::sleep(Duration::from_secs(1000));
            }
            println!("copy {copy}");
            std::thread::sleep(Duration::from_secs(1000));
        }
        "copy-stays" => keeper_beside_a_copy(),
        "becomes-another" => {
            let _child = Process::spawn(forever, ()).unwrap();
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            panic!("{}", Command::new("sleep").arg("1000").exec());
        }
        "stack-overflow" => {
            let error = Process::spawn(overflow, (0,)).unwrap().join().unwrap_err();
            assert!(matches!(error, ProcessError::Died { signal: Some(libc::SIGABRT), .. }), "{error:?}");
            println!("fine");
        }
        "no-standard-streams" => {
            for fd in 0..3 {
                // SAFETY: numbers only; nobody uses them any more.
                unsafe { libc::close(fd) };
            }
            let fine = matches!(Process::spawn(add, (1, 2)).map(|child| child.join()), Ok(Ok(3)));
            std::process::exit(if fine { 55 } else { 56 });
        }
        "standard-streams-closed" => closes_standard_streams(0),
        "standard-error-closed" => closes_standard_streams(2),
        "hybrid" => {
            let children: Vec<_> = (0..3).map(|_| Process::spawn(hybrid, (4,)).unwrap()).collect();
            for child in &children {
                assert_eq!(child.join().unwrap(), 10);
            }
            println!("fine");
        }
        "signals" => {
            let (guarded, ignored, blocked) = Process::spawn(signals, ()).unwrap().join().unwrap();
            assert_eq!((guarded, ignored & (1 << (libc::SIGPIPE - 1)) != 0, blocked), (true, true, 0));
            println!("fine");
        }
        _ => panic!("no such case: {case}"),
    }
    println!("end of main");
}

// ── what is checked from outside ───────────────────────────────────────────────────

fn signal(id: u32, signal: i32) {
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::kill(i32::try_from(id).unwrap(), signal) }, 0);
}

fn fine(case: &str) -> String {
    let (text, status, stderr) = Host::start(case).rest();
    assert!(
        status.success() && text.contains("fine") && text.ends_with("end of main\n"),
        "{case}: {status}\n{text}{stderr}"
    );
    text
}

fn unjoined_children_are_waited_for_at_the_end() {
    for (case, code) in [("unjoined", 0), ("unjoined-exit", 7), ("unjoined-panic", 101)] {
        let host = Host::start(case);
        let (text, status, stderr) = host.rest();
        assert_eq!(status.code(), Some(code), "{case}: {text}{stderr}");
        assert!(text.contains("late "), "{case}: the child did not get to its end: {text}");
    }
}

fn a_detached_child_ends_with_the_program() {
    let started = Instant::now();
    let (text, status, _) = Host::start("detached").rest();
    assert!(status.success() && text.ends_with("end of main\n") || text.contains("alive"), "{text}");
    // Its output ended too, so the child is gone; it would have slept for much longer.
    assert!(started.elapsed() < HANG);
}

/// All that a host with a tree of children, busy and idle, with commands, has started: 14 processes, 14 commands.
fn grown_tree(host: &mut Host) -> BTreeSet<u32> {
    let first = host.line();
    assert!(first.starts_with("host "), "{first}");
    let mut ids = BTreeSet::new();
    for _ in 0..14 {
        let line = host.line();
        assert!(line.starts_with("alive "), "{line}");
        ids.extend(numbers(&line));
    }
    assert_eq!(ids.len(), 28);
    assert!(ids.iter().all(|id| alive(*id)));
    ids
}

fn nothing_outlives_a_killed_host() {
    let mut longest = Duration::ZERO;
    for how in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT, libc::SIGKILL] {
        let mut host = Host::start("tree");
        let ids = grown_tree(&mut host);
        signal(host.child.id(), how);
        longest = longest.max(until_gone(&ids));
        let (_, status, _) = host.rest();
        assert_eq!(status.signal(), Some(how));
    }
    println!(
        "  28 processes at three depths, half of them commands, some busy: gone {longest:?} after the kill at the latest"
    );
}

fn nothing_outlives_a_killed_child() {
    let mut host = Host::start("tree");
    let ids = grown_tree(&mut host);
    // The host's own children are those whose parent it is.
    let children: Vec<u32> = ids.iter().copied().filter(|id| parent_of(*id) == host.child.id()).collect();
    assert_eq!(children.len(), 2);
    let below = |top: u32| -> BTreeSet<u32> { ids.iter().copied().filter(|id| descends(*id, top)).collect() };
    let (first, second) = (below(children[0]), below(children[1]));
    assert_eq!((first.len(), second.len()), (14, 14));
    signal(children[0], libc::SIGKILL);
    until_gone(&first);
    assert!(second.iter().all(|id| alive(*id)), "the others live on");
    // A child that is stopped goes too.
    signal(children[1], libc::SIGSTOP);
    signal(host.child.id(), libc::SIGKILL);
    until_gone(&second);
    host.rest();
}

/// The system's word on a parent's death can be lost: to a child that has told it to be silent, and hears nothing else.
fn a_deaf_child_does_not_outlive_its_host() {
    let mut host = Host::start("deaf-child");
    host.line();
    let ids: BTreeSet<u32> = numbers(&host.line()).collect();
    assert!(ids.len() == 1 && ids.iter().all(|id| alive(*id)));
    signal(host.child.id(), libc::SIGKILL);
    until_gone(&ids);
    host.rest();
}

/// A copy of the host holds all its descriptors, so that nothing closes when the host dies.
fn a_copy_of_a_host_keeps_no_child_alive() {
    let mut host = Host::start("copied");
    host.line();
    let (mut copies, mut children) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..2 {
        let line = host.line();
        if line.starts_with("copy") { &mut copies } else { &mut children }.extend(numbers(&line));
    }
    assert_eq!((copies.len(), children.len()), (1, 1));
    signal(host.child.id(), libc::SIGKILL);
    until_gone(&children);
    copies.iter().for_each(|copy| signal(*copy, libc::SIGKILL));
    host.rest();
}

/// The process stays, but is not the one that started children.
fn a_host_that_becomes_another_program_leaves_no_child() {
    let mut host = Host::start("becomes-another");
    host.line();
    let ids: BTreeSet<u32> = numbers(&host.line()).collect();
    drop(host.child.stdin.take());
    until_gone(&ids);
    assert!(alive(host.child.id()));
    host.child.kill().unwrap();
    host.rest();
}

fn parent_of(id: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|parent| parent.parse().ok()).unwrap_or(0)
}

fn descends(mut id: u32, from: u32) -> bool {
    while id > 1 {
        if id == from {
            return true;
        }
        id = parent_of(id);
    }
    false
}

fn ctrl_c_reaches_the_host_alone_which_decides() {
    let mut host = Host::start("ctrl-c");
    host.line();
    let ids: BTreeSet<u32> = numbers(&host.line()).collect();
    host.interrupt();
    until_gone(&ids);
    assert_eq!(host.rest().1.signal(), Some(libc::SIGINT), "undecided: the host ends, its children with it");

    let mut host = Host::start("ctrl-c-handled");
    host.line();
    host.line();
    host.interrupt();
    let (text, status, _) = host.rest();
    assert!(status.success() && text.contains("decided: ") && text.contains("SIGTERM"), "{text}");
}

fn a_deleted_or_replaced_file_does_no_harm() {
    let folder = own_folder();
    let copy = folder.join("host");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let (text, status, stderr) = Host::start_as(&copy, "deleted").rest();
    fs::remove_dir_all(&folder).unwrap();
    assert!(status.success() && text.contains("fine"), "{status}: {text}{stderr}");
}

fn a_forgotten_init_is_an_error_that_says_so() {
    let (text, status, stderr) = Host::start("forgot").rest();
    assert!(status.success() && text.contains("millpond::process::init();"), "{text}{stderr}");
}

fn a_forked_host_hears_why_a_handle_does_not_travel() {
    let said = fine("forks-first");
    assert!(said.contains("was made by fork"), "{said}");
}

fn a_stack_overflow_says_so() {
    let (text, status, stderr) = Host::start("stack-overflow").rest();
    assert!(status.success() && text.contains("fine"), "{text}{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
}

fn a_host_without_standard_streams_has_children_all_the_same() {
    assert_eq!(Host::start("no-standard-streams").rest().1.code(), Some(55));
}

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        return host(&case);
    }
    // Children of the checks themselves, if there are any, are hosts' children: this program has none.
    let checks: [(&str, fn()); 26] = [
        ("a_deaf_child_does_not_outlive_its_host", a_deaf_child_does_not_outlive_its_host),
        ("a_copy_of_a_host_keeps_no_child_alive", a_copy_of_a_host_keeps_no_child_alive),
        ("the_keeper_rests_beside_a_copy_of_its_host", || drop(fine("copy-stays"))),
        ("a_host_that_becomes_another_program_leaves_no_child", a_host_that_becomes_another_program_leaves_no_child),
        ("a_forgotten_init_is_an_error_that_says_so", a_forgotten_init_is_an_error_that_says_so),
        ("unjoined_children_are_waited_for_at_the_end", unjoined_children_are_waited_for_at_the_end),
        ("a_detached_child_ends_with_the_program", a_detached_child_ends_with_the_program),
        ("nothing_outlives_a_killed_host", nothing_outlives_a_killed_host),
        ("nothing_outlives_a_killed_child", nothing_outlives_a_killed_child),
        ("ctrl_c_reaches_the_host_alone_which_decides", ctrl_c_reaches_the_host_alone_which_decides),
        ("a_host_that_ignores_sigchld", || drop(fine("ignores-sigchld"))),
        ("a_host_that_reaps_everything", || {
            print!("  {}", fine("reaps-everything").lines().nth(1).unwrap_or_default())
        }),
        ("a_host_out_of_descriptors", || drop(fine("few-descriptors"))),
        ("a_host_that_may_not_clone", || drop(fine("few-processes"))),
        ("a_host_that_becomes_another_user", || drop(fine("becomes-another-user"))),
        ("a_host_with_too_many_descriptors_in_flight", || drop(fine("too-many-in-flight"))),
        ("a_deleted_or_replaced_file_does_no_harm", a_deleted_or_replaced_file_does_no_harm),
        ("a_forked_host_starts_nothing", || drop(fine("forks"))),
        ("a_forked_host_hears_why_a_handle_does_not_travel", a_forked_host_hears_why_a_handle_does_not_travel),
        ("a_handle_that_was_made_too_early_is_an_error_that_says_so", || drop(fine("early-handle"))),
        ("a_stack_overflow_says_so", a_stack_overflow_says_so),
        ("a_host_without_standard_streams_has_children", a_host_without_standard_streams_has_children_all_the_same),
        ("no_descriptor_becomes_a_standard_stream", || drop(fine("standard-streams-closed"))),
        ("what_is_printed_goes_into_no_shared_memory", || drop(fine("standard-error-closed"))),
        ("processes_with_threads_that_start_processes", || drop(fine("hybrid"))),
        ("signals_are_those_of_any_program", || drop(fine("signals"))),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, check) in checks {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            println!("check {name}");
            check();
        }
    }
    println!("all checks passed");
}
