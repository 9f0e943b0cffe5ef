//! The heap serves every size and alignment: called directly, with a pattern in every live byte.
#![expect(unsafe_code, reason = "calls the allocator's raw interface")]

use std::alloc::{GlobalAlloc, Layout};

use millpond::Heap;

/// Live memory with a pattern in it.
struct Piece {
    at: *mut u8,
    layout: Layout,
    seed: usize,
}

fn byte(seed: usize, index: usize) -> u8 {
    (seed.wrapping_mul(31).wrapping_add(index) % 251).to_le_bytes()[0]
}

/// Positions worth looking at in memory of this size: all of a small one, edges and pages of a large one.
fn positions(size: usize) -> impl Iterator<Item = usize> {
    let dense = size.min(600);
    let step = 4093;
    (0..dense).chain((dense..size).step_by(step)).chain(size.saturating_sub(70).max(dense)..size)
}

impl Piece {
    fn new(size: usize, align: usize, seed: usize) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the heap takes any layout, also of size 0.
        let at = unsafe { Heap.alloc(layout) };
        assert!(!at.is_null(), "{layout:?}");
        let mut piece = Self { at, layout, seed };
        piece.check_place();
        piece.fill(0);
        piece
    }

    fn check_place(&self) {
        assert_eq!(self.at.addr() % self.layout.align(), 0, "{:?}", self.layout);
    }

    fn fill(&mut self, from: usize) {
        for index in positions(self.layout.size()).filter(|index| *index >= from) {
            // SAFETY: below the size.
            unsafe { self.at.wrapping_add(index).write(byte(self.seed, index)) };
        }
    }

    fn check(&self, upto: usize) {
        for index in positions(self.layout.size()).filter(|index| *index < upto) {
            // SAFETY: below the size.
            let found = unsafe { self.at.wrapping_add(index).read() };
            assert_eq!(found, byte(self.seed, index), "byte {index} of {:?}", self.layout);
        }
    }

    /// Other sizes have other positions: fills all bytes first.
    fn resize(&mut self, size: usize) {
        let kept = size.min(self.layout.size());
        for index in 0..kept {
            // SAFETY: below the size.
            unsafe { self.at.wrapping_add(index).write(byte(self.seed, index)) };
        }
        // SAFETY: allocated with this layout.
        self.at = unsafe { Heap.realloc(self.at, self.layout, size) };
        assert!(!self.at.is_null());
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.check_place();
        self.check(kept);
        self.fill(kept);
    }

    fn free(self) {
        self.check(self.layout.size());
        // SAFETY: allocated with this layout, and gone with `self`.
        unsafe { Heap.dealloc(self.at, self.layout) };
    }
}

/// Around every boundary that an allocator could have.
fn sizes(upto: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..=70).collect();
    let mut power = 128_usize;
    while power <= upto {
        for size in [power - 1, power, power + 1, power + power / 4, power + power / 2 + 1] {
            sizes.push(size);
        }
        power *= 2;
    }
    sizes.retain(|size| *size <= upto);
    sizes
}

#[test]
fn every_size_and_alignment_is_served_and_nothing_overlaps() {
    let mut live = Vec::new();
    for align in (0..=22).map(|shift| 1_usize << shift) {
        for size in sizes(4 << 20).into_iter().skip(1) {
            live.push(Piece::new(size, align, live.len()));
            // So much that pieces are reused, and never more than some hundred MiB at once.
            if live.len() >= 120 {
                for _ in 0..80 {
                    let index = live.len() * 7 % 13 % live.len();
                    live.swap_remove(index).free();
                }
            }
        }
    }
    live.into_iter().for_each(Piece::free);
}

#[test]
fn the_largest_sizes_and_alignments_are_served() {
    let mib = 1 << 20;
    for (size, align) in [
        (64 * mib, 1),
        (64 * mib, 4096),
        (64 * mib, 64 * mib),
        (64 * mib + 1, 2 * mib),
        (16 * mib, 16 * mib),
        (16 * mib, 8),
        (16 * mib + 1, 8),
        (16 * mib - 1, 16 * mib),
        (100, 16 * mib),
        (100, 32 * mib),
        (200 * mib, 128 * mib),
    ] {
        let pieces = [1, 2].map(|seed| Piece::new(size, align, seed));
        pieces.into_iter().for_each(Piece::free);
    }
}

#[test]
fn a_size_of_zero_is_served_at_every_alignment() {
    let pieces: Vec<_> = (0..=27).map(|shift| Piece::new(0, 1 << shift, 0)).collect();
    pieces.into_iter().for_each(Piece::free);
}

#[test]
fn a_size_of_zero_grows_and_comes_back() {
    let mut piece = Piece::new(0, 8, 3);
    for size in [10, 0, 50_000, 0] {
        piece.resize(size);
    }
    piece.free();
}

#[test]
fn zeroed_memory_is_zero_after_others_wrote_there() {
    for align in [1, 16, 64, 4096, 1 << 16] {
        for size in sizes(2 << 20).into_iter().skip(1).chain([17 << 20, 40 << 20]) {
            if align > 64 && size > 300_000 {
                continue;
            }
            let layout = Layout::from_size_align(size, align).unwrap();
            for _ in 0..2 {
                let mut dirt = Piece::new(size, align, 77);
                // Every byte, so that whatever part comes again is dirty.
                // SAFETY: that many bytes.
                unsafe { dirt.at.write_bytes(0xDD, size) };
                dirt.layout = layout;
                // SAFETY: allocated with this layout.
                unsafe { Heap.dealloc(dirt.at, layout) };
                // SAFETY: the heap takes any layout.
                let at = unsafe { Heap.alloc_zeroed(layout) };
                assert!(!at.is_null() && at.addr() % align == 0);
                // SAFETY: that many bytes, said to be zero.
                let bytes = unsafe { std::slice::from_raw_parts(at, size) };
                let (words, tail) = bytes.as_chunks::<16>();
                assert!(words.iter().all(|word| *word == [0; 16]) && tail.iter().all(|byte| *byte == 0), "{layout:?}");
                // SAFETY: allocated with this layout.
                unsafe { Heap.dealloc(at, layout) };
            }
        }
    }
}

#[test]
fn realloc_keeps_the_bytes_between_all_kinds_of_sizes() {
    let kib = 1024;
    let sizes =
        [1, 16, 17, 500, 1024, 1025, 4096, 5_000, 32 * kib - 1, 32 * kib, 32 * kib + 1, 40 * kib, 64 * kib, 200 * kib];
    for align in [1, 8, 64, 4096, 1 << 15, 1 << 16, 1 << 20] {
        let mut seed = 0;
        for from in sizes {
            for to in sizes {
                seed += 1;
                let mut piece = Piece::new(from, align, seed);
                piece.resize(to);
                piece.resize(from);
                piece.free();
            }
        }
    }
}

#[test]
fn realloc_keeps_the_bytes_across_the_largest_piece_of_a_region() {
    let mib = 1 << 20;
    let sizes = [kib(33), 3 * mib, 16 * mib - 1, 16 * mib, 16 * mib + 1, 20 * mib, 33 * mib];
    for align in [8, 1 << 16, 4 * mib] {
        for pair in sizes.windows(2) {
            let mut piece = Piece::new(pair[0], align, pair[1]);
            // A neighbour in the way, now and then.
            let neighbour = (pair[1] % 2 == 0).then(|| Piece::new(kib(36), 4096, 1));
            piece.resize(pair[1]);
            piece.resize(pair[0]);
            piece.free();
            neighbour.into_iter().for_each(Piece::free);
        }
        let mut piece = Piece::new(40 * mib, align, 9);
        piece.resize(100);
        piece.resize(40 * mib);
        piece.free();
    }
}

const fn kib(n: usize) -> usize {
    n * 1024
}

#[test]
fn growing_step_by_step_keeps_the_bytes() {
    for align in [1, 4096] {
        let mut piece = Piece::new(1, align, 5);
        let mut size = 1_usize;
        while size < 24 << 20 {
            size = size * 3 / 2 + 1;
            // SAFETY: allocated with this layout.
            let at = unsafe { Heap.realloc(piece.at, piece.layout, size) };
            assert!(!at.is_null());
            let old = piece.layout.size();
            (piece.at, piece.layout) = (at, Layout::from_size_align(size, align).unwrap());
            piece.check_place();
            // The old end, which every step writes.
            for index in old.saturating_sub(64)..old {
                // SAFETY: below the size.
                assert_eq!(unsafe { at.wrapping_add(index).read() }, byte(5, index));
            }
            for index in size - 64.min(size)..size {
                // SAFETY: below the size.
                unsafe { at.wrapping_add(index).write(byte(5, index)) };
            }
        }
        // SAFETY: allocated with this layout.
        unsafe { Heap.dealloc(piece.at, piece.layout) };
    }
}

#[test]
fn impossible_sizes_are_null_and_do_no_harm() {
    let most = isize::MAX as usize;
    let layouts = [(most, 1), (most - 4095, 4096), (most / 2, 8), (1 << 50, 1), (1 << 47, 1 << 21)];
    for (size, align) in layouts {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the heap takes any layout.
        assert!(unsafe { Heap.alloc(layout) }.is_null(), "{layout:?}");
        // SAFETY: the heap takes any layout.
        assert!(unsafe { Heap.alloc_zeroed(layout) }.is_null(), "{layout:?}");
        for from in [10, 50_000, 20 << 20] {
            let piece = Piece::new(from, 8, 3);
            let fits = Layout::from_size_align(size, 8).is_ok();
            // SAFETY: allocated with this layout; the new size is below isize::MAX.
            assert!(!fits || unsafe { Heap.realloc(piece.at, piece.layout, size) }.is_null());
            piece.free();
        }
    }
    Piece::new(100, 8, 1).free();
}

#[test]
fn impossible_alignments_are_null_and_map_nothing_at_the_null_address() {
    for shift in [45, 46, 47, 48, 50, 55, 60, 62] {
        for size in [1, 100_000, 20 << 20] {
            let layout = Layout::from_size_align(size, 1 << shift).unwrap();
            // SAFETY: the heap takes any layout.
            let at = unsafe { Heap.alloc(layout) };
            if !at.is_null() {
                assert_eq!(at.addr() % layout.align(), 0);
                // SAFETY: allocated with this layout.
                unsafe { Heap.dealloc(at, layout) };
            }
        }
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let lowest = maps.lines().next().unwrap();
    assert!(!lowest.starts_with("00000000"), "{lowest}");
    Piece::new(100, 8, 1).free();
}
