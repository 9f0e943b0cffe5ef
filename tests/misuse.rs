//! Debug builds notice a block that is given back twice, or to the wrong pool, and say so: pools by a panic, the heap,
//! which may not unwind, by a message and an abort (in a child process, which this test starts itself as).
#![cfg(debug_assertions)]
#![expect(unsafe_code, reason = "breaks the raw interface's promises on purpose")]

use std::alloc::{GlobalAlloc, Layout};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use millpond::{BlockPool, Heap};

fn message(action: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(action)).expect_err("nobody noticed");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_pool_notices_a_block_given_back_twice() {
    for limit in [usize::MAX, 10] {
        let pool = BlockPool::builder().block_size(64).limit(limit).name("frames").build().unwrap();
        let raw = pool.take_raw().unwrap();
        let other = pool.take_raw().unwrap();
        // SAFETY: taken above.
        unsafe { pool.give_back(raw) };
        // SAFETY: none: it was given back already. Debug builds refuse it.
        let text = message(|| unsafe { pool.give_back(raw) });
        assert!(text.contains("given back twice") && text.contains("frames"), "{text}");
        assert_eq!(pool.stats().live, 1, "and the pool goes on");
        // SAFETY: taken above.
        unsafe { pool.give_back(other) };
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_ne!(a.as_ptr(), b.as_ptr());
    }
}

#[test]
fn a_pool_notices_a_block_of_another_pool() {
    let (one, other) = (BlockPool::new(64, 16), BlockPool::new(64, 16));
    let larger = BlockPool::new(128, 16);
    let raw = one.take_raw().unwrap();
    drop((other.take().unwrap(), larger.take().unwrap()));
    for wrong in [&other, &larger] {
        // SAFETY: none: it is another pool's. Debug builds refuse it.
        let text = message(|| unsafe { wrong.give_back(raw) });
        assert!(text.contains("does not come from"), "{text}");
    }
    // SAFETY: the heap takes any layout.
    let heap = std::ptr::NonNull::new(unsafe { Heap.alloc(Layout::new::<[u64; 8]>()) }).unwrap();
    // SAFETY: none: it is the heap's. Debug builds refuse it.
    let text = message(|| unsafe { one.give_back(heap) });
    assert!(text.contains("does not come from"), "{text}");
    // SAFETY: allocated above.
    unsafe { Heap.dealloc(heap.as_ptr(), Layout::new::<[u64; 8]>()) };
    // SAFETY: taken from this pool.
    unsafe { one.give_back(raw) };
    assert_eq!((one.stats().live, other.stats().live, larger.stats().live), (0, 0, 0));
}

#[test]
fn a_pool_notices_a_pointer_into_the_middle_of_a_block() {
    let pool = BlockPool::new(64, 16);
    let raw = pool.take_raw().unwrap();
    // SAFETY: inside the block.
    let inside = unsafe { raw.add(16) };
    // SAFETY: none: no block starts there. Debug builds refuse it.
    let text = message(|| unsafe { pool.give_back(inside) });
    assert!(text.contains("middle of a block"), "{text}");
    // SAFETY: taken above.
    unsafe { pool.give_back(raw) };
}

const MISDEED: &str = "MILLPOND_TEST_MISDEED";

/// What the child does: one of the things that nobody may.
#[test]
fn misdeeds() {
    let Ok(misdeed) = std::env::var(MISDEED) else { return };
    // SAFETY: sets a timer, so that a hang is a failure.
    unsafe { libc::alarm(20) };
    let layout = |size: usize| Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the heap takes any layout.
    let take = |size| unsafe { Heap.alloc(layout(size)) };
    // SAFETY: none, for the second call of each case: that is the point.
    let free = move |at, size| unsafe { Heap.dealloc(at, layout(size)) };
    match misdeed.as_str() {
        "small twice" => {
            let at = take(100);
            free(at, 100);
            free(at, 100);
        }
        "another thread frees again" => {
            let at = take(100).expose_provenance();
            let free_it = move || free(std::ptr::with_exposed_provenance_mut(at), 100);
            std::thread::spawn(free_it).join().unwrap();
            std::thread::spawn(free_it).join().unwrap();
        }
        "wrong size" => free(take(100), 200),
        "wrong size, large" => free(take(20_000), 100),
        "block of a pool" => {
            let pool = Box::leak(Box::new(BlockPool::new(112, 16)));
            free(pool.take_raw().unwrap().as_ptr(), 112);
        }
        "large twice" => {
            let (at, _neighbour) = (take(100_000), take(100_000));
            free(at, 100_000);
            free(at, 100_000);
        }
        other => panic!("no such misdeed: {other}"),
    }
}

#[test]
fn the_heap_notices_what_was_freed_twice_or_with_a_wrong_layout() {
    let cases = [
        ("small twice", "given back twice"),
        ("another thread frees again", "given back twice"),
        ("wrong size", "does not come from"),
        ("wrong size, large", "does not come from"),
        ("block of a pool", "does not come from"),
    ];
    for (misdeed, part) in cases {
        notices(misdeed, part);
    }
}

#[test]
fn the_heap_notices_a_large_piece_freed_twice() {
    notices("large twice", "twice");
}

fn notices(misdeed: &str, part: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "misdeeds", "--nocapture"])
        .env(MISDEED, misdeed)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{misdeed}: {:?}\n{text}", output.status);
    assert!(text.contains(part) && text.contains("millpond"), "{misdeed}: {text}");
}
