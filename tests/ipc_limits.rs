//! A system that refuses: each refusal is an error, and the rest works on. One process for each limit, since the shared
//! memory is made once.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "limits are set")]

use std::process::Command;

use millpond::ipc::{self, Queue, QueueError, SharedSlice, ShmError};

const LIMIT: &str = "MILLPOND_TEST_LIMIT";

fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

fn soft_limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// The calling test, run in a process of its own with the limit that the name stands for.
fn in_a_process_of_its_own(name: &str, run: impl FnOnce()) {
    if std::env::var(LIMIT).is_ok_and(|limited| limited == name) {
        return run();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads", "1", "--nocapture"])
        .env(LIMIT, name)
        .output()
        .unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", output.status);
}

#[test]
fn a_file_size_limit_is_an_error_and_no_signal() {
    in_a_process_of_its_own("a_file_size_limit_is_an_error_and_no_signal", || {
        limit(libc::RLIMIT_FSIZE, 1 << 20);
        let refused = Queue::<u8>::bounded(4).unwrap_err();
        let QueueError::Memory(ShmError::Refused { errno, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(errno, libc::EFBIG);
        assert!(refused.to_string().contains("refused"), "{refused}");
    });
}

#[test]
fn a_smaller_file_size_limit_makes_a_smaller_segment() {
    in_a_process_of_its_own("a_smaller_file_size_limit_makes_a_smaller_segment", || {
        limit(libc::RLIMIT_FSIZE, 1 << 30);
        let queue = Queue::<u8>::bounded(4).unwrap();
        assert_eq!(ipc::stats().unwrap().reserved, 1 << 30);
        let refused = SharedSlice::<u8>::new(1 << 30).unwrap_err();
        assert_eq!(refused, ShmError::TooLarge { bytes: 1 << 30 });
        queue.put(1).unwrap();
        assert_eq!(queue.get(), Ok(1));
    });
}

#[test]
fn little_address_space_is_an_error_and_with_more_a_smaller_segment() {
    in_a_process_of_its_own("little_address_space_is_an_error_and_with_more_a_smaller_segment", || {
        // Not even for the least segment.
        soft_limit(libc::RLIMIT_AS, 1 << 20);
        let refused = Queue::<u8>::bounded(4).unwrap_err();
        let QueueError::Memory(ShmError::Refused { errno, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(errno, libc::ENOMEM);
        assert!(refused.to_string().contains("address space"), "{refused}");
        // With more, what there is room for.
        soft_limit(libc::RLIMIT_AS, 2 << 30);
        let queue = Queue::<u8>::bounded(4).unwrap();
        assert!(ipc::stats().unwrap().reserved <= 1 << 30);
        let refused = SharedSlice::<u8>::new(3 << 30).unwrap_err();
        assert_eq!(refused, ShmError::TooLarge { bytes: 3 << 30 });
        queue.put(1).unwrap();
        assert_eq!(queue.get(), Ok(1));
    });
}

#[test]
fn no_descriptor_left_is_an_error() {
    in_a_process_of_its_own("no_descriptor_left_is_an_error", || {
        let mut used = Vec::new();
        limit(libc::RLIMIT_NOFILE, 32);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            used.push(file);
        }
        let refused = Queue::<u8>::bounded(4).unwrap_err();
        let QueueError::Memory(ShmError::Refused { errno, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(errno, libc::EMFILE);
        // And when there is one again, it works.
        drop(used);
        Queue::<u8>::bounded(4).unwrap().put(1).unwrap();
    });
}

#[test]
fn a_queue_grows_where_blocks_of_its_next_size_are_all_in_use() {
    in_a_process_of_its_own("a_queue_grows_where_blocks_of_its_next_size_are_all_in_use", || {
        limit(libc::RLIMIT_FSIZE, 64 << 20);
        // A segment of 64 MiB has 16 blocks of 128 KiB, of which the queue's next stage would be one.
        let slices: Vec<_> = (0..16).map(|_| SharedSlice::<u8>::new(128 << 10).unwrap()).collect();
        let queue = Queue::unbounded().unwrap();
        for n in 0..2_000_u32 {
            queue.try_put(n).unwrap_or_else(|error| panic!("{n}: {error:?}"));
        }
        drop(slices);
        assert_eq!(queue.len(), 2_000);
        assert!((0..2_000).all(|n| queue.try_get() == Ok(n)));
        assert_eq!(queue.try_get(), Err(QueueError::Empty));
        drop(queue);
        assert_eq!(ipc::stats().unwrap().objects, 0, "a stage is left");
    });
}

#[test]
fn what_does_not_fit_is_an_error_and_nothing_is_lost() {
    in_a_process_of_its_own("what_does_not_fit_is_an_error_and_nothing_is_lost", || {
        limit(libc::RLIMIT_FSIZE, 64 << 20);
        // A segment of 64 MiB has two blocks of a megabyte, and some of two above.
        let mut slices = Vec::new();
        let refused = loop {
            match SharedSlice::<u8>::new(1 << 20) {
                Ok(slice) => slices.push(slice),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, ShmError::NoBlocks { bytes: 1 << 20 });
        let had = slices.len();
        assert!(had >= 2);
        drop(slices);
        let again: Vec<_> = (0..had).map(|_| SharedSlice::<u8>::new(1 << 20).unwrap()).collect();
        assert!(again.iter().all(|slice| slice.iter().all(|byte| *byte == 0)));
        drop(again);
        assert!(ipc::purge().unwrap() > 0);
        assert_eq!(ipc::purge(), Ok(0));
        SharedSlice::<u8>::new(1 << 20).unwrap();
    });
}
