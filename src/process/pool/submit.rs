//! From a function and its arguments to a task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::child::panic_message;
use super::super::codec::{self, Arrived};
use super::super::membership::Seat;
use super::super::registry::{self, Task as Function};
use super::desk::Desk;
use super::task::{Claimant, Ending, JobRef, Task};
use crate::shm::message;
use crate::task::{Payload, PoolError, TaskError, TaskHandle};

/// A function's place, its path, and arguments in bytes.
#[derive(Debug)]
pub(super) struct Letter {
    function: u32,
    path: &'static str,
    many: bool,
    bytes: Vec<u8>,
    moves: bool,
}

impl Letter {
    /// Encodes arguments: those of one call, or a list of them for `many`.
    pub(super) fn write<F: 'static, A: Serialize>(desk: &Desk, arguments: &A, many: bool) -> Result<Self, PoolError> {
        super::expect_not_forked()?;
        let path = core::any::type_name::<F>();
        let function = registry::find::<F>().ok_or(PoolError::NotRegistered { task: path })?;
        let packet =
            message::encode(arguments).map_err(|error| PoolError::Encode { task: path, reason: error.to_string() })?;
        // What is too large or comes too late keeps its handles.
        let (len, limit) = (packet.bytes.as_slice().len() + 4 + 8 * packet.handles.0.len(), desk.ground.plan.most);
        if len > limit {
            return Err(PoolError::TooLarge { bytes: len, limit });
        }
        let moves = !packet.handles.0.is_empty();
        if moves {
            desk.lock().expect_open()?;
        }
        let bytes = codec::pass_on(packet, &Seat::anybody(), &mut |_| ())
            .map_err(|reason| PoolError::Encode { task: path, reason })?;
        Ok(Self { function, path, many, bytes, moves })
    }

    fn task(self, desk: &Desk, number: u64, claimant: Claimant) -> Task {
        Task {
            number,
            claimant,
            function: self.function,
            path: self.path,
            many: self.many,
            arguments: Arrived::new(self.bytes),
            moves: self.moves,
            retries: desk.terms.retries,
            limits: desk.terms.limits,
            watched: false,
        }
    }

    /// Has the task run, with a handle whose value is an R.
    pub(super) fn send<R: DeserializeOwned>(self, desk: &Arc<Desk>) -> Result<Option<TaskHandle<R>>, PoolError> {
        let mut made = None;
        let path = self.path;
        let taken = desk.submit(|number| {
            let (job, handle) = JobRef::new::<R>(desk, number, path);
            made = Some(handle);
            self.task(desk, number, Claimant::Handle(job))
        })?;
        Ok(taken.and(made))
    }

    /// Has the task run; what comes of it goes into a channel.
    pub(super) fn send_into(self, desk: &Desk, to: Sender<Ending>) -> Result<bool, PoolError> {
        desk.submit(|number| self.task(desk, number, Claimant::Channel(to))).map(|taken| taken.is_some())
    }
}

/// What a call here gave, where the queue was full and the caller runs.
fn call_here<F: Function<A>, A>(function: F, arguments: A) -> Result<F::Output, TaskError> {
    catch_unwind(AssertUnwindSafe(|| function.call(arguments)))
        .map_err(|panic| TaskError::Panicked { message: panic_message(&*panic).to_owned() })
}

/// The same, as what comes of a task.
fn ending_of<R: Serialize>(result: Result<R, TaskError>, task: &'static str) -> Ending {
    let bytes = codec::encode(&result?, &Seat::anybody());
    bytes.map(Arrived::new).map_err(|reason| TaskError::Encode { what: Payload::Result, task, reason })
}

pub(super) fn with_handle<F, A>(desk: &Arc<Desk>, function: F, arguments: A) -> Result<TaskHandle<F::Output>, PoolError>
where
    F: Function<A>,
    A: Serialize,
{
    let letter = Letter::write::<F, A>(desk, &arguments, false)?;
    let path = letter.path;
    match letter.send(desk)? {
        Some(handle) => Ok(handle),
        None => {
            let ending = ending_of(call_here(function, arguments), path);
            let (job, handle) = JobRef::new::<F::Output>(desk, u64::MAX, path);
            job.end(ending);
            Ok(handle)
        }
    }
}

pub(super) fn without_handle<F, A>(desk: &Arc<Desk>, function: F, arguments: A) -> Result<(), PoolError>
where
    F: Function<A>,
    A: Serialize,
{
    let letter = Letter::write::<F, A>(desk, &arguments, false)?;
    if desk.submit(|number| letter.task(desk, number, Claimant::Nobody))?.is_none() {
        let _ = call_here(function, arguments);
    }
    Ok(())
}

pub(super) fn with_callback<F, A, C>(desk: &Arc<Desk>, function: F, arguments: A, then: C) -> Result<(), PoolError>
where
    F: Function<A>,
    A: Serialize,
    C: FnOnce(Result<F::Output, TaskError>) + Send + 'static,
{
    let letter = Letter::write::<F, A>(desk, &arguments, false)?;
    let path = letter.path;
    let mut then = Some(then);
    let taken = desk.submit(|number| {
        let callback = then.take().map(|then| {
            let call = move |ending: Ending| then(ending.and_then(|bytes| read(bytes, path)));
            Box::new(call) as super::task::Callback
        });
        letter.task(desk, number, callback.map_or(Claimant::Nobody, Claimant::Call))
    })?;
    if let (None, Some(then)) = (taken, then) {
        let result = call_here(function, arguments);
        let _ = catch_unwind(AssertUnwindSafe(|| then(result)));
    }
    Ok(())
}

/// A task's value.
pub(super) fn read<R: DeserializeOwned>(bytes: Arrived, task: &'static str) -> Result<R, TaskError> {
    bytes.decode().map_err(|reason| TaskError::Decode { what: Payload::Result, task, reason })
}
