//! Looking on at running pools from any process, without stopping them: what their segments say.
//!
//! A segment is read as a file, through `/proc/PID/fd`: nothing is mapped, and nothing can be changed. Its bytes are
//! anybody's, so each number is checked before it is used for anything.

use core::fmt;
use core::mem::offset_of;
use core::time::Duration;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::beds::{Beds, MOST_HANDS};
use super::ground;
use super::plan::{Hand, Head, MAGIC, Plan, Post, Slot};
use super::slot::{Phase, Word};
use super::spec::{LEAVING, READY, STARTING};
use super::stats::{Count, Progress};

/// Slots of a line in any pool that this version makes.
const MOST_PER_LINE: usize = 1 << 16;

/// What is in a worker's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// No process is there.
    Empty,
    /// A process that does not take tasks yet.
    Starting,
    /// Takes tasks.
    Ready,
    /// Ends when its tasks have.
    Leaving,
    /// A number that says nothing.
    Unknown(u32),
}

/// One worker's place, as its pool's segment shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerView {
    /// The place, from 0.
    pub index: usize,
    /// The process that is there; 0 if there is none.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// How many processes there were at this place.
    pub started: u32,
    /// How long ago the last of them was started.
    pub age: Duration,
    /// The numbers of the tasks that run there, and since when.
    pub running: Vec<(u64, Duration)>,
    /// Tasks run, by all processes that were there.
    pub run: u64,
    /// Those of them that panicked.
    pub panicked: u64,
    /// Times that a thread of it slept since there was no task.
    pub slept: u64,
    /// Times that a thread of it was woken from that: calls to one that was awake don't count.
    pub woken: u64,
    /// Whether it only runs tasks whose worker died with several in it.
    pub spare: bool,
}

/// A running pool, as its segment shows it to any process: see [`look`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolView {
    /// The pool's name, up to 64 bytes of it.
    pub name: String,
    /// The process whose pool it is.
    pub parent: u32,
    /// How long ago it was made.
    pub age: Duration,
    /// Threads in each worker that run tasks.
    pub threads_per_worker: usize,
    /// Its workers' places; the spare one only while there is a process in it.
    pub workers: Vec<WorkerView>,
    /// How far its tasks are.
    pub progress: Progress,
    /// Workers that were started in the place of others.
    pub restarts: u64,
    /// Threads of workers that sleep.
    pub sleeping: u32,
    /// Tasks in slots that nobody has taken.
    pub queued: u64,
    /// Tasks that run.
    pub running: u64,
    /// Results that nobody has fetched.
    pub done: u64,
    /// Slots in all: tasks beyond them wait in the parent's own memory.
    pub slots: u64,
    /// Bytes of memory that the segment has from the system.
    pub memory: u64,
}

impl PoolView {
    /// Tasks that wait in the parent's own memory, as there is no slot for them.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.progress.unfinished().saturating_sub(self.queued + self.running + self.done)
    }
}

/// The process pools that a process has, or is a worker of, seen from any other process: their workers, queues, slots,
/// restarts.
///
/// They are not stopped, and hear nothing of it. The figures are of one moment each, not all of the same one. It costs as much
/// as reading the pools' slots: 256 KiB for the slots of a shared queue.
///
/// # Errors
/// There is no such process, it belongs to somebody else, or a pool of it is of another version or was written over
/// ([`InvalidData`](io::ErrorKind::InvalidData)).
///
/// ```
/// use millpond::process::{self, ProcessPool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// process::init();
/// let pool = ProcessPool::builder().workers(2).name("mill").build()?;
/// let views = process::look(process::id())?;
/// assert_eq!((views[0].name.as_str(), views[0].workers.len()), ("mill", 2));
/// println!("{}", views[0]);
/// # Ok(())
/// # }
/// ```
pub fn look(pid: u32) -> io::Result<Vec<PoolView>> {
    let folder = format!("/proc/{pid}/fd");
    let mut seen = HashSet::new();
    let mut views = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if !fs::read_link(&path).is_ok_and(|target| is_ours(&target)) {
            continue;
        }
        // Closed meanwhile, or not ours to read: of that the next one says more.
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let about = file.metadata()?;
        let mut magic = [0; 8];
        let is_pool = file.read_exact_at(&mut magic, 0).is_ok() && u64::from_ne_bytes(magic) >> 8 == MAGIC >> 8;
        if is_pool && seen.insert((about.dev(), about.ino())) {
            views.push(Reader::new(&file, about.len())?.view(about.blocks() * 512)?);
        }
    }
    Ok(views)
}

/// The system says `/memfd:millpond (deleted)`.
fn is_ours(target: &Path) -> bool {
    target.to_str().is_some_and(|target| target.starts_with("/memfd:millpond "))
}

fn rubbish(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a pool's segment makes no sense: {what}"))
}

/// A segment and its plan, which was found to be possible.
struct Reader<'file> {
    file: &'file File,
    plan: Plan,
    head: Vec<u8>,
    now: u64,
}

/// Numbers out of bytes; 0 beyond their end, which no caller reaches.
fn four(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

impl<'file> Reader<'file> {
    fn new(file: &'file File, len: u64) -> io::Result<Self> {
        let head = read(file, 0, size_of::<Head>())?;
        if eight(&head, offset_of!(Head, magic)) != MAGIC {
            return Err(rubbish("it is of another version"));
        }
        let number = |at: usize| four(&head, at) as usize;
        let (workers, threads) = (number(offset_of!(Head, workers)), number(offset_of!(Head, threads)));
        let (lines, per_line) = (number(offset_of!(Head, lines)), number(offset_of!(Head, per_line)));
        let hands = workers.checked_mul(threads).filter(|hands| (1..=MOST_HANDS).contains(hands));
        if hands.is_none() {
            return Err(rubbish(format_args!("{workers} workers of {threads} threads")));
        }
        if !(1..=workers + 1).contains(&lines)
            || !per_line.is_power_of_two()
            || !(64..=MOST_PER_LINE).contains(&per_line)
        {
            return Err(rubbish(format_args!("{lines} lines of {per_line} slots for {workers} workers")));
        }
        // The size of the largest message follows from the length, and is of no use here.
        let plan = Plan { workers, threads, lines, per_line, most: 0 };
        if (plan.inbox().start as u64) > len {
            return Err(rubbish(format_args!("{len} bytes are too few for {lines} lines of {per_line} slots")));
        }
        Ok(Self { file, plan, head, now: ground::now() })
    }

    fn since(&self, then: u64) -> Duration {
        Duration::from_nanos(self.now.saturating_sub(then))
    }

    fn view(&self, memory: u64) -> io::Result<PoolView> {
        let (head, plan) = (&self.head, self.plan);
        let words = offset_of!(Head, name)..offset_of!(Head, name) + 64;
        let name = head[words].split(|byte| *byte == 0).next().unwrap_or_default();
        let slots = self.slots()?;
        let phase = |phase: Phase| slots.iter().filter(|slot| slot.word.phase() == phase).count() as u64;
        let count = |count: Count| eight(head, offset_of!(Head, counts) + 8 * count as usize);
        let asleep = offset_of!(Head, beds) + offset_of!(Beds, asleep);
        let workers: Vec<_> = (0..plan.workers).map(|index| self.worker(index, &slots)).collect::<io::Result<_>>()?;
        // The spare place is nobody's until a worker has died with several tasks in it.
        let workers =
            workers.into_iter().filter(|worker| !worker.spare || worker.state != WorkerState::Empty).collect();
        Ok(PoolView {
            name: String::from_utf8_lossy(name).into_owned(),
            parent: four(head, offset_of!(Head, parent)),
            age: self.since(eight(head, offset_of!(Head, since))),
            threads_per_worker: plan.threads,
            workers,
            progress: Progress {
                submitted: count(Count::Submitted),
                finished: count(Count::Finished),
                panicked: count(Count::Panicked),
                failed: count(Count::Failed),
                cancelled: count(Count::Cancelled),
                retried: count(Count::Retried),
                deaths: count(Count::Deaths),
            },
            restarts: count(Count::Restarts),
            sleeping: (0..MOST_HANDS / 64).map(|n| eight(head, asleep + 8 * n).count_ones()).sum(),
            queued: phase(Phase::Queued),
            running: phase(Phase::Taken),
            done: phase(Phase::Done),
            slots: plan.slots() as u64,
            memory,
        })
    }

    fn slots(&self) -> io::Result<Vec<SlotView>> {
        let plan = self.plan;
        let mut slots = Vec::with_capacity(plan.slots());
        for line in 0..plan.lines {
            let bytes = read(self.file, plan.slots_of_line(line), plan.per_line * size_of::<Slot>())?;
            slots.extend(bytes.chunks_exact(size_of::<Slot>()).map(|slot| SlotView {
                word: Word(eight(slot, offset_of!(Slot, word))),
                number: eight(slot, offset_of!(Slot, number)),
                started: eight(slot, offset_of!(Slot, started)),
            }));
        }
        Ok(slots)
    }

    fn worker(&self, index: usize, slots: &[SlotView]) -> io::Result<WorkerView> {
        let plan = self.plan;
        let post = read(self.file, plan.post_at(index), size_of::<Post>())?;
        let mut view = WorkerView {
            index,
            pid: four(&post, offset_of!(Post, pid)),
            state: match four(&post, offset_of!(Post, phase)) {
                0 => WorkerState::Empty,
                STARTING => WorkerState::Starting,
                READY => WorkerState::Ready,
                LEAVING => WorkerState::Leaving,
                other => WorkerState::Unknown(other),
            },
            started: four(&post, offset_of!(Post, incarnation)),
            age: Duration::ZERO,
            running: Vec::new(),
            run: 0,
            panicked: 0,
            slept: 0,
            woken: 0,
            spare: plan.threads > 1 && index + 1 == plan.workers,
        };
        if view.started > 0 {
            view.age = self.since(eight(&post, offset_of!(Post, since)));
        }
        for hand in plan.hands_of(index) {
            let bytes = read(self.file, plan.hand_at(hand), size_of::<Hand>())?;
            view.run = view.run.saturating_add(eight(&bytes, offset_of!(Hand, ran)));
            view.panicked = view.panicked.saturating_add(eight(&bytes, offset_of!(Hand, panicked)));
            view.slept = view.slept.saturating_add(eight(&bytes, offset_of!(Hand, slept)));
            view.woken = view.woken.saturating_add(eight(&bytes, offset_of!(Hand, woken)));
            let slot = four(&bytes, offset_of!(Hand, slot)).checked_sub(1).and_then(|slot| slots.get(slot as usize));
            // The slot's own word says whether it is still so.
            if let Some(slot) = slot.filter(|slot| slot.word.phase() == Phase::Taken && slot.word.hand() == hand) {
                view.running.push((slot.number, self.since(slot.started)));
            }
        }
        Ok(view)
    }
}

/// What a slot says.
struct SlotView {
    word: Word,
    number: u64,
    started: u64,
}

fn read(file: &File, at: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at as u64)?;
    Ok(bytes)
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.pad("empty"),
            Self::Starting => f.pad("starting"),
            Self::Ready => f.pad("ready"),
            Self::Leaving => f.pad("leaving"),
            Self::Unknown(number) => f.pad(&format!("state {number}?")),
        }
    }
}

impl fmt::Display for PoolView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, parent, age, threads_per_worker, workers, progress, restarts, .. } = self;
        let many = if *threads_per_worker > 1 { format!(" of {threads_per_worker} threads") } else { String::new() };
        writeln!(
            f,
            "pool '{name}' of process {parent}, {:.1} s old: {} workers{many}",
            age.as_secs_f64(),
            workers.len()
        )?;
        writeln!(f, "  tasks    {progress}, {restarts} workers replaced")?;
        writeln!(
            f,
            "  now      {} in the queue, {} in the parent's memory, {} running, {} results to fetch; {} threads asleep",
            self.queued,
            self.backlog(),
            self.running,
            self.done,
            self.sleeping
        )?;
        let used = self.queued + self.running + self.done;
        writeln!(f, "  segment  {used} of {} slots in use, {:.1} MiB of memory", self.slots, mebibytes(self.memory))?;
        writeln!(
            f,
            "  {:>6} {:>9} {:<8} {:>7} {:>9} {:>10} {:>8} {:>8}  running",
            "worker", "process", "state", "started", "age s", "tasks run", "panicked", "slept"
        )?;
        for worker in workers {
            let WorkerView { index, pid, state, started, age, run, panicked, slept, spare, .. } = worker;
            let age = age.as_secs_f64();
            write!(f, "  {index:>6} {pid:>9} {state:<8} {started:>7} {age:>9.1} {run:>10} {panicked:>8} {slept:>8}  ")?;
            for (n, (number, since)) in worker.running.iter().enumerate() {
                let comma = if n > 0 { ", " } else { "" };
                write!(f, "{comma}task {number} for {:.1} ms", since.as_secs_f64() * 1e3)?;
            }
            writeln!(f, "{}", if *spare { "(spare: for tasks whose worker died with several)" } else { "" })?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::super::ground::Ground;
    use super::*;
    use crate::primitive::Ordering;

    fn seen(ground: &Ground) -> io::Result<PoolView> {
        let file = File::from(ground.file().try_clone_to_owned()?);
        let about = file.metadata()?;
        Reader::new(&file, about.len())?.view(about.blocks() * 512)
    }

    /// Of every word that the reader reads, whatever is in it.
    #[test]
    fn rubbish_is_an_error_or_a_figure() {
        let plan = Plan { workers: 3, threads: 2, lines: 2, per_line: 64, most: 1 << 16 };
        let ground = Ground::create(plan).unwrap();
        ground.introduce("mill");
        let first = seen(&ground).unwrap();
        assert_eq!((first.name.as_str(), first.workers.len(), first.slots), ("mill", 2, 128));
        // A worker has died with several tasks in it.
        ground.post(2).phase.store(STARTING, Ordering::Relaxed);
        assert_eq!(seen(&ground).unwrap().workers.len(), 3);
        let mut seed = 11_u64;
        let (mut refused, mut shown) = (0, 0);
        for round in 0..4000_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A word in the first part; every other time one of those that decide where everything lies.
            let at = if round.is_multiple_of(2) {
                8 + 4 * (round / 2 % 6)
            } else {
                usize::try_from(seed >> 33).unwrap() % 60_000
            };
            let mut before = Vec::new();
            ground.read(at, 4, &mut before).unwrap();
            ground.write(at, &(seed >> 21).to_ne_bytes()[..4]);
            match seen(&ground) {
                Ok(view) => {
                    shown += 1;
                    assert!(view.to_string().len() > 100);
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                }
            }
            ground.write(at, &before);
        }
        assert!(refused > 500 && shown > 500, "{refused} refused, {shown} shown");
        // Figures whose sum is none.
        ground.head().counts.iter().for_each(|count| count.store(u64::MAX, Ordering::Relaxed));
        let view = seen(&ground).unwrap();
        assert_eq!((view.backlog(), view.progress.unfinished()), (0, 0));
        ground.head().workers.store(5000, Ordering::Relaxed);
        assert!(seen(&ground).unwrap_err().to_string().contains("5000 workers of 2 threads"));
    }
}
