//! What the builder refuses, since no worker could have it: each would end before it is ready.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::birth::MARKER;
use super::beds::MOST_HANDS;
use crate::os;
use crate::task::PoolError;

/// Refuses no workers, and more than there are beds for.
pub(super) fn check_numbers(workers: usize, threads: usize) -> Result<(), PoolError> {
    if workers == 0 || threads == 0 {
        return Err(PoolError::NoWorkers);
    }
    // Where a worker has several threads, there is a place for one worker more.
    let spare = usize::from(threads > 1);
    let most = (MOST_HANDS / threads).saturating_sub(spare);
    if most == 0 {
        return Err(PoolError::TooManyThreads { threads, most: MOST_HANDS / (1 + spare) });
    }
    if workers > most {
        return Err(PoolError::TooManyWorkers { workers, most });
    }
    Ok(())
}

/// Refuses variables that no environment can hold, and the one that tells a worker that it is one.
pub(super) fn check_variables(variables: &[(OsString, Option<OsString>)]) -> Result<(), PoolError> {
    let has = |text: &OsStr, byte| text.as_bytes().contains(&byte);
    for (name, value) in variables {
        let reason = if name.is_empty() {
            "it has no name"
        } else if has(name, b'=') {
            "its name holds a `=`"
        } else if has(name, 0) {
            "its name holds a NUL byte"
        } else if value.as_ref().is_some_and(|value| has(value, 0)) {
            "its value holds a NUL byte"
        } else if value.is_some() && name == MARKER {
            "by it a worker knows that it is one"
        } else {
            continue;
        };
        return Err(PoolError::BadVariable { name: name.clone(), reason });
    }
    Ok(())
}

/// Refuses a working directory that isn't there, or that this process may not enter.
pub(super) fn check_folder(folder: &Path) -> Result<(), PoolError> {
    // Looked up inside it: so it is one, and may be entered. An empty path would be found there, but alone it is none.
    let found = fs::metadata(folder).and_then(|_| fs::metadata(folder.join(".")));
    found.map(drop).map_err(|error| PoolError::BadFolder { folder: folder.to_owned(), reason: error.to_string() })
}

/// Refuses a nice value that the system does not let a worker have. A thread of its own tries it: it may be lowered, but not back.
pub(super) fn try_nice(nice: i32, workers: usize) -> Result<(), PoolError> {
    let refused = |code| PoolError::NiceRefused { nice, code };
    let thread = std::thread::Builder::new().name("millpond-nice".to_owned()).stack_size(128 * 1024);
    let blocked = os::launch::BlockedSignals::all();
    let thread = thread.spawn(move || os::set_nice(nice).map_err(|error| error.raw_os_error()));
    drop(blocked);
    let thread = thread.map_err(|error| PoolError::StartFailed { worker: 0, workers, code: error.raw_os_error() })?;
    thread.join().unwrap_or(Err(None)).map_err(refused)
}
