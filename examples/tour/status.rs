//! What the kernel says about this process's memory.

use std::io;

/// Memory of this process, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Present now.
    pub(crate) now: u64,
    /// The most that ever was.
    pub(crate) peak: u64,
}

impl Memory {
    pub(crate) fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        match (field("VmRSS:"), field("VmHWM:")) {
            (Some(now), Some(peak)) => Ok(Self { now, peak }),
            _ => Err(io::Error::other("/proc/self/status does not say how much memory is present")),
        }
    }
}
