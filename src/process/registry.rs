//! Which functions can run in a child: those that the program listed, found by their own types.
//!
//! `tasks!` puts an entry for each into one table at link time. Parent and child are the same program, so the table
//! is the same, and a function's place in it is its name on the way; a hash of all paths is compared first.

use core::any::{TypeId, type_name};
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{self, Note};
use super::membership::Seat;
use crate::panics::{drop_quietly, guarded, message};
use crate::shm::message::Packet;

/// The table. Its order is the linker's: the same in every process of one program.
#[linkme::distributed_slice]
pub static TASKS: [Entry];

/// The hidden tests by which a test binary's children are entered.
#[linkme::distributed_slice]
pub static ENTRANCES: [&'static str];

/// A function that can run in a child: one that takes `Args`, a tuple of up to twelve values that serde can carry, and
/// returns another. Not what needs a format that describes itself: untagged and internally tagged enums, `flatten`,
/// `skip_serializing_if`.
///
/// Implemented for functions and for closures that capture nothing. To be found in a child a function has to be listed
/// in [`tasks!`](crate::tasks).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run in another process with the arguments `{Args}`",
    label = "takes other arguments, or takes or returns something that serde cannot carry",
    note = "arguments are a tuple: `(1,)` for one, `()` for none; each needs `Serialize` and `DeserializeOwned`"
)]
pub trait Task<Args>: Copy + Send + 'static {
    /// What it returns.
    type Output: Serialize + DeserializeOwned;

    /// Calls it, here.
    #[doc(hidden)]
    fn call(self, args: Args) -> Self::Output;
}

macro_rules! task_of {
    ($($arg:ident)*) => {
        impl<F, R, $($arg),*> Task<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Copy + Send + 'static,
            R: Serialize + DeserializeOwned,
            $($arg: Serialize + DeserializeOwned),*
        {
            type Output = R;

            fn call(self, args: ($($arg,)*)) -> R {
                #[allow(non_snake_case, reason = "a value is named like its type")]
                let ($($arg,)*) = args;
                self($($arg),*)
            }
        }
    };
}

task_of!();
task_of!(A);
task_of!(A B);
task_of!(A B C);
task_of!(A B C D);
task_of!(A B C D E);
task_of!(A B C D E G);
task_of!(A B C D E G H);
task_of!(A B C D E G H I);
task_of!(A B C D E G H I J);
task_of!(A B C D E G H I J K);
task_of!(A B C D E G H I J K L);
task_of!(A B C D E G H I J K L M);

/// What came of a task in a child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// Its value, in bytes.
    Returned(Vec<u8>),
    /// Its arguments could not be read.
    Undecodable(String),
    /// Its value could not be put into bytes.
    Unencodable(String),
}

/// One function of the table.
pub struct Entry {
    id: fn() -> TypeId,
    path: fn() -> &'static str,
    run: fn(&[u8], &Seat, &mut Note<'_>) -> Ran,
    run_many: fn(&[u8], &Seat, &mut Note<'_>) -> Ran,
}

impl Entry {
    /// The entry of a function. [`tasks!`](crate::tasks) calls it.
    #[doc(hidden)]
    #[must_use]
    pub const fn new<F, A>(_: F) -> Self
    where
        F: Task<A>,
        A: Serialize + DeserializeOwned,
    {
        const { must_be_a_function::<F>() };
        Self { id: TypeId::of::<F>, path: type_name::<F>, run: run::<F, A>, run_many: run_many::<F, A> }
    }

    pub(super) fn path(&self) -> &'static str {
        (self.path)()
    }

    /// Reads the arguments, calls the function, and puts its value into bytes for the process in that seat.
    pub(super) fn run(&self, arguments: &[u8], to: &Seat, note: &mut Note<'_>) -> Ran {
        (self.run)(arguments, to, note)
    }

    /// Reads a list of arguments, calls the function for each, and puts its values into bytes: a [`Chunk`].
    pub(super) fn run_many(&self, arguments: &[u8], to: &Seat, note: &mut Note<'_>) -> Ran {
        (self.run_many)(arguments, to, note)
    }

    /// Where its code is: a number that changes from build to build, relative to a function of ours.
    fn offset(&self) -> usize {
        (self.run as *const ()).addr().wrapping_sub((identity as *const ()).addr())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.path())
    }
}

/// Fails to compile for what a child cannot find by its type alone.
pub(super) const fn must_be_a_function<F>() {
    assert!(
        size_of::<F>() == 0,
        "a function pointer, or a closure that captures something, cannot run in another process: name the function \
         itself, and pass values as arguments"
    );
}

fn run<F, A>(arguments: &[u8], to: &Seat, note: &mut Note<'_>) -> Ran
where
    F: Task<A>,
    A: Serialize + DeserializeOwned,
{
    let arguments: A = match codec::decode_from(arguments, to) {
        Ok(arguments) => arguments,
        Err(reason) => return Ran::Undecodable(reason),
    };
    let value = function::<F>().call(arguments);
    hand_over(value, to, note)
}

/// What comes of many calls in one: the values, up to the first call that panicked, what that said, and whether there was one.
pub(super) type Chunk<R> = (Vec<R>, String, bool);

/// Bytes of a panic's message that travel with the values before it: they are to have room too.
const MOST_WORDS: usize = 16 << 10;

/// Whether there was one, by a chunk's last byte: it need not be decoded to be counted.
pub(super) fn has_panicked(chunk: &[u8]) -> bool {
    chunk.last() == Some(&1)
}

fn run_many<F, A>(arguments: &[u8], to: &Seat, note: &mut Note<'_>) -> Ran
where
    F: Task<A>,
    A: Serialize + DeserializeOwned,
{
    let arguments: Vec<A> = match codec::decode_from(arguments, to) {
        Ok(arguments) => arguments,
        Err(reason) => return Ran::Undecodable(reason),
    };
    let mut chunk: Chunk<F::Output> = (Vec::with_capacity(arguments.len()), String::new(), false);
    for arguments in arguments {
        match guarded(|| function::<F>().call(arguments)) {
            Ok(value) => chunk.0.push(value),
            Err(panic) => {
                (chunk.1, chunk.2) = (message(panic), true);
                chunk.1.truncate(chunk.1.floor_char_boundary(MOST_WORDS));
                break;
            }
        }
    }
    hand_over(chunk, to, note)
}

/// Puts a value into bytes for the process in that seat.
fn hand_over<R: Serialize>(value: R, to: &Seat, note: &mut Note<'_>) -> Ran {
    let mut packet = Packet::new();
    let encoded = packet.encode(&value);
    // What is left of it now is no part of the call, whatever it does when it is dropped.
    let all = packet.take_over(|| _ = drop_quietly(value));
    match encoded.and(all).map_err(|error| error.to_string()).and_then(|()| codec::pass_on(packet, to, note)) {
        Ok(bytes) => Ran::Returned(bytes),
        Err(reason) => Ran::Unencodable(reason),
    }
}

/// The function itself, which is no bytes at all.
fn function<F: Copy>() -> F {
    const { must_be_a_function::<F>() };
    // SAFETY: F has no bytes, so any well-aligned pointer may be read; it has values, for one was given to
    // `Entry::new`, whose entry is the only caller's way here; and it may be copied.
    unsafe { core::ptr::NonNull::<F>::dangling().read() }
}

/// The place of a function in the table.
pub(super) fn find<F: 'static>() -> Option<u32> {
    let id = TypeId::of::<F>();
    let place = TASKS.iter().position(|entry| (entry.id)() == id)?;
    u32::try_from(place).ok()
}

/// The place of this function.
#[cfg(test)]
pub(super) fn find_of<F: 'static>(_: &F) -> Option<u32> {
    find::<F>()
}

/// The entry at a place that another process named.
pub(super) fn entry(place: u32) -> Option<&'static Entry> {
    TASKS.get(usize::try_from(place).ok()?)
}

/// The last part of a function's path, without the types that it is for.
pub(super) fn short_name(path: &str) -> &str {
    let plain = path.find('<').filter(|at| *at > 0).map_or(path, |at| &path[..at]);
    plain.rsplit("::").next().unwrap_or(plain)
}

/// What two processes of one program have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// The version of the handshake.
    pub(super) protocol: u32,
    /// From the linker's build id, this crate's version, and where the functions are.
    pub(super) build: u64,
    /// From the paths of all functions in the table, in order.
    pub(super) table: u64,
}

/// The version of all that the two sides say to each other.
pub(super) const PROTOCOL: u32 = 1;

/// The identity of this process's program.
pub(super) fn identity() -> Identity {
    let mut build = Fnv::new();
    build.add(env!("CARGO_PKG_VERSION").as_bytes());
    build.add(&crate::os::image::build_id().unwrap_or_default());
    let mut table = Fnv::new();
    for entry in TASKS {
        build.add(&entry.offset().to_le_bytes());
        table.add(entry.path().as_bytes());
        table.add(&[0]);
    }
    Identity { protocol: PROTOCOL, build: build.0, table: table.0 }
}

/// Fowler, Noll and Vo's hash, 64 bits, variant 1a: equal in every process, which the standard hasher need not be.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Lists functions that can run in other processes.
///
/// Stands outside of functions, beside those that it lists. Each is registered when the program is linked, under its
/// own type, so that [`Process::spawn`](crate::process::Process::spawn) takes the function itself. A generic function
/// is listed with its types: `tasks![parse::<u32>]`.
///
/// ```
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
/// millpond::tasks![double];
/// # fn main() {}
/// ```
///
/// A function pointer, or a closure that captures something, cannot be found by its type, and does not compile:
///
/// ```compile_fail,E0080
/// # fn main() {
/// let factor = 2;
/// let _ = millpond::process::Process::spawn(move |n: u32| factor * n, (1,));
/// # }
/// ```
/// ```compile_fail,E0080
/// # fn double(n: u32) -> u32 { 2 * n }
/// # millpond::tasks![double];
/// # fn main() {
/// let pointer: fn(u32) -> u32 = double;
/// let _ = millpond::process::Process::spawn(pointer, (1,));
/// # }
/// ```
#[macro_export]
macro_rules! tasks {
    ($($task:expr),* $(,)?) => {
        $(
            const _: () = {
                #[$crate::process::private::linkme::distributed_slice($crate::process::private::TASKS)]
                #[linkme(crate = $crate::process::private::linkme)]
                static ENTRY: $crate::process::private::Entry = $crate::process::private::Entry::new($task);
            };
        )*
    };
}

#[expect(clippy::test_attr_in_doctest, reason = "shows how a test binary looks")]
/// Lets the tests of a test binary start processes, instead of the call of [`process::init`](crate::process::init)
/// for which they have no `main`.
///
/// Stands once in each test binary, outside of functions: in `tests/<name>.rs`, or in a module of the crate's own tests.
/// It adds a test, `millpond_worker`, that passes when it is run by itself. Children are the same test binary, told to
/// run that one test: the standard library and the harness have started as ever, so tasks find the signal dispositions
/// and the stack guard that every Rust program has, and what they print is not captured.
///
/// ```
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
/// millpond::tasks![double];
/// millpond::test_support!();
///
/// #[test]
/// fn two_and_two() {
///     let child = millpond::process::Process::spawn(double, (2,)).unwrap();
///     assert_eq!(child.join().unwrap(), 4);
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! test_support {
    () => {
        #[test]
        fn millpond_worker() {
            #[$crate::process::private::linkme::distributed_slice($crate::process::private::ENTRANCES)]
            #[linkme(crate = $crate::process::private::linkme)]
            static ENTRANCE: &'static str = ::core::concat!(::core::module_path!(), "::millpond_worker");
            $crate::process::private::enter_from_test();
        }
    };
}
