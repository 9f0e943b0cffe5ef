//! What the keeper hears of, and the tokens that stand for it.

use std::os::fd::OwnedFd;

use rustix::event::epoll;

/// What the keeper hears of. A child's tokens are four times its number and these.
pub(super) const WAKE: u64 = 0;
pub(super) const REPORTS: u64 = 1;
const NUMBERED: u64 = 16;

/// What an event of a numbered thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A child's socket.
    Socket = 0,
    /// A child's end.
    End = 1,
    /// The end of a member further down.
    Member = 2,
    /// A child's standard error.
    Ears = 3,
}

impl Source {
    pub(super) fn token(self, number: u64) -> u64 {
        NUMBERED + 4 * number + self as u64
    }

    pub(super) fn of(token: u64) -> Option<(Self, u64)> {
        let token = token.checked_sub(NUMBERED)?;
        let source = [Self::Socket, Self::End, Self::Member, Self::Ears]
            .into_iter()
            .find(|source| *source as u64 == token % 4)?;
        Some((source, token / 4))
    }
}

/// Closes a descriptor that the keeper may wait on, by `watch`. That has to be said: a forked copy of this process may hold
/// the descriptor too, and what is open anywhere is reported for ever.
pub(super) fn close(watch: &OwnedFd, fd: OwnedFd) {
    let _ = epoll::delete(watch, &fd);
}

#[cfg(test)]
mod tests {
    use super::{REPORTS, Source, WAKE};

    #[test]
    fn tokens_say_what_they_stand_for() {
        assert_eq!((Source::of(WAKE), Source::of(REPORTS)), (None, None));
        for source in [Source::Socket, Source::End, Source::Member, Source::Ears] {
            for number in [0, 1, 7, u64::from(u32::MAX)] {
                assert_eq!(Source::of(source.token(number)), Some((source, number)));
            }
        }
    }
}
