//! P1: a function runs in a process of its own, with arguments and a value; ids, names, waiting, ending, and every way
//! in which that can fail.
#![cfg(feature = "process")]

use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc;
use std::time::Duration;

use millpond::process::{self, Payload, Process, ProcessError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

millpond::test_support!();

/// Nothing here takes so long: a test that waits for it hangs.
const HANG: Duration = Duration::from_secs(120);

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn nothing() {}

#[expect(clippy::too_many_arguments, reason = "as many as can be")]
fn twelve(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8) -> Vec<u8> {
    vec![a, b, c, d, e, f, g, h, i, j, k, l]
}

fn generic<T: std::fmt::Display>(value: T) -> String {
    format!("<{value}>")
}

fn twin() -> &'static str {
    "outer"
}

mod inner {
    pub(crate) fn twin() -> String {
        "inner".to_owned()
    }
}

fn ids() -> (u32, u32, String) {
    (process::id(), process::parent_id(), process::current_name().to_owned())
}

/// What the system shows: the command's first word, and the name of the main thread.
fn shown() -> (String, String) {
    let command = std::fs::read("/proc/self/cmdline").unwrap();
    let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let comm = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    (String::from_utf8_lossy(first).into_owned(), comm.trim_end().to_owned())
}

fn nested(depth: u32) -> Vec<u32> {
    let mut ids = vec![process::parent_id(), process::id()];
    if depth > 0 {
        let child = Process::spawn(nested, (depth - 1,)).unwrap();
        assert_eq!(process::children(), [child.id()]);
        ids.extend(child.join().unwrap());
    }
    ids
}

fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn panics(how: u32) -> u32 {
    match how {
        0 => panic!("a fixed text"),
        1 => panic!("a number: {how}"),
        2 => std::panic::panic_any(17_u32),
        3 => {
            // SAFETY: closing what nobody here writes to.
            let nobody_hears = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            replace_stderr(&nobody_hears);
            panic!("nobody hears this but the parent");
        }
        _ => how,
    }
}

fn replace_stderr(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    #[expect(unsafe_code, reason = "points standard error elsewhere")]
    // SAFETY: numbers only.
    let result = unsafe { libc::dup2(file.as_raw_fd(), 2) };
    assert_eq!(result, 2);
}

fn ends(how: u32) -> u32 {
    match how {
        0 => std::process::exit(0),
        1 => std::process::exit(41),
        2 => std::process::abort(),
        signal => {
            let me = i32::try_from(process::id()).unwrap();
            #[expect(unsafe_code, reason = "sends itself a signal")]
            // SAFETY: numbers only.
            unsafe {
                libc::kill(me, i32::try_from(signal - 100).unwrap());
            }
            sleep(1000);
            0
        }
    }
}

fn fails() -> Result<u32, String> {
    Err("no luck".to_owned())
}

/// A value that is fine to send and to receive only where the number is even; odd ones break on the named side.
#[derive(Debug, PartialEq)]
struct Fragile(u32);

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 1 {
            return Err(serde::ser::Error::custom("one is not for sending"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            3 => Err(D::Error::custom("three is not for reading")),
            5 => panic!("five is not for anybody"),
            number => Ok(Self(number)),
        }
    }
}

fn fragile(value: Fragile, plus: u32) -> Fragile {
    Fragile(value.0 + plus)
}

fn unlisted(n: u32) -> u32 {
    n
}

fn stdin_is_empty() -> usize {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut text).unwrap()
}

/// The signals that this thread blocks, and that this process ignores and catches: a bit each.
fn dispositions() -> (u64, u64, u64) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    (set("SigBlk:"), set("SigIgn:"), set("SigCgt:"))
}

fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 256]);
    if room[0] == u64::MAX { 0 } else { overflow(depth + 1) + room[255] }
}

fn environment(key: String) -> (Option<String>, Vec<String>) {
    let marker = |(key, _): (String, String)| key.contains("MILLPOND").then_some(key);
    (std::env::var(key).ok(), std::env::vars().filter_map(marker).collect())
}

fn threads(count: u64) -> u64 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || n * n)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

millpond::tasks![
    dispositions,
    overflow,
    add,
    nothing,
    twelve,
    generic::<u32>,
    generic::<String>,
    inner::twin,
    ids,
    shown,
    nested,
    reversed,
    sleep,
    panics,
    ends,
    fails,
    fragile,
    stdin_is_empty,
    environment,
    threads,
];

#[test]
fn values_come_back() {
    assert_eq!(Process::spawn(add, (1, 2)).unwrap().join().unwrap(), 3);
    let nothing: Process<()> = Process::spawn(nothing, ()).unwrap();
    nothing.join().unwrap();
    let all = Process::spawn(twelve, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)).unwrap();
    assert_eq!(all.join().unwrap(), (1..=12).collect::<Vec<u8>>());
    assert_eq!(Process::spawn(fails, ()).unwrap().join().unwrap(), Err("no luck".to_owned()));
    assert_eq!(Process::spawn(generic::<u32>, (7,)).unwrap().join().unwrap(), "<7>");
    assert_eq!(Process::spawn(generic::<String>, ("x".to_owned(),)).unwrap().join().unwrap(), "<x>");
    assert_eq!(Process::spawn(inner::twin, ()).unwrap().join().unwrap(), "inner");
    let _ = twin();
    // A closure that captures nothing is a type like any other, but nobody listed it.
    let closure = Process::spawn(|n: u32| n, (1,));
    assert!(matches!(closure, Err(ProcessError::NotRegistered { .. })), "{closure:?}");
}

#[test]
fn large_values_travel_both_ways_also_when_nobody_waits_yet() {
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let children: Vec<_> = (0..3).map(|_| Process::spawn(reversed, (bytes.clone(),)).unwrap()).collect();
    // A child is not kept from ending by a value that nobody has asked for.
    while children.iter().any(Process::is_alive) {
        std::thread::yield_now();
    }
    for child in children {
        let mut back = child.join().unwrap();
        back.reverse();
        assert!(back == bytes, "the bytes changed on their way");
    }
}

#[test]
fn parents_and_children_know_each_other() {
    let children: Vec<_> = (0..4).map(|_| Process::spawn(ids, ()).unwrap()).collect();
    for child in &children {
        let (id, parent, name) = child.join().unwrap();
        assert_eq!((id, parent), (child.id(), process::id()));
        assert_eq!((name.as_str(), child.name()), ("ids", "ids"));
        assert!(!process::children().contains(&child.id()));
    }
    let sleeper = Process::spawn(sleep, (1000,)).unwrap();
    assert!(process::children().contains(&sleeper.id()));
    sleeper.kill().unwrap();
    assert_eq!(process::current_name(), "MainProcess");
    assert_eq!(Process::spawn(generic::<String>, (String::new(),)).unwrap().name(), "generic");
}

fn comm_of_this_program() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned()
}

#[test]
fn children_have_children() {
    let ids = Process::spawn(nested, (3,)).unwrap().join().unwrap();
    assert_eq!(ids.len(), 8);
    assert_eq!(ids[0], process::id());
    for pair in ids.chunks(2).collect::<Vec<_>>().windows(2) {
        assert_eq!(pair[1][0], pair[0][1], "a child's parent is who started it: {ids:?}");
    }
}

#[test]
fn a_name_is_what_the_system_shows() {
    let child = Process::new(shown, ()).name("a name that is longer than fifteen").start().unwrap();
    assert_eq!(child.name(), "a name that is longer than fifteen");
    let expected = ("a name that is longer than fifteen".to_owned(), "a name that is".to_owned());
    assert_eq!(child.join().unwrap(), expected);
    let child = Process::spawn(shown, ()).unwrap();
    let ours = std::env::args().next().unwrap();
    assert_eq!(child.join().unwrap(), (ours, comm_of_this_program()), "unnamed: this program's");
    let refused = Process::new(shown, ()).name("a\0b").start().unwrap_err();
    assert!(matches!(refused, ProcessError::BadName { .. }), "{refused}");
}

#[test]
fn each_test_worker_finds_an_ordinary_program_around_it() {
    assert_eq!(Process::spawn(stdin_is_empty, ()).unwrap().join().unwrap(), 0);
    assert_eq!(Process::spawn(threads, (8,)).unwrap().join().unwrap(), 140);
    let (path, ours) = Process::spawn(environment, ("PATH".to_owned(),)).unwrap().join().unwrap();
    assert_eq!(path, std::env::var("PATH").ok());
    // The harness has a thread of its own by the time our test runs, so the variable stays there; it means nothing
    // without the socket that it names.
    assert!(ours.len() <= 1, "{ours:?}");
}

/// The runtime sets up both for the program that a test binary is; workers that a constructor entered would have neither.
#[test]
fn a_test_worker_has_the_signals_and_the_stack_guard_of_any_program() {
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let (blocked, ignored, caught) = Process::spawn(dispositions, ()).unwrap().join().unwrap();
    // What whoever started this program had ignored, as `nohup` does, stays so: as in any program.
    let (_, ours, _) = dispositions();
    assert_eq!((blocked, ignored & bit(libc::SIGPIPE)), (0, bit(libc::SIGPIPE)), "whatever this thread blocks");
    assert_eq!(ignored & !ours, 0, "{ignored:x} of {ours:x}");
    assert_eq!(caught & (bit(libc::SIGSEGV) | bit(libc::SIGBUS)), bit(libc::SIGSEGV) | bit(libc::SIGBUS));
    // It says that the stack overflowed, and aborts. Without a guard it would be a plain fault, or worse.
    let end = Process::spawn(overflow, (0,)).unwrap().join();
    assert!(matches!(end, Err(ProcessError::Died { signal: Some(libc::SIGABRT), .. })), "{end:?}");
}

#[test]
fn waiting_has_a_limit_where_one_is_given() {
    let child = Process::spawn(sleep, (1000,)).unwrap();
    let error = child.join_timeout(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains(&child.id().to_string()));
    assert!(child.is_alive() && child.exit_status().is_none());
    assert!(matches!(child.join_timeout(Duration::ZERO), Err(ProcessError::TimedOut { .. })));
    child.kill().unwrap();
    let error = child.join_timeout(HANG).unwrap_err();
    assert!(matches!(error, ProcessError::Died { signal: Some(libc::SIGKILL), code: None, .. }), "{error}");
    assert!(!child.is_alive());
    // The longest limit is none.
    assert_eq!(Process::spawn(add, (1, 1)).unwrap().join_timeout(Duration::MAX).unwrap(), 2);
}

#[test]
fn terminate_and_kill_end_a_process_and_are_fine_afterwards() {
    let child = Process::spawn(sleep, (1000,)).unwrap();
    child.terminate().unwrap();
    let error = child.join().unwrap_err();
    assert!(matches!(error, ProcessError::Died { signal: Some(libc::SIGTERM), .. }), "{error}");
    assert_eq!(child.exit_status().unwrap().signal(), Some(libc::SIGTERM));
    child.terminate().unwrap();
    child.kill().unwrap();
    assert!(matches!(child.join(), Err(ProcessError::AlreadyJoined { .. })));
}

#[test]
fn one_thread_waits_while_another_kills() {
    let child = Process::spawn(sleep, (1000,)).unwrap();
    let (waiting, waits) = mpsc::channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waiting.send(()).unwrap();
            child.join()
        });
        waits.recv().unwrap();
        child.kill().unwrap();
        assert!(matches!(waiter.join().unwrap(), Err(ProcessError::Died { .. })));
    });
}

#[test]
fn a_value_is_taken_once_and_the_status_stays() {
    let child = Process::spawn(add, (1, 2)).unwrap();
    assert_eq!(child.join().unwrap(), 3);
    assert!(matches!(child.join(), Err(ProcessError::AlreadyJoined { .. })));
    assert!(child.exit_status().unwrap().success());
    assert!(format!("{child:?}").contains("exit status: 0"), "{child:?}");
}

#[test]
fn a_panic_says_what_it_said_also_when_nobody_hears_it() {
    let said = |how| match Process::spawn(panics, (how,)).unwrap().join() {
        Err(ProcessError::Panicked { message }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(said(0), "a fixed text");
    assert_eq!(said(1), "a number: 1");
    assert_eq!(said(2), "a value that is no text");
    assert_eq!(said(3), "nobody hears this but the parent");
    let child = Process::spawn(panics, (0,)).unwrap();
    let _ = child.join();
    assert_eq!(child.exit_status().unwrap().code(), Some(101));
    assert_eq!(Process::spawn(panics, (9,)).unwrap().join().unwrap(), 9);
}

#[test]
fn a_process_that_ends_before_its_function_is_an_error_with_its_status() {
    let ended = |how| {
        let child = Process::spawn(ends, (how,)).unwrap();
        match child.join() {
            Err(ProcessError::Died { pid, signal, code }) => {
                assert_eq!(pid, child.id());
                (signal, code)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended(0), (None, Some(0)));
    assert_eq!(ended(1), (None, Some(41)));
    assert_eq!(ended(2), (Some(libc::SIGABRT), None));
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGILL, libc::SIGUSR1] {
        assert_eq!(ended(100 + u32::try_from(signal).unwrap()), (Some(signal), None));
    }
    let error = Process::spawn(ends, (109,)).unwrap().join().unwrap_err().to_string();
    assert!(error.contains("signal 9 (SIGKILL)"), "{error}");
}

#[test]
fn what_cannot_travel_is_an_error_on_its_side() {
    let call = |value, plus| Process::spawn(fragile, (Fragile(value), plus)).and_then(|child| child.join());
    assert_eq!(call(2, 2).unwrap(), Fragile(4));
    match call(1, 0) {
        Err(ProcessError::Encode { what: Payload::Arguments, task, reason: _ }) => assert!(task.ends_with("fragile")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(call(3, 0), Err(ProcessError::Decode { what: Payload::Arguments, .. })));
    assert!(matches!(call(0, 1), Err(ProcessError::Encode { what: Payload::Result, .. })));
    assert!(matches!(call(2, 1), Err(ProcessError::Decode { what: Payload::Result, .. })));
    match call(5, 0) {
        Err(ProcessError::Panicked { message }) => assert_eq!(message, "five is not for anybody"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_function_that_is_not_listed_is_refused_with_the_line_to_add() {
    let error = Process::spawn(unlisted, (1,)).unwrap_err();
    assert!(matches!(error, ProcessError::NotRegistered { .. }));
    assert!(error.to_string().contains("millpond::tasks![unlisted];"), "{error}");
    assert_eq!(unlisted(1), 1);
}

#[test]
fn dropping_waits_unless_detached() {
    let child = Process::spawn(add, (1, 2)).unwrap();
    let id = child.id();
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "ended and reaped");
    let child = Process::spawn(sleep, (1000,)).unwrap();
    let id = child.id();
    child.detach();
    assert!(child.is_alive());
    drop(child);
    assert!(process::children().contains(&id), "it lives on");
    #[expect(unsafe_code, reason = "sends a signal")]
    // SAFETY: numbers only; the process was not reaped, so the id is its own.
    unsafe {
        libc::kill(i32::try_from(id).unwrap(), libc::SIGKILL);
    }
    while process::children().contains(&id) {
        std::thread::yield_now();
    }
}

#[test]
fn handles_go_where_they_are_needed() {
    fn sendable<T: Send + Sync + Unpin>() {}
    sendable::<Process<std::rc::Rc<u32>>>();
    sendable::<ProcessError>();
    let children: Vec<_> = (0..4).map(|n| std::thread::spawn(move || Process::spawn(add, (n, n)).unwrap())).collect();
    let children: Vec<_> = children.into_iter().map(|thread| thread.join().unwrap()).collect();
    let sum: u32 = children.iter().map(|child| child.join().unwrap()).sum();
    assert_eq!(sum, 12, "a child outlives the thread that asked for it");
}
