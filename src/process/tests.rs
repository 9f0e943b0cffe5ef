//! Faults that need a word from inside: children that are no children of ours.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::birth::Fault;
use super::codec;
use super::membership::Seat;
use super::registry::{self, Identity};
use super::{Process, ProcessError};
use crate::ipc::{PipeEnd, PipeError, Queue, SharedSlice, pipe, stats};
use crate::primitive::{AtomicU32, Ordering};

crate::test_support!();

fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Whether the seat of a start that failed is given up while this process, which started it, lives.
fn start_in_vain() -> bool {
    let segment = crate::shm::here().unwrap().segment;
    let seats = || (0..1024).filter(|index| crate::shm::member(segment, *index).is_some()).count();
    let before = seats();
    // Whoever sweeps is gone here: at the first step of it.
    crate::shm::step::plan::die_at(92, 1);
    let mut child = Process::new(add, (1, 2));
    child.fault = Some(other_program(&["/dev/null"]));
    let failed = child.start().is_err();
    let started = Instant::now();
    while seats() > before && started.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    failed && seats() == before
}

/// What it returns has four handles. It dies at this pass of a step, while it hands them over.
fn give(ends: Ends, slice: SharedSlice<u8>, step: u32, pass: u32) -> (Ends, SharedSlice<u8>, Queue<u8>) {
    let queue = Queue::bounded(1).unwrap();
    crate::shm::step::plan::die_at(step, pass);
    (ends, slice, queue)
}

crate::tasks![add, start_in_vain, give];

type Ends = [PipeEnd<u8, u8>; 2];

fn faulty(fault: Fault, handshake: Duration) -> (Process<u32>, ProcessError) {
    let mut child = Process::new(add, (1, 2)).handshake_timeout(handshake);
    child.fault = Some(fault);
    let child = child.start().unwrap();
    let error = child.join_timeout(Duration::from_secs(60)).unwrap_err();
    assert!(!child.is_alive(), "{error}");
    (child, error)
}

fn other_program(words: &[&str]) -> Fault {
    let program: OwnedFd = std::fs::File::open(words[0]).unwrap().into();
    Fault::OtherProgram(program, words.iter().map(|word| CString::new(*word).unwrap()).collect())
}

/// Seeing to what a dead process leaves may take longer than anybody wants to wait.
#[test]
fn who_waits_for_a_limited_time_waits_for_no_sweep() {
    let _alone = crate::shm::alone();
    let other = crate::shm::enlist().unwrap();
    let slow = crate::shm::step::plan::stopped_at(90, move || crate::shm::member_died(other));
    let child = Process::spawn(add, (1, 2)).unwrap();
    let started = Instant::now();
    let joined = child.join_timeout(Duration::from_millis(100));
    let waited = started.elapsed();
    slow.finish();
    assert!(matches!(joined, Err(ProcessError::TimedOut { .. })), "{joined:?}");
    // A sweep by another is waited for so long at least.
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(child.join().unwrap(), 3);
}

#[test]
fn a_child_that_dies_before_it_is_ready_is_a_named_error() {
    let _alone = crate::shm::alone();
    let hour = Duration::from_secs(3600);
    let (child, error) = faulty(other_program(&["/bin/false"]), hour);
    assert!(matches!(error, ProcessError::DiedInHandshake { code: Some(1), signal: None, .. }), "{error}");
    assert_eq!(child.exit_status().unwrap().code(), Some(1));
    let (_, error) = faulty(other_program(&["/bin/sh", "-c", "kill -9 $$"]), hour);
    assert!(matches!(error, ProcessError::DiedInHandshake { code: None, signal: Some(9), .. }), "{error}");
    assert!(error.to_string().contains("first line"), "{error}");
}

#[test]
fn a_child_that_hangs_before_it_is_ready_is_killed_at_the_deadline_with_all_it_started() {
    let _alone = crate::shm::alone();
    let limit = Duration::from_millis(100);
    let started = Instant::now();
    let mark = format!("sleep 98{}", std::process::id());
    let (child, error) = faulty(other_program(&["/bin/sh", "-c", &format!("{mark} & wait")]), limit);
    assert!(started.elapsed() >= limit);
    match &error {
        ProcessError::HandshakeTimedOut { pid, after } => assert_eq!((*pid, *after), (child.id(), limit)),
        _ => panic!("{error}"),
    }
    let left = || {
        let commands = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok());
        let mark = mark.replace(' ', "\0").into_bytes();
        commands.filter(|command| command.starts_with(&mark)).count()
    };
    while left() > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "its command was left behind");
        std::thread::yield_now();
    }
    // The next one is well.
    assert_eq!(Process::spawn(add, (1, 2)).unwrap().join().unwrap(), 3);
}

/// A sweeper that dies is waited for by the root, which may be about to hear of that death next: so nobody else sweeps.
#[test]
fn a_start_that_fails_in_a_child_is_swept_by_the_root() {
    let _alone = crate::shm::alone();
    assert_eq!(Process::spawn(start_in_vain, ()).unwrap().join().map_err(|error| error.to_string()), Ok(true));
}

/// Handles of a result that were passed on are its parent's, the others go with the child: nothing stays on its way.
#[test]
fn a_result_whose_child_is_killed_while_it_hands_it_over_leaves_nothing() {
    let _alone = crate::shm::alone();
    let in_use = || {
        let stats = stats().unwrap();
        [stats.members, stats.objects, stats.owned, stats.queued, stats.tokens]
    };
    let before = in_use();
    // It has said the value and passed nothing on; it has passed on so many; nobody dies.
    for (step, pass) in [(15, 1), (5, 1), (5, 2), (5, 3), (5, 4), (0, 1)] {
        for joined in [true, false] {
            let what = format!("step {step}, pass {pass}, joined: {joined}");
            let (mut one, end) = pipe::<u8, u8>().unwrap();
            let (mut other, another) = pipe::<u8, u8>().unwrap();
            let words = ([end, another], SharedSlice::new(5_000).unwrap(), step, pass);
            let child = Process::spawn(give, words).unwrap();
            if !joined {
                drop(child);
            } else if step == 0 || pass == 4 {
                let (mut ends, slice, queue) = child.join().unwrap();
                ends[0].send(7).unwrap();
                assert_eq!((one.recv(), slice.len(), queue.len()), (Ok(7), 5_000, 0), "{what}");
            } else {
                let error = child.join().map(drop).unwrap_err();
                assert!(matches!(error, ProcessError::Died { signal: Some(9), code: None, .. }), "{what}: {error}");
            }
            let told = [one.try_recv(), other.try_recv()];
            assert_eq!(told, [Err(PipeError::Disconnected), Err(PipeError::Disconnected)], "{what}");
            drop((one, other));
            assert_eq!(in_use(), before, "{what}: something was left");
        }
    }
}

#[test]
fn a_child_that_says_something_else_is_another_build() {
    let _alone = crate::shm::alone();
    // It answers through the socket that it was given, but not with a greeting.
    let script = "fd=${MILLPOND_CHILD%%:*}; head -c 48 /dev/zero >&$fd; sleep 1000";
    let (_, error) = faulty(other_program(&["/bin/bash", "-c", script]), Duration::from_secs(3600));
    assert!(matches!(error, ProcessError::OtherBuild { .. }), "{error}");
    assert!(error.to_string().contains("a greeting"), "{error}");
}

#[test]
fn each_side_sees_that_the_other_is_another_build() {
    let _alone = crate::shm::alone();
    let ours = registry::identity();
    let others = [
        (Identity { protocol: 99, ..ours }, "version 1 of the handshake"),
        (Identity { table: !ours.table, ..ours }, "tasks!"),
        (Identity { build: !ours.build, ..ours }, "another build"),
    ];
    for (other, said) in others {
        let (child, error) = faulty(Fault::OtherIdentity(other), Duration::from_secs(3600));
        assert!(matches!(error, ProcessError::OtherBuild { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        // It was killed by us, or has ended by itself, seeing the same; it ran nothing.
        let status = child.exit_status().unwrap();
        assert!(!status.success(), "{status}");
    }
}

#[test]
fn the_table_finds_a_function_by_its_type_alone() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    fn twin() -> u32 {
        CALLS.fetch_add(1, Ordering::Relaxed)
    }
    let nobody = Seat::None("a test".to_owned());
    let place = registry::find_of(&add).unwrap();
    let entry = registry::entry(place).unwrap();
    assert!(entry.path().ends_with("tests::add"), "{entry:?}");
    let sum = entry.run(&codec::encode((20_u32, 22_u32), &nobody).unwrap(), &nobody, &mut |_| true);
    assert_eq!(sum, registry::Ran::Returned(codec::encode(42_u32, &nobody).unwrap()));
    assert!(matches!(entry.run(&[0xff], &nobody, &mut |_| true), registry::Ran::Undecodable(_)));
    assert!(
        matches!(entry.run(&[0, 0, 0, 0, 1, 2, 3], &nobody, &mut |_| true), registry::Ran::Undecodable(reason) if reason.contains("left over"))
    );
    assert_eq!(registry::find_of(&twin), None);
    assert!(registry::entry(u32::MAX).is_none());
    assert_eq!(registry::identity(), registry::identity());
    assert_eq!(twin(), 0);
}
