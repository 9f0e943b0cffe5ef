//! What a piece of work cost: time, processor time, page faults, memory.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What the measured part of a workload cost.
#[derive(Debug, Clone)]
pub struct Sample {
    operations: u64,
    time: Duration,
    processor: Duration,
    faults: u64,
    notes: Vec<(&'static str, u64)>,
}

impl Sample {
    /// Adds a figure of the workload's own.
    #[must_use]
    pub fn note(mut self, name: &'static str, value: u64) -> Self {
        self.notes.push((name, value));
        self
    }
}

impl fmt::Display for Sample {
    /// One line of `name=value`, which the drivers read; the peak is that of the whole process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operations={} nanoseconds={} processor={} faults={} peak={}",
            self.operations,
            self.time.as_nanos(),
            self.processor.as_nanos(),
            self.faults,
            peak_bytes()
        )?;
        self.notes.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// Runs `work`, which performs `operations` operations, and says what it cost.
pub fn timed<R>(operations: u64, work: impl FnOnce() -> R) -> Sample {
    let (processor, faults) = usage();
    let start = Instant::now();
    black_box(work());
    let time = start.elapsed();
    let (processor_after, faults_after) = usage();
    Sample {
        operations,
        time,
        processor: processor_after - processor,
        faults: faults_after - faults,
        notes: Vec::new(),
    }
}

/// Processor time (user and system, all threads) and page faults of this process so far.
fn usage() -> (Duration, u64) {
    // SAFETY: `rusage` is a structure of integers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `rusage` of ours.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(result, 0, "getrusage failed");
    let duration =
        |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    let faults = usage.ru_minflt + usage.ru_majflt;
    (duration(usage.ru_utime) + duration(usage.ru_stime), faults as u64)
}

/// Resident memory of this process now, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The largest resident memory of this process so far, in bytes.
fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status can be read");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of kB");
    kibibytes * 1024
}
