//! The worker's side: threads that take tasks, run them, and put results where the parent finds them.

use core::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::membership::Seat;
use super::super::registry::{self, Ran};
use super::door::Door;
use super::ground::{self, Ground};
use super::patience::Patience;
use super::plan::{INLINE, Kind};
use super::slot::{self, NOTIFY, STOP, WAITED, Word};
use super::spec::{LEAVE, LEAVING, READY, Spec};
use super::{line, trace};
use crate::os;
use crate::panics::{guarded, message};
use crate::primitive::plain::OnceLock;
use crate::primitive::{AtomicU64, Ordering};
use crate::shm::spare;

/// Nanoseconds for which a hand looks for a task before it lies down.
const LOOKING: u32 = 8_000;

/// Tasks between two looks at how much memory this process uses.
const TASKS_BETWEEN_LOOKS: u64 = 16;

/// What the hands of this worker share.
struct Shop {
    ground: Ground,
    spec: Spec,
    to_parent: Seat,
    /// Tasks run here.
    ran: AtomicU64,
    door: Door,
    /// Set once all hands are there: a task may leave no memory for more of them.
    open: OnceLock<()>,
}

/// The one of this process, if it is a worker.
static SHOP: OnceLock<Arc<Shop>> = OnceLock::new();

std::thread_local! {
    /// The slot, plus one, and the generation of the task that this thread runs.
    static CURRENT: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Whether this process is a pool's worker.
pub(super) fn is_worker() -> bool {
    SHOP.get().is_some()
}

/// Whether the task that runs on this thread has been asked to stop: its soft time limit is over.
///
/// For tasks that can end early: look here at times, and return. Elsewhere than in a task of a process pool it is false.
///
/// ```
/// fn count() -> u64 {
///     let mut n = 0;
///     while n < 1_000_000 && !millpond::process::stop_requested() {
///         n += 1;
///     }
///     n
/// }
/// assert_eq!(count(), 1_000_000);
/// ```
#[must_use]
pub fn stop_requested() -> bool {
    let (slot, generation) = CURRENT.get();
    let (Some(index), Some(shop)) = (slot.checked_sub(1), SHOP.get()) else { return false };
    shop.ground.slot(index).is_some_and(|slot| {
        let word = Word::load(&slot.word);
        word.has(STOP) || word.generation() != generation
    })
}

/// Serves as a pool's worker until there is nothing to do for it. An error is why it can't be one.
pub(in crate::process) fn serve(spec: &[u8], given: Vec<OwnedFd>, to_parent: Seat) -> Result<(), String> {
    let spec = Spec::from_bytes(spec)?;
    let mut given = given.into_iter();
    let (Some(memory), Some(mouth)) = (given.next(), given.next()) else {
        return Err("it was given no memory".to_owned());
    };
    let before = speak_into(&mouth);
    drop(mouth);
    let ground = Ground::open(memory, spec.plan).map_err(|error| format!("the pool's memory: {error}"))?;
    take_on(&spec)?;
    let shop =
        Arc::new(Shop { ground, spec, to_parent, ran: AtomicU64::new(0), door: Door::new(), open: OnceLock::new() });
    let shop = Arc::clone(SHOP.get_or_init(|| shop));
    call(&shop, shop.spec.initializer.as_ref(), "initializer")?;
    let hands = shop.ground.plan.hands_of(shop.spec.worker);
    let threads = shop.threads();
    let mut others = Vec::new();
    for hand in hands.clone().take(threads).skip(1) {
        let shop = Arc::clone(&shop);
        let thread = std::thread::Builder::new().name(format!("hand-{hand}"));
        others.push(thread.spawn(move || shop.work(hand)).map_err(|error| format!("a thread: {error}"))?);
    }
    if let (Some(before), false) = (before, shop.spec.captured) {
        let _ = rustix::stdio::dup2_stderr(&before);
    }
    let post = shop.ground.post(shop.spec.worker);
    // Release: pairs with the Acquire of the parent's thread.
    post.phase.store(READY, Ordering::Release);
    shop.ground.ring();
    let _ = shop.open.set(());
    shop.work(hands.start);
    for other in others {
        // Tasks' panics are caught.
        let _ = other.join();
    }
    call(&shop, shop.spec.on_exit.as_ref(), "exit hook")
}

/// Standard error goes to the parent; what it was before.
fn speak_into(mouth: &OwnedFd) -> Option<OwnedFd> {
    let before = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok();
    let _ = rustix::stdio::dup2_stderr(mouth);
    before
}

/// Takes on the pool's attributes.
fn take_on(spec: &Spec) -> Result<(), String> {
    if let Some(nice) = spec.nice {
        os::set_nice(nice).map_err(|error| format!("nice value {nice}: {error}"))?;
    }
    if let Some(cores) = &spec.cores {
        os::set_affinity(cores).map_err(|error| format!("cores {cores:?}: {error}"))?;
    }
    if let Some(folder) = &spec.folder {
        std::env::set_current_dir(folder).map_err(|error| format!("folder {}: {error}", folder.display()))?;
    }
    Ok(())
}

/// Calls a hook.
fn call(shop: &Shop, hook: Option<&(u32, Vec<u8>)>, what: &str) -> Result<(), String> {
    let Some((function, arguments)) = hook else { return Ok(()) };
    let entry = registry::entry(*function).ok_or_else(|| format!("the {what} is not in this program"))?;
    match entry.run(arguments, &shop.to_parent, &mut |_| true) {
        Ran::Returned(bytes) => {
            drop(super::super::codec::Arrived::new(bytes));
            Ok(())
        }
        Ran::Undecodable(reason) => Err(format!("the arguments of the {what} could not be read: {reason}")),
        Ran::Unencodable(reason) => Err(format!("the result of the {what} could not be encoded: {reason}")),
    }
}

/// What a hand keeps between tasks.
struct Own {
    hand: u16,
    arguments: Vec<u8>,
    /// Which outbox comes next, the one that this task's result is in, and how many bytes of each have their pages.
    next: usize,
    filled: Option<usize>,
    warm: [usize; 2],
    patience: Patience,
}

impl Shop {
    fn threads(&self) -> usize {
        if self.spec.for_suspects { 1 } else { self.ground.plan.hands_of(self.spec.worker).len() }
    }

    /// A hand's life.
    fn work(&self, hand: u16) {
        self.open.wait();
        let stay = || {
            // Release: as at the start.
            self.ground.post(self.spec.worker).phase.store(READY, Ordering::Release);
            self.ran.load(Ordering::Relaxed)
        };
        loop {
            self.serve(hand);
            if self.door.pass(self.threads(), || self.is_told(), || self.has_tasks(), stay) {
                break;
            }
        }
    }

    /// Runs tasks until it is time to leave.
    fn serve(&self, hand: u16) {
        let ends = self.ground.ends(self.spec.line);
        let places = self.ground.places(self.spec.line);
        let head = self.ground.head();
        let hands = self.spec.hands.clone();
        let patience = Patience::new(LOOKING);
        let mut own = Own { hand, arguments: Vec::new(), next: 0, filled: None, warm: [0; 2], patience };
        let mut looked = false;
        let take = |index: u32, generation: u32| {
            self.ground.slot(index).is_some_and(|slot| slot::take(&slot.word, generation, hand))
        };
        while !self.is_leaving() {
            if let Some((index, generation)) = line::get(ends, places, take) {
                let left = line::len(ends);
                let searched = head.beds.found(hand) | core::mem::take(&mut looked);
                if searched && left > 0 {
                    self.ground.call(hands.clone());
                }
                // Relaxed: a mark that is seen late is seen by the next hand.
                let low = head.low.0.load(Ordering::Relaxed);
                if low > 0 && left <= low {
                    self.ground.ring();
                }
                self.run(&mut own, index, generation);
                continue;
            }
            if self.spec.for_suspects {
                break;
            }
            // It is not asleep, so nobody need wake another for the task that it will find.
            head.beds.search(hand);
            if own.patience.look(|| line::len(ends) > 0) {
                looked = true;
                continue;
            }
            looked = self.sleep(hand, || line::len(ends) > 0);
        }
        // Somebody may have woken it for a task that it leaves to others.
        head.beds.bury(hand);
        if line::len(ends) > 0 {
            self.ground.call(hands);
        }
    }

    fn is_leaving(&self) -> bool {
        self.door.is_leaving() || self.is_told()
    }

    /// Whether the parent has nothing to do for it any more.
    fn is_told(&self) -> bool {
        self.ground.head().orders.load(Ordering::SeqCst) == LEAVE && !self.has_tasks()
    }

    fn has_tasks(&self) -> bool {
        line::len(self.ground.ends(self.spec.line)) > 0
    }

    /// Sleeps until woken, unless there is something to do after all: then true.
    fn sleep(&self, hand: u16, is_there_more: impl Fn() -> bool) -> bool {
        let bed = self.ground.hand(hand);
        let beds = &self.ground.head().beds;
        let is_there_more = || is_there_more() || self.is_leaving();
        let lies = || {
            bed.slept.fetch_add(1, Ordering::Relaxed);
        };
        beds.rest(hand, &bed.bed, is_there_more, lies, || ground::sleep(&bed.bed, 1, None))
    }

    /// Runs the task in a slot, which this hand has taken.
    fn run(&self, own: &mut Own, index: u32, generation: u32) {
        let (Some(slot), Some(room)) = (self.ground.slot(index), self.ground.room(index)) else { return };
        let me = self.ground.hand(own.hand);
        slot.started.store(ground::now(), Ordering::Relaxed);
        me.slot.store(index + 1, Ordering::Relaxed);
        CURRENT.set((index + 1, generation));
        own.filled = None;
        let (kind, mut bytes, noted) = self.outcome(own, slot, room);
        CURRENT.set((0, 0));
        if kind != Kind::Returned {
            // Of words that are too many, the first are better than none.
            bytes.truncate(self.ground.plan.most);
        }
        if !noted {
            self.put_down(own, slot, room, &bytes, kind);
        }
        spare::give(bytes);
        me.slot.store(0, Ordering::Relaxed);
        count(&me.ran);
        let Some(word) = slot::done(&slot.word, generation, own.hand) else {
            // It was revoked: this process is about to be killed, and must not take another task.
            loop {
                std::thread::sleep(core::time::Duration::from_secs(3600));
            }
        };
        let per_line = self.ground.plan.per_line;
        let (line, place) = (index as usize / per_line, index as usize % per_line);
        // Release: after DONE; pairs with the Acquire in `harvest`.
        self.ground.done(line)[place / 64].fetch_or(1 << (place % 64), Ordering::Release);
        if word.has(WAITED) {
            // Before the waiter is awake: on one core it runs first, and what it submits then is this hand's, who need not be woken.
            self.ground.head().beds.search(own.hand);
            Ground::wake_all_on(&slot.word);
        }
        if word.has(NOTIFY) {
            self.ground.ring();
        }
        self.grow_old();
    }

    /// Calls the task's function. Its result, or what went wrong, in bytes; and whether that was put down already: so it is
    /// with a result that has handles in it, before they are passed on. Whoever sees to a dead worker's tasks finds them there.
    fn outcome(&self, own: &mut Own, slot: &super::plan::Slot, room: usize) -> (Kind, Vec<u8>, bool) {
        let undecodable = |reason: &str| (Kind::Undecodable, reason.as_bytes().to_vec(), false);
        let plan = self.ground.plan;
        let len = usize::try_from(slot.len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let at = usize::try_from(slot.at.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let inside = if at == 0 {
            len <= INLINE
        } else {
            let inbox = plan.inbox();
            at >= inbox.start && at.checked_add(len).is_some_and(|end| end <= inbox.end)
        };
        if !inside {
            return undecodable("what was sent was written over");
        }
        if self.ground.read(if at == 0 { room } else { at }, len, &mut own.arguments).is_err() {
            return undecodable("there is no memory for them");
        }
        let many = Kind::of(slot.kind.load(Ordering::Relaxed)) == Some(Kind::Many);
        let Some(entry) = registry::entry(slot.function.load(Ordering::Relaxed)) else {
            return undecodable("the function is not in this program");
        };
        let _span = trace::running(entry.path(), slot.number.load(Ordering::Relaxed));
        let arguments = core::mem::take(&mut own.arguments);
        let mut noted = false;
        let mut note = |bytes: &[u8]| {
            noted = true;
            self.put_down(own, slot, room, bytes, Kind::Returned)
        };
        let ran = guarded(|| {
            if many {
                entry.run_many(&arguments, &self.to_parent, &mut note)
            } else {
                entry.run(&arguments, &self.to_parent, &mut note)
            }
        });
        own.arguments = arguments;
        let panicked = match &ran {
            Ok(Ran::Returned(bytes)) => many && registry::has_panicked(bytes),
            ran => ran.is_err(),
        };
        if panicked {
            count(&self.ground.hand(own.hand).panicked);
        }
        match ran {
            Ok(Ran::Returned(bytes)) => (Kind::Returned, bytes, noted),
            Ok(Ran::Undecodable(reason)) => (Kind::Undecodable, reason.into_bytes(), false),
            Ok(Ran::Unencodable(reason)) => (Kind::Unencodable, reason.into_bytes(), false),
            Err(panic) => (Kind::Panicked, message(panic).into_bytes(), false),
        }
    }

    /// Puts bytes into the slot, or into an outbox, and says in the slot what they are. Whether they are there, and not a reason
    /// why they can't be. What was put down before for the same task is not what came of it: its outbox is empty again.
    fn put_down(&self, own: &mut Own, slot: &super::plan::Slot, room: usize, bytes: &[u8], kind: Kind) -> bool {
        let say = |as_what: Kind, at: usize, len: usize| {
            slot.at.store(at as u64, Ordering::Relaxed);
            slot.len.store(len as u64, Ordering::Relaxed);
            // Release: the last word, for whoever reads the slot of a dead worker; pairs with the Acquire in `release_noted`.
            slot.kind.store(as_what as u32, Ordering::Release);
            as_what == kind
        };
        if let Some(which) = own.filled.take() {
            // Relaxed: the parent looks at it when the task is done, or this process dead.
            self.ground.hand(own.hand).full[which].store(0, Ordering::Relaxed);
            own.next = which;
        }
        if bytes.len() <= INLINE {
            self.ground.write(room, bytes);
            return say(kind, 0, bytes.len());
        }
        if bytes.len() > self.ground.plan.most {
            return say(Kind::TooLarge, 0, bytes.len());
        }
        let which = own.next;
        let range = self.ground.plan.outbox(own.hand, which);
        let full = &self.ground.hand(own.hand).full[which];
        // Acquire: pairs with the Release of the parent, who has read what was there.
        while full.load(Ordering::Acquire) == 1 {
            self.ground.ring();
            ground::sleep(full, 1, None);
        }
        let len = bytes.len().next_multiple_of(4096);
        if len > own.warm[which] {
            if let Err(error) = self.ground.take_room(range.start..range.start + len) {
                let reason = format!("there is no room for its {} bytes: {error}", bytes.len());
                self.ground.write(room, reason.as_bytes().get(..INLINE).unwrap_or(reason.as_bytes()));
                return say(Kind::Unencodable, 0, reason.len().min(INLINE));
            }
            own.warm[which] = len;
        }
        own.next = 1 - which;
        own.filled = Some(which);
        self.ground.write(range.start, bytes);
        full.store(1, Ordering::Relaxed);
        say(kind, range.start, bytes.len())
    }

    /// A task was run: is it time to leave?
    fn grow_old(&self) {
        let ran = self.ran.fetch_add(1, Ordering::Relaxed) + 1;
        let old = self.spec.recycle_after.is_some_and(|after| ran >= after);
        let look = self.spec.memory_limit.is_some() && ran.is_multiple_of(TASKS_BETWEEN_LOOKS);
        let fat = look && self.spec.memory_limit.is_some_and(|limit| resident() > limit);
        if old || fat {
            let step = if old { self.spec.recycle_after.unwrap_or(0) } else { TASKS_BETWEEN_LOOKS };
            self.door.open(ran, step, || {
                self.ground.post(self.spec.worker).phase.store(LEAVING, Ordering::Release);
                self.ground.plan.hands_of(self.spec.worker).for_each(|hand| self.ground.wake(hand));
            });
        }
    }
}

/// One more, in a word that nobody else writes.
fn count(word: &AtomicU64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Bytes of memory that this process uses now; 0 if the system doesn't tell.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * os::page_size() as u64
}
