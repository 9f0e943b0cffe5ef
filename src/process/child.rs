//! The child's side: recognising that one is a child, the handshake, the function, the end.

use std::io::Write;
use std::os::fd::OwnedFd;

use super::birth::MARKER;
use super::channel;
use super::membership::Seat;
use super::registry::{self, Ran};
use super::wire::{Greeting, Job, Kind, Message, Reader, difference, header};
use crate::os::process::{die_with_parent, inherited_descriptor, inherited_socket, remove_variable, set_comm};
use crate::panics::{guarded, message, text};
use crate::primitive::plain::OnceLock;
use crate::primitive::{AtomicBool, Ordering};
use crate::shm;

/// What a child ends with when its function panicked: what every Rust program ends with.
const PANICKED: i32 = 101;
/// What a child ends with when its parent doesn't speak as it should (`EX_PROTOCOL`).
const NO_HANDSHAKE: i32 = 76;

/// This process, if it is a child.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) name: String,
    socket: OwnedFd,
    /// Where to report members of the shared memory.
    reports: Option<OwnedFd>,
    /// Open as long as we live: the system kills us when nobody holds its other end.
    _lifeline: Option<OwnedFd>,
}

/// What is copied to go with its header at once, in bytes.
const SHORT: usize = 4096;

static ME: OnceLock<Me> = OnceLock::new();
/// Whether this process has looked for the socket that [`MARKER`] names, which is taken over then if it is there.
static SERVED: AtomicBool = AtomicBool::new(false);

pub(super) fn me() -> Option<&'static Me> {
    ME.get()
}

/// Where this process reports members of the shared memory, if it is a child.
pub(super) fn reports() -> Option<&'static OwnedFd> {
    me()?.reports.as_ref()
}

/// What a pool's worker does: with what it was told, what it was given, and its parent's seat.
pub(super) type ServePool = fn(&[u8], Vec<OwnedFd>, Seat) -> Result<(), String>;

/// Serves and never returns, if this process is a child. Does nothing where it was called before: whoever calls it again
/// runs in the child, or beside what runs there, and finds the variable unless the child had one thread.
pub(super) fn serve_if_child(serve_pool: ServePool) {
    let Some(marker) = std::env::var_os(MARKER) else { return };
    let mut parts = marker.to_str().unwrap_or_default().split(':');
    let mut number = || parts.next().and_then(|part| part.parse::<i32>().ok());
    let (Some(socket), Some(stdout), Some(lifeline), Some(parent)) = (number(), number(), number(), number()) else {
        return;
    };
    let parent = parent.unsigned_abs();
    // Relaxed: says only that this line was reached. A forked copy has what its original had.
    if SERVED.swap(true, Ordering::Relaxed) {
        return;
    }
    // A command that a child started before it got here has the variable, but not the socket.
    if let Some(socket) = inherited_socket(socket, parent) {
        remove_variable(MARKER);
        // While this is the only thread: with more, the system lets it wait for all processors, some milliseconds. Whether it
        // will is asked again by whoever maps a segment.
        let _ = crate::os::shared::join_fences();
        die_with_parent(parent);
        if let Some(stdout) = inherited_descriptor(stdout) {
            // What the harness has said so far is not ours.
            let _ = std::io::stdout().flush();
            let _ = rustix::stdio::dup2_stdout(&stdout);
        }
        serve(socket, inherited_descriptor(lifeline), serve_pool)
    }
}

fn serve(socket: OwnedFd, lifeline: Option<OwnedFd>, serve_pool: ServePool) -> ! {
    let mut inbox = Inbox { reader: Reader::default(), bytes: vec![0; 16 * 1024], have: 0..0, descriptors: Vec::new() };
    let Some(Message::Greeting(theirs)) = inbox.next(&socket) else { std::process::exit(NO_HANDSHAKE) };
    let mut descriptors = inbox.descriptors.drain(..);
    // They come with a seat only; what comes behind them is for a pool's worker.
    let seated = matches!(Seat::from_numbers(theirs.child), Seat::Taken(_));
    let (memory, reports) = if seated { (descriptors.next(), descriptors.next()) } else { (None, None) };
    let given: Vec<OwnedFd> = descriptors.collect();
    let identity = registry::identity();
    let mut apart = None;
    if let (Some(memory), Seat::Taken(member)) = (memory, Seat::from_numbers(theirs.child))
        && let Seat::Taken(parent) = Seat::from_numbers(theirs.parent)
        && difference(identity, theirs.identity).is_none()
    {
        // Without it no handle can be decoded or passed on, which is said then.
        apart = shm::attach(memory, member, parent.index).err();
    }
    let ours = Greeting { identity, pid: std::process::id(), child: theirs.child, parent: theirs.parent };
    let answered = channel::send_all(&socket, &ours.to_bytes());
    if answered.is_err() || difference(identity, theirs.identity).is_some() {
        std::process::exit(NO_HANDSHAKE);
    }
    let Some(Message::Frame(kind, content)) = inbox.next(&socket) else { std::process::exit(NO_HANDSHAKE) };
    drop(inbox);
    let Some(job) = Job::from_bytes(&content) else { std::process::exit(NO_HANDSHAKE) };
    set_comm(job.comm);
    let to_parent = apart.as_ref().map_or_else(|| Seat::from_numbers(theirs.parent), Seat::apart);
    // Members of another memory are none of the parent's business: this process is the root of that.
    let reports = reports.filter(|_| apart.is_none());
    if kind == Kind::Serve {
        let me = ME.get_or_init(|| Me { name: job.name.to_owned(), socket, reports, _lifeline: lifeline });
        if cfg!(panic = "abort") {
            say_panics(me);
        }
        let served = guarded(|| serve_pool(job.arguments, given, to_parent));
        let (kind, content, code) = match served {
            Ok(Ok(())) => std::process::exit(0),
            Ok(Err(reason)) => (Kind::Unencodable, reason, NO_HANDSHAKE),
            Err(panic) => (Kind::Panicked, message(panic), PANICKED),
        };
        me.say(kind, content.as_bytes());
        std::process::exit(code)
    }
    let Some(task) = registry::entry(job.task) else { std::process::exit(NO_HANDSHAKE) };
    let me = ME.get_or_init(|| Me { name: job.name.to_owned(), socket, reports, _lifeline: lifeline });
    if cfg!(panic = "abort") {
        say_panics(me);
    }
    // A value with handles is said before the first is passed on: should this process be killed meanwhile, its parent knows them.
    let mut said = false;
    let mut say_first = |value: &[u8]| {
        said = true;
        me.say(Kind::Returned, value)
    };
    let (kind, content, code) = match guarded(|| task.run(job.arguments, &to_parent, &mut say_first)) {
        Ok(Ran::Returned(_)) if said => std::process::exit(0),
        Ok(Ran::Returned(value)) => (Kind::Returned, value, 0),
        Ok(Ran::Undecodable(reason)) => (Kind::Undecodable, reason.into_bytes(), NO_HANDSHAKE),
        Ok(Ran::Unencodable(reason)) => (Kind::Unencodable, reason.into_bytes(), NO_HANDSHAKE),
        Err(panic) => (Kind::Panicked, message(panic).into_bytes(), PANICKED),
    };
    me.say(kind, &content);
    std::process::exit(code)
}

impl Me {
    /// Tells the parent: whether it was told. It is gone if that fails, and so are we in a moment.
    fn say(&self, kind: Kind, content: &[u8]) -> bool {
        let mut message = header(kind, content.len()).to_vec();
        let first = content.len().min(SHORT);
        message.extend(&content[..first]);
        let said = channel::send_all(&self.socket, &message);
        said.and_then(|()| channel::send_all(&self.socket, &content[first..])).is_ok()
    }
}

/// Where a panic ends the process, whichever thread it is on, its message goes to the parent first.
fn say_panics(me: &'static Me) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        me.say(Kind::Panicked, text(panic.payload()).as_bytes());
    }));
}

/// What has come through the socket and was not taken out yet.
struct Inbox {
    reader: Reader,
    bytes: Vec<u8>,
    have: core::ops::Range<usize>,
    descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// The next whole message. None where the parent closed its end or sent rubbish.
    fn next(&mut self, socket: &OwnedFd) -> Option<Message> {
        loop {
            let mut rest = &self.bytes[self.have.clone()];
            let message = self.reader.next(&mut rest).ok()?;
            self.have.start = self.have.end - rest.len();
            if message.is_some() {
                return message;
            }
            match channel::receive(socket, &mut self.bytes, &mut self.descriptors) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.have = 0..len,
            }
        }
    }
}
