//! Buffers that grow, as `Vec` grows them: by `realloc` to twice the size.

use std::hint::black_box;

use crate::{Sample, timed};

/// 16 buffers side by side grow to 4 KiB in pieces of 64 bytes.
pub(crate) fn small() -> Sample {
    grow(16, 64, 4 << 10, 15_000)
}

/// 4 buffers side by side grow to 1 MiB in pieces of 1 KiB.
pub(crate) fn large() -> Sample {
    grow(4, 1 << 10, 1 << 20, 120)
}

fn grow(buffers: usize, piece: usize, size: usize, rounds: u64) -> Sample {
    let piece = vec![7u8; piece];
    timed(rounds * buffers as u64, || {
        for _ in 0..rounds {
            let mut grown = vec![Vec::new(); buffers];
            for _ in 0..size / piece.len() {
                grown.iter_mut().for_each(|buffer: &mut Vec<u8>| buffer.extend_from_slice(&piece));
            }
            black_box(grown);
        }
    })
}
