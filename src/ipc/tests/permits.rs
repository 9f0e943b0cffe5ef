//! Permits of processes that are killed: those that live, those that were forgotten, and those that were added.

use super::roles::HANG;
use super::{child, in_use};
use crate::ipc::{Event, Semaphore};

const NAME: &str = "ipc::tests::permits::what_a_killed_process_held_comes_back_and_what_it_added_stays";

#[test]
fn what_a_killed_process_held_comes_back_and_what_it_added_stays() {
    if let Some((semaphore, ready, forgets)) = child::words::<(Semaphore, Event, bool)>() {
        let permit = semaphore.acquire().unwrap();
        let _living = if forgets {
            permit.forget();
            None
        } else {
            semaphore.release(1).unwrap();
            Some(permit)
        };
        ready.set();
        std::thread::sleep(HANG);
        child::done();
    }
    let _alone = crate::shm::alone();
    let before = in_use().unwrap();
    let semaphore = Semaphore::new(1).unwrap();
    // The second has the first one's number as a member, and has forgotten nothing.
    for (forgets, left, after) in [(true, 0, 1), (false, 1, 2)] {
        let ready = Event::new().unwrap();
        let mut victim = child::start(NAME, None, (semaphore.clone(), ready.clone(), forgets));
        assert_eq!(ready.wait_timeout(HANG), Ok(true));
        assert_eq!(semaphore.available(), left);
        victim.kill();
        assert!(victim.bury());
        assert_eq!(semaphore.available(), after, "forgotten: {forgets}");
    }
    drop(semaphore);
    assert_eq!(in_use().unwrap(), before);
}
