//! What the system is told of huge pages follows the setting, read back from it. In a process of its own: the setting is
//! the process's, and holds for what is mapped from then on.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};

use millpond::{Heap, HeapConfig, HugePages};

const MIB: usize = 1 << 20;

/// What the system was last told of huge pages for the memory at an address.
fn told(at: *mut u8) -> &'static str {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let numbers = range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        if let Some((Ok(from), Ok(to))) = numbers {
            inside = (from..to).contains(&at.addr());
        } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            let has = |flag| flags.split(' ').any(|one| one == flag);
            return match (has("nh"), has("hg")) {
                (true, _) => "never",
                (_, true) => "whole",
                _ => "nothing",
            };
        }
    }
    panic!("{at:?} is not mapped");
}

/// Memory that is in use until it is dropped.
struct Piece(*mut u8, Layout);

impl Piece {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 16).unwrap();
        // SAFETY: not of size 0.
        let at = unsafe { Heap.alloc(layout) };
        assert!(!at.is_null());
        Self(at, layout)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { Heap.dealloc(self.0, self.1) };
    }
}

#[test]
fn the_system_is_told_of_huge_pages_what_the_setting_says() {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return;
    }
    // Small blocks, a large piece of a region, and a mapping of its own.
    let mut kept = Vec::new();
    HeapConfig::new().huge_pages(HugePages::Off).apply();
    for size in [100, 5_000, 3 * MIB, 40 * MIB] {
        let piece = Piece::new(size);
        assert_eq!(told(piece.0), "never", "{size} bytes with huge pages off");
        kept.push(piece);
    }
    HeapConfig::new().huge_pages(HugePages::Neutral).apply();
    let own = Piece::new(40 * MIB);
    assert_eq!(told(own.0), "nothing", "a mapping with the system's own setting");
    kept.push(own);

    HeapConfig::new().huge_pages(HugePages::Growing).apply();
    let own = Piece::new(40 * MIB);
    assert_eq!(told(own.0), "whole", "a mapping of a heap that grows by huge pages");
    kept.push(own);
    // More than is left in the first region: the next one is mapped under this setting.
    kept.extend((0..8).map(|_| Piece::new(12 * MIB)));
    assert_eq!(told(kept[kept.len() - 1].0), "whole", "a region of a heap that grows by huge pages");
}
