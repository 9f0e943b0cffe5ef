//! When a process is killed the others go on soon: whatever it held, whatever they waited for.
//!
//! A tenth of a second is promised. The load of other programs can delay any one kill on a machine with few processors,
//! but not each of several: so it is the best of them that must be in time, and each must be before a hang.
#![cfg(feature = "process")]
#![expect(unsafe_code, reason = "a name space without /dev/shm is entered between fork and exec")]

use std::ffi::{CStr, CString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use millpond::ipc::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, PipeEnd, PipeError, Queue, Semaphore, SharedSlice, pipe,
};
use millpond::process::Process;

millpond::test_support!();

/// What is promised.
const SOON: Duration = Duration::from_millis(100);
/// Nothing here takes so long: a test that waits for it hangs.
const HANG: Duration = Duration::from_secs(120);
/// Kills of each kind: the best is held to the promise.
const KILLS: usize = 5;

fn forever() {
    std::thread::sleep(Duration::from_secs(1000));
}

fn hold_lock(lock: Lock<u64>, ready: Event) {
    let _guard = lock.lock().unwrap();
    ready.set();
    forever();
}

fn hold_permit(semaphore: Semaphore, ready: Event) {
    let _permit = semaphore.acquire().unwrap();
    ready.set();
    forever();
}

fn be_a_party(barrier: Barrier, ready: Event) {
    ready.set();
    let _ = barrier.wait();
}

/// Waits for a condition, so that it may get the one wake-up that another needs.
fn wait_for_condition(lock: Lock<u64>, changed: Condition, ready: Event) {
    let mut n = lock.lock().unwrap();
    ready.set();
    while *n == 0 {
        changed.wait(&mut n).unwrap();
    }
    forever();
}

fn keep_end(end: PipeEnd<u64, u64>, ready: Event) {
    ready.set();
    forever();
    drop(end);
}

fn consume(queue: Queue<u64>, ready: Event) {
    ready.set();
    while queue.get().is_ok() {}
}

fn double(queue: Queue<u64>, slice: SharedSlice<u64>) -> u64 {
    queue.put(slice.iter().sum()).unwrap();
    slice.len() as u64
}

millpond::tasks![hold_lock, hold_permit, be_a_party, wait_for_condition, keep_end, consume, double];

/// The time from a kill until `waits`, on a thread of its own, has what it waits for; `after` is done right behind the kill.
fn time_of_kill<R: Send>(
    child: &Process<()>,
    ready: &Event,
    after: impl FnOnce(),
    waits: impl FnOnce() -> R + Send,
) -> (Duration, R) {
    assert!(ready.wait_timeout(HANG).unwrap(), "the child did not start");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(waits);
        // It is to sleep when the child is killed. Should it not yet, it finds the child dead: as good.
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        child.kill().unwrap();
        after();
        let result = waiting.join().unwrap();
        (start.elapsed(), result)
    })
}

/// Says the times, and holds the best to the promise.
fn soon(what: &str, mut kill: impl FnMut() -> Duration) {
    let mut times: Vec<_> = (0..KILLS).map(|_| kill()).collect();
    times.sort_unstable();
    println!("{what}: {:?} at best, {:?} at the median, {:?} at worst", times[0], times[KILLS / 2], times[KILLS - 1]);
    assert!(times[0] <= SOON, "{what}: {times:?}");
    assert!(times[KILLS - 1] < HANG, "{what}: {times:?}");
}

#[test]
fn who_waits_for_the_lock_of_a_killed_process_goes_on_soon() {
    soon("lock", || {
        let (lock, ready) = (Lock::new(0_u64).unwrap(), Event::new().unwrap());
        let child = Process::spawn(hold_lock, (lock.clone(), ready.clone())).unwrap();
        let (time, found) = time_of_kill(&child, &ready, || (), || lock.lock().map(drop));
        assert_eq!(found, Err(LockError::OwnerDied));
        assert!(child.join().is_err());
        time
    });
}

#[test]
fn who_waits_for_the_permit_of_a_killed_process_goes_on_soon() {
    soon("semaphore", || {
        let (semaphore, ready) = (Semaphore::new(1).unwrap(), Event::new().unwrap());
        let child = Process::spawn(hold_permit, (semaphore.clone(), ready.clone())).unwrap();
        let (time, found) = time_of_kill(&child, &ready, || (), || semaphore.acquire().map(drop));
        assert_eq!(found, Ok(()));
        assert_eq!(semaphore.available(), 1);
        assert!(child.join().is_err());
        time
    });
}

#[test]
fn who_waits_at_the_barrier_of_a_killed_process_goes_on_soon() {
    soon("barrier", || {
        let (barrier, ready) = (Barrier::new(3).unwrap(), Event::new().unwrap());
        let child = Process::spawn(be_a_party, (barrier.clone(), ready.clone())).unwrap();
        let (time, found) = time_of_kill(&child, &ready, || (), || barrier.wait().map(drop));
        assert_eq!(found, Err(BarrierError::Broken));
        assert!(child.join().is_err());
        time
    });
}

#[test]
fn who_is_at_the_other_end_of_a_killed_process_goes_on_soon() {
    soon("pipe, receiving", || {
        let ((mut near, far), ready) = (pipe::<u64, u64>().unwrap(), Event::new().unwrap());
        let child = Process::spawn(keep_end, (far, ready.clone())).unwrap();
        let (time, found) = time_of_kill(&child, &ready, || (), || near.recv());
        assert_eq!(found, Err(PipeError::Disconnected));
        assert!(child.join().is_err());
        time
    });
    soon("pipe, sending", || {
        let ((mut near, far), ready) = (pipe::<u64, u64>().unwrap(), Event::new().unwrap());
        let child = Process::spawn(keep_end, (far, ready.clone())).unwrap();
        // Until nothing more fits, and then it waits.
        let (time, found) = time_of_kill(&child, &ready, || (), || (0..).find_map(|n| near.send(n).err()));
        assert_eq!(found, Some(PipeError::Disconnected));
        assert!(child.join().is_err());
        time
    });
}

/// The wake-up may go to the one that is dying: then the next has it once the death is known.
#[test]
fn who_waits_beside_a_killed_consumer_goes_on_soon() {
    soon("queue", || {
        let (queue, ready) = (Queue::bounded(4).unwrap(), Event::new().unwrap());
        let child = Process::spawn(consume, (queue.clone(), ready.clone())).unwrap();
        // Two: one may be lost with the dead one.
        let put = || (1..=2).for_each(|n| queue.put(n).unwrap());
        let (time, found) = time_of_kill(&child, &ready, put, || queue.get());
        assert!(matches!(found, Ok(1 | 2)), "{found:?}");
        assert!(child.join().is_err());
        time
    });
}

#[test]
fn who_waits_beside_a_killed_waiter_goes_on_soon() {
    soon("condition", || {
        let (lock, changed) = (Lock::new(0_u64).unwrap(), Condition::new().unwrap());
        let ready = Event::new().unwrap();
        let words = (lock.clone(), changed.clone(), ready.clone());
        let child = Process::spawn(wait_for_condition, words).unwrap();
        let tell = || {
            *lock.lock_recovering(|_| ()) = 1;
            changed.notify_one();
        };
        let (time, ()) = time_of_kill(&child, &ready, tell, || {
            let mut n = lock.lock_recovering(|_| ());
            while *n == 0 {
                if changed.wait(&mut n).is_err() {
                    drop(n);
                    n = lock.lock_recovering(|_| ());
                }
            }
        });
        assert!(child.join().is_err());
        time
    });
}

const ALONE: &str = "MILLPOND_TEST_WITHOUT_SHM";

/// Nothing here has a name in a file system, so a machine, or a container, without `/dev/shm` does as well.
#[test]
fn no_dev_shm_is_needed() {
    if std::env::var_os(ALONE).is_some() {
        assert!(!std::path::Path::new("/dev/shm").exists(), "it was to be gone");
        let (queue, slice) = (Queue::bounded(4).unwrap(), SharedSlice::from_slice(&[1_u64, 2, 3]).unwrap());
        assert_eq!(Process::spawn(double, (queue.clone(), slice)).unwrap().join().unwrap(), 3);
        assert_eq!(queue.get(), Ok(6));
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "no_dev_shm_is_needed", "--test-threads", "1", "--nocapture"]).env(ALONE, "1");
    // Another `/dev`, in which there is nothing but `/dev/null`.
    let folder = std::env::temp_dir().join(format!("millpond-dev-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |path: &std::path::Path| CString::new(path.to_str().unwrap()).unwrap();
    let (dev, null) = (path(&folder), path(&folder.join("null")));
    let hide = move || {
        // SAFETY: changes what this child sees, and nobody else.
        let own = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0
            // SAFETY: as above; an ordinary user may where the system lets everybody have name spaces.
            || unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } == 0;
        let mount = |what: &CStr, at: &CStr, flags| {
            // SAFETY: the strings live through the call; the name space is this child's own.
            unsafe { libc::mount(what.as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), flags, std::ptr::null()) == 0 }
        };
        // SAFETY: makes an empty file in the child's own file system; its descriptor goes with the child.
        let touch = |at: &CStr| unsafe { libc::open(at.as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o666) } >= 0;
        let hidden = own
            && mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)
            && mount(c"tmpfs", &dev, 0)
            && touch(&null)
            && mount(c"/dev/null", &null, libc::MS_BIND)
            && mount(&dev, c"/dev", libc::MS_MOVE);
        if hidden { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure does system calls alone, and allocates nothing.
    unsafe { command.pre_exec(hide) };
    let output = command.output();
    std::fs::remove_dir(&folder).unwrap();
    let output = match output {
        Ok(output) => output,
        Err(refused) => return println!("skipped: this user may not hide /dev/shm from a process: {refused}"),
    };
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains("1 passed"), "{said}");
}
