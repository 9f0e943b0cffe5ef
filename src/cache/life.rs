//! The life of a thread's caches.

use core::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No slow path yet.
    Fresh,
    /// May keep blocks; a destructor will give them back.
    Active,
    /// They were given back: what comes now goes straight to the depots.
    Dead,
}

/// See [`State`].
#[derive(Debug)]
pub(crate) struct Life(Cell<State>);

impl Life {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(State::Fresh))
    }

    /// Whether the thread may keep blocks. The first time `arm` is to see to it that they will be given back; false if
    /// it can't. It may come back here: the state is set before it is called.
    #[inline]
    pub(crate) fn is_active(&self, arm: impl FnOnce() -> bool) -> bool {
        match self.0.get() {
            State::Active => true,
            State::Dead => false,
            State::Fresh => {
                self.0.set(State::Active);
                if !arm() {
                    self.0.set(State::Dead);
                }
                self.0.get() == State::Active
            }
        }
    }

    /// Whether it is active now.
    pub(crate) fn began(&self) -> bool {
        self.0.get() == State::Active
    }

    pub(crate) fn end(&self) {
        self.0.set(State::Dead);
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::Life;

    #[test]
    fn it_is_armed_once_and_active_until_it_ends() {
        let (life, armed) = (Life::new(), Cell::new(0));
        assert!(!life.began(), "fresh");
        let arm = || {
            armed.set(armed.get() + 1);
            assert!(life.is_active(|| panic!("twice")), "who comes back while it is armed finds it active");
            true
        };
        assert!(life.is_active(arm) && life.is_active(arm) && life.began());
        assert_eq!(armed.get(), 1);
        life.end();
        assert!(!life.is_active(arm) && !life.began());
        assert_eq!(armed.get(), 1, "and never again");
    }

    #[test]
    fn one_that_cannot_be_armed_is_dead_at_once() {
        let life = Life::new();
        assert!(!life.is_active(|| false));
        assert!(!life.is_active(|| panic!("twice")) && !life.began());
    }
}
