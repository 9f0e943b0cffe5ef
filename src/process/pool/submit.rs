//! From a function and its arguments to a task.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::codec::{self, Arrived};
use super::super::membership::Seat;
use super::super::registry::{self, Ran, Task as Function};
use super::desk::Desk;
use super::task::{Callback, Claimant, Ending, Handles, JobRef, Task};
use super::terms;
use crate::panics::{guarded, message};
use crate::shm::message::Packet;
use crate::task::{Payload, PoolError, TaskError, TaskHandle};

/// A function's place, its path, and arguments in bytes.
#[derive(Debug)]
pub(super) struct Letter {
    function: u32,
    path: &'static str,
    many: bool,
    /// With the handles in it: whoever drops it releases them.
    bytes: Arrived,
    handles: Handles,
}

/// A letter whose arguments still are the caller's, who may want them back if they are too large.
#[derive(Debug)]
pub(super) struct Draft {
    function: u32,
    path: &'static str,
    packet: Packet,
}

impl Draft {
    /// Encodes arguments.
    pub(super) fn new<F: 'static, A: Serialize>(desk: &Desk, arguments: &A) -> Result<Self, PoolError> {
        super::forked::expect_not_forked()?;
        let path = core::any::type_name::<F>();
        let function = registry::find::<F>().ok_or(PoolError::NotRegistered { task: path })?;
        let mut packet = Packet::new();
        packet.encode(arguments).map_err(|error| PoolError::Encode { task: path, reason: error.to_string() })?;
        let handles = packet.handles.ids().len();
        let (len, limit) = (packet.bytes.as_slice().len() + 4 + 8 * handles, desk.ground.plan.most);
        if len > limit {
            return Err(PoolError::TooLarge { bytes: len, limit });
        }
        if handles > 0 {
            desk.expect_open()?;
        }
        Ok(Self { function, path, packet })
    }

    /// With what moves in these arguments: those of one call, or a list of them for `many`. What else they are is best dropped
    /// after the letter was sent.
    pub(super) fn sealed<A>(mut self, arguments: A, many: bool) -> Result<(Letter, Option<A>), PoolError> {
        let Self { function, path, .. } = self;
        let refused = |reason| PoolError::Encode { task: path, reason };
        let mut rest = Some(arguments);
        if !self.packet.handles.are_own() {
            self.packet.take_over(|| rest = None).map_err(|error| refused(error.to_string()))?;
        }
        let objects = self.packet.objects().map_err(|error| refused(error.to_string()))?;
        let handles = objects.map_or(Handles::Move, Handles::Refer);
        // Without handles nobody needs a seat.
        let to = if handles.are_none() { Seat::None(String::new()) } else { Seat::own() };
        let bytes = codec::pass_on(self.packet, &to, &mut |_| true).map_err(refused)?;
        Ok((Letter { function, path, many, bytes: Arrived::new(bytes), handles }, rest))
    }
}

impl Letter {
    /// Of one call.
    fn write<F: 'static, A: Serialize>(desk: &Desk, arguments: A) -> Result<(Self, Option<A>), PoolError> {
        Draft::new::<F, A>(desk, &arguments)?.sealed(arguments, false)
    }

    fn task(self, desk: &Desk, number: u64, claimant: Claimant) -> Task {
        Task {
            number,
            claimant,
            function: self.function,
            path: self.path,
            many: self.many,
            arguments: self.bytes,
            handles: self.handles,
            retries: desk.terms.retries,
            limits: desk.terms.limits,
            watched: false,
        }
    }

    /// Runs it in this process: what comes of it.
    fn run_here(self) -> Ending {
        let Some(entry) = registry::entry(self.function) else {
            return Err(PoolError::NotRegistered { task: self.path }.into());
        };
        // The handles in it, and in what it gives, are kept by this process, and arrive here.
        let ran = guarded(|| entry.run(self.bytes.bytes(), &Seat::own(), &mut |_| true));
        let ending = match ran {
            Ok(Ran::Returned(bytes)) => Ok(Arrived::new(bytes)),
            Ok(Ran::Undecodable(reason)) => Err(TaskError::undecodable_arguments(reason)),
            Ok(Ran::Unencodable(reason)) => Err(TaskError::unencodable_result(reason)),
            Err(panic) => Err(TaskError::Panicked { message: message(panic) }),
        };
        ending.map_err(|error| error.of(self.path))
    }
}

/// Has a call run, with a handle.
pub(super) fn with_handle<F, A>(desk: &Arc<Desk>, arguments: A) -> Result<TaskHandle<F::Output>, PoolError>
where
    F: Function<A>,
    A: Serialize,
{
    let (letter, _rest) = Letter::write::<F, A>(desk, arguments)?;
    send(desk, letter, false)
}

/// Has a chunk of a map run. Where the queue is full it waits: a map is in no hurry to go on.
pub(super) fn chunk<R: DeserializeOwned>(desk: &Arc<Desk>, letter: Letter) -> Result<TaskHandle<R>, PoolError> {
    send(desk, letter, true)
}

/// Has many chunks of a map run.
pub(super) fn chunks<R: DeserializeOwned>(
    desk: &Arc<Desk>,
    letters: Vec<Letter>,
    handles: &mut Vec<TaskHandle<R>>,
) -> Result<(), PoolError> {
    desk.submit_all(letters, |letter, number| {
        let (job, handle) = JobRef::new::<R>(desk, number, letter.path);
        handles.push(handle);
        letter.task(desk, number, Claimant::Handle(job))
    })
}

fn send<R: DeserializeOwned>(desk: &Arc<Desk>, letter: Letter, waits: bool) -> Result<TaskHandle<R>, PoolError> {
    let mut made = None;
    let path = letter.path;
    let back = desk.submit(waits, letter, |letter, number| {
        let (job, handle) = JobRef::new::<R>(desk, number, path);
        made = Some(handle);
        letter.task(desk, number, Claimant::Handle(job))
    })?;
    let ending = back.map(Letter::run_here);
    Ok(made.unwrap_or_else(|| {
        let (job, handle) = JobRef::new::<R>(desk, u64::MAX, path);
        job.end(ending.unwrap_or(Err(TaskError::Cancelled)));
        handle
    }))
}

/// Has a chunk of a map run; what comes of it goes into a channel. Where the queue is full it waits.
pub(super) fn chunk_into(desk: &Desk, letter: Letter, to: Sender<Ending>) -> Result<(), PoolError> {
    desk.submit(true, letter, |letter, number| letter.task(desk, number, Claimant::Channel(to))).map(drop)
}

/// Has a call run, of which nobody hears.
pub(super) fn without_handle<F, A>(desk: &Desk, arguments: A) -> Result<(), PoolError>
where
    F: Function<A>,
    A: Serialize,
{
    let (letter, _rest) = Letter::write::<F, A>(desk, arguments)?;
    let back = desk.submit(false, letter, |letter, number| letter.task(desk, number, Claimant::Nobody))?;
    drop(back.map(Letter::run_here));
    Ok(())
}

/// Has a call run, and then `then` called.
pub(super) fn with_callback<F, A, C>(desk: &Desk, arguments: A, then: C) -> Result<(), PoolError>
where
    F: Function<A>,
    A: Serialize,
    C: FnOnce(Result<F::Output, TaskError>) + Send + 'static,
{
    let (letter, _rest) = Letter::write::<F, A>(desk, arguments)?;
    // The pool does not end before this is dropped: the caller may run the task itself.
    let to = desk.terms.callbacks.prepare();
    let path = letter.path;
    let call: Callback = Box::new(move |ending: Ending| then(ending.and_then(|bytes| read(bytes, path))));
    let back =
        desk.submit(false, (letter, call), |(letter, call), number| letter.task(desk, number, Claimant::Call(call)))?;
    if let Some((letter, call)) = back {
        let ending = desk.terms.callbacks.run_here(|| letter.run_here());
        let back = terms::put(to.as_ref(), call, ending);
        back.into_iter().for_each(|(call, ending)| terms::call(call, ending));
    }
    Ok(())
}

/// A task's value.
pub(super) fn read<R: DeserializeOwned>(bytes: Arrived, task: &'static str) -> Result<R, TaskError> {
    bytes.decode().map_err(|reason| TaskError::Decode { what: Payload::Result, task, reason })
}
