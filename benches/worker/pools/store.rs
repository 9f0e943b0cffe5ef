//! What all contestants have in common.

use std::mem::MaybeUninit;

/// The object of which a pool holds many: words that need not all be written, so that an allocation is measured and
/// not the filling of its memory.
#[derive(Debug)]
pub struct Payload<const WORDS: usize>(pub [MaybeUninit<u64>; WORDS]);

impl<const WORDS: usize> Payload<WORDS> {
    /// An object with its first word written.
    #[inline]
    pub fn new(word: u64) -> Self {
        let mut payload = Self([const { MaybeUninit::uninit() }; WORDS]);
        payload.write(word);
        payload
    }

    /// Writes the first word, as the user of a recycled object would.
    #[inline]
    pub fn write(&mut self, word: u64) {
        self.0[0] = MaybeUninit::new(word);
    }
}

/// A payload of which there are statics (a static cannot be generic).
pub trait Size: Sized + 'static {
    /// This thread's bare list.
    fn bare_list() -> &'static std::thread::LocalKey<std::cell::Cell<*mut Self>>;

    /// The static pool of this payload.
    #[cfg(feature = "pool-millpond")]
    fn pool() -> &'static millpond::Pool<Self>;

    /// The static pool of blocks as large as this payload.
    #[cfg(feature = "pool-millpond")]
    fn block_pool() -> &'static millpond::BlockPool;
}

macro_rules! size {
    ($words:literal) => {
        impl Size for Payload<$words> {
            fn bare_list() -> &'static std::thread::LocalKey<std::cell::Cell<*mut Self>> {
                use std::cell::Cell;
                thread_local!(static LIST: Cell<*mut Payload<$words>> = const { Cell::new(std::ptr::null_mut()) });
                &LIST
            }

            #[cfg(feature = "pool-millpond")]
            fn pool() -> &'static millpond::Pool<Self> {
                static POOL: millpond::Pool<Payload<$words>> = millpond::Pool::new();
                &POOL
            }

            #[cfg(feature = "pool-millpond")]
            fn block_pool() -> &'static millpond::BlockPool {
                static POOL: millpond::BlockPool = millpond::BlockPool::new(8 * $words, 8);
                &POOL
            }
        }
    };
}

size!(8);
size!(32);

/// A pool as a program uses it: take an object, write to it, give it back by dropping it.
pub trait Store {
    /// An object taken out.
    type Held<'a>
    where
        Self: 'a;

    /// Takes an object out and writes its first word.
    fn hold(&self, word: u64) -> Self::Held<'_>;
}
