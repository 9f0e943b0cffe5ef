//! Values as bytes, with handles inside: the only encoder in which a queue, a lock or a slice may travel.
//!
//! While a value is encoded its handles list themselves here, and nothing has happened to them yet. Then the value goes: by
//! being dropped, what moves is proved to be held by nobody else, and is the message's. When that is sent each handle is
//! passed on by one step of its header; a handle that arrives is claimed by one step. A handle that nobody claims is
//! released with the message.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::NonNull;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::IntoBytes;

use super::error::ShmError;
use super::here::{Here, here};
use super::id::{Id, Kind};
use super::lane::WORDS;
use super::layout::TOKENS;
use super::members::Member;
use super::object::Hold;
use super::{decoding, encoding, free, spare, step, transit};

/// Bytes of a message that need no allocation: they fit into a slot.
pub(crate) const INLINE: usize = 8 * WORDS;

/// Bytes that spill into a vector when they are many.
pub(crate) struct Spill {
    pub(crate) few: [u64; WORDS],
    len: usize,
    /// Empty, or [`COUNT`] zero bytes and the message: what travels where there are no handles.
    many: Vec<u8>,
}

/// Bytes from which on a message that grows takes the thread's spare buffer.
const MUCH: usize = 16 << 10;

impl Spill {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { few: [0; WORDS], len: 0, many: Vec::new() }
    }

    /// The bytes.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.many.is_empty() { &self.few.as_bytes()[..self.len] } else { &self.many[COUNT..] }
    }

    /// How many bytes the words hold; `None` if they have spilt.
    #[inline]
    pub(crate) fn few(&self) -> Option<usize> {
        self.many.is_empty().then_some(self.len)
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        // First what happens a million times in a row.
        if self.many.len() < self.many.capacity() {
            self.many.push(byte);
            return;
        }
        match self.few.as_mut_bytes().get_mut(self.len) {
            Some(place) if self.many.is_empty() => {
                *place = byte;
                self.len += 1;
            }
            _ if self.many.len() < self.many.capacity() => self.many.push(byte),
            _ => self.spill(&[byte]),
        }
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        match self.few.as_mut_bytes().get_mut(self.len..self.len.saturating_add(bytes.len())) {
            Some(place) if self.many.is_empty() => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.spill(bytes),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        let needed = COUNT + self.len + bytes.len();
        if self.many.is_empty() {
            let mut many = spare::take(needed.max(4 * INLINE));
            many.extend_from_slice(&[0; COUNT]);
            many.extend_from_slice(self.as_slice());
            self.many = many;
        } else if self.many.capacity() - self.many.len() < bytes.len() && self.many.len() >= MUCH {
            let more = spare::take_growing(&self.many);
            spare::give(core::mem::replace(&mut self.many, more));
        }
        self.many.extend_from_slice(bytes);
    }

    /// The bytes, behind as many zero bytes as the number of handles has.
    fn without_handles(self) -> Vec<u8> {
        if !self.many.is_empty() {
            return self.many;
        }
        let mut bytes = Vec::with_capacity(COUNT + self.len);
        bytes.extend_from_slice(&[0; COUNT]);
        bytes.extend_from_slice(self.as_slice());
        bytes
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
    static SENDING: Cell<Option<NonNull<Unsent>>> = const { Cell::new(None) };
    /// The list of the message whose value this thread drops.
    static TAKING_OVER: Cell<Option<NonNull<Unsent>>> = const { Cell::new(None) };
    /// Whether a handle of the message at hand has said why it does not travel, and what the last of them said.
    static HAS_SAID: Cell<bool> = const { Cell::new(false) };
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
    /// What the message that this thread decodes has.
    static RECEIVING: Cell<Option<NonNull<Receiving<'static>>>> = const { Cell::new(None) };
}

/// A message that is being decoded.
struct Receiving<'a> {
    /// Its handles: claimed already.
    handles: &'a mut Vec<Id>,
    /// Those that its value knows by another number: that, and their own.
    renamed: &'a [(Id, Id)],
}

/// Lists a handle that is being encoded, under the number in which it is owned; the number that travels. `None` outside
/// of the encoder.
#[inline]
pub(crate) fn list(owned: Id) -> Option<Id> {
    let list = SENDING.get()?;
    let id = transit::travelling(owned);
    // SAFETY: `encode` is on this thread's stack, below this call, and uses the list only afterwards.
    unsafe { &mut *list.as_ptr() }.list(id);
    Some(id)
}

/// Called by a handle that moves when it is dropped, with the number in which it is owned: whether it is a message's from
/// now on, so that there is nothing to release.
#[inline]
pub(crate) fn is_taken_over(owned: Id) -> bool {
    let Some(list) = TAKING_OVER.get() else { return false };
    // SAFETY: `take_over` is on this thread's stack, below this call, and uses the list only afterwards.
    unsafe { &mut *list.as_ptr() }.take_over(transit::travelling(owned))
}

/// Keeps why a handle of the message at hand does not travel, for postcard does not.
#[cold]
pub(crate) fn say_why(why: &dyn fmt::Display) {
    if is_sending() || is_receiving() {
        // Where the thread is about to be gone it is not said.
        let said = WHY.try_with(|said| *said.borrow_mut() = why.to_string());
        HAS_SAID.set(said.is_ok());
    }
}

/// What a handle said of the message at hand, if any has.
#[cold]
fn why() -> Option<String> {
    HAS_SAID.replace(false).then(|| WHY.take())
}

/// Whether a handle may be encoded now.
pub(crate) fn is_sending() -> bool {
    SENDING.get().is_some()
}

/// Takes a handle out of the message that is being decoded, by its number: it is the caller's then. `None` outside of
/// the decoder, and where the message has no such handle (any more).
#[inline]
pub(crate) fn take(id: Id) -> Option<Id> {
    let receiving = RECEIVING.get()?;
    // SAFETY: `decode_as` is on this thread's stack, below this call, and uses it only afterwards.
    let Receiving { handles, renamed } = unsafe { &mut *receiving.as_ptr() };
    let id = renamed.iter().find(|(name, _)| *name == id).map_or(id, |(_, id)| *id);
    let at = handles.iter().position(|listed| *listed == id)?;
    Some(handles.swap_remove(at))
}

/// Whether a handle may be decoded now.
pub(crate) fn is_receiving() -> bool {
    RECEIVING.get().is_some()
}

/// A value as bytes, and the handles in it, not yet sent. Dropped, what is its own is released.
#[derive(Debug)]
#[must_use]
pub(crate) struct Packet {
    pub(crate) bytes: Spill,
    pub(crate) handles: Unsent,
}

/// Handles that are listed and not sent, under their travelling numbers.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    ids: Vec<Id>,
    /// How many are the message's own, the first ones: tokens were made for it, the others were taken over.
    own: usize,
}

impl Unsent {
    /// All of them.
    #[inline]
    pub(crate) fn ids(&self) -> &[Id] {
        &self.ids
    }

    /// Whether there are none that somebody else may still hold.
    #[inline]
    pub(crate) fn are_own(&self) -> bool {
        self.own == self.ids.len()
    }

    /// Passes all of them on to a member, or none.
    fn pass_on(&mut self, here: Here, member: Member) -> Result<(), ShmError> {
        for (n, id) in self.ids.iter().enumerate() {
            if let Err(error) = transit::send(here, *id, member.index) {
                self.ids.iter().take(n).for_each(|id| transit::unsend(here, *id, member.index));
                return Err(error);
            }
        }
        self.forget();
        Ok(())
    }

    /// They were sent.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.ids.clear();
        self.own = 0;
    }

    fn list(&mut self, id: Id) {
        self.ids.push(id);
        if id.kind() == Kind::Token {
            self.own(self.ids.len() - 1);
        }
    }

    fn take_over(&mut self, id: Id) -> bool {
        let at = (self.own..self.ids.len()).find(|at| self.ids[*at] == id);
        at.map(|at| self.own(at)).is_some()
    }

    fn own(&mut self, at: usize) {
        self.ids.swap(self.own, at);
        self.own += 1;
    }

    /// Releases what is the message's.
    #[cold]
    fn release(&mut self) {
        // What somebody else holds is still theirs.
        self.ids.truncate(self.own);
        self.own = 0;
        for id in self.ids.drain(..) {
            if let Ok(here) = here() {
                let owned = id.with_generation(id.generation().wrapping_sub(1));
                free::release(here.segment, here.me(), owned);
            }
        }
    }
}

impl Drop for Unsent {
    #[inline]
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.release();
        }
    }
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

impl CodecError {
    #[cold]
    fn left_over(bytes: usize) -> Self {
        Self(format!("{bytes} bytes are left over"))
    }

    /// What postcard says, or what a handle said, where postcard says only that somebody did.
    #[cold]
    fn of(error: &postcard::Error) -> Self {
        let is_anybodys = matches!(error, postcard::Error::SerdeSerCustom | postcard::Error::SerdeDeCustom);
        Self(why().filter(|_| is_anybodys).unwrap_or_else(|| error.to_string()))
    }
}

/// Restores what a thread-local held.
struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Encodes a value, with what moves in it.
pub(crate) fn encode<T: Serialize>(value: T) -> Result<Packet, CodecError> {
    let mut packet = Packet::new();
    packet.encode(&value)?;
    packet.take_over(|| drop(value))?;
    Ok(packet)
}

impl Packet {
    /// An empty packet, to be encoded into in place.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { bytes: Spill::new(), handles: Unsent::default() }
    }

    /// Encodes a value into an empty packet. Its handles stay where they are.
    #[inline]
    pub(crate) fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let _restore = Restore(&SENDING, SENDING.replace(Some(NonNull::from(&mut self.handles))));
        HAS_SAID.set(false);
        encoding::encode(value, Into(&mut self.bytes)).map_err(|error| CodecError::of(&error))
    }

    /// After [`encode`](Self::encode): makes what moves in the value the packet's, for which `let_go` drops the value. What
    /// was not dropped by then is held elsewhere too, in an `Arc` for example: there may be references to what is in it.
    pub(crate) fn take_over(&mut self, let_go: impl FnOnce()) -> Result<(), CodecError> {
        {
            let _restore = Restore(&TAKING_OVER, TAKING_OVER.replace(Some(NonNull::from(&mut self.handles))));
            let_go();
        }
        if self.handles.are_own() { Ok(()) } else { Err(CodecError(SHARED.to_owned())) }
    }

    /// Whether it can go through this pipe: not if an end of the same pipe is in it.
    #[inline]
    pub(crate) fn can_pass(&self, pipe: Id) -> Result<(), CodecError> {
        let is_of =
            |id: &Id| matches!(id.kind(), Kind::End(_)) && (id.class(), id.index()) == (pipe.class(), pipe.index());
        if self.handles.ids.iter().any(is_of) { Err(CodecError(OWN.to_owned())) } else { Ok(()) }
    }
}

/// Why a pipe's end does not go through its own pipe.
const OWN: &str = "an end of this same pipe is in it, which nobody but that end could receive, so it is closed: send it \
                   through another pipe or a queue";

/// Why what moves does not.
const SHARED: &str = "a slice or a pipe's end in it cannot move, for it has another holder: a clone of an `Arc`, a second \
                      place in the value, or a pool that keeps the arguments for its next worker";

/// Decodes a value, whose handles are this process's already: those that it takes leave the list.
#[inline]
pub(crate) fn decode_with<T: DeserializeOwned>(bytes: &[u8], handles: &mut Vec<Id>) -> Result<T, CodecError> {
    decode_as(bytes, Receiving { handles, renamed: &[] })
}

#[inline]
fn decode_as<T: DeserializeOwned>(bytes: &[u8], mut receiving: Receiving<'_>) -> Result<T, CodecError> {
    let _restore = Restore(&RECEIVING, RECEIVING.replace(Some(NonNull::from(&mut receiving).cast())));
    HAS_SAID.set(false);
    match decoding::decode(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::left_over(rest.len())),
        Err(error) => Err(CodecError::of(&error)),
    }
}

/// Bytes before the handles of a packet that travels by itself: their number.
const COUNT: usize = 4;

/// Set in that number: behind them are as many numbers, by which the value knows them.
const RENAMED: u32 = 1 << 31;

impl Packet {
    /// Passes the handles on to a member, who alone can claim them, and gives the bytes that it [`decode`]s. Handles that are
    /// never claimed are released when the member dies.
    ///
    /// If there are any, `note` is called with the bytes before the first is passed on: whoever finds the note of a process
    /// that died meanwhile can claim those that were. If it says no, none is, and the bytes are good for their number alone.
    pub(crate) fn send_to(mut self, member: Member, note: impl FnOnce(&[u8]) -> bool) -> Result<Vec<u8>, ShmError> {
        let count = self.handles.ids.len();
        if !self.handles.are_own() {
            return Err(ShmError::Stale);
        }
        if count == 0 {
            return Ok(self.bytes.without_handles());
        }
        let here = here()?;
        let count = u32::try_from(count).ok().filter(|_| count <= TOKENS).ok_or(ShmError::TooManyInTransit)?;
        let mut bytes = count.to_le_bytes().to_vec();
        for id in &self.handles.ids {
            bytes.extend_from_slice(&id.bits().to_le_bytes());
        }
        bytes.extend_from_slice(self.bytes.as_slice());
        if !note(&bytes) {
            return Ok(bytes);
        }
        step::reach(15);
        self.handles.pass_on(here, member)?;
        Ok(bytes)
    }

    /// Holds of what its handles refer to, in their order; [`send_again`] needs them. `None`: some are no references, but move.
    pub(crate) fn objects(&self) -> Result<Option<Vec<Hold>>, ShmError> {
        if self.handles.ids.iter().any(|id| id.kind() != Kind::Token) {
            return Ok(None);
        }
        let hold = |id: &Id| {
            let here = here()?;
            Hold::of_any(here, transit::object_of(here.segment, *id))
        };
        self.handles.ids.iter().map(hold).collect::<Result<_, _>>().map(Some)
    }
}

/// What [`Packet::send_to`] gave, for whoever is to have it after one that died with it: with new references to the same objects,
/// which the value knows by the numbers of the first ones.
pub(crate) fn send_again(bytes: &[u8], objects: &[Hold], member: Member) -> Result<Vec<u8>, ShmError> {
    let Parts { ids, names, value } = Parts::of(bytes).ok().ok_or(ShmError::Damaged)?;
    if ids.len() != objects.len() {
        return Err(ShmError::Damaged);
    }
    let here = here()?;
    let mut handles = Unsent::default();
    for object in objects {
        handles.list(transit::travelling(transit::make_token(here, object.id)?));
    }
    #[expect(clippy::cast_possible_truncation, reason = "as many as there were")]
    let mut again = (RENAMED | ids.len() as u32).to_le_bytes().to_vec();
    handles.ids.iter().for_each(|id| again.extend_from_slice(&id.bits().to_le_bytes()));
    again.extend_from_slice(names.as_flattened());
    again.extend_from_slice(value);
    handles.pass_on(here, member)?;
    Ok(again)
}

/// What travels, taken apart.
struct Parts<'a> {
    ids: &'a [[u8; 8]],
    /// The numbers by which the value knows them.
    names: &'a [[u8; 8]],
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    #[inline]
    fn of(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let short = || CodecError(format!("a message of {} bytes ends before its value", bytes.len()));
        let (count, rest) = bytes.split_first_chunk::<COUNT>().ok_or_else(short)?;
        let count = u32::from_le_bytes(*count);
        if count == 0 {
            return Ok(Self { ids: &[], names: &[], value: rest });
        }
        let length = (count & !RENAMED) as usize * 8;
        let (ids, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let (names, value) =
            if count & RENAMED == 0 { (ids, rest) } else { rest.split_at_checked(length).ok_or_else(short)? };
        Ok(Self { ids: ids.as_chunks().0, names: names.as_chunks().0, value })
    }
}

/// Decodes what [`Packet::send_to`] gave. The handles in it are claimed first; those that the value doesn't take are
/// released. Bytes from anywhere are an error at worst.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let Parts { ids, names, value } = Parts::of(bytes)?;
    if ids.is_empty() {
        return decode_with(value, &mut Vec::new());
    }
    let here = here().map_err(|error| CodecError(error.to_string()))?;
    let mut claimed = Claimed { here, ids: Vec::with_capacity(ids.len()) };
    let mut renamed = Vec::new();
    for (id, name) in ids.iter().zip(names) {
        let [id, name] = [id, name].map(|bits| Id::from_bits(u64::from_le_bytes(*bits)));
        if transit::claim(here, id).is_ok() {
            claimed.ids.push(id);
            if name != id {
                renamed.push((name, id));
            }
        }
    }
    decode_as(value, Receiving { handles: &mut claimed.ids, renamed: &renamed })
}

/// Whether there are handles in what [`Packet::send_to`] gave.
pub(crate) fn has_handles(bytes: &[u8]) -> bool {
    bytes.first_chunk::<COUNT>().is_some_and(|count| u32::from_le_bytes(*count) != 0)
}

/// Handles that were claimed: those that nobody takes are released.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(super) here: Here,
    pub(crate) ids: Vec<Id>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            free::release(self.here.segment, self.here.me(), id);
        }
    }
}
