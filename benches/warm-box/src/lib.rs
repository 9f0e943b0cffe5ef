//! Boxes made and dropped in a dependency, where an allocator's methods are a call away unless the linker inlines them.

use std::hint::black_box;

/// Makes and drops a warm `Box<[u64; 8]>` so many times.
#[inline(never)]
pub fn boxes(times: u64) {
    for word in 0..times {
        // Not zeros: the compiler turns a new box of zeros into a call for zeroed memory.
        drop(black_box(Box::new([word; 8])));
    }
}

/// The same loop without the box.
#[inline(never)]
pub fn nothing(times: u64) {
    for word in 0..times {
        let _ = black_box(word);
    }
}
