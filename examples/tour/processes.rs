//! The index built by a process pool of threads: what each task found comes back in a shared slice, and a worker may be
//! killed half-way (`--kill`) without harm. The answer is compared with that of a thread pool.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use millpond::TaskError;
use millpond::ipc::SharedSlice;
use millpond::process::ProcessPool;

use crate::error::TourError;
use crate::home::Pools;
use crate::index::{self, Part};
use crate::options::Options;
use crate::table::count;
use crate::texts::{Text, Texts};

const THREADS: usize = 2;
/// Pieces of the work for each thread.
const PIECES: usize = 16;

/// Texts of one task: the number of the first, then path and bytes of each.
type Piece = (usize, Vec<(Vec<u8>, u64)>);

/// Indexes some texts: what was found, as JSON in a shared slice.
fn index_piece(piece: Piece) -> Result<SharedSlice<u8>, String> {
    let mut part = Part::new();
    for (n, (path, bytes)) in piece.1.into_iter().enumerate() {
        let text = Text { path: OsString::from_vec(path).into(), bytes };
        index::index_text::<Pools>(piece.0 + n, &text, &mut part).map_err(|error| error.to_string())?;
    }
    let bytes = serde_json::to_vec(&part).map_err(|error| error.to_string())?;
    SharedSlice::from_slice(&bytes).map_err(|error| error.to_string())
}
millpond::tasks![index_piece];

/// The texts in pieces of about the same size.
fn pieces(texts: &Texts, pieces: usize) -> Vec<Piece> {
    let each = texts.bytes / pieces as u64 + 1;
    let mut made: Vec<Piece> = Vec::new();
    let mut room = 0;
    for (number, text) in texts.texts.iter().enumerate() {
        if room == 0 {
            made.push((number, Vec::new()));
            room = each;
        }
        if let Some((_, last)) = made.last_mut() {
            last.push((text.path.as_os_str().as_bytes().to_vec(), text.bytes));
        }
        room = room.saturating_sub(text.bytes);
    }
    made
}

pub(crate) fn run(options: &Options) -> Result<(), TourError> {
    let texts = Texts::gather(options)?;
    let mut out = io::stdout().lock();
    let workers = options.threads().div_ceil(THREADS);
    writeln!(
        out,
        "A word index of {}, by {workers} processes of {THREADS} threads.",
        count(texts.texts.len(), "text")
    )?;
    let start = Instant::now();
    let pool = ProcessPool::builder().workers(workers).threads_per_worker(THREADS).name("index").retries(1).build()?;
    pool.wait_ready(Duration::from_secs(60))?;
    let work = pieces(&texts, workers * THREADS * PIECES);
    let all = work.len();
    let bar = io::stderr().is_terminal().then(|| ProgressBar::new(all as u64));
    let (mut parts, mut bytes) = (Vec::with_capacity(all), 0);
    for found in pool.imap_unordered(index_piece, work)? {
        let slice = found?.map_err(|why| TourError::Piece { why })?;
        bytes += slice.len();
        parts.push(serde_json::from_slice(&slice).map_err(|error| TourError::Piece { why: error.to_string() })?);
        if let Some(bar) = &bar {
            bar.inc(1);
        }
        if options.kill && parts.len() == all / 2 {
            let victim = pool.worker_ids().first().copied().ok_or(TaskError::Cancelled)?;
            Command::new("kill").args(["-9", &victim.to_string()]).status()?;
            writeln!(out, "Half-way, after {}, process {victim} was killed.", count(parts.len(), "piece"))?;
        }
    }
    bar.into_iter().for_each(|bar| bar.finish_and_clear());
    let index = index::merge(parts);
    let time = start.elapsed();
    let progress = pool.progress();
    pool.close();
    pool.join()?;

    let start = Instant::now();
    let other = index::build::<Pools>(&texts.texts, options.threads())?;
    let threads = start.elapsed();
    let mebibytes = bytes >> 20;
    writeln!(out, "{} came back in shared slices, {mebibytes} MiB in all.", count(all, "piece"))?;
    writeln!(out, "{progress}")?;
    writeln!(out, "{:.2} s by processes, {:.2} s by threads.", time.as_secs_f64(), threads.as_secs_f64())?;
    if index != other {
        let say = |index: &index::Index| format!("{}\n", count(index.len(), "word"));
        return Err(TourError::Differ { one: say(&index), other: say(&other) });
    }
    writeln!(out, "Both gave the same index: {}.", count(index.len(), "word"))?;
    Ok(())
}
