//! The lives of workers and tasks as `tracing` events, and counters for `metrics`: each behind its feature.

use super::stats::Count;
use super::task::{Ending, Task};

/// A worker was started.
pub(super) fn worker_started(pool: &str, worker: usize, pid: u32) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "millpond::process", pool, worker, pid, "worker started");
    let _ = (pool, worker, pid);
}

/// A worker is ready for tasks.
pub(super) fn worker_ready(pool: &str, worker: usize, pid: u32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "millpond::process", pool, worker, pid, "worker ready");
    let _ = (pool, worker, pid);
}

/// A worker's end was seen.
pub(super) fn worker_ended(pool: &str, worker: usize, pid: u32, planned: bool, how: &str) {
    #[cfg(feature = "tracing")]
    if planned {
        tracing::info!(target: "millpond::process", pool, worker, pid, how, "worker left");
    } else {
        tracing::warn!(target: "millpond::process", pool, worker, pid, how, "worker died");
    }
    let _ = (pool, worker, pid, planned, how);
}

/// A task has ended. A chunk of a map ends in the values up to the call that panicked.
pub(super) fn task_ended(task: &Task, ending: &Ending, panicked: bool) {
    #[cfg(feature = "tracing")]
    match ending {
        Ok(_) if panicked => {
            let error = "a call of a map panicked";
            tracing::debug!(target: "millpond::process", task = task.path, number = task.number, error, "task failed");
        }
        Ok(_) => tracing::trace!(target: "millpond::process", task = task.path, number = task.number, "task ended"),
        Err(error) => {
            tracing::debug!(target: "millpond::process", task = task.path, number = task.number, %error, "task failed");
        }
    }
    let _ = (task, ending, panicked);
}

/// A task is run again.
pub(super) fn task_again(task: &Task, counted: bool) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "millpond::process", task = task.path, number = task.number, counted, "task runs again");
    let _ = (task, counted);
}

/// The span in which a worker runs a task.
#[cfg(feature = "tracing")]
pub(super) fn running(path: &'static str, number: u64) -> tracing::span::EnteredSpan {
    tracing::trace_span!(target: "millpond::process", "task", path, number).entered()
}

/// The same, where nobody looks on.
#[cfg(not(feature = "tracing"))]
pub(super) fn running(_: &'static str, _: u64) -> Nobody {
    Nobody
}

/// A span that nobody sees.
#[cfg(not(feature = "tracing"))]
pub(super) struct Nobody;

/// Something was counted.
pub(super) fn counted(count: Count, by: u64) {
    #[cfg(feature = "metrics")]
    {
        let name = match count {
            Count::Submitted => "millpond_tasks_submitted_total",
            Count::Finished => "millpond_tasks_finished_total",
            Count::Panicked => "millpond_tasks_panicked_total",
            Count::Failed => "millpond_tasks_failed_total",
            Count::Cancelled => "millpond_tasks_cancelled_total",
            Count::Retried => "millpond_tasks_retried_total",
            Count::Deaths => "millpond_worker_deaths_total",
            Count::Restarts => "millpond_worker_restarts_total",
        };
        metrics::counter!(name).increment(by);
    }
    let _ = (count, by);
}
