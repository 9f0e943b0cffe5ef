//! The system refuses memory: in children of this process with a limit on their address space. An alarm turns a child
//! that hangs into a failure.
#![expect(unsafe_code, reason = "forks, and the raw interface")]

use std::alloc::{GlobalAlloc, Layout};

use millpond::{BlockPool, Heap, MemoryError, Pool};

/// Runs `work` in a child that may have `more` bytes beyond what it has now.
fn limited(more: usize, work: impl FnOnce()) {
    // SAFETY: no other thread of this process holds a lock that the child needs: the tests run one by one.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: sets a timer.
        unsafe { libc::alarm(30) };
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let used = statm.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096;
        let limit = u64::try_from(used + more).unwrap();
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: sets this child's own limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        if let Err(panic) = &ended {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("a panic without a text");
            // SAFETY: writes a live string to standard error, past the harness, which would keep it.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert!(!libc::WIFSIGNALED(status), "ended by signal {} (14: it hung)", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "see the message above");
}

/// Allocates until there is no more (at most `most` bytes); how many bytes there were. Frees it all.
fn fill(size: usize, most: usize) -> usize {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // Linked through the pieces themselves: the test needs memory too.
    let mut last: *mut *mut u8 = std::ptr::null_mut();
    let mut bytes = 0;
    while bytes < most {
        // SAFETY: the heap takes any layout.
        let at = unsafe { Heap.alloc(layout) };
        if at.is_null() {
            break;
        }
        bytes += size;
        #[expect(clippy::cast_ptr_alignment, reason = "the layout is aligned to 8")]
        let at = at.cast::<*mut u8>();
        // SAFETY: at least a pointer long.
        unsafe { at.write(last.cast()) };
        last = at;
    }
    while !last.is_null() {
        let at = last;
        // SAFETY: written above.
        last = unsafe { at.read() }.cast();
        // SAFETY: allocated with this layout.
        unsafe { Heap.dealloc(at.cast(), layout) };
    }
    bytes
}

/// One test: children of a process with other threads may not print or panic freely.
#[test]
fn when_the_system_refuses_there_is_null_and_then_it_works_again() {
    let mib = 1 << 20;
    for size in [64, 1_000, 33_000, 40 << 10, 100_000, 5 * mib, 16 * mib, 20 * mib, 30_000] {
        limited(100 * mib, || {
            let first = fill(size, 200 * mib);
            assert!(first <= 100 * mib, "{first} bytes of {size}: the limit must have been passed");
            assert!(first >= 10 * mib, "only {first} bytes of {size}");
            let second = fill(size, 200 * mib);
            assert!(second >= first - first / 8, "{first} bytes of {size}, but then {second}: something was lost");
        });
    }
    // What small blocks had can be had by large ones afterwards, and the other way round.
    for (one, other) in [(20 * mib, 64), (64, 5_000), (64, 3 * mib), (100_000, 17 * mib), (40_000, 100)] {
        limited(100 * mib, || {
            let first = fill(one, 200 * mib);
            assert!(first >= 10 * mib, "{first}");
            let second = fill(other, 200 * mib);
            assert!(second >= 17 * mib, "{first} bytes of {one}, then {second} of {other}");
        });
    }
    // Less than a region is left.
    for more in [mib, 3 * mib, 5 * mib, 10 * mib, 17 * mib, 40 * mib] {
        for size in [64, 5_000, 50_000, 70_000, 3 * mib] {
            limited(more, || {
                let got = fill(size, 200 * mib);
                assert!(got < more, "{got}");
                assert!(more < 10 * mib || got > 0, "nothing of {size} in {more}");
                fill(size, 200 * mib);
            });
        }
    }
    // Pools.
    limited(50 * mib, || {
        let pool = BlockPool::new(4_096, 64);
        let mut blocks = Vec::with_capacity(20_000);
        let error = loop {
            match pool.take() {
                Ok(block) => blocks.push(block),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, MemoryError::OutOfMemory { .. }), "{error:?}");
        assert!(blocks.len() > 2_000, "{}", blocks.len());
        assert_eq!(pool.stats().live, blocks.len());
        let typed: Pool<[u64; 10_000]> = Pool::new();
        let failed = typed.try_alloc([7; 10_000]);
        assert!(failed.is_err_and(|failed| failed.value == [7; 10_000]));
        blocks.truncate(100);
        pool.purge();
        assert!(typed.try_alloc([7; 10_000]).is_ok());
        assert!(pool.take().is_ok());
    });
    limited(50 * mib, || {
        for reserve in [usize::MAX, 1 << 40, 100_000] {
            let error = BlockPool::builder().block_size(4_096).reserve(reserve).build().unwrap_err();
            assert!(matches!(error, MemoryError::OutOfMemory { .. }), "{error:?}");
        }
        let pool = BlockPool::builder().block_size(4_096).reserve(2_000).build().unwrap();
        assert!(pool.stats().blocks >= 2_000, "what the others had got came back");
    });
}
