//! Tasks that belong together, and whoever waits for all of them: the protocol below scopes, maps and `fork_join`.
//!
//! ```text
//!   add ──> listed ──(pop: a ticket's worker, or the waiter)──> running ──> finished ──> the last one rings
//! ```
//!
//! The tasks of a group are listed in the group alone. What lies in the pool's queues are *tickets*: each makes one worker
//! come here and take tasks as long as there are any. So a waiter finds the tasks of its own group, and no others.
//!
//! G1. A listed task is taken once.
//! G2. A ticket is out whenever tasks are listed and a worker could be made to come (`add` says when one is needed; a ticket
//!     is given up under the list's lock, when the list is empty).
//! G3. A waiter returns when every task added has finished; it sees all that they did.
//!     While somebody looks at the list, awake, for a task to help with, nobody else is made to come; who stops looking
//!     issues a ticket if tasks are left.
//! G4. A waiter that can help is woken when a task is listed; every waiter when the last one finishes.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::os::{Futex, Lock};
use crate::primitive::{AtomicU32, AtomicUsize, Ordering};

/// A task of a group: the first field of a closure in a block, or of a frame on a stack.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Node {
    next: Cell<*mut Self>,
    /// Runs the task, says that it has finished, and uses up the node.
    pub(super) run: unsafe fn(NonNull<Self>, &Group),
}

impl Node {
    pub(super) const fn new(run: unsafe fn(NonNull<Self>, &Group)) -> Self {
        Self { next: Cell::new(ptr::null_mut()), run }
    }
}

#[derive(Debug)]
struct List {
    first: *mut Node,
    last: *mut Node,
    tickets: usize,
    /// Waiters that look here, awake.
    lookers: usize,
}

// SAFETY: nodes are handed from thread to thread under the list's lock.
unsafe impl Send for List {}

/// Added to the count of waiters by one that can help.
const HELPER: u32 = 1 << 16;

/// The group.
#[derive(Debug)]
pub(super) struct Group {
    list: Lock<List>,
    unfinished: AtomicUsize,
    waiters: AtomicU32,
    rings: Futex,
    /// No worker will come: the pool is closed, or was terminated. The waiter does what is left.
    abandoned: AtomicU32,
    /// Nothing more will be listed.
    ended: AtomicU32,
    most_tickets: usize,
}

impl Group {
    /// A group that wants at most so many workers at once.
    pub(super) fn new(most_tickets: usize) -> Self {
        Self {
            list: Lock::new(List { first: ptr::null_mut(), last: ptr::null_mut(), tickets: 0, lookers: 0 }),
            unfinished: AtomicUsize::new(0),
            waiters: AtomicU32::new(0),
            rings: Futex::new(0),
            abandoned: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            most_tickets,
        }
    }

    /// Lists a task. True: a ticket is counted for it, and the caller has to issue one (or `give_up_ticket`).
    ///
    /// # Safety
    /// The node is live until it is run, and is in no list.
    #[must_use]
    pub(super) unsafe fn add(&self, node: NonNull<Node>) -> bool {
        // Relaxed: whoever waits for it to be 0 is the thread that adds, or waits for a task that adds.
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's duty.
        unsafe { self.list_node(node) }
    }

    /// As `add`, for a task whose end its owner watches itself.
    ///
    /// # Safety
    /// As for `add`.
    #[must_use]
    pub(super) unsafe fn list_node(&self, node: NonNull<Node>) -> bool {
        let (issue, ring) = {
            let mut list = self.list.lock();
            if list.last.is_null() {
                list.first = node.as_ptr();
            } else {
                // SAFETY: a listed node is live.
                unsafe { (*list.last).next.set(node.as_ptr()) };
            }
            list.last = node.as_ptr();
            let issue = list.tickets < self.most_tickets && list.lookers == 0;
            list.tickets += usize::from(issue);
            // Relaxed: a helper counts itself before it looks at the list, under the same lock (G4).
            (issue, self.waiters.load(Ordering::Relaxed) >= HELPER)
        };
        if ring {
            self.ring();
        }
        issue
    }

    /// Takes a task: the first listed.
    pub(super) fn pop(&self) -> Option<NonNull<Node>> {
        Self::unlink(&mut self.list.lock())
    }

    /// Takes a task for the holder of a ticket; without one the ticket is given up (G2).
    pub(super) fn pop_or_give_up_ticket(&self) -> Option<NonNull<Node>> {
        let mut list = self.list.lock();
        let node = Self::unlink(&mut list);
        list.tickets -= usize::from(node.is_none());
        node
    }

    /// Looks at the list, awake, until there is a task or it is `over`, but not for ever: `patience` says when to stop. True
    /// beside what it found: a ticket is counted for what is left, as by `add`.
    pub(super) fn look(
        &self,
        over: impl Fn() -> bool,
        mut patience: impl FnMut() -> bool,
    ) -> (Option<NonNull<Node>>, bool) {
        self.list.lock().lookers += 1;
        let mut goes_on = true;
        loop {
            let is_over = over();
            {
                let mut list = self.list.lock();
                let node = if is_over { None } else { Self::unlink(&mut list) };
                if node.is_some() || is_over || !goes_on {
                    list.lookers -= 1;
                    let issue = !list.first.is_null() && list.lookers == 0 && list.tickets < self.most_tickets;
                    list.tickets += usize::from(issue);
                    return (node, issue);
                }
            }
            goes_on = patience();
        }
    }

    fn unlink(list: &mut List) -> Option<NonNull<Node>> {
        let node = NonNull::new(list.first)?;
        // SAFETY: a listed node is live.
        list.first = unsafe { node.as_ref() }.next.replace(ptr::null_mut());
        if list.first.is_null() {
            list.last = ptr::null_mut();
        }
        Some(node)
    }

    /// Takes this very task, if it is still listed.
    pub(super) fn take_back(&self, node: NonNull<Node>) -> bool {
        let mut list = self.list.lock();
        let (mut before, mut at) = (ptr::null_mut::<Node>(), list.first);
        while let Some(listed) = NonNull::new(at) {
            // SAFETY: a listed node is live.
            let next = unsafe { listed.as_ref() }.next.get();
            if listed == node {
                match NonNull::new(before) {
                    None => list.first = next,
                    // SAFETY: as above.
                    Some(before) => unsafe { before.as_ref() }.next.set(next),
                }
                if next.is_null() {
                    list.last = before;
                }
                return true;
            }
            (before, at) = (at, next);
        }
        false
    }

    /// A ticket was not issued, or is discarded: nobody will come for it, so the waiter has to do what is left.
    pub(super) fn give_up_ticket(&self) {
        self.list.lock().tickets -= 1;
        // Release: pairs with the Acquire in `wait`, by way of the ring.
        self.abandoned.store(1, Ordering::Release);
        self.ring();
    }

    /// Says that nothing more will be listed: nobody need look any more. A hint.
    pub(super) fn end(&self) {
        self.ended.store(1, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == 1
    }

    /// A task that was added has finished. The caller has a pointer to the group of its own.
    pub(super) fn finished(&self) {
        // AcqRel: the waiter sees what every task did (G3); pairs with the Acquire in `wait`.
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ring();
        }
    }

    /// Whether all that was added has finished.
    pub(super) fn has_finished(&self) -> bool {
        // Acquire: pairs with the Release in `finished` (G3).
        self.unfinished.load(Ordering::Acquire) == 0
    }

    /// Waits until all that was added has finished. With `help`, runs what is listed meanwhile.
    #[cfg(all(test, millpond_loom))]
    pub(super) fn wait(&self, help: bool) {
        self.wait_until(help, || self.has_finished());
    }

    /// Waits until `over`; whatever makes it so rings afterwards.
    pub(super) fn wait_until(&self, help: bool, over: impl Fn() -> bool) {
        loop {
            if over() {
                return;
            }
            // Acquire: pairs with the Release in `give_up_ticket`.
            let help = help || self.abandoned.load(Ordering::Acquire) == 1;
            let who = if help { HELPER } else { 1 };
            // SeqCst: before the looks below; pairs with the load in `ring` (G4).
            self.waiters.fetch_add(who, Ordering::SeqCst);
            // Acquire: pairs with the Release in `ring`: what comes before a ring that was seen is seen.
            let seen = self.rings.load(Ordering::Acquire);
            super::sleep::in_one_order();
            let node = if help { self.pop() } else { None };
            let abandoned = !help && self.abandoned.load(Ordering::Acquire) == 1;
            if node.is_none() && !abandoned && !over() {
                self.rings.wait(seen);
            }
            self.waiters.fetch_sub(who, Ordering::Relaxed);
            if let Some(node) = node {
                // SAFETY: taken from the list, so it is live, and ours (G1).
                let run = unsafe { node.as_ref() }.run;
                // SAFETY: as above.
                unsafe { run(node, self) };
            }
        }
    }

    /// Whatever somebody may wait for has come.
    pub(super) fn ring(&self) {
        // Release: pairs with the Acquire in `wait_until`. SeqCst: before the look at the waiters.
        self.rings.fetch_add(1, Ordering::SeqCst);
        super::sleep::in_one_order();
        // SeqCst: pairs with the addition in `wait_until`: one of the two sees the other (G4).
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.rings.wake_all();
        }
    }
}
