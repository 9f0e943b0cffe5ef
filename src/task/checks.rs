//! What every pool's builder refuses.

use super::PoolError;
use crate::os;

/// Refuses a queue without room, a name that no thread or process can have, and cores that aren't there.
pub(crate) fn check(bound: Option<usize>, name: Option<&str>, cores: Option<&[usize]>) -> Result<(), PoolError> {
    if bound == Some(0) {
        return Err(PoolError::ZeroBound);
    }
    if let Some(at) = name.and_then(|name| name.find('\0')) {
        return Err(PoolError::NameWithNul { at });
    }
    let Some(cores) = cores else { return Ok(()) };
    if cores.is_empty() {
        return Err(PoolError::NoCores);
    }
    match cores.iter().find(|core| !os::has_core(**core)) {
        Some(&core) => Err(PoolError::NoSuchCore { core }),
        None => Ok(()),
    }
}

/// Refuses a nice value that the system would change without a word.
pub(crate) fn check_nice(nice: Option<i32>) -> Result<(), PoolError> {
    match nice.filter(|nice| !(-20..=19).contains(nice)) {
        Some(nice) => Err(PoolError::NoSuchNice { nice }),
        None => Ok(()),
    }
}
