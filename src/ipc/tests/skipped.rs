//! A place of a queue that a killed process had claimed, and that nobody has come to since.

use super::{child, in_use};
use crate::ipc::Queue;

const NAME: &str = "ipc::tests::skipped::a_place_that_a_killed_process_had_claimed_is_not_taken";

#[test]
fn a_place_that_a_killed_process_had_claimed_is_not_taken() {
    if let Some(queue) = child::words::<Queue<u8>>() {
        queue.put(1).unwrap();
        child::done();
    }
    let _alone = crate::shm::alone();
    let before = in_use().unwrap();
    let queue = Queue::<u8>::bounded(1).unwrap();
    assert!(child::start(NAME, Some((2, 1)), queue.clone()).bury(), "it was not killed");
    // Nobody gets anything before somebody puts.
    assert!(queue.is_empty() && !queue.is_full());
    queue.try_put(2).unwrap();
    assert!(queue.is_full());
    assert_eq!((queue.try_get(), queue.is_empty()), (Ok(2), true));
    drop(queue);
    assert_eq!(in_use().unwrap(), before);
}
