//! Values as bytes, and the handles in them: queues, locks, pipe ends and slices travel as arguments and results.

use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::membership::Seat;
use crate::shm::message::{self, Packet};
use crate::shm::object::Hold;
use crate::shm::{self, Member, spare};

/// A value's bytes for the process in that seat, or what speaks against it. The handles in the value are passed on.
pub(super) fn encode<T: Serialize>(value: T, to: &Seat) -> Result<Vec<u8>, String> {
    pass_on(message::encode(value).map_err(|error| error.to_string())?, to, &mut |_| true)
}

/// Called with a value's bytes before the handles in it are passed on: whether they are to be.
pub(super) type Note<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// The same as [`encode`], of a value that is in bytes already; where there are handles, `note` is called before they are
/// passed on.
pub(super) fn pass_on(packet: Packet, to: &Seat, note: &mut Note<'_>) -> Result<Vec<u8>, String> {
    let to = match to {
        Seat::Taken(member) => *member,
        // No handle, so it goes to nobody.
        Seat::None(_) if packet.handles.ids().is_empty() => Member { index: 0, generation: 0 },
        Seat::None(reason) => return Err(stays(reason)),
    };
    packet.send_to(to, note).map_err(|error| error.to_string())
}

fn stays(reason: &str) -> String {
    format!("a handle in it cannot travel: {reason}")
}

/// What a process that died was sent, for another one, from which this process keeps them: `objects` are those that the handles in it
/// refer to.
pub(super) fn pass_on_again(bytes: &[u8], objects: &[Hold]) -> Result<Vec<u8>, shm::ShmError> {
    message::send_again(bytes, objects, shm::here()?.member())
}

/// The value of bytes that another process sent; all of them.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    message::decode(bytes).map_err(|error| error.to_string())
}

/// The same of what the process in that seat sent. Without a seat its handles are numbers of another memory.
pub(super) fn decode_from<T: DeserializeOwned>(bytes: &[u8], from: &Seat) -> Result<T, String> {
    match from {
        Seat::None(reason) if message::has_handles(bytes) => Err(stays(reason)),
        _ => decode(bytes),
    }
}

/// A value that arrived and was not asked for yet. The handles in it are released if nobody asks.
pub(super) struct Arrived(Vec<u8>);

impl Arrived {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn has_handles(&self) -> bool {
        message::has_handles(&self.0)
    }

    pub(super) fn decode<T: DeserializeOwned>(mut self) -> Result<T, String> {
        let bytes = core::mem::take(&mut self.0);
        let value = decode(&bytes);
        spare::give(bytes);
        value
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if self.has_handles() {
            // Claims the handles; a value of another type takes none of them, so they are released.
            let _: Result<(), _> = decode(&self.0);
        }
        spare::give(core::mem::take(&mut self.0));
    }
}

impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
