//! A system that refuses memory in the middle of everything: an error each time, nothing lost, and the rest works on.

use super::in_use;
use std::time::Duration;

use crate::ipc::{Queue, QueueError, SharedSlice, ShmError, Wait};
use crate::os::fake::{Call, refuse, refuse_above};
use crate::shm::segment::Segment;

fn is_refusal(error: &ShmError) -> bool {
    matches!(error, ShmError::Refused { errno: libc::ENOSPC, .. }) && error.to_string().contains("refused")
}

#[test]
fn refused_room_is_an_error_and_the_rest_works_on() {
    let _alone = crate::shm::alone();
    let living: Queue<u64> = Queue::bounded(4).unwrap();
    let before = in_use().unwrap();
    // What a queue takes is refused at its first step, its second, and so on.
    for granted in 0..12 {
        let refusal = refuse(Call::Room, granted);
        let mut slices = Vec::new();
        for bytes in [200, 3_000, 100_000, 3 << 20] {
            // Slices are kept, so that sooner or later there is no room without asking.
            let error = loop {
                match SharedSlice::<u8>::new(bytes) {
                    Ok(slice) => slices.push(slice),
                    Err(error) => break error,
                }
            };
            assert!(is_refusal(&error), "{bytes} bytes, {granted} granted: {error:?}");
            let Err(QueueError::Memory(error)) = Queue::<u8>::bounded(1 << 20) else { panic!("128 MiB were granted") };
            assert!(is_refusal(&error), "{error:?}");
            living.put(1).unwrap();
            assert_eq!(living.get(), Ok(1));
        }
        let growing: Queue<Vec<u8>> = Queue::unbounded().unwrap_or_else(|_| Queue::bounded(4).unwrap());
        let mut put = 0_u32;
        let error = loop {
            match growing.try_put(vec![u8::try_from(put % 251).unwrap(); 3_000]) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, QueueError::Memory(error) if is_refusal(error)), "{error:?}");
        drop(refusal);
        // All that was had is whole, and what was refused is granted now.
        assert!(slices.iter().all(|slice| slice.iter().all(|byte| *byte == 0)));
        growing.put(vec![9; 3_000]).unwrap();
        assert!((0..put).all(|n| growing.get().unwrap() == vec![u8::try_from(n % 251).unwrap(); 3_000]));
        assert_eq!(growing.get().unwrap(), vec![9; 3_000]);
        let large: Queue<u64> = Queue::bounded(1 << 12).unwrap();
        large.put(3).unwrap();
        assert_eq!(large.get(), Ok(3));
        drop((slices, growing, large));
        assert_eq!(in_use().unwrap(), before, "{granted} granted: something was left");
        crate::ipc::purge().unwrap();
    }
}

#[test]
fn a_segment_that_is_refused_at_any_step_is_an_error() {
    for (call, what) in [(Call::MemoryFile, "a file"), (Call::Room, "room"), (Call::Map, "address space")] {
        let refusal = refuse(call, 0);
        let error = Segment::create(1 << 30).map(|segment| segment.layout().len()).unwrap_err();
        assert!(matches!(&error, ShmError::Refused { what: said, .. } if said.contains(what)), "{call:?}: {error:?}");
        drop(refusal);
        assert_eq!(Segment::create(1 << 30).unwrap().layout().len(), 1 << 30);
    }
    // A system that refuses much grants less.
    let refusal = refuse_above(1 << 29);
    assert_eq!(Segment::create(1 << 30).unwrap().layout().len(), 1 << 29);
    drop(refusal);
}

/// Where the system makes no fence for a sleeper, a waker that has none of its own may overlook it. It looks again soon.
#[test]
fn who_has_no_fence_of_others_is_not_overlooked_for_long() {
    let _alone = crate::shm::alone();
    let queue: Queue<u64> = Queue::bounded(4).unwrap();
    let (got, gets) = std::sync::mpsc::channel();
    let sleeper = queue.clone();
    let thread = std::thread::spawn(move || {
        let _refusal = refuse(Call::Fence, 0);
        sleeper.set_wait(Wait::Sleep);
        while let Ok(value) = sleeper.get() {
            got.send(value).unwrap();
        }
    });
    for value in 0..20 {
        while !queue.overlook() {
            std::thread::yield_now();
        }
        queue.put(value).unwrap();
        assert_eq!(gets.recv_timeout(Duration::from_secs(60)), Ok(value), "it sleeps on");
    }
    queue.close();
    thread.join().unwrap();
}

#[test]
fn a_process_that_joins_no_fence_makes_its_own() {
    let refusal = refuse(Call::Fence, 0);
    assert!(!Segment::create(1 << 30).unwrap().fenced);
    drop(refusal);
    // Every system since 4.16 has it, unless a sandbox forbids it.
    assert_eq!(Segment::create(1 << 30).unwrap().fenced, crate::os::shared::join_fences());
}
