//! What is too large or too aligned for a region: mappings of their own.

use core::ptr::NonNull;

use super::HUGE_PAGE;
use super::reserve::{Reserve, State};
use super::settings::HugePages;
use crate::os::{self, Huge};

impl Reserve {
    /// A mapping of its own for what is too large or too aligned for a region. Reads as zero.
    pub(crate) fn map(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let len = round_to_pages(bytes)?;
        let huge = {
            let mut state = self.admit(len)?;
            // Counted before it is mapped, so that two threads cannot pass a limit together.
            state.map_counted(len);
            state.settings.huge
        };
        let whole = huge == HugePages::Growing && len >= 2 * HUGE_PAGE;
        let got = os::map(len, align.max(if whole { HUGE_PAGE } else { os::page_size() }));
        match got {
            Some(at) if whole => os::advise_huge(at, len, Huge::Whole),
            Some(at) if huge == HugePages::Off => os::advise_huge(at, len, Huge::Never),
            Some(_) => {}
            None => self.state.lock().map_failed(len),
        }
        if got.is_some() {
            self.state.lock().note_peak();
        }
        got
    }

    /// Ends a mapping made by [`map`](Self::map).
    ///
    /// # Safety
    /// `at` and `bytes` are of a live mapping from `map` or `remap`, which nobody uses any more.
    pub(crate) unsafe fn unmap(&self, at: NonNull<u8>, bytes: usize) {
        let Some(len) = round_to_pages(bytes) else { return };
        // SAFETY: the caller's duty.
        unsafe { os::unmap(at, len) };
        let mut state = self.state.lock();
        state.figures.direct = state.figures.direct.saturating_sub(len);
        state.figures.reserved = state.figures.reserved.saturating_sub(len);
        state.figures.returned += len as u64;
    }

    /// Changes the length of a mapping, moving pages instead of copying bytes.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap); on success the old address is nobody's.
    pub(crate) unsafe fn remap(&self, at: NonNull<u8>, old: usize, new: usize) -> Option<NonNull<u8>> {
        let (old, new) = (round_to_pages(old)?, round_to_pages(new)?);
        if old == new {
            return Some(at);
        }
        let more = new.saturating_sub(old);
        // One that shrinks asks for nothing, so it may do so whatever the limit is.
        if more > 0 {
            self.admit(more)?.map_counted(more);
        }
        // SAFETY: the caller's duty.
        let got = unsafe { os::remap(at, old, new) };
        let mut state = self.state.lock();
        match got {
            None => state.map_failed(more),
            Some(_) => {
                state.note_peak();
                let shrunk = old.saturating_sub(new);
                state.figures.direct -= shrunk;
                state.figures.reserved -= shrunk;
                state.figures.returned += shrunk as u64;
            }
        }
        got
    }
}

impl State {
    fn map_counted(&mut self, more: usize) {
        self.figures.direct += more;
        self.figures.reserved += more;
    }

    fn map_failed(&mut self, len: usize) {
        self.figures.direct -= len;
        self.figures.reserved -= len;
        self.figures.refusals += 1;
    }
}

fn round_to_pages(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(os::page_size())
}
