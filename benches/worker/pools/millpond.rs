//! Millpond's static pools.

use millpond::{Block, PoolBox};

use crate::store::{Payload, Size, Store};

/// `Pool<T>`.
pub struct Typed<const WORDS: usize>;

impl<const WORDS: usize> Store for Typed<WORDS>
where
    Payload<WORDS>: Size,
{
    type Held<'a> = PoolBox<'static, Payload<WORDS>>;

    #[inline]
    fn hold(&self, word: u64) -> Self::Held<'_> {
        Payload::<WORDS>::pool().alloc(Payload::new(word))
    }
}

/// `BlockPool`.
pub struct Blocks<const WORDS: usize>;

impl<const WORDS: usize> Store for Blocks<WORDS>
where
    Payload<WORDS>: Size,
{
    type Held<'a> = Block<'static>;

    #[inline]
    fn hold(&self, word: u64) -> Block<'static> {
        let mut block = Payload::<WORDS>::block_pool().take().expect("memory for a block");
        block[..8].write_copy_of_slice(&word.to_ne_bytes());
        block
    }
}
