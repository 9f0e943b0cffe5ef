//! Killed over a place of a later stage of a queue, as the last that had it: the queue goes before its stage is looked at.

use serde::{Deserialize, Serialize};

use super::{child, in_use};
use crate::ipc::{PipeEnd, PipeError, Queue, pipe};

const NAME: &str = "ipc::tests::left_behind::an_end_in_a_queue_that_a_killed_process_had_last_is_closed";

type Values = Queue<Option<PipeEnd<u8, u8>>>;

#[derive(Serialize, Deserialize)]
enum Words {
    Put(Values, PipeEnd<u8, u8>),
    Get(Values),
}

#[test]
fn an_end_in_a_queue_that_a_killed_process_had_last_is_closed() {
    match child::words() {
        Some(Words::Put(queue, end)) => {
            queue.put(Some(end)).unwrap();
            child::done();
        }
        Some(Words::Get(queue)) => {
            (0..=256).for_each(|_| drop(queue.get().unwrap()));
            child::done();
        }
        None => {}
    }
    let _alone = crate::shm::alone();
    let before = in_use().unwrap();
    // Its end passed on and not published; published and not got; got and not claimed.
    for (step, pass) in [(5, 1), (7, 1), (10, 257), (11, 257)] {
        let (mut near, far) = pipe().unwrap();
        let queue = Values::unbounded().unwrap();
        // The first stage is full.
        (0..256).for_each(|_| queue.put(None).unwrap());
        let words = if step < 10 {
            Words::Put(queue, far)
        } else {
            queue.put(Some(far)).unwrap();
            Words::Get(queue)
        };
        assert!(child::start(NAME, Some((step, pass)), words).bury(), "step {step}: it was not killed");
        assert_eq!(near.try_recv(), Err(PipeError::Disconnected), "step {step}");
        drop(near);
        assert_eq!(in_use().unwrap(), before, "step {step}: something was left");
    }
}
