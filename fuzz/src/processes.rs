//! Programs for several processes: each has a queue, a lock and permits in common with the others, and is killed by
//! itself where the program says so, or by its parent wherever it is.
//!
//! What each has done it notes in memory that its death doesn't harm, after it was done. Whoever was killed may have done
//! one step more than it noted; apart from that everything must add up. How this would fail: each promise is an
//! `assert!`, in a member (its parent reads of it) or at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use millpond::ipc::{Lock, LockError, Queue, QueueError, Semaphore, Shared};
use millpond::process::{Process, ProcessError};
use serde::{Deserialize, Serialize};

/// Children of one program; what a member puts at most; permits.
const CHILDREN: usize = 2;
const MEMBERS: usize = CHILDREN + 1;
const MOST: u64 = 60;
const PERMITS: usize = 2;
/// How long a step waits for something that may never come, and how long the end may take.
const SHORT: Duration = Duration::from_micros(200);
const HANG: Duration = Duration::from_secs(60);
/// What the dead held is back when they are joined. Far less than a short run of the target, which is to see it.
const BACK: Duration = Duration::from_secs(5);

/// A step of a member.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Step {
    Put,
    Get,
    Add,
    Permit,
    Sleep,
    /// Ends itself at once; with the lock, half way through a change; with a permit.
    Die,
    DieInLock,
    DieWithPermit,
}

/// What members have in common.
#[derive(Clone, Serialize, Deserialize)]
struct Town {
    queue: Queue<u64>,
    pair: Lock<[u64; 2]>,
    permits: Semaphore,
    /// By member: how many it has put, how many it has added, and of the others' values those that it got.
    notes: Shared<[[AtomicU64; 2 + MEMBERS]; MEMBERS]>,
}

/// A program for a parent and its children.
#[derive(Debug, Default)]
pub struct ProcessProgram {
    parts: [Vec<Step>; MEMBERS],
    /// Microseconds after which the parent kills each child, if at all.
    kills: [Option<u32>; CHILDREN],
}

const STEPS: [Step; 8] =
    [Step::Put, Step::Get, Step::Add, Step::Permit, Step::Sleep, Step::Die, Step::DieInLock, Step::DieWithPermit];

/// A byte for each kill, then one for each step: whose it is, times eight, and which.
impl<'a> Arbitrary<'a> for ProcessProgram {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut program = Self::default();
        for kill in &mut program.kills {
            // Close to each other near the start, where the children are young.
            *kill = Some(u32::from(bytes.arbitrary::<u8>()?).pow(2)).filter(|after| *after > 0);
        }
        for byte in bytes.bytes(bytes.len())? {
            let (member, step) = (usize::from(byte / 8) % MEMBERS, usize::from(byte % 8));
            program.parts[member].push(STEPS[step]);
        }
        Ok(program)
    }
}

fn die() -> ! {
    // SAFETY: a signal to this process itself.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("nobody survives it")
}

impl Town {
    fn new() -> Self {
        let notes = [const { [const { AtomicU64::new(0) }; 2 + MEMBERS] }; MEMBERS];
        Self {
            queue: Queue::bounded(5).expect("a short queue"),
            pair: Lock::new([0; 2]).expect("a lock"),
            permits: Semaphore::new(PERMITS).expect("a semaphore"),
            notes: Shared::new(notes).expect("a few words"),
        }
    }

    /// Notes that a member got a value.
    fn got(&self, me: usize, value: u64) {
        let (from, number) = ((value >> 32) as usize, value & 0xffff_ffff);
        assert!(from < MEMBERS && number < MOST, "{value:#x} was never put");
        let before = self.notes[me][2 + from].fetch_or(1 << number, Ordering::SeqCst);
        assert_eq!(before >> number & 1, 0, "{value:#x} came twice to one member");
    }

    /// Runs a member's part. The parent does not die.
    fn run(&self, me: usize, part: &[Step]) {
        let mut put = 0;
        for step in part.iter().take(200) {
            match step {
                Step::Put if put < MOST => match self.queue.put_timeout((me as u64) << 32 | put, SHORT) {
                    Ok(()) => {
                        put += 1;
                        self.notes[me][0].store(put, Ordering::SeqCst);
                    }
                    Err(error) => assert_eq!(error, QueueError::TimedOut),
                },
                Step::Get => match self.queue.get_timeout(SHORT) {
                    Ok(value) => self.got(me, value),
                    Err(error) => assert_eq!(error, QueueError::TimedOut),
                },
                Step::Add | Step::DieInLock => self.add(me, matches!(step, Step::DieInLock) && me > 0),
                Step::Permit | Step::DieWithPermit => {
                    if let Ok(permit) = self.permits.acquire_timeout(SHORT) {
                        if matches!(step, Step::DieWithPermit) && me > 0 {
                            die();
                        }
                        drop(permit);
                    }
                }
                Step::Sleep => std::thread::sleep(SHORT / 4),
                Step::Die if me > 0 => die(),
                Step::Put | Step::Die => {}
            }
        }
    }

    /// Adds to both numbers that the lock guards; or dies in between.
    fn add(&self, me: usize, dies: bool) {
        let mut pair = match self.pair.lock_timeout(HANG) {
            Ok(pair) => pair,
            // Somebody died in it.
            Err(LockError::OwnerDied | LockError::Poisoned) => self.pair.lock_recovering(|pair| pair[1] = pair[0]),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(pair[0], pair[1], "two had the lock at once, or nobody was told of a death");
        pair[0] += 1;
        if dies {
            die();
        }
        pair[1] += 1;
        drop(pair);
        self.notes[me][1].fetch_add(1, Ordering::SeqCst);
    }
}

fn member(town: Town, me: usize, part: Vec<Step>) {
    town.run(me, &part);
}

millpond::tasks![member];

impl ProcessProgram {
    /// Runs the program. Panics where processes and model disagree.
    pub fn run(&self) {
        let town = Town::new();
        let start = Instant::now();
        let children: Vec<_> = (1..MEMBERS)
            .map(|me| Process::spawn(member, (town.clone(), me, self.parts[me].clone())).expect("a process"))
            .collect();
        let killed = std::thread::scope(|scope| {
            let killers: Vec<_> = children
                .iter()
                .zip(self.kills)
                .map(|(child, kill)| {
                    scope.spawn(move || {
                        let Some(after) = kill else { return };
                        std::thread::sleep(Duration::from_micros(after.into()).saturating_sub(start.elapsed()));
                        // It may have ended by itself.
                        let _ = child.kill();
                    })
                })
                .collect();
            town.run(0, &self.parts[0]);
            killers.into_iter().for_each(|killer| killer.join().expect("it only kills"));
            children.iter().map(|child| Self::bury(child)).collect::<Vec<_>>()
        });
        town.audit(&killed);
    }

    /// Waits for a child. Whether it was killed.
    fn bury(child: &Process<()>) -> bool {
        match child.join_timeout(HANG) {
            Ok(()) => false,
            Err(error @ (ProcessError::Panicked { .. } | ProcessError::TimedOut { .. })) => panic!("{error}"),
            Err(error) => {
                use std::os::unix::process::ExitStatusExt as _;
                let signal = child.exit_status().and_then(|status| status.signal());
                assert_eq!(signal, Some(libc::SIGKILL), "{error}");
                true
            }
        }
    }
}

impl Town {
    /// Everybody is dead but the parent: nothing is lost, nothing is kept, nobody is waited for.
    fn audit(&self, killed: &[bool]) {
        let dead = killed.iter().filter(|killed| **killed).count() as u64;
        let start = Instant::now();
        while self.permits.available() < PERMITS {
            assert!(start.elapsed() < BACK, "the permits of the dead do not come back");
            std::thread::sleep(SHORT);
        }
        assert_eq!(self.permits.available(), PERMITS);
        while let Ok(value) = self.queue.try_get() {
            self.got(0, value);
        }
        for from in 0..MEMBERS {
            let notes: Vec<_> = (0..MEMBERS).map(|by| self.notes[by][2 + from].load(Ordering::SeqCst)).collect();
            let all = notes.iter().fold(0, |all, notes| all | notes);
            let times: u32 = notes.iter().map(|notes| notes.count_ones()).sum();
            assert_eq!(times, all.count_ones(), "a value came to two members");
            let put = self.notes[from][0].load(Ordering::SeqCst);
            // One more than was noted, if it was killed; one less for each of the dead, who may have been about to note it.
            let more = u64::from(from > 0 && killed[from - 1]);
            assert!(all.count_ones() as u64 <= put + more && all < 1 << (put + more), "{all:b} of {put}");
            let missing = (all ^ ((1 << put) - 1)) & ((1 << put) - 1);
            assert!(u64::from(missing.count_ones()) <= dead, "lost: {missing:b} of {put}, {dead} dead");
        }
        let pair = self.pair.lock_recovering(|pair| pair[1] = pair[0]);
        let noted: u64 = (0..MEMBERS).map(|me| self.notes[me][1].load(Ordering::SeqCst)).sum();
        assert!(
            pair[0] == pair[1] && (noted..=noted + dead).contains(&pair[0]),
            "{pair:?}, {noted} noted, {dead} dead"
        );
        drop(pair);
        // All of it still works.
        self.queue.try_put(0).expect("there is room");
        assert!(self.queue.try_get() == Ok(0) && self.pair.try_lock().is_ok() && self.permits.try_acquire().is_ok());
    }
}
