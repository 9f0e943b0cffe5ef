//! A bare thread-local list of free objects: no pool can be quicker, and nobody could use it as it is (what one thread
//! frees no other gets, and nothing is ever given back).

use std::ptr::NonNull;

use crate::store::{Payload, Size, Store};

/// The list of each thread.
pub struct BareList<const WORDS: usize>;

/// An object off the list.
pub struct Listed<const WORDS: usize>(NonNull<Payload<WORDS>>)
where
    Payload<WORDS>: Size;

impl<const WORDS: usize> Store for BareList<WORDS>
where
    Payload<WORDS>: Size,
{
    type Held<'a> = Listed<WORDS>;

    #[inline]
    fn hold(&self, word: u64) -> Listed<WORDS> {
        let first = Payload::<WORDS>::bare_list().get();
        let Some(object) = NonNull::new(first) else {
            return Listed(NonNull::from(Box::leak(Box::new(Payload::new(word)))));
        };
        // SAFETY: an object on the list is live memory of ours, and `drop` wrote a link into its first word.
        let next = unsafe { object.cast::<*mut Payload<WORDS>>().read() };
        Payload::<WORDS>::bare_list().set(next);
        // SAFETY: the object is off the list now, so nobody else refers to it.
        unsafe { object.cast::<u64>().write(word) };
        Listed(object)
    }
}

impl<const WORDS: usize> Drop for Listed<WORDS>
where
    Payload<WORDS>: Size,
{
    #[inline]
    fn drop(&mut self) {
        let next = Payload::<WORDS>::bare_list().get();
        // SAFETY: the object is ours until it is on the list, and a payload has room and alignment for a link.
        unsafe { self.0.cast::<*mut Payload<WORDS>>().write(next) };
        Payload::<WORDS>::bare_list().set(self.0.as_ptr());
    }
}
