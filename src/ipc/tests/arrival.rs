//! Killed while its arguments arrive: before they are claimed, while they are, and after.

use super::part::Part;
use super::{child, in_use};
use crate::ipc::{PipeError, Shared, pipe};
use crate::primitive::AtomicU64;

const NAME: &str = "ipc::tests::arrival::an_end_that_is_an_argument_of_a_killed_process_is_disconnected";

#[test]
fn an_end_that_is_an_argument_of_a_killed_process_is_disconnected() {
    if let Some(part) = child::words::<Part>() {
        part.play();
    }
    let _alone = crate::shm::alone();
    let before = in_use().unwrap();
    // Its arguments are two handles. It is killed before it claims any, with one claimed, with both claimed and nothing
    // decoded; with the mark set and not stamped, stamped, the token gone; and when it has them all.
    let planned = [(12, 1), (12, 2), (33, 1), (34, 1), (42, 1), (10, 1)];
    for death in [None].into_iter().chain(planned.map(Some)) {
        let (mut near, far) = pipe::<u64, u64>().unwrap();
        let marks = Shared::new([const { AtomicU64::new(0) }; 4]).unwrap();
        let mut victim = child::start_dying(NAME, death, Part::Pipe(far, marks.clone()));
        if death.is_none() {
            // It has hardly begun.
            victim.kill();
        } else if death == Some((10, 1)) {
            near.send(1).unwrap();
        }
        assert!(victim.bury(), "{death:?}: it was not killed");
        assert_eq!(near.recv(), Err(PipeError::Disconnected), "{death:?}");
        assert_eq!(near.send(1), Err(PipeError::Disconnected), "{death:?}");
        drop((near, marks));
        assert_eq!(in_use().unwrap(), before, "{death:?}: something was left");
    }
}
