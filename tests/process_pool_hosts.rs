//! Pools in host programs of every kind: those that are interrupted, killed, forget to begin, ignore signals, reap what is not
//! theirs, are deleted while they run, or end without a word. Each host is this program, run again for one case.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "sends signals, forks")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use millpond::process::{self, Process, ProcessPool};
use millpond::{PoolError, TaskError};

#[path = "common/host.rs"]
mod host;

use host::{CASE, HANG, Host, alive, numbers, own_folder, until_gone};

fn work(n: u64, microseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(microseconds));
    3 * n + 1
}

fn endless() {
    loop {
        std::hint::spin_loop();
    }
}

fn dies() {
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn speaks() {
    eprintln!("worker {} speaks.", process::id());
}

millpond::tasks![work, endless, dies, speaks];

// ── what hosts do ──────────────────────────────────────────────────────────────────

fn pool() -> ProcessPool {
    let pool = ProcessPool::builder().workers(3).build().unwrap();
    pool.wait_ready(HANG).unwrap();
    pool
}

/// Tasks have their values, those that kill their workers are errors, and workers are replaced.
fn expect_a_pool_that_works(pool: &ProcessPool) {
    for _ in 0..5 {
        let all: Vec<_> = (0..100).map(|n| pool.apply_async(work, (n, 100)).unwrap()).collect();
        let killer = pool.apply_async(dies, ()).unwrap();
        for (n, task) in all.iter().enumerate() {
            assert_eq!(task.join_timeout(HANG), Ok(3 * n as u64 + 1));
        }
        let died = killer.join_timeout(HANG);
        // Where the host has taken the status, nobody knows the signal.
        assert!(matches!(died, Err(TaskError::WorkerDied { pid: 1.., signal: Some(9) | None })), "{died:?}");
    }
    pool.wait_ready(HANG).unwrap();
    assert_eq!(pool.progress().deaths, 5);
    assert_eq!(pool.worker_ids().len(), 3);
}

/// A busy pool, whose workers are told of.
fn busy() -> ProcessPool {
    let pool = pool();
    (0..3).for_each(|_| pool.spawn(endless, ()).unwrap());
    while pool.queued() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    pool.worker_ids().iter().for_each(|id| print!("{id} "));
    println!();
    pool
}

/// Processor time of a process so far.
fn used(id: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let of = |path: PathBuf| fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let nanoseconds = threads
        .map(|thread| of(thread.unwrap().path()))
        .map(|text| text.split(' ').next().unwrap_or_default().parse::<u64>().unwrap_or(0));
    Duration::from_nanos(nanoseconds.sum())
}

/// Standard error becomes a pipe that nobody has read from for long: its other end.
fn fill_stderr() -> std::io::PipeReader {
    let (from, to) = std::io::pipe().unwrap();
    let set = |flags: libc::c_int| {
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set(libc::O_NONBLOCK);
    while (&to).write(&[b'.'; 512]).is_ok() {}
    set(0);
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::dup2(to.as_raw_fd(), 2) }, 2);
    from
}

fn host(case: &str) {
    if case == "forgot" {
        let error = ProcessPool::builder().workers(1).build().unwrap_err();
        assert_eq!(error, PoolError::NotInitialized);
        println!("{error}");
        return;
    }
    process::init();
    println!("host {}", process::id());
    match case {
        "interrupted" => {
            let _pool = busy();
            std::thread::sleep(HANG * 2);
        }
        "interrupted-and-decides" => {
            static INTERRUPTED: AtomicBool = AtomicBool::new(false);
            extern "C" fn interrupted(_: libc::c_int) {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
            let handler: extern "C" fn(libc::c_int) = interrupted;
            // SAFETY: the handler stores a flag.
            unsafe { libc::signal(libc::SIGINT, handler as *const () as libc::sighandler_t) };
            let pool = pool();
            let before = pool.worker_ids();
            let all: Vec<_> = (0..30).map(|n| pool.apply_async(work, (n, 20_000)).unwrap()).collect();
            println!("at work");
            while !INTERRUPTED.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The tasks of the moment, and all others, end as if nothing had been.
            assert!((0..).zip(&all).all(|(n, task)| task.join_timeout(HANG) == Ok(3 * n + 1)));
            assert_eq!((pool.progress().deaths, pool.worker_ids()), (0, before));
            pool.close();
            pool.join().unwrap();
            println!("fine");
        }
        "busy" => {
            let _pool = busy();
            std::thread::sleep(HANG * 2);
        }
        "leaks-its-pool" => std::mem::forget(busy()),
        "exits" => {
            let _pool = busy();
            std::process::exit(7);
        }
        "ignores-sigchld" => {
            // SAFETY: ignores a signal.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            let pool = pool();
            expect_a_pool_that_works(&pool);
            pool.close();
            pool.join().unwrap();
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
            for _ in 0..5 {
                let pool = pool();
                expect_a_pool_that_works(&pool);
                pool.close();
                pool.join().unwrap();
            }
            let reaped = REAPED.load(Ordering::Relaxed);
            assert!(reaped > 0, "the host took nobody's status, so nothing was tried");
            println!("fine; of 40 workers the host reaped {reaped}");
        }
        "says-too-much" => {
            let mut stderr = fill_stderr();
            let pool = ProcessPool::builder().workers(1).initializer(speaks, ()).build().unwrap();
            pool.wait_ready(HANG).unwrap();
            // Whoever would wait for room does so by now.
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(Process::spawn(work, (1, 0)).unwrap().join_timeout(HANG).unwrap(), 4);
            let died = pool.apply_async(dies, ()).unwrap().join_timeout(HANG);
            assert!(matches!(died, Err(TaskError::WorkerDied { .. })), "{died:?}");
            pool.wait_ready(HANG).unwrap();
            let words = format!("worker {} speaks.", pool.worker_ids()[0]);
            // What was held back comes, once there is room.
            let (mut text, mut bytes) = (String::new(), [0; 4096]);
            while !text.contains(&words) {
                let len = stderr.read(&mut bytes).unwrap();
                text.push_str(str::from_utf8(&bytes[..len]).unwrap());
            }
            println!("fine");
        }
        "deleted" => {
            let me = std::env::current_exe().unwrap();
            let first = pool();
            fs::remove_file(&me).unwrap();
            expect_a_pool_that_works(&first);
            fs::write(&me, "not a program").unwrap();
            expect_a_pool_that_works(&pool());
            first.terminate();
            println!("fine");
        }
        "rests" => {
            let pool = pool();
            assert_eq!(pool.starmap(work, (0..1000).map(|n| (n, 0))).unwrap().len(), 1000);
            // What was begun is seen to: the last look at the tasks that there were, for one.
            std::thread::sleep(Duration::from_millis(500));
            let mut all = pool.worker_ids();
            all.push(process::id());
            let sum = || all.iter().map(|id| used(*id)).sum::<Duration>();
            let before = sum();
            std::thread::sleep(Duration::from_secs(5));
            let used = sum() - before;
            assert!(used < Duration::from_millis(5), "{used:?} of 5 s");
            println!("fine: at rest for 5 s a pool of 3 and its host use {used:?} of a core");
        }
        _ => panic!("no such case: {case}"),
    }
    println!("end of main");
}

// ── what is checked from outside ───────────────────────────────────────────────────

/// A host with a busy pool: its workers.
fn start_busy(case: &str) -> (Host, BTreeSet<u32>) {
    let mut host = Host::start(case);
    host.line();
    let line = host.line();
    let ids: BTreeSet<u32> = numbers(&line).collect();
    assert_eq!(ids.len(), 3, "{line}");
    (host, ids)
}

fn expect_fine(host: Host) -> String {
    let (text, status, stderr) = host.rest();
    assert!(status.success() && text.ends_with("end of main\n"), "{status}\n{text}{stderr}");
    text.lines().find(|line| line.starts_with("fine")).unwrap_or_else(|| panic!("{text}{stderr}")).to_owned()
}

fn a_forgotten_init_is_an_error_that_says_so() {
    let (text, status, stderr) = Host::start("forgot").rest();
    assert!(status.success() && text.contains("millpond::process::init();"), "{text}{stderr}");
}

fn an_interrupted_host_ends_with_its_busy_workers() {
    let (host, ids) = start_busy("interrupted");
    host.interrupt();
    println!("  gone after {:?}", until_gone(&ids));
    assert_eq!(host.rest().1.signal(), Some(libc::SIGINT));
}

fn a_host_that_handles_the_interrupt_keeps_its_workers() {
    let mut host = Host::start("interrupted-and-decides");
    host.line();
    assert_eq!(host.line(), "at work");
    host.interrupt();
    expect_fine(host);
}

fn busy_workers_go_with_a_killed_host() {
    for how in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let (host, ids) = start_busy("busy");
        assert!(ids.iter().all(|id| alive(*id)));
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::kill(i32::try_from(host.child.id()).unwrap(), how) }, 0);
        println!("  gone {:?} after signal {how}", until_gone(&ids));
        assert_eq!(host.rest().1.signal(), Some(how));
    }
}

/// Nobody waits for tasks whose pool was leaked, or for those of a program that exits: the workers go with it.
fn a_host_that_ends_waits_for_no_endless_task() {
    for (case, code) in [("leaks-its-pool", 0), ("exits", 7)] {
        let (host, ids) = start_busy(case);
        until_gone(&ids);
        assert_eq!(host.rest().1.code(), Some(code), "{case}");
    }
}

fn a_deleted_or_replaced_file_does_no_harm() {
    let folder = own_folder();
    let copy = folder.join("host");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    expect_fine(Host::start_as(&copy, "deleted"));
    fs::remove_dir_all(&folder).unwrap();
}

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        return host(&case);
    }
    let checks: [(&str, fn()); 10] = [
        ("a_forgotten_init_is_an_error_that_says_so", a_forgotten_init_is_an_error_that_says_so),
        ("an_interrupted_host_ends_with_its_busy_workers", an_interrupted_host_ends_with_its_busy_workers),
        ("a_host_that_handles_the_interrupt_keeps_its_workers", a_host_that_handles_the_interrupt_keeps_its_workers),
        ("busy_workers_go_with_a_killed_host", busy_workers_go_with_a_killed_host),
        ("a_host_that_ends_waits_for_no_endless_task", a_host_that_ends_waits_for_no_endless_task),
        ("a_host_that_ignores_sigchld", || drop(expect_fine(Host::start("ignores-sigchld")))),
        ("a_host_that_reaps_everything", || println!("  {}", expect_fine(Host::start("reaps-everything")))),
        ("a_host_with_a_full_standard_error", || drop(expect_fine(Host::start("says-too-much")))),
        ("a_deleted_or_replaced_file_does_no_harm", a_deleted_or_replaced_file_does_no_harm),
        ("a_pool_at_rest_uses_no_processor", || println!("  {}", expect_fine(Host::start("rests")))),
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
