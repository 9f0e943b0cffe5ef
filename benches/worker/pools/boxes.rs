//! No pool at all: `Box`, on whatever allocator this worker has.

use crate::store::{Payload, Store};

/// Objects from the global allocator.
pub struct Boxes<const WORDS: usize>;

impl<const WORDS: usize> Store for Boxes<WORDS> {
    type Held<'a> = Box<Payload<WORDS>>;

    #[inline]
    fn hold(&self, word: u64) -> Box<Payload<WORDS>> {
        Box::new(Payload::new(word))
    }
}
