//! A list of what threads own, so that statistics can add it up, and a fork can tell who is left.

use core::cell::Cell;
use core::ptr;

use crate::os::Lock;

/// A member's place in a [`Roster`]; used under the roster's lock.
#[derive(Debug)]
pub(crate) struct RosterLink<T> {
    next: Cell<*const T>,
    prev: Cell<*const T>,
}

impl<T> RosterLink<T> {
    pub(crate) const fn new() -> Self {
        Self { next: Cell::new(ptr::null()), prev: Cell::new(ptr::null()) }
    }
}

/// What can stand in a [`Roster`].
pub(crate) trait Member: Sized {
    fn link(&self) -> &RosterLink<Self>;
}

/// A list of what threads own, linked through the members.
#[derive(Debug)]
pub(crate) struct Roster<T>(Lock<Members<T>>);

#[derive(Debug)]
pub(super) struct Members<T> {
    head: *const T,
}

// SAFETY: members are used through the roster's lock, by `&T`, for what they allow other threads to read.
unsafe impl<T> Send for Members<T> {}

impl<T: Member> Members<T> {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null() }
    }

    pub(super) fn enter(&mut self, member: &T) {
        member.link().next.set(self.head);
        member.link().prev.set(ptr::null());
        // SAFETY: members stay in place until they leave.
        if let Some(head) = unsafe { self.head.as_ref() } {
            head.link().prev.set(member);
        }
        self.head = member;
    }

    pub(super) fn leave(&mut self, member: &T) {
        let (next, prev) = (member.link().next.get(), member.link().prev.get());
        // SAFETY: as above.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.link().next.set(next),
            None => self.head = next,
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.link().prev.set(prev);
        }
    }

    /// Forgets all but `survivor`.
    pub(super) fn only(&mut self, survivor: Option<&T>) {
        self.head = ptr::null();
        if let Some(survivor) = survivor {
            self.enter(survivor);
        }
    }

    pub(super) fn each(&self, mut look: impl FnMut(&T)) {
        let mut at = self.head;
        // SAFETY: as above.
        while let Some(member) = unsafe { at.as_ref() } {
            at = member.link().next.get();
            look(member);
        }
    }
}

impl<T: Member> Roster<T> {
    #[cfg(not(millpond_loom))]
    pub(crate) const fn new() -> Self {
        Self(Lock::new(Members::new()))
    }

    /// Adds a member.
    ///
    /// # Safety
    /// It stays where it is until [`leave`](Self::leave) has returned.
    pub(crate) unsafe fn enter(&self, member: &T) {
        self.0.lock().enter(member);
    }

    pub(crate) fn leave(&self, member: &T) {
        self.0.lock().leave(member);
    }

    /// Shows every member to `look`, while none can leave.
    pub(crate) fn each(&self, look: impl FnMut(&T)) {
        self.0.lock().each(look);
    }

    #[cfg(not(millpond_loom))]
    pub(crate) fn hold(&self) {
        self.0.acquire();
    }

    /// Ends [`hold`](Self::hold).
    ///
    /// # Safety
    /// The lock is held by `hold`.
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn let_go(&self) {
        // SAFETY: the caller's duty.
        unsafe { self.0.release() }
    }

    /// In a forked child: only `survivor` is still a thread; the others are shown to `lose`.
    ///
    /// # Safety
    /// The lock is held by [`hold`](Self::hold).
    #[cfg(not(millpond_loom))]
    pub(crate) unsafe fn forget_others(&self, survivor: Option<&T>, lose: impl Fn(&T)) {
        // SAFETY: the caller's duty.
        let members = unsafe { self.0.held() };
        members.each(|member| {
            if !survivor.is_some_and(|survivor| ptr::eq(survivor, member)) {
                lose(member);
            }
        });
        members.only(survivor);
    }
}
