//! Values as bytes, with handles inside: the only encoder in which a queue, a lock or a slice may travel.
//!
//! While a value is encoded its handles list themselves here, and nothing has happened to them yet. When the message is
//! sent each is passed on by one step of its header; a handle that arrives is claimed by one step. A handle that nobody
//! claims is released with the message.

use core::cell::Cell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::id::Id;

/// Bytes of a message that need no allocation.
pub(crate) const INLINE: usize = 112;

/// Bytes that spill into a vector when they are many.
pub(crate) struct Spill {
    few: [MaybeUninit<u8>; INLINE],
    len: usize,
    many: Vec<u8>,
}

impl Spill {
    pub(crate) fn new() -> Self {
        Self { few: [MaybeUninit::uninit(); INLINE], len: 0, many: Vec::new() }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if !self.many.is_empty() {
            return &self.many;
        }
        // SAFETY: the first `len` bytes were written.
        unsafe { self.few[..self.len].assume_init_ref() }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        match self.few.get_mut(self.len) {
            Some(place) if self.many.is_empty() => {
                place.write(byte);
                self.len += 1;
            }
            _ => self.spill(&[byte]),
        }
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        match self.few.get_mut(self.len..self.len + bytes.len()) {
            Some(place) if self.many.is_empty() => {
                place.write_copy_of_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.spill(bytes),
        }
    }

    fn spill(&mut self, bytes: &[u8]) {
        if self.many.is_empty() {
            let mut many = Vec::with_capacity((self.len + bytes.len()).max(4 * INLINE));
            many.extend_from_slice(self.as_slice());
            self.many = many;
        }
        self.many.extend_from_slice(bytes);
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        if self.many.is_empty() { self.as_slice().to_vec() } else { self.many }
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

struct Into<'a>(&'a mut Spill);

impl postcard::ser_flavors::Flavor for Into<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

std::thread_local! {
    /// The list of the message that this thread encodes.
    static SENDING: Cell<Option<NonNull<Vec<Id>>>> = const { Cell::new(None) };
    /// Whether this thread decodes a message.
    static RECEIVING: Cell<bool> = const { Cell::new(false) };
}

/// Lists a handle that is being encoded: its number is what travels. False outside of the encoder.
pub(crate) fn list(id: Id) -> bool {
    let Some(list) = SENDING.get() else { return false };
    // SAFETY: `encode` is on this thread's stack, below this call, and uses the list only afterwards.
    unsafe { (*list.as_ptr()).push(id) };
    true
}

/// Whether a handle may be encoded now.
pub(crate) fn is_sending() -> bool {
    SENDING.get().is_some()
}

/// Whether a handle may be decoded now.
pub(crate) fn is_receiving() -> bool {
    RECEIVING.get()
}

/// A value as bytes, and the handles in it, not yet sent. Dropped, it is as if it had never been.
#[derive(Debug)]
#[must_use]
pub(crate) struct Packet {
    pub(crate) bytes: Spill,
    pub(crate) handles: Vec<Id>,
}

/// A value that can't be encoded, or bytes that are no such value: the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(String);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

impl From<postcard::Error> for CodecError {
    fn from(error: postcard::Error) -> Self {
        Self(error.to_string())
    }
}

/// Restores what a thread-local held.
struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Encodes a value; its handles stay where they are until the packet is sent.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Packet, CodecError> {
    let mut packet = Packet { bytes: Spill::new(), handles: Vec::new() };
    {
        let _restore = Restore(&SENDING, SENDING.replace(Some(NonNull::from(&mut packet.handles))));
        postcard::serialize_with_flavor(value, Into(&mut packet.bytes))?;
    }
    Ok(packet)
}

/// Decodes a value, claiming the handles in it. Bytes beyond the value are an error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let _restore = Restore(&RECEIVING, RECEIVING.replace(true));
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError(format!("{} bytes are left over", rest.len()))) }
}
