//! Blocks that are kept ready: runs made present step by step, so that taking a block of them asks the system for nothing.
//!
//! One step is made under the depot's lock and names the runs; whoever asked makes their memory present outside of it.

use core::ptr::NonNull;

use super::descriptor::Run;
use super::run::Runs;
use super::run_list::RunPtr;

/// Runs that one step makes present.
const BATCH: usize = 64;

/// See [`Runs::prepare`].
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) done: bool,
    /// Where runs start that are to be made present, if there are any.
    pub(crate) runs: [Option<NonNull<u8>>; BATCH],
}

impl Runs {
    /// A step towards `blocks` free blocks which are kept ready: memory to make present, or that it is done; `None` if the
    /// reserve has too little. Then all runs that there are, but those that are being swept, are kept.
    pub(crate) fn prepare(&mut self, blocks: usize) -> Option<Prepared> {
        let mut runs = [None; BATCH];
        if self.free - self.in_sweep < blocks {
            return self.grow().then_some(Prepared { done: false, runs });
        }
        let (mut ready, mut len) = (self.ready(), 0);
        let mut at = self.open.head;
        while ready < blocks && len < BATCH {
            let run = if let Some(run) = at {
                at = run.get().next;
                run
            } else if let Some(run) = self.swept.head {
                self.reopen(run);
                run
            } else {
                break;
            };
            if !run.get().present {
                self.keep_present(run);
                runs[len] = Some(run.base());
                len += 1;
                ready += run.get().free as usize;
            }
        }
        if len == 0 {
            for list in [&self.open, &self.swept, &self.full] {
                let mut at = list.head;
                while let Some(run) = at {
                    at = run.get().next;
                    run.get().kept = true;
                }
            }
        }
        Some(Prepared { done: len == 0, runs })
    }

    /// Free blocks in runs that stay present.
    pub(super) fn ready(&self) -> usize {
        let mut ready = 0;
        let mut at = self.open.head;
        while let Some(run) = at {
            at = run.get().next;
            ready += if run.get().present { run.get().free as usize } else { 0 };
        }
        ready
    }

    /// From now on the run stays present, and is taken from before the others.
    fn keep_present(&mut self, run: NonNull<Run>) {
        run.get().kept = true;
        run.get().present = true;
        self.present += self.layout.per_run() as usize;
        self.set_absent(run, 0);
        self.open.remove(run);
        self.open.push(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::run::tests::check;
    use crate::block::{BlockLayout, RESERVE};

    #[test]
    fn what_is_made_ready_is_what_was_asked_for_also_beside_a_sweep() {
        let mut runs = Runs::new(BlockLayout::new(16 * 1024, 16).unwrap(), &RESERVE, 79);
        let per_run = runs.layout.per_run() as usize;
        let mut blocks = Vec::new();
        for _ in 0..8 {
            assert_eq!(runs.take(per_run, |block| blocks.push(block)), per_run);
        }
        let mut empties = runs.empties();
        // One of each run comes back, and all of them are being swept.
        let mut index = 0;
        let some = blocks.extract_if(.., |_| {
            index += 1;
            index % per_run == 0
        });
        // SAFETY: taken above, each once.
        unsafe { runs.give(some.collect::<Vec<_>>().into_iter(), &mut empties) };
        let mut sweep = runs.begin_sweep(8 * per_run - 8, 0);
        sweep.give_pages_back();
        while !runs.prepare(1).unwrap().done {}
        assert_eq!(runs.blocks, 9 * per_run, "one more run has what is asked for");
        runs.end_sweep(sweep, &mut empties);
        check(&runs);
        assert_eq!(runs.present, per_run);
        // Of what went back no more comes again than is asked for.
        while !runs.prepare(per_run + 1).unwrap().done {}
        assert_eq!((runs.blocks, runs.present), (9 * per_run, 2 * per_run));
        check(&runs);
        // SAFETY: nobody uses the blocks.
        unsafe { runs.take_all(&mut empties) };
    }
}
