//! What moves has one owner: a slice or a pipe's end that something else holds too stays where it is, whichever way it was
//! to go, and references to its bytes are good. What goes and doesn't arrive is left nowhere.
#![cfg(feature = "process")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millpond::ipc::{Event, PipeEnd, PipeError, Queue, QueueError, Receiver, SharedSlice, one_way, pipe};
use millpond::process::{Process, ProcessError, ProcessPool};
use millpond::{PoolError, TaskError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[path = "common/audit.rs"]
mod audit;
use audit::{Audit, HANG, alone};

millpond::test_support!();

type Slice = Arc<SharedSlice<u8>>;

fn slice() -> SharedSlice<u8> {
    SharedSlice::from_slice(&[1; 5000]).unwrap()
}

fn sum(slice: Slice) -> u32 {
    slice.iter().map(|byte| u32::from(*byte)).sum()
}

fn sums(slices: Vec<Slice>) -> u32 {
    slices.into_iter().map(sum).sum()
}

/// Gives a slice, and keeps it too if it is told to.
fn gives(keeps: bool) -> Slice {
    static KEPT: OnceLock<Slice> = OnceLock::new();
    if keeps { KEPT.get_or_init(|| Arc::new(slice())).clone() } else { Arc::new(slice()) }
}

fn sets_up(_: Slice) {}

millpond::tasks![sum, sums, gives, sets_up];

/// Sent as a pipe's end, received as a queue.
enum Sly {
    Sent(PipeEnd<u8, u8>),
    Received(#[expect(dead_code, reason = "there is none")] Queue<u64>),
}

impl Serialize for Sly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sent(end) => end.serialize(serializer),
            Self::Received(_) => unreachable!(),
        }
    }
}

impl<'de> Deserialize<'de> for Sly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::deserialize(deserializer).map(Self::Received)
    }
}

/// Nobody else's queue is got for it, and its other end is told.
#[test]
fn a_pipes_end_that_is_received_as_a_queue_is_an_error() {
    let _alone = alone();
    let audit = Audit::now();
    {
        let (queue, strangers): (Queue<Sly>, Queue<Queue<u64>>) =
            (Queue::bounded(1).unwrap(), Queue::bounded(500).unwrap());
        // References on their way, of which one may have the number of the pipe.
        (0..500).for_each(|_| strangers.put(Queue::bounded(1).unwrap()).unwrap());
        let (mut mine, theirs) = pipe::<u8, u8>().unwrap();
        queue.put(Sly::Sent(theirs)).unwrap();
        assert!(matches!(queue.get(), Err(QueueError::Decode(_))));
        assert_eq!(mine.recv_timeout(HANG), Err(PipeError::Disconnected));
    }
    audit.expect_unchanged();
}

/// Something that moves, and somebody else who may hold it.
fn says_who(error: &dyn std::error::Error) {
    let said = error.to_string();
    assert!(said.contains("cannot move, for it has another holder"), "{said}");
}

#[test]
fn a_slice_that_is_held_elsewhere_stays_whichever_way_it_was_to_go() {
    let _alone = alone();
    let audit = Audit::now();
    {
        let kept = Arc::new(slice());
        let bytes: &[u8] = &kept;
        let queue: Queue<Slice> = Queue::bounded(4).unwrap();
        let puts = [queue.put(kept.clone()), queue.try_put(kept.clone()), queue.put_timeout(kept.clone(), HANG)];
        for put in puts {
            let Err(error @ QueueError::Encode(_)) = put else { panic!("{put:?}") };
            says_who(&error);
        }
        let (mut near, mut far): (PipeEnd<Slice, u8>, _) = pipe().unwrap();
        let sends = [near.send(kept.clone()), near.try_send(kept.clone()), near.send_timeout(kept.clone(), HANG)];
        for sent in sends {
            let Err(error @ PipeError::Encode(_)) = sent else { panic!("{sent:?}") };
            says_who(&error);
        }
        let spawned = Process::spawn(sum, (kept.clone(),)).map(drop);
        let Err(error @ ProcessError::Encode { .. }) = spawned else { panic!("{spawned:?}") };
        says_who(&error);
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        let refused = |error: TaskError| {
            assert!(matches!(error, TaskError::Pool(PoolError::Encode { .. })), "{error:?}");
            says_who(&error);
        };
        refused(pool.apply(sum, (kept.clone(),)).unwrap_err());
        refused(pool.apply_async(sum, (kept.clone(),)).map(drop).unwrap_err().into());
        refused(pool.spawn(sum, (kept.clone(),)).unwrap_err().into());
        refused(pool.map(sum, [Arc::new(slice()), kept.clone()]).unwrap_err());
        refused(pool.imap(sum, [kept.clone()]).map(drop).unwrap_err().into());
        assert_eq!(bytes, [1; 5000]);
        assert!(queue.is_empty() && far.try_recv().is_err());
        // With nobody else it goes.
        let all = [Arc::new(slice()), kept];
        assert_eq!(pool.map(sum, all).unwrap(), [5000, 5000]);
        queue.put(Arc::new(slice())).unwrap();
        near.send(queue.get().unwrap()).unwrap();
        let arrived = far.recv().unwrap();
        assert_eq!(Process::spawn(sum, (arrived,)).unwrap().join().unwrap(), 5000);
    }
    audit.expect_unchanged();
}

#[test]
fn a_result_that_its_task_keeps_is_an_error() {
    let _alone = alone();
    let audit = Audit::now();
    {
        let failed = Process::spawn(gives, (true,)).unwrap().join();
        let Err(error @ ProcessError::Encode { .. }) = failed else { panic!("{failed:?}") };
        says_who(&error);
        assert_eq!(sum(Process::spawn(gives, (false,)).unwrap().join().unwrap()), 5000);
        let pool = ProcessPool::builder().workers(1).build().unwrap();
        for keeps in [true, false, true, false] {
            match pool.apply(gives, (keeps,)) {
                Ok(slice) => assert_eq!((sum(slice), keeps), (5000, false)),
                Err(error) => {
                    assert!(keeps && matches!(error, TaskError::Encode { .. }), "{error:?}");
                    says_who(&error);
                }
            }
        }
    }
    audit.expect_unchanged();
}

/// An end, with so much else that a block carries it, or with nothing.
#[derive(Serialize, Deserialize)]
struct End(PipeEnd<u8, End>, Vec<u8>);

/// Nobody but the end itself could receive it.
#[test]
fn a_pipes_end_does_not_go_through_its_own_pipe() {
    type Send = fn(&mut PipeEnd<End, u8>, End) -> Result<(), PipeError>;
    let _alone = alone();
    let audit = Audit::now();
    let ways: [Send; 3] =
        [PipeEnd::send, PipeEnd::try_send, |near, message| near.send_timeout(message, Duration::from_millis(1))];
    for (way, rest) in ways.into_iter().flat_map(|way| [(way, 0), (way, 1000)]) {
        let (mut near, far) = pipe().unwrap();
        let sent = way(&mut near, End(far, vec![0; rest]));
        let Err(error @ PipeError::Encode(_)) = sent else { panic!("{rest} more bytes: {sent:?}") };
        assert!(error.to_string().contains("an end of this same pipe"), "{error}");
        assert_eq!(near.recv_timeout(HANG), Err(PipeError::Disconnected));
        // Through another it goes.
        let ((mut near, far), (mut other, mut others)) = (pipe().unwrap(), pipe::<_, u8>().unwrap());
        other.send(End(far, vec![0; rest])).unwrap();
        near.send(End(pipe().unwrap().1, Vec::new())).unwrap();
        let mut far = others.recv().unwrap().0;
        assert!(far.recv().is_ok());
    }
    audit.expect_unchanged();
}

/// A pool keeps its initializer's arguments for the next worker, so nothing in them can move.
#[test]
fn nothing_moves_to_a_workers_initializer() {
    let _alone = alone();
    let audit = Audit::now();
    let pool = ProcessPool::builder().workers(1).initializer(sets_up, (Arc::new(slice()),)).build();
    let ended = pool.and_then(|pool| pool.wait_ready(HANG));
    says_who(&ended.unwrap_err());
    audit.expect_unchanged();
}

#[test]
fn one_slice_twice_in_a_value_cannot_move() {
    let _alone = alone();
    let audit = Audit::now();
    {
        let queue: Queue<(Slice, Slice)> = Queue::bounded(2).unwrap();
        let kept = Arc::new(slice());
        assert!(matches!(queue.put((kept.clone(), kept.clone())), Err(QueueError::Encode(_))));
        assert_eq!(kept[..], [1; 5000], "it stayed");
        assert!(matches!(queue.put((kept.clone(), kept)), Err(QueueError::Encode(_))));
        assert!(queue.is_empty());
    }
    audit.expect_unchanged();
}

#[test]
fn a_pipes_end_that_is_held_elsewhere_stays() {
    let _alone = alone();
    let audit = Audit::now();
    {
        let queue: Queue<Arc<PipeEnd<u8, u8>>> = Queue::bounded(1).unwrap();
        let (near, mut far) = pipe().unwrap();
        let near = Arc::new(near);
        let Err(error) = queue.put(near.clone()) else { panic!("it went") };
        says_who(&error);
        let mut near = Arc::into_inner(near).unwrap();
        near.send(1).unwrap();
        assert_eq!(far.recv(), Ok(1));
        queue.put(Arc::new(near)).unwrap();
        let mut near = Arc::into_inner(queue.get().unwrap()).unwrap();
        far.send(2).unwrap();
        assert_eq!(near.recv(), Ok(2));
    }
    audit.expect_unchanged();
}

#[test]
fn what_was_to_move_and_did_not_is_left_nowhere() {
    let _alone = alone();
    let audit = Audit::now();
    {
        type Both = (SharedSlice<u8>, PipeEnd<u8, u8>);
        let queue: Queue<Both> = Queue::bounded(1).unwrap();
        let both = || {
            let (near, far) = pipe::<u8, u8>().unwrap();
            ((slice(), near), far)
        };
        let expect_gone =
            |mut far: PipeEnd<u8, u8>| assert_eq!(far.recv_timeout(HANG / 12), Err(PipeError::Disconnected));
        let (first, still) = both();
        queue.put(first).unwrap();
        let (value, far) = both();
        assert_eq!(queue.put_timeout(value, Duration::from_millis(5)), Err(QueueError::TimedOut));
        expect_gone(far);
        let (value, far) = both();
        assert_eq!(queue.try_put(value), Err(QueueError::Full));
        expect_gone(far);
        queue.close();
        let (value, far) = both();
        assert_eq!(queue.put(value), Err(QueueError::Closed));
        expect_gone(far);
        assert!(!still.is_disconnected());
        drop(queue.get().unwrap());
        expect_gone(still);
    }
    audit.expect_unchanged();
}

thread_local! {
    static SAVED: RefCell<Vec<SharedSlice<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What a value does with its slice when it is dropped.
#[derive(Clone, Copy)]
enum Dropped {
    Saves,
    Forgets,
    Sends,
    SendsAndExits,
    Panics,
}

/// A value whose drop is somebody's own code. Either one that travels in a slot, or one that a block carries.
struct Odd(Option<SharedSlice<u8>>, Dropped, Option<Queue<SharedSlice<u8>>>, Vec<u8>);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0, &self.3).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (slice, rest) = Deserialize::deserialize(deserializer)?;
        Ok(Self(slice, Dropped::Forgets, None, rest))
    }
}

/// Puts a value whose slice goes another way, and ends its process on that way.
fn parts_and_exits(queue: Queue<Odd>, other: Queue<SharedSlice<u8>>, rest: usize) {
    let _ = queue.put(Odd(Some(slice()), Dropped::SendsAndExits, Some(other), vec![0; rest]));
}

millpond::tasks![parts_and_exits];

impl Drop for Odd {
    fn drop(&mut self) {
        let Some(slice) = self.0.take() else { return };
        match self.1 {
            Dropped::Saves => SAVED.with_borrow_mut(|saved| saved.push(slice)),
            Dropped::Forgets => std::mem::forget(slice),
            Dropped::Sends => self.2.as_ref().unwrap().put(slice).unwrap(),
            Dropped::SendsAndExits => {
                self.2.as_ref().unwrap().put(slice).unwrap();
                std::process::exit(3);
            }
            Dropped::Panics => {
                drop(slice);
                panic!("it is dropped");
            }
        }
    }
}

#[test]
fn a_value_that_parts_from_its_slice_otherwise_keeps_it() {
    let _alone = alone();
    let audit = Audit::now();
    let odd = |dropped, other: &Queue<_>, rest| Odd(Some(slice()), dropped, Some(other.clone()), vec![0; rest]);
    for rest in [0, 1000] {
        let queue: Queue<Odd> = Queue::bounded(2).unwrap();
        let other: Queue<SharedSlice<u8>> = Queue::bounded(2).unwrap();
        says_who(&queue.put(odd(Dropped::Saves, &other, rest)).unwrap_err());
        assert_eq!(SAVED.take()[0][..], [1; 5000]);
        says_who(&queue.put(odd(Dropped::Sends, &other, rest)).unwrap_err());
        assert_eq!(other.get().unwrap()[..], [1; 5000]);
        let panicked = catch_unwind(AssertUnwindSafe(|| queue.put(odd(Dropped::Panics, &other, rest)))).unwrap_err();
        assert_eq!(panicked.downcast_ref(), Some(&"it is dropped"));
        assert!(queue.is_empty());
    }
    audit.expect_unchanged();
    let (queue, other) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let before = millpond::ipc::stats().unwrap().owned;
    says_who(&queue.put(odd(Dropped::Forgets, &other, 0)).unwrap_err());
    assert_eq!(millpond::ipc::stats().unwrap().owned, before + 1, "what is forgotten is nobody else's");
}

/// What a dead process was about to send goes with it, but not what had gone another way before it died.
#[test]
fn a_slice_that_went_another_way_is_got_though_its_sender_died() {
    let _alone = alone();
    let audit = Audit::now();
    for rest in [0, 1000] {
        let (queue, other) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
        let members = millpond::ipc::stats().unwrap().members;
        let child = Process::spawn(parts_and_exits, (queue.clone(), other.clone(), rest)).unwrap();
        assert!(child.join().is_err());
        // The dead one's blocks have been looked through when it is no member any more.
        let swept = std::time::Instant::now();
        while millpond::ipc::stats().unwrap().members > members {
            assert!(swept.elapsed() < HANG / 8);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(other.get_timeout(HANG / 8).unwrap()[..], [1; 5000], "{rest} bytes");
        assert!(queue.is_empty());
    }
    audit.expect_unchanged();
}

type Loaded = (PipeEnd<u8, u8>, SharedSlice<u8>);

fn keeps_an_end(end: Receiver<Loaded>, ready: Event) {
    ready.set();
    std::thread::sleep(10 * HANG);
    drop(end);
}

millpond::tasks![keeps_an_end];

/// Nobody can receive it any more, also while its sender lives.
#[test]
fn what_lies_in_a_pipe_goes_with_the_end_that_was_to_receive_it() {
    let _alone = alone();
    let ready = Event::new().unwrap();
    for is_killed in [false, true] {
        let (mut tx, rx) = one_way::<Loaded>().unwrap();
        let (mut near, mut rx) = (Vec::new(), Some(rx));
        let child = is_killed.then(|| Process::spawn(keeps_an_end, (rx.take().unwrap(), ready.clone())).unwrap());
        if is_killed {
            assert!(ready.wait_timeout(HANG).unwrap());
        }
        let before = millpond::ipc::stats().unwrap();
        for _ in 0..20 {
            let (mine, theirs) = pipe().unwrap();
            tx.send((theirs, slice())).unwrap();
            near.push(mine);
        }
        drop(rx);
        if let Some(child) = child {
            child.kill().unwrap();
            assert!(child.join().is_err());
        }
        for mut mine in near {
            assert_eq!(mine.recv_timeout(HANG / 8), Err(PipeError::Disconnected));
        }
        let after = millpond::ipc::stats().unwrap();
        assert_eq!((after.owned, after.queued), (before.owned, before.queued), "{after:?}");
        assert_eq!(tx.send((pipe().unwrap().0, slice())), Err(PipeError::Disconnected));
    }
}

/// The end of a pipe that is like it.
#[derive(Serialize, Deserialize)]
struct Link(PipeEnd<Link, Link>);

fn keeps_a_link(end: Link, ready: Event) {
    ready.set();
    std::thread::sleep(10 * HANG);
    drop(end);
}

millpond::tasks![keeps_a_link];

/// An end lies in a pipe, whose end lies in a pipe, and so on: as deep as stacks are not.
#[test]
fn a_long_chain_of_pipes_goes_with_its_last_end() {
    let _alone = alone();
    let audit = Audit::now();
    for is_killed in [false, true] {
        let (first, mut last) = pipe::<Link, Link>().unwrap();
        let mut senders = vec![first];
        for _ in 0..1500 {
            let (mut sender, next) = pipe().unwrap();
            sender.send(Link(last)).unwrap();
            senders.push(sender);
            last = next;
        }
        if is_killed {
            let ready = Event::new().unwrap();
            let child = Process::spawn(keeps_a_link, (Link(last), ready.clone())).unwrap();
            assert!(ready.wait_timeout(HANG).unwrap());
            assert!(senders.iter().all(|sender| !sender.is_disconnected()));
            child.kill().unwrap();
            // The keeper sees to what is left.
            assert!(child.join_timeout(HANG).is_err());
        } else {
            drop(last);
        }
        assert!(senders.iter().all(PipeEnd::is_disconnected), "killed: {is_killed}");
    }
    audit.expect_unchanged();
}
