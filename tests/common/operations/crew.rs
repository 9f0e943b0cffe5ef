//! Threads that take turns: each runs a part of the program while the others rest, so that a run is the same each time.

use core::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// Threads of one program.
pub(crate) const MEMBERS: usize = 3;

/// Who runs the next operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The same thread.
    Stay,
    /// Another member, which starts if it isn't there.
    Go(usize),
    /// This thread ends; member 0 goes on.
    End,
    /// A new thread runs so many operations while it ends. If it used memory before, its caches are gone already.
    Late { count: usize, used: bool },
}

/// What a program acts on. It moves from thread to thread.
pub(crate) trait World: Send + 'static {
    type Op: Send + Sync + 'static;
    /// Runs one operation.
    fn step(&mut self, op: &Self::Op) -> Turn;
    /// Uses the memory under test once, so that the thread has caches.
    fn touch(&mut self);
    /// So many threads of the program are alive now.
    fn threads(&mut self, alive: usize);
}

/// The world on its way, with the number of the next operation.
type Parcel<W> = (W, usize);

struct Member<W> {
    work: Sender<Parcel<W>>,
    done: Receiver<(Parcel<W>, Turn)>,
    thread: JoinHandle<()>,
}

impl<W: World> Member<W> {
    fn start(ops: Arc<[W::Op]>) -> Self {
        let (work, orders) = channel::<Parcel<W>>();
        let (report, done) = channel();
        let thread = thread::spawn(move || {
            for (mut world, mut next) in orders {
                let mut turn = Turn::Stay;
                while turn == Turn::Stay && next < ops.len() {
                    turn = world.step(&ops[next]);
                    next += 1;
                }
                if report.send(((world, next), turn)).is_err() {
                    return;
                }
            }
        });
        Self { work, done, thread }
    }

    /// Lets the thread end, and waits until its destructors have run.
    fn join(self) {
        drop(self.work);
        finish(self.thread);
    }

    /// Has the member go on with the program. If it panics, so does this.
    fn run(self, parcel: Parcel<W>) -> (Self, Parcel<W>, Turn) {
        let sent = self.work.send(parcel).is_ok();
        match self.done.recv() {
            Ok((parcel, turn)) if sent => (self, parcel, turn),
            _ => {
                self.join();
                unreachable!("a member that did not answer has panicked")
            }
        }
    }
}

fn finish(thread: JoinHandle<()>) {
    if let Err(payload) = thread.join() {
        panic::resume_unwind(payload);
    }
}

/// Runs a program from its start, by member 0 to begin with; ends all threads.
pub(crate) fn run<W: World>(world: W, ops: Vec<W::Op>) -> W {
    let ops: Arc<[W::Op]> = ops.into();
    let mut members: [Option<Member<W>>; MEMBERS] = [const { None }; MEMBERS];
    let (mut parcel, mut who) = ((world, 0), 0);
    while parcel.1 < ops.len() {
        let member = members[who].take().unwrap_or_else(|| Member::start(Arc::clone(&ops)));
        let alive = 1 + members.iter().flatten().count();
        parcel.0.threads(alive);
        let (member, back, turn) = member.run(parcel);
        parcel = back;
        match turn {
            Turn::Stay => members[who] = Some(member),
            Turn::Go(other) => {
                members[who] = Some(member);
                who = other % MEMBERS;
            }
            Turn::End => {
                member.join();
                who = 0;
            }
            Turn::Late { count, used } => {
                members[who] = Some(member);
                parcel.0.threads(alive + 1);
                parcel = late(parcel, &ops, count, used);
            }
        }
    }
    members.into_iter().flatten().for_each(Member::join);
    parcel.0.threads(0);
    parcel.0
}

/// What a thread does while it ends, when it may.
struct Will {
    /// How often its destructor is still to be put off: those of the other keys run meanwhile.
    rounds: u32,
    act: Box<dyn FnOnce()>,
}

/// The key whose destructor does it.
fn will_key() -> libc::pthread_key_t {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: writes the key; the function lives as long as the program.
        let made = unsafe { libc::pthread_key_create(&raw mut key, Some(execute)) };
        assert_eq!(made, 0, "there is a key left");
        key
    })
}

fn put_off(will: Box<Will>) {
    // SAFETY: the key exists; the value is a pointer that `execute` takes back.
    let kept = unsafe { libc::pthread_setspecific(will_key(), Box::into_raw(will).cast_const().cast()) };
    assert_eq!(kept, 0, "the key exists");
}

/// # Safety
/// `will` is from [`put_off`], and is used once.
unsafe extern "C" fn execute(will: *mut c_void) {
    // SAFETY: the caller's duty.
    let mut will = unsafe { Box::from_raw(will.cast::<Will>()) };
    if will.rounds == 0 {
        return (will.act)();
    }
    will.rounds -= 1;
    put_off(will);
}

/// Runs `count` operations on a thread that ends: after its caches were given back if it used memory before, or as the
/// first that it does with memory.
fn late<W: World>((mut world, next): Parcel<W>, ops: &Arc<[W::Op]>, count: usize, used: bool) -> Parcel<W> {
    let ops = Arc::clone(ops);
    let (report, done) = channel();
    let thread = thread::spawn(move || {
        if used {
            world.touch();
        }
        let act = move || {
            let end = (next + count).min(ops.len());
            // A panic may not leave a destructor.
            let done = panic::catch_unwind(AssertUnwindSafe(move || {
                for op in &ops[next..end] {
                    // Nobody else can take a turn meanwhile.
                    let _ = world.step(op);
                }
                (world, end)
            }));
            let _ = report.send(done);
        };
        put_off(Box::new(Will { rounds: u32::from(used), act: Box::new(act) }));
    });
    let done = done.recv();
    finish(thread);
    match done {
        Ok(Ok(parcel)) => parcel,
        Ok(Err(payload)) => panic::resume_unwind(payload),
        Err(_) => unreachable!("a thread that did not answer has panicked"),
    }
}
