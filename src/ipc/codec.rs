//! Values to messages and back: by serde, and plain bytes as they are.

use core::any::TypeId;
use core::fmt;
use core::mem::ManuallyDrop;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::shm::ShmError;
use crate::shm::letter::{Arrived, Ready};
use crate::shm::message::{self, CodecError};

/// Plain data: any bytes of its size are a value of it.
///
/// That is what may lie in shared memory, where another process of the same program writes it. Numbers, arrays of them,
/// atomics, and structures for which `FromBytes` of zerocopy 0.8 is derived (its feature `derive`); no `bool`, no `enum`, no reference. It is aligned to a
/// page, 4,096 bytes, at most: more does not compile.
///
/// ```compile_fail
/// #[repr(align(8192))]
/// struct TwoPages([u8; 8192]);
/// let slice = millpond::ipc::SharedSlice::<std::mem::MaybeUninit<TwoPages>>::new(1);
/// ```
pub trait Plain: FromBytes + Send + 'static {}
impl<T: FromBytes + Send + 'static> Plain for T {}

/// Compiles if shared memory can be aligned for the type: the segment begins at a page, wherever it is mapped.
///
/// ```
/// #[repr(align(4096))]
/// struct Page([u8; 4096]);
/// let slice = millpond::ipc::SharedSlice::<std::mem::MaybeUninit<Page>>::new(1)?;
/// assert!(slice.as_ptr().is_aligned());
/// # Ok::<(), millpond::ipc::ShmError>(())
/// ```
///
/// ```compile_fail
/// #[repr(align(8192))]
/// struct TwoPages([u8; 8192]);
/// let value = millpond::ipc::Shared::new(std::mem::MaybeUninit::new(TwoPages([0; 8192])));
/// ```
///
/// ```compile_fail
/// #[repr(align(8192))]
/// struct TwoPages([u8; 8192]);
/// let lock = millpond::ipc::Lock::new(std::mem::MaybeUninit::new(TwoPages([0; 8192])));
/// ```
///
/// ```compile_fail
/// #[repr(align(8192))]
/// struct TwoPages([u8; 8192]);
/// type Slice = millpond::ipc::SharedSlice<std::mem::MaybeUninit<TwoPages>>;
/// let queue = millpond::ipc::Queue::<Slice>::bounded(1).unwrap();
/// let slice = queue.get();
/// ```
#[inline(always)]
pub(super) const fn expect_alignable<T>() {
    const { assert!(align_of::<T>() <= 4096, "plain data in shared memory is aligned to a page, 4,096 bytes, at most") }
}

/// Plain data that travels as its bytes, without being encoded.
///
/// A structure of numbers costs a copy instead of an encoding of each field. Both sides are the same program, so its
/// layout is the same.
///
/// ```
/// use millpond::ipc::{Queue, Raw};
/// let queue: Queue<Raw<[u64; 8]>> = Queue::bounded(4)?;
/// queue.put(Raw([7; 8]))?;
/// assert_eq!(queue.get()?.0, [7; 8]);
/// # Ok::<(), millpond::ipc::QueueError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Raw<T>(pub T);

impl<T: FromBytes + IntoBytes + Immutable> Serialize for Raw<T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de, T: FromBytes + IntoBytes + Immutable> Deserialize<'de> for Raw<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<T>(core::marker::PhantomData<T>);
        impl<'de, T: FromBytes> Visitor<'de> for Bytes<T> {
            type Value = Raw<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes", size_of::<T>())
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                T::read_from_bytes(bytes).map(Raw).map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(A::Error::custom("plain data is bytes"))
            }
        }
        deserializer.deserialize_bytes(Bytes(core::marker::PhantomData))
    }
}

/// Whether values of this type travel as they are: byte vectors, which serde would write byte by byte.
#[inline]
fn is_bytes<T>() -> bool {
    typeid::of::<T>() == TypeId::of::<Vec<u8>>()
}

/// Why a value could not be made a message.
pub(super) enum Unsendable {
    Encode(CodecError),
    Memory(ShmError),
}

/// Makes an empty message one of a value. Gives the value back, which is best dropped after the message was sent, unless
/// something in it moves: it is gone then.
#[inline]
pub(super) fn pack<T: Serialize>(ready: &mut Ready, value: T) -> Result<Option<T>, Unsendable> {
    if is_bytes::<T>() {
        // SAFETY: T is Vec<u8>, as the ids of the types say; neither has a lifetime in it.
        let bytes = unsafe { &*core::ptr::from_ref(&value).cast::<Vec<u8>>() };
        ready.fill(bytes).map_err(Unsendable::Memory)?;
        return Ok(Some(value));
    }
    ready.encode(&value).map_err(Unsendable::Encode)?;
    let mut rest = Some(value);
    if ready.moves() {
        ready.take_over(|| rest = None).map_err(Unsendable::Encode)?;
    }
    ready.prepare().map_err(Unsendable::Memory)?;
    Ok(rest)
}

/// Makes a value of a message; the handles that it doesn't take are released.
#[inline]
pub(super) fn unpack<T: DeserializeOwned>(arrived: &mut Arrived) -> Result<T, CodecError> {
    if is_bytes::<T>() {
        let bytes = ManuallyDrop::new(arrived.to_vec());
        // SAFETY: T is Vec<u8>, as the ids of the types say; the original is never dropped.
        return Ok(unsafe { core::mem::transmute_copy::<Vec<u8>, T>(&bytes) });
    }
    let mut claimed = arrived.take_handles();
    arrived.with_bytes(|bytes| message::decode_with(bytes, &mut claimed.ids))
}
