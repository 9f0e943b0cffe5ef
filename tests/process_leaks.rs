//! Processes leave nothing behind: no descriptor, no zombie, no thread, and nothing in commands that other threads start
//! meanwhile. One test, for it counts what the whole process has.
#![cfg(feature = "process")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use millpond::ipc::{self, Queue};
use millpond::process::{self, Process, ProcessError};

millpond::test_support!();

const SPAWNS: u32 = 200;

fn work(n: u32) -> Vec<u32> {
    match n % 10 {
        7 => std::process::exit(7),
        8 => panic!("eight"),
        9 => std::process::abort(),
        _ => vec![n; 1000],
    }
}

/// Asleep until it is killed.
fn asleep() {
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

/// What a fresh child has open, as the system describes it, but for what tells them apart.
fn open_in_a_child() -> Vec<String> {
    open_files("/proc/self/fd")
}

fn make_queue() -> Queue<String> {
    let queue = Queue::bounded(4).unwrap();
    queue.put("from the child".to_owned()).unwrap();
    queue
}

fn make_and_fail(queue: Queue<String>) -> Queue<String> {
    drop(queue);
    panic!("no result");
}

fn take(_: Queue<String>, number: u8) -> u8 {
    number
}

millpond::tasks![work, asleep, open_in_a_child, make_queue, make_and_fail, take];

fn open_files(folder: &str) -> Vec<String> {
    let links = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).filter(|link| !link.starts_with("/proc/")).collect()
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Children that the system knows of, zombies too.
fn children() -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
    }
    all
}

/// What a command that this process starts has open.
fn open_in_a_command() -> BTreeSet<String> {
    let script = "for fd in /proc/self/fd/*; do readlink $fd; done; :";
    let output =
        Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    let kind = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    String::from_utf8(output.stdout).unwrap().lines().map(kind).filter(|kind| !kind.starts_with("/proc/")).collect()
}

/// Handles go with the message that nobody takes, and so do the seats of processes that are gone.
fn handles_sent_in_vain() {
    let shared = || {
        let stats = ipc::stats().unwrap();
        (stats.members, stats.objects, stats.owned, stats.queued, stats.tokens)
    };
    let before = shared();
    assert_eq!((before.0, before.1), (1, 0));
    for n in 0..20 {
        let queue = || Queue::bounded(4).unwrap();
        let failed = Process::spawn(make_and_fail, (queue(),)).unwrap();
        assert!(matches!(failed.join(), Err(ProcessError::Panicked { .. })));
        // A result with a handle that nobody asks for, now and at leisure.
        drop(Process::spawn(make_queue, ()).unwrap());
        let asked = Process::spawn(make_queue, ()).unwrap().join().unwrap();
        assert_eq!(asked.get().unwrap(), "from the child");
        // A function that nobody listed: the queue goes with its handle.
        assert!(Process::spawn(|_: Queue<String>| (), (queue(),)).is_err());
        let killed = Process::spawn(take, (queue(), 3)).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(n * 80));
        killed.kill().unwrap();
    }
    assert_eq!(shared(), before);
}

#[test]
fn nothing_is_left_behind() {
    let before = open_in_a_command();
    // What the supervisor takes for good.
    Process::spawn(work, (1,)).unwrap().join().unwrap();
    let baseline = open_in_a_command();
    assert!(baseline.contains("pipe"), "{baseline:?}");
    assert_eq!(baseline, before, "a command holds what it did not hold before there was shared memory and a keeper");
    let (descriptors, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let inherited = open_files("/proc/self/fd").len();

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Meanwhile another thread starts commands: none holds a socket, a process or this program of ours.
        let commands = scope.spawn(|| {
            let mut checked = 0;
            while !stop.load(Ordering::Relaxed) || checked < 20 {
                let seen = open_in_a_command();
                let strange: Vec<_> = seen.difference(&baseline).collect();
                assert!(strange.is_empty(), "a command holds {strange:?}");
                checked += 1;
            }
            checked
        });
        let mut kept = Vec::new();
        for n in 0..SPAWNS {
            let child = Process::spawn(work, (n,)).unwrap();
            match n % 4 {
                0 => drop(child.join()),
                1 => drop(child),
                2 => child.kill().unwrap(),
                _ => kept.push(child),
            }
            if kept.len() > 10 {
                kept.clear();
            }
        }
        kept.clear();
        stop.store(true, Ordering::Relaxed);
        assert!(commands.join().unwrap() >= 20);
    });

    // A child holds no descriptor of another child: not one more than if it were alone.
    let others: Vec<_> = (0..5).map(|_| Process::spawn(asleep, ()).unwrap()).collect();
    let crowded = Process::spawn(open_in_a_child, ()).unwrap().join().unwrap();
    others.iter().for_each(|child| child.kill().unwrap());
    drop(others);
    let alone = Process::spawn(open_in_a_child, ()).unwrap().join().unwrap();
    let kinds = |list: &[String]| {
        let mut kinds: Vec<_> = list.iter().map(|link| link.split(':').next().unwrap_or_default().to_owned()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&crowded), kinds(&alone), "of {inherited} here");

    handles_sent_in_vain();

    assert_eq!(process::children(), []);
    assert_eq!(children(), BTreeSet::new(), "zombies, or worse");
    assert_eq!(entries("/proc/self/fd"), descriptors, "{:?}", open_files("/proc/self/fd"));
    // The threads of the scope may take a moment to be gone.
    while entries("/proc/self/task") > threads {
        std::thread::yield_now();
    }
}
