//! How processes share memory: one segment for a tree of processes, its members, its blocks and what is sent in them.
//!
//! The states, the numbered steps and the reasons are in the `README.md` beside this file.
//!
//! For who starts processes: [`share`] gives the descriptor that a child inherits, [`enlist`] its number; the child says
//! [`attach`] before it decodes anything; whoever knows a member dead says [`member_died`]. Values travel by
//! [`encode`](message::encode) and [`Packet::send_to`](message::Packet::send_to), and arrive by
//! [`decode`](message::decode).

#[cfg(not(millpond_loom))]
#[cfg_attr(test, expect(unsafe_code, reason = "looks at blocks that nobody has"))]
pub(crate) mod audit;
pub(crate) mod block;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lays bodies over a block's bytes")]
pub(crate) mod bodies;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "makes a value of a type that was told by its number")]
mod decoding;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "takes a value of a type that was told by its number as what it is")]
mod encoding;
pub(crate) mod ends;
#[cfg(not(millpond_loom))]
pub(crate) mod error;
pub(crate) mod flag;
#[cfg(not(millpond_loom))]
pub(crate) mod free;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "the segment is reached by a pointer that never dies")]
mod here;
#[cfg(not(millpond_loom))]
pub(crate) mod id;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lays slots over a block's bytes")]
pub(crate) mod lane;
#[cfg(not(millpond_loom))]
pub(crate) mod layout;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "copies messages into blocks and out of them")]
pub(crate) mod letter;
pub(crate) mod lock;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "zeroes a block before it is an object")]
pub(crate) mod making;
#[cfg(not(millpond_loom))]
mod members;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "bytes that are written before they are read")]
pub(crate) mod message;
#[cfg(all(test, millpond_loom, not(millpond_shuttle)))]
pub(crate) mod models;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "finds an object's body behind its head")]
pub(crate) mod object;
pub(crate) mod permits;
pub(crate) mod ring;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "turns offsets into addresses")]
pub(crate) mod segment;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lays heads over a block's bytes")]
pub(crate) mod shape;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "signals are listed by address")]
pub(crate) mod sleepers;
pub(crate) mod spare;
#[cfg(not(millpond_loom))]
#[expect(unsafe_code, reason = "lays lanes and a table over a block's bytes")]
pub(crate) mod stages;
pub(crate) mod step;
#[cfg(not(millpond_loom))]
pub(crate) mod store;
#[cfg(not(millpond_loom))]
mod sweep;
mod sweeper;
#[cfg(not(millpond_loom))]
pub(crate) mod transit;
pub(crate) mod wake;

#[cfg(not(millpond_loom))]
pub use error::ShmError;
#[cfg(all(feature = "fuzzing", not(millpond_loom)))]
pub(crate) use here::fresh;
#[cfg(not(millpond_loom))]
pub(crate) use here::{Here, attach, enlist, here, share, started};
#[cfg(not(millpond_loom))]
pub(crate) use members::{Member, member};
#[cfg(not(millpond_loom))]
pub(crate) use sweep::member_died;

/// One at a time, for tests that have members in the one segment of the test program, or count what is left in it.
#[cfg(all(test, not(millpond_loom)))]
pub(crate) fn alone() -> crate::os::LockGuard<'static, ()> {
    static ALONE: crate::os::Lock<()> = crate::os::Lock::new(());
    ALONE.lock()
}
