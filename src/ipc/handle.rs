//! How handles of shared objects travel: as a reference of their own, made by who sends and used up by who receives.

use core::fmt::Display;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};

use crate::shm::ShmError;
use crate::shm::id::{Id, Kind};
use crate::shm::message;
use crate::shm::object::Hold;
use crate::shm::shape::Shape;
use crate::shm::{free, transit};

/// Why a handle can't be written into a file or sent by other means.
const ELSEWHERE: &str =
    "handles travel only as arguments and results of Millpond's processes, and through its queues and pipes";

/// Why a handle is not encoded. Its words are kept where it was to travel.
fn unsent<E: serde::ser::Error>(why: impl Display) -> E {
    message::say_why(&why);
    E::custom(why)
}

/// Why a handle is not decoded. Its words are kept where it travelled.
pub(super) fn untaken<E: serde::de::Error>(why: impl Display) -> E {
    message::say_why(&why);
    E::custom(why)
}

/// Encodes a handle: the receiver's hold is kept by a token until it has its own.
pub(super) fn serialize<S: Serializer>(hold: &Hold, serializer: S) -> Result<S::Ok, S::Error> {
    if !message::is_sending() {
        return Err(S::Error::custom(ELSEWHERE));
    }
    let here = crate::shm::here().map_err(unsent)?;
    let token = transit::make_token(here, hold.id).map_err(unsent)?;
    serializer.serialize_u64(listed(token)?.bits())
}

/// Decodes a handle of this shape.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(shape: Shape, deserializer: D) -> Result<Hold, D::Error> {
    deserialize_one_of(&[shape], deserializer)
}

/// Decodes a handle of one of these shapes.
pub(super) fn deserialize_one_of<'de, D: Deserializer<'de>>(
    shapes: &[Shape],
    deserializer: D,
) -> Result<Hold, D::Error> {
    let id = taken(deserializer)?;
    let here = crate::shm::here().map_err(untaken)?;
    // A slice or a pipe's end may have been sent for it: that refers to nothing.
    let object = (id.kind() == Kind::Token).then(|| transit::object_of(here.segment, id));
    let hold = object.and_then(|object| shapes.iter().find_map(|shape| Hold::get(here, object, *shape).ok()));
    free::release(here.segment, here.me(), id);
    hold.ok_or_else(|| untaken(ShmError::Stale))
}

/// Lists a handle in the message that is being encoded, by the number under which this process owns it: the number that
/// travels.
pub(super) fn listed<E: serde::ser::Error>(owned: Id) -> Result<Id, E> {
    message::list(owned).ok_or_else(|| E::custom(ELSEWHERE))
}

/// The number of a handle in the message that is being decoded: it is this process's now.
pub(super) fn taken<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    if !message::is_receiving() {
        return Err(D::Error::custom(ELSEWHERE));
    }
    let id = Id::from_bits(u64::deserialize(deserializer)?);
    message::take(id).ok_or_else(|| untaken(ShmError::Stale))
}

/// The number of a slice in the message that is being decoded, with its length: it is this process's now.
pub(super) fn taken_with_length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(Id, u64), D::Error> {
    if !message::is_receiving() {
        return Err(D::Error::custom(ELSEWHERE));
    }
    let (bits, len) = <(u64, u64)>::deserialize(deserializer)?;
    let id = message::take(Id::from_bits(bits)).ok_or_else(|| untaken(ShmError::Stale))?;
    Ok((id, len))
}

#[cfg(test)]
mod tests {
    use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};

    use crate::ipc::{Queue, SharedSlice};
    use crate::shm::{self, ShmError, message};

    /// What speaks against these bytes.
    fn refused<T: DeserializeOwned>(bytes: &[u8]) -> String {
        message::decode::<T>(bytes).map(drop).unwrap_err().to_string()
    }

    /// Finds that a handle is gone, by a message of its own, and fails for another reason.
    struct Other;

    impl<'de> Deserialize<'de> for Other {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let bytes = Vec::<u8>::deserialize(deserializer)?;
            assert_eq!(refused::<Queue<u8>>(&bytes), ShmError::Stale.to_string());
            Err(D::Error::custom("another reason"))
        }
    }

    #[test]
    fn why_a_handle_does_not_arrive_is_said() {
        let _alone = shm::alone();
        let here = shm::here().unwrap();
        let queue = Queue::<u8>::bounded(1).unwrap();
        let sent = || message::encode(queue.clone()).unwrap().send_to(here.member(), |_| true).unwrap();
        let stale = ShmError::Stale.to_string();
        assert_eq!(refused::<Queue<u16>>(&sent()), stale, "another type");
        let bytes = sent();
        drop(message::decode::<Queue<u8>>(&bytes).unwrap());
        assert_eq!(refused::<Queue<u8>>(&bytes), stale, "a second time");
        assert_eq!(refused::<SharedSlice<u8>>(&[&sent()[..], &[1]].concat()), stale, "a handle of another kind");
        let within = message::encode(bytes).unwrap().send_to(here.member(), |_| true).unwrap();
        let said = refused::<Other>(&within);
        assert_ne!(said, stale, "that was another message");
        assert_eq!(said, postcard::Error::SerdeDeCustom.to_string());
    }
}
