//! Memory goes back to the system by itself: after hundreds of mebibytes of small blocks were freed in random order, and
//! a little light work, the process is about as small as before. In a process of its own; Heap is its allocator.

use std::time::Duration;

use millpond::Heap;

#[global_allocator]
static GLOBAL: Heap = Heap;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}

/// So many milliseconds' worth of small allocations here and there: counted in rounds, so that a busy machine does the
/// same work, if later.
fn light_work(rounds: usize) {
    let mut kept = std::collections::VecDeque::new();
    for _ in 0..rounds {
        for n in 0..200_usize {
            kept.push_back(vec![0_u8; 16 + n * 37 % 700]);
            if kept.len() > 500 {
                kept.pop_front();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn after_freeing_256_mib_of_small_blocks_the_memory_goes_back() {
    light_work(20);
    let start = resident();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut bytes = 0;
    let mut blocks = Vec::with_capacity(1_200_000);
    while bytes < 256 << 20 {
        let size = 16 + random(470);
        blocks.push(vec![1_u8; size].into_boxed_slice());
        bytes += size;
    }
    let full = resident();
    assert!(full >= start + (256 << 20));
    for index in (1..blocks.len()).rev() {
        blocks.swap(index, random(index + 1));
    }
    while let Some(block) = blocks.pop() {
        drop(block);
    }
    drop(blocks);
    let freed = resident();
    light_work(1_000);
    let end = resident();
    assert!(
        end <= start + (16 << 20),
        "{start} at the start, {full} full, {freed} after freeing, {end} after a second:\n{}",
        Heap::stats()
    );
    // Large pieces: at once.
    let large: Vec<_> = (0..20).map(|n| vec![1_u8; (1 << 20) * (1 + n)]).collect();
    assert!(resident() >= end + (200 << 20));
    drop(large);
    let after = resident();
    assert!(after <= end + (40 << 20), "{end} before, {after} after");
}
