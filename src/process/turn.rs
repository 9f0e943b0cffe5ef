//! How much is read in one go: whoever writes may never stop, and others have to be heard and reaped too.

use std::os::fd::BorrowedFd;

/// How many reads are made in one go.
pub(super) const READS: usize = 16;

/// How much is still to be read in one go.
pub(super) struct Turn {
    /// Bytes.
    pub(super) left: usize,
    /// What a read counts as at least: one byte after another is not for ever either.
    least: usize,
}

impl Turn {
    /// Some reads of `most` bytes, and the rest is reported again. Once the child has `ended` all that is there, for it said
    /// that before; what others say in its place from then on is nobody's.
    pub(super) fn new(fd: BorrowedFd<'_>, most: usize, ended: bool) -> Self {
        let there = if ended { rustix::io::ioctl_fionread(fd).ok() } else { None };
        match there.and_then(|there| there.try_into().ok()) {
            Some(left) => Self { left, least: 1 },
            None => Self { left: READS * most, least: most },
        }
    }

    pub(super) fn took(&mut self, len: usize) {
        self.left = self.left.saturating_sub(len.max(self.least));
    }
}
