//! What parent and child say to each other: a greeting each, then frames.
//!
//! ```text
//! greeting: magic 8 | protocol 4 | build 8 | table 8 | pid 4 | seat of the child 8 | of its parent 8   little-endian
//! frame:    kind 1  | length 8   | bytes
//! ```
//! The first two fields of a greeting stay as they are in every version, so that the others can be compared.

use super::registry::Identity;

const MAGIC: [u8; 8] = *b"millpond";
/// Bytes of a greeting.
pub(super) const GREETING: usize = 48;
/// Bytes before a frame's content.
const HEADER: usize = 9;

/// The first words of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) identity: Identity,
    /// Who says it.
    pub(super) pid: u32,
    /// Where the child sits in the shared memory, as in [`Seat`](super::membership::Seat).
    pub(super) child: (u32, u32),
    /// Where the parent sits.
    pub(super) parent: (u32, u32),
}

impl Greeting {
    pub(super) fn to_bytes(self) -> [u8; GREETING] {
        let mut bytes = [0; GREETING];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&MAGIC);
        put(&self.identity.protocol.to_le_bytes());
        put(&self.identity.build.to_le_bytes());
        put(&self.identity.table.to_le_bytes());
        put(&self.pid.to_le_bytes());
        for number in [self.child.0, self.child.1, self.parent.0, self.parent.1] {
            put(&number.to_le_bytes());
        }
        bytes
    }

    /// None if it isn't one.
    pub(super) fn from_bytes(bytes: &[u8; GREETING]) -> Option<Self> {
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        let identity = Identity { protocol: four(8), build: eight(12), table: eight(20) };
        let greeting = Self { identity, pid: four(28), child: (four(32), four(36)), parent: (four(40), four(44)) };
        (bytes[..8] == MAGIC).then_some(greeting)
    }
}

/// What differs between two programs that should be one; None if nothing does.
pub(super) fn difference(ours: Identity, theirs: Identity) -> Option<String> {
    if ours.protocol != theirs.protocol {
        Some(format!("it speaks version {} of the handshake, this program {}", theirs.protocol, ours.protocol))
    } else if ours.table != theirs.table {
        Some("it has other tasks in its `tasks!` lists".to_owned())
    } else if ours.build != theirs.build {
        Some("it is another build".to_owned())
    } else {
        None
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To the child: what to run. See [`Job`].
    Job = 1,
    /// The function's value.
    Returned = 2,
    /// What the panic said.
    Panicked = 3,
    /// Why the arguments could not be read.
    Undecodable = 4,
    /// Why the value could not be put into bytes.
    Unencodable = 5,
    /// To a pool's worker: what it is to be. A [`Job`] too, of no function.
    Serve = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Job, Self::Returned, Self::Panicked, Self::Undecodable, Self::Unencodable, Self::Serve]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame's first bytes; its content follows.
pub(super) fn header(kind: Kind, len: usize) -> [u8; HEADER] {
    let mut bytes = [kind as u8; HEADER];
    bytes[1..].copy_from_slice(&(len as u64).to_le_bytes());
    bytes
}

/// What a child is to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job<'a> {
    /// The function's place in the table.
    pub(super) task: u32,
    /// What the process is called, and what the system's tools show.
    pub(super) name: &'a str,
    pub(super) comm: &'a str,
    pub(super) arguments: &'a [u8],
}

impl<'a> Job<'a> {
    /// The whole frame.
    pub(super) fn to_frame(&self, kind: Kind) -> Vec<u8> {
        let len = 12 + self.name.len() + self.comm.len() + self.arguments.len();
        let mut bytes = Vec::with_capacity(HEADER + len);
        bytes.extend(header(kind, len));
        bytes.extend(self.task.to_le_bytes());
        for text in [self.name, self.comm] {
            bytes.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.arguments);
        bytes
    }

    /// Reads a frame's content. None if it isn't one.
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (task, rest) = bytes.split_first_chunk::<4>()?;
        let (name, rest) = text(rest)?;
        let (comm, arguments) = text(rest)?;
        Some(Self { task: u32::from_le_bytes(*task), name, comm, arguments })
    }
}

/// A text behind its length, and what follows.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some((core::str::from_utf8(text).ok()?, rest))
}

/// What was read whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Greeting(Greeting),
    Frame(Kind, Vec<u8>),
}

/// The other side does not speak as it should.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rubbish;

/// Puts messages together from bytes as they come.
///
/// Memory grows with what has come, never with what a length promises.
#[derive(Debug, Default)]
pub(super) struct Reader {
    greeted: bool,
    /// The beginning of a greeting or of a frame's header.
    start: Vec<u8>,
    /// A frame of which more is to come.
    frame: Option<(Kind, u64, Vec<u8>)>,
}

impl Reader {
    /// Takes in some of `bytes` and moves them past it; a message if one is whole.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Rubbish> {
        loop {
            if let Some((kind, len, mut content)) = self.frame.take() {
                let missing = usize::try_from(len).unwrap_or(usize::MAX) - content.len();
                content.extend(take(bytes, missing));
                if content.len() as u64 == len {
                    return Ok(Some(Message::Frame(kind, content)));
                }
                self.frame = Some((kind, len, content));
                return Ok(None);
            }
            let whole = if self.greeted { HEADER } else { GREETING };
            self.start.extend(take(bytes, whole - self.start.len()));
            if self.start.len() < whole {
                return Ok(None);
            }
            let start = core::mem::take(&mut self.start);
            if let Some(greeting) = start.first_chunk::<GREETING>() {
                self.greeted = true;
                return Greeting::from_bytes(greeting).map(|greeting| Some(Message::Greeting(greeting))).ok_or(Rubbish);
            }
            let (kind, len) = start.split_first().ok_or(Rubbish)?;
            let kind = Kind::from_byte(*kind).ok_or(Rubbish)?;
            let len = u64::from_le_bytes(*len.first_chunk::<8>().ok_or(Rubbish)?);
            self.frame = Some((kind, len, Vec::new()));
        }
    }
}

/// The first `most` bytes, or what there is of them.
fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING_OF_7: Greeting = Greeting {
        identity: Identity { protocol: 1, build: 0x1122_3344_5566_7788, table: u64::MAX },
        pid: 7,
        child: (9, 8),
        parent: (u32::MAX, 0),
    };

    fn all(reader: &mut Reader, mut bytes: &[u8]) -> Result<Vec<Message>, Rubbish> {
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut bytes)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_whole_however_their_bytes_are_cut() {
        let job = Job { task: 3, name: "näme", comm: "mill", arguments: &[1, 2, 3] };
        let mut bytes = GREETING_OF_7.to_bytes().to_vec();
        bytes.extend(job.to_frame(Kind::Job));
        bytes.extend(header(Kind::Returned, 0));
        bytes.extend(header(Kind::Panicked, 2));
        bytes.extend(b"no");
        let content = job.to_frame(Kind::Job).split_off(HEADER);
        assert_eq!(Job::from_bytes(&content), Some(job));
        let expected = [
            Message::Greeting(GREETING_OF_7),
            Message::Frame(Kind::Job, content),
            Message::Frame(Kind::Returned, vec![]),
            Message::Frame(Kind::Panicked, b"no".to_vec()),
        ];
        for piece in [1, 2, 3, 7, 48, 49, 1000] {
            let mut reader = Reader::default();
            let read: Vec<_> = bytes.chunks(piece).flat_map(|piece| all(&mut reader, piece).unwrap()).collect();
            assert_eq!(read, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn rubbish_is_refused_and_a_huge_length_takes_no_memory() {
        assert_eq!(all(&mut Reader::default(), &[0; 100]), Err(Rubbish));
        let mut bytes = GREETING_OF_7.to_bytes().to_vec();
        let mut reader = Reader::default();
        bytes.extend([2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert_eq!(all(&mut reader, &bytes).unwrap().len(), 1);
        assert!(reader.frame.is_some_and(|(_, _, content)| content.capacity() < 100));
        for kind in [0, 7, 255] {
            let mut bytes = GREETING_OF_7.to_bytes().to_vec();
            bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(all(&mut Reader::default(), &bytes), Err(Rubbish), "kind {kind}");
        }
        for cut in 0..8 {
            assert_eq!(Job::from_bytes(&[0, 0, 0, 0, 9, 0, 0, 0][..cut]), None);
        }
        assert_eq!(Job::from_bytes(&[0, 0, 0, 0, 9, 0, 0, 0, 1]), None, "a name longer than all");
        assert_eq!(Job::from_bytes(&[0, 0, 0, 0, 1, 0, 0, 0, 0xff]), None, "no UTF-8");
    }

    #[test]
    fn a_difference_is_named() {
        let ours = GREETING_OF_7.identity;
        assert_eq!(difference(ours, ours), None);
        let named = |theirs| difference(ours, theirs).unwrap();
        assert!(named(Identity { protocol: 2, ..ours }).contains("version 2"));
        assert!(named(Identity { table: 2, ..ours }).contains("tasks!"));
        assert!(named(Identity { build: 2, ..ours }).contains("another build"));
    }
}
