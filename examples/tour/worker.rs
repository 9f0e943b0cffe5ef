//! A child process: does the work once, on the allocator it was started with, and reports.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use millpond::Heap;

use crate::answer::answer;
use crate::error::TourError;
use crate::home::{BUFFERS, Boxes, Home, NODES, Pools};
use crate::index;
use crate::options::Options;
use crate::report::Report;
use crate::status::Memory;
use crate::switch::Contestant;
use crate::texts::{self, Text};
use crate::trie::Node;

/// How long the program goes on with little to do before its memory is looked at.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How many block sizes the figures show.
const BLOCK_SIZES: usize = 10;

/// Reads the list of texts from standard input, works, and writes the report to standard output.
pub(crate) fn run(contestant: Contestant, options: &Options) -> Result<(), TourError> {
    let texts = texts::receive(io::stdin().lock())?;
    let report = match contestant {
        Contestant::Millpond => work::<Pools>(&texts, options.threads(), millpond_stats)?,
        Contestant::System => work::<Boxes>(&texts, options.threads(), String::new)?,
    };
    io::stdout().write_all(report.to_text().as_bytes())?;
    Ok(())
}

fn work<H: Home>(texts: &[Text], threads: usize, stats: fn() -> String) -> Result<Report, TourError> {
    let start = Instant::now();
    let index = index::build::<H>(texts, threads)?;
    let tree = Node::<H>::build(&index, threads);
    let building = start.elapsed();

    // Looking at the result is not part of the measured work.
    let answer = answer(&index, &tree);
    let stats = stats();

    let start = Instant::now();
    drop(tree);
    drop(index);
    let dropping = start.elapsed();

    potter_about();
    let memory = Memory::read()?;
    Ok(Report { time: building + dropping, dropping, peak: memory.peak, after: memory.now, answer, stats })
}

/// What a program does between two large jobs: a line now and then, a list, a short-lived thread.
fn potter_about() {
    let start = Instant::now();
    while start.elapsed() < AFTERWARDS {
        let lines: Vec<String> = (0..100).map(|line| format!("{:?}: line {line}", start.elapsed())).collect();
        let length = thread::scope(|scope| scope.spawn(|| lines.join("\n").len()).join());
        std::hint::black_box(length.ok());
        thread::sleep(Duration::from_millis(10));
    }
}

/// The figures of heap and pools; of the heap's block sizes those that hold most.
fn millpond_stats() -> String {
    let mut stats = Heap::stats();
    stats.classes.sort_by_key(|class| Reverse(class.live * class.block_size));
    stats.classes.truncate(BLOCK_SIZES);
    stats.classes.sort_by_key(|class| class.block_size);
    format!("{stats}\nnodes    {}\nbuffers  {}\n", NODES.stats(), BUFFERS.stats())
}
