//! Tasks that wait for slots, in the order of their numbers.
//!
//! Nearly all come with a number above all others and go from the front, so it is a queue; what comes back (its worker died)
//! or goes from the middle (it is cancelled) is looked up.

use std::collections::VecDeque;

use super::task::Task;

/// The queue. The front is a task, if there is any; others that went have left holes.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    tasks: VecDeque<(u64, Option<Task>)>,
    holes: usize,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.tasks.len() - self.holes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// A task comes, or comes back. Its number is no other's here.
    pub(super) fn put(&mut self, task: Task) {
        let number = task.number;
        if self.tasks.back().is_none_or(|last| last.0 < number) {
            return self.tasks.push_back((number, Some(task)));
        }
        match self.tasks.binary_search_by_key(&number, |place| place.0) {
            Ok(at) => {
                self.holes -= 1;
                self.tasks[at].1 = Some(task);
            }
            Err(at) => self.tasks.insert(at, (number, Some(task))),
        }
    }

    /// The one with the lowest number.
    pub(super) fn take_first(&mut self) -> Option<Task> {
        let first = self.tasks.pop_front()?.1;
        self.skip_holes();
        first
    }

    /// The one with this number.
    pub(super) fn take(&mut self, number: u64) -> Option<Task> {
        let at = self.find(number)?;
        let task = self.tasks[at].1.take()?;
        self.holes += 1;
        self.skip_holes();
        Some(task)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Task> {
        let at = self.find(number)?;
        self.tasks[at].1.as_mut()
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.tasks.binary_search_by_key(&number, |place| place.0).ok()
    }

    fn skip_holes(&mut self) {
        while self.tasks.front().is_some_and(|first| first.1.is_none()) {
            self.tasks.pop_front();
            self.holes -= 1;
        }
    }
}

#[cfg(all(test, not(millpond_loom)))]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::codec::Arrived;
    use super::super::task::{Claimant, Handles, Limits};
    use super::*;

    fn task(number: u64) -> Task {
        Task {
            number,
            claimant: Claimant::Nobody,
            function: 0,
            path: "",
            many: false,
            arguments: Arrived::new(Vec::new()),
            handles: Handles::Refer(Vec::new()),
            retries: 0,
            limits: Limits::default(),
            watched: false,
        }
    }

    #[test]
    fn it_is_a_map_in_order() {
        let (mut backlog, mut map) = (Backlog::default(), BTreeMap::new());
        let (mut seed, mut next) = (5_u64, 0);
        let mut gone = Vec::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = seed >> 33;
            match draw % 5 {
                0 | 1 => {
                    backlog.put(task(next));
                    map.insert(next, ());
                    next += 1;
                }
                2 => {
                    let first = map.pop_first().map(|(number, ())| number);
                    assert_eq!(backlog.take_first().map(|task| task.number), first);
                    gone.extend(first);
                }
                3 => {
                    let number = draw / 5 % (next + 1);
                    let was = map.remove(&number).map(|()| number);
                    assert_eq!(backlog.get_mut(number).map(|task| task.number), was);
                    assert_eq!(backlog.take(number).map(|task| task.number), was);
                    gone.extend(was);
                }
                _ => {
                    if let Some(number) = gone.pop() {
                        backlog.put(task(number));
                        map.insert(number, ());
                    }
                }
            }
            assert_eq!((backlog.len(), backlog.is_empty()), (map.len(), map.is_empty()));
        }
    }
}
