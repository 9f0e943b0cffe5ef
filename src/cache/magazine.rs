//! Magazines: batches of free blocks of one size, and the frames that hold them.
//!
//! A frame is 128 words at a multiple of its own size. As a [`Magazine`] (outside a thread) it looks like this:
//!
//! ```text
//! word      0        1 ..              128-n ........ 127
//!       +--------+------------------+---------------------+
//!       | link,n |      unused      |  n blocks, the one  |   the last word is the first to be handed out
//!       +--------+------------------+--  to go first last -+
//! ```
//!
//! `link` is the next frame of the list it is on; frames are aligned to 1024, so `n` (at most 127) fits in its low
//! bits. While a thread has it loaded, word `127-n` is null instead and a cursor moves in the words above it: see
//! `slot.rs`.

use core::cell::Cell;
use core::ptr::{self, NonNull};

/// Words of a frame.
pub(crate) const WORDS: usize = 128;
/// Bytes of a frame's words, and their alignment.
pub(crate) const FRAME_BYTES: usize = WORDS * size_of::<Word>();
/// The most blocks that a magazine holds. Models use small ones.
pub(crate) const CAPACITY: usize = if cfg!(millpond_loom) { 4 } else { WORDS - 1 };

const COUNT_MASK: usize = FRAME_BYTES - 1;

/// A word of a frame: a block, the link, or the null below the blocks.
pub(crate) type Word = Cell<*mut u8>;

/// A frame's memory.
#[repr(C, align(1024))]
pub(crate) struct Frame {
    words: [Word; WORDS],
    /// Loom sees who has the frame by accesses to this: two without an order between them are reported.
    #[cfg(millpond_loom)]
    witness: crate::primitive::Witness,
}

const _: () = assert!(align_of::<Frame>() == FRAME_BYTES || cfg!(target_pointer_width = "32"));

/// `n` free blocks that belong to whoever has this value.
#[derive(Debug)]
#[must_use = "its blocks would be lost"]
pub(crate) struct Magazine(NonNull<Frame>);

// SAFETY: a magazine owns its frame and the blocks in it; no thread has a special claim to either.
unsafe impl Send for Magazine {}

impl Magazine {
    fn word(&self, index: usize) -> &Word {
        debug_assert!(index < WORDS);
        let word = self.place(index);
        // SAFETY: below WORDS, so inside the frame, which is ours as long as `self` lives.
        unsafe { word.as_ref() }
    }

    /// Tells loom that the frame is used here.
    fn touch(&self) {
        #[cfg(millpond_loom)]
        // SAFETY: the frame is ours, and frames are never unmapped.
        unsafe { self.0.as_ref() }.witness.with_mut(|_| ());
    }

    /// An empty magazine in `frame`.
    ///
    /// # Safety
    /// The frame is nobody else's, and stays mapped.
    pub(crate) unsafe fn from_frame(frame: NonNull<Frame>) -> Self {
        // SAFETY: no blocks, and the caller's duty.
        unsafe { Self::from_words(frame, 0) }
    }

    /// A magazine of the `count` blocks that lie at the end of `frame`.
    ///
    /// # Safety
    /// As for [`from_frame`](Self::from_frame), and the last `count` words are free blocks of one pool.
    pub(crate) unsafe fn from_words(frame: NonNull<Frame>, count: usize) -> Self {
        let this = Self(frame);
        this.set_link(None, count);
        this
    }

    /// The frame and the number of blocks at its end: the caller now owns both.
    pub(crate) fn into_words(self) -> (NonNull<Frame>, usize) {
        self.touch();
        (self.0, self.len())
    }

    fn set_link(&self, next: Option<&Self>, count: usize) {
        self.touch();
        let next = next.map_or(ptr::null_mut(), |next| next.0.as_ptr().cast::<u8>());
        self.word(0).set(next.map_addr(|address| address | count));
    }

    /// How many blocks.
    pub(crate) fn len(&self) -> usize {
        self.word(0).get().addr() & COUNT_MASK
    }

    /// Fills an empty magazine with up to `want` blocks that `source` hands to the function it is given; the first
    /// one handed over will be the first to go out.
    pub(crate) fn fill(&mut self, want: usize, source: impl FnOnce(usize, &mut dyn FnMut(NonNull<u8>)) -> usize) {
        debug_assert_eq!(self.len(), 0);
        let mut at = WORDS;
        let want = want.min(CAPACITY);
        let got = source(want, &mut |block| {
            at -= 1;
            self.word(at).set(block.as_ptr());
        });
        debug_assert!(got == WORDS - at && got <= want);
        self.set_link(None, got);
    }

    /// Its blocks, the one that would go out last first.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = NonNull<u8>> {
        (WORDS - self.len()..WORDS).filter_map(|index| NonNull::new(self.word(index).get()))
    }

    /// Copies `count` words of another frame, from `from` on, to its own, from `to` on.
    fn copy_blocks(&mut self, to: usize, other: &Self, from: usize, count: usize) {
        debug_assert!(to + count <= WORDS && from + count <= WORDS);
        let (to, from) = (self.place(to), other.place(from));
        // SAFETY: inside the two frames, which are ours and not the same: each is owned by its magazine.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), count) };
    }

    /// Where a word lies.
    fn place(&self, index: usize) -> NonNull<Word> {
        debug_assert!(index <= WORDS);
        // SAFETY: at most WORDS, so inside the frame or at its end.
        unsafe { self.0.cast::<Word>().add(index) }
    }

    /// Moves the blocks of `other` below its own, if there are not more than `most` then.
    pub(crate) fn absorb(&mut self, other: &mut Self, most: usize) -> bool {
        let (len, more) = (self.len(), other.len());
        if len + more > most.min(CAPACITY) {
            return false;
        }
        self.copy_blocks(WORDS - len - more, other, WORDS - more, more);
        self.set_link(None, len + more);
        other.set_link(None, 0);
        true
    }

    /// Moves all but `keep` blocks, those that would go last, to an empty magazine.
    pub(crate) fn split(&mut self, keep: usize, rest: &mut Self) {
        let len = self.len();
        let more = len.saturating_sub(keep);
        debug_assert_eq!(rest.len(), 0);
        rest.copy_blocks(WORDS - more, self, WORDS - len, more);
        rest.set_link(None, more);
        self.set_link(None, len - more);
    }

    /// Puts in a block that will go last. There is room.
    pub(crate) fn put_last(&mut self, block: NonNull<u8>) {
        let len = self.len();
        debug_assert!(len < CAPACITY);
        self.word(WORDS - 1 - len).set(block.as_ptr());
        self.set_link(None, len + 1);
    }

    /// Takes out the block that would go last.
    pub(crate) fn take_last(&mut self) -> Option<NonNull<u8>> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        self.set_link(None, len - 1);
        NonNull::new(self.word(WORDS - len).get())
    }

    /// Forgets the blocks: they, or their memory, are somewhere else.
    pub(crate) fn forget_blocks(&mut self) {
        self.set_link(None, 0);
    }
}

/// A list of magazines, last in first out, linked through their frames.
#[derive(Debug)]
pub(crate) struct MagazineList {
    head: Option<Magazine>,
    len: usize,
}

impl MagazineList {
    pub(crate) const fn new() -> Self {
        Self { head: None, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, magazine: Magazine) {
        let count = magazine.len();
        magazine.set_link(self.head.as_ref(), count);
        self.head = Some(magazine);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Magazine> {
        let magazine = self.head.take()?;
        let count = magazine.len();
        let next = magazine.word(0).get().map_addr(|address| address & !COUNT_MASK);
        self.head = NonNull::new(next.cast::<Frame>()).map(Magazine);
        self.len -= 1;
        magazine.set_link(None, count);
        Some(magazine)
    }
}

/// Empty frames: where they come from, and where those go that nobody needs. They are never given back to the
/// system; there are as many as were ever in use at once.
pub(crate) mod stock {
    use super::{Frame, Magazine};
    use core::ptr::NonNull;

    #[cfg(not(millpond_loom))]
    use super::{FRAME_BYTES, MagazineList};
    #[cfg(not(millpond_loom))]
    use crate::{
        block::{RESERVE, SLOT},
        os::{self, ForkHold, Lock, Once},
    };

    #[cfg(not(millpond_loom))]
    static SPARE: Lock<MagazineList> = Lock::new(MagazineList::new());

    /// An empty magazine; `None` if the system has no memory.
    #[cfg(not(millpond_loom))]
    pub(crate) fn take() -> Option<Magazine> {
        let mut spare = SPARE.lock();
        if let Some(magazine) = spare.pop() {
            return Some(magazine);
        }
        let (memory, _) = RESERVE.alloc(SLOT / 4, FRAME_BYTES)?;
        for index in (1..SLOT / 4 / FRAME_BYTES).rev() {
            // SAFETY: inside the memory just got.
            let frame: NonNull<Frame> = unsafe { memory.add(index * FRAME_BYTES) }.cast();
            // SAFETY: it is ours, aligned, and never given back.
            spare.push(unsafe { Magazine::from_frame(frame) });
        }
        // SAFETY: as above.
        Some(unsafe { Magazine::from_frame(memory.cast()) })
    }

    /// Takes an empty magazine back.
    #[cfg(not(millpond_loom))]
    pub(crate) fn give(mut magazine: Magazine) {
        magazine.forget_blocks();
        SPARE.lock().push(magazine);
    }

    /// Has the stock, and the reserve below it, follow forks: to be called before a depot's owner registers.
    #[cfg(not(millpond_loom))]
    pub(crate) fn follow_forks() {
        static HOLD: ForkHold = ForkHold::new();
        extern "C" fn prepare() {
            HOLD.hold(|| SPARE.acquire());
        }
        extern "C" fn after() {
            // SAFETY: `prepare` took the lock in the thread that forked, which is the one that runs this.
            HOLD.let_go(|| unsafe { SPARE.release() });
        }
        static ONCE: Once = Once::new();
        ONCE.call(|| {
            crate::block::reserve::follow_forks();
            os::at_fork(prepare, after, after);
        });
    }

    #[cfg(millpond_loom)]
    pub(crate) fn take() -> Option<Magazine> {
        let words = [const { core::cell::Cell::new(core::ptr::null_mut()) }; super::WORDS];
        let frame = Box::new(Frame { words, witness: crate::primitive::Witness::new(()) });
        // SAFETY: just made.
        Some(unsafe { Magazine::from_frame(NonNull::from(Box::leak(frame))) })
    }

    #[cfg(millpond_loom)]
    pub(crate) fn give(magazine: Magazine) {
        let (frame, _) = magazine.into_words();
        // SAFETY: made by `take`, and ours.
        drop(unsafe { Box::from_raw(frame.as_ptr()) });
    }
}
