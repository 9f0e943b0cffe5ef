//! One large buffer that each thread keeps for the next large message: its pages need not come from the system each time.

use core::cell::Cell;

/// Smaller ones are not worth keeping, larger ones too dear.
const LEAST: usize = 32 << 10;
const MOST: usize = 8 << 20;

std::thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer for so many bytes or more: the spare one if that is large enough, and this many are many.
pub(crate) fn take(bytes: usize) -> Vec<u8> {
    if bytes < LEAST {
        return Vec::with_capacity(bytes);
    }
    // A thread at its end has none.
    let mut spare = SPARE.try_with(Cell::take).unwrap_or_default();
    if spare.capacity() < bytes {
        spare = Vec::with_capacity(bytes);
    }
    spare.clear();
    spare
}

/// A buffer for so many bytes to be made room for, without a call that can fail: the spare one if this many are many.
pub(crate) fn any(bytes: usize) -> Vec<u8> {
    if bytes < LEAST { Vec::new() } else { SPARE.try_with(Cell::take).unwrap_or_default() }
}

/// The same as [`take`] for a message of unknown length, of which there are so many bytes already.
pub(crate) fn take_growing(so_far: &[u8]) -> Vec<u8> {
    let mut more = take(so_far.len().saturating_mul(2));
    more.extend_from_slice(so_far);
    more
}

/// Gives a buffer back that nobody needs: the larger one is kept.
pub(crate) fn give(buffer: Vec<u8>) {
    if !(LEAST..=MOST).contains(&buffer.capacity()) {
        return;
    }
    let _ = SPARE.try_with(|spare| {
        let kept = spare.take();
        spare.set(if kept.capacity() >= buffer.capacity() { kept } else { buffer });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_two_is_kept_and_neither_small_nor_huge_ones() {
        let ours = |bytes: usize| {
            let buffer = take(bytes);
            (buffer.as_ptr().addr(), buffer)
        };
        let (first, one) = ours(LEAST);
        let (second, two) = ours(4 * LEAST);
        give(one);
        give(two);
        let (again, buffer) = ours(LEAST);
        assert!(again == second && again != first && buffer.is_empty(), "the larger one came back, empty");
        give(buffer);
        assert_ne!(ours(100).0, second, "few bytes don't take it");
        give(Vec::with_capacity(MOST + 1));
        assert_eq!(ours(2 * LEAST).0, second, "what is huge is not kept");
        assert_eq!(take_growing(&[7; 100]), [7; 100]);
    }
}
