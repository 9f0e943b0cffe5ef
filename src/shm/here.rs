//! The segment of this process, and who this process is in it.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::block::{NOBODY, Owner};
use super::error::ShmError;
use super::members::{self, Member};

use super::segment::Segment;
use crate::os::{self, Lock, Once};
use crate::primitive::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Address space of the segment, in bytes, if the system lets us have so much. It costs nothing until used.
const RESERVED: usize = 256 << 30;

/// The segment, never undone: handles point into it.
static SEGMENT: AtomicPtr<Segment> = AtomicPtr::new(core::ptr::null_mut());
/// Who this process is, as [`Member::bits`] says it; 0 for nobody.
static ME: AtomicU64 = AtomicU64::new(0);
/// Whose child this process is: its index; [`NOBODY`] at the root.
static PARENT: AtomicU32 = AtomicU32::new(NOBODY as u32);
/// Held while the segment is made or joined.
static MAKING: Lock<()> = Lock::new(());
/// Threads that make or join it, or are about to: a copy of this process may have the lock held by nobody.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// Whether this process was made by `fork` from a member, or from one that was about to be one.
static FORKED: AtomicU32 = AtomicU32::new(0);

/// The segment, and who this process is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) segment: &'static Segment,
    /// As in [`ME`]: one word, for what is written in parts and read whole is waited for.
    me: u64,
}

impl Here {
    /// Who this process is.
    #[inline]
    pub(crate) fn member(&self) -> Member {
        Member::of(self.me)
    }

    /// Its index.
    #[inline]
    pub(crate) fn me(&self) -> Owner {
        self.member().index
    }

    /// Whether this process is the member that had this: a copy made by `fork` is not.
    #[inline]
    pub(crate) fn is_still(&self) -> bool {
        // Relaxed: a forked copy sees what its memory was, and has one thread when that is written.
        ME.load(Ordering::Relaxed) == self.me
    }

    /// Where a process is that is a member: `me` is what [`ME`] said, and not 0.
    #[inline]
    fn of(me: u64) -> Self {
        // Acquire: as that of `ME`.
        let segment = SEGMENT.load(Ordering::Acquire);
        // SAFETY: set before `ME` was, and leaked.
        Self { segment: unsafe { &*segment }, me }
    }
}

/// Where this process is, if it is a member already.
pub(super) fn known() -> Option<Here> {
    // Acquire: pairs with the Release in `settle`.
    let me = ME.load(Ordering::Acquire);
    (me != 0).then(|| Here::of(me))
}

fn settle(segment: Segment, member: Member) -> u64 {
    let segment: &'static Segment = Box::leak(Box::new(segment));
    SEGMENT.store(core::ptr::from_ref(segment).cast_mut(), Ordering::Release);
    let me = member.bits();
    // Release: whoever sees it sees the segment.
    ME.store(me, Ordering::Release);
    me
}

/// A child made by `fork` has the mapping, but what the segment says its parent owns is not its; nor is what a thread of its
/// parent was making.
extern "C" fn forked() {
    // Relaxed: the child has one thread.
    if ME.load(Ordering::Relaxed) != 0 || BUSY.load(Ordering::Relaxed) != 0 {
        FORKED.store(1, Ordering::Relaxed);
        ME.store(0, Ordering::Relaxed);
    }
}

/// Held by whoever is about to take the lock of [`MAKING`], until it is free again. Forks are followed from here on.
struct Busy;

impl Busy {
    fn begin() -> Self {
        static FOLLOWED: Once = Once::new();
        FOLLOWED.call(|| os::shared::in_forked_child(forked));
        // Relaxed: read by `forked`, which sees what this process's memory was at the fork.
        BUSY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where this process is; makes the segment if it is the first to ask.
#[inline]
pub(crate) fn here() -> Result<Here, ShmError> {
    // Acquire: pairs with the Release in `settle`.
    let me = match ME.load(Ordering::Acquire) {
        0 => first()?,
        me => me,
    };
    Ok(Here::of(me))
}

#[cold]
fn first() -> Result<u64, ShmError> {
    if FORKED.load(Ordering::Relaxed) != 0 {
        return Err(ShmError::NotAMember);
    }
    let _busy = Busy::begin();
    let _making = MAKING.lock();
    if let Some(here) = known() {
        return Ok(here.me);
    }
    let segment = Segment::create(RESERVED)?;
    let member = members::enlist(&segment, NOBODY)?;
    members::join(&segment, member, os::shared::process_id())?;
    Ok(settle(segment, member))
}

/// The descriptor that a child inherits: of the one segment of this tree of processes, made if there is none.
///
/// It is closed on exec; whoever starts a child hands a duplicate on.
pub(crate) fn share() -> Result<BorrowedFd<'static>, ShmError> {
    Ok(here()?.segment.file())
}

/// Reserves a member's number for a child that is about to start.
pub(crate) fn enlist() -> Result<Member, ShmError> {
    let here = here()?;
    members::enlist(here.segment, here.me())
}

/// A child for which a number was reserved is a process now.
pub(crate) fn started(member: Member, process: u32) {
    if let Some(here) = known() {
        members::started(here.segment, member, process);
    }
}

/// The index of this process's parent.
pub(super) fn parent() -> Owner {
    // Relaxed: set before this process was a member. It was an index.
    PARENT.load(Ordering::Relaxed).try_into().unwrap_or(NOBODY)
}

/// In a child, first of all: joins the segment that it inherited, under the number that was reserved for it by `parent`.
pub(crate) fn attach(file: OwnedFd, member: Member, parent: Owner) -> Result<(), ShmError> {
    let _busy = Busy::begin();
    let _making = MAKING.lock();
    if known().is_some() || FORKED.load(Ordering::Relaxed) != 0 {
        return Err(ShmError::AlreadyAMember);
    }
    let segment = Segment::open(file)?;
    members::join(&segment, member, os::shared::process_id())?;
    PARENT.store(u32::from(parent), Ordering::Relaxed);
    settle(segment, member);
    Ok(())
}

/// A new segment, for the next run of a fuzz target: nobody has anything of the old one.
#[cfg(feature = "fuzzing")]
pub(crate) fn fresh() {
    ME.store(0, Ordering::Release);
    let old = SEGMENT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: leaked in `settle`, and reachable by nobody now.
        drop(unsafe { Box::from_raw(old) });
    }
}
