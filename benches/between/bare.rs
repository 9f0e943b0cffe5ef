//! The limits: loops over shared memory that do nothing but the thing itself, and can't survive anybody's death.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Memory that a forked child shares.
pub fn shared<T>() -> &'static T {
    let (flags, protection) = (libc::MAP_SHARED | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0) };
    assert!(at != libc::MAP_FAILED);
    // SAFETY: zeroed, never unmapped; the types used here are made of atomics and cells of numbers.
    unsafe { &*at.cast::<T>() }
}

const SLOTS: usize = 1024;

#[repr(C, align(128))]
struct Slot {
    turn: AtomicU64,
    bytes: UnsafeCell<[u64; 8]>,
}

/// A ring of one producer and one consumer: a turn for each slot, and nothing else.
#[repr(C)]
pub struct Ring {
    slots: [Slot; SLOTS],
}
// SAFETY: a slot's turn says whose it is.
unsafe impl Sync for Ring {}

impl Ring {
    /// Puts the nth message.
    pub fn put(&self, n: u64, message: [u64; 8]) {
        let slot = &self.slots[n as usize % SLOTS];
        let lap = n / SLOTS as u64 * 2;
        while slot.turn.load(Ordering::Acquire) != lap {
            std::hint::spin_loop();
        }
        // SAFETY: the turn says that it is the producer's.
        unsafe { *slot.bytes.get() = message };
        slot.turn.store(lap + 1, Ordering::Release);
    }

    /// Gets the nth message.
    pub fn get(&self, n: u64) -> [u64; 8] {
        let slot = &self.slots[n as usize % SLOTS];
        let lap = n / SLOTS as u64 * 2;
        while slot.turn.load(Ordering::Acquire) != lap + 1 {
            std::hint::spin_loop();
        }
        // SAFETY: the turn says that it is the consumer's.
        let message = unsafe { *slot.bytes.get() };
        slot.turn.store(lap + 2, Ordering::Release);
        message
    }
}

/// Two words to throw a ball between.
#[repr(C)]
pub struct Court {
    there: AtomicU32,
    _line: [u32; 31],
    back: AtomicU32,
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word lives as long as the mapping.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>()) };
}

fn throw(word: &AtomicU32, n: u32, sleep: bool) {
    word.store(n, Ordering::Release);
    if sleep {
        futex(word, libc::FUTEX_WAKE, 1);
    }
}

fn catch(word: &AtomicU32, n: u32, sleep: bool) {
    while word.load(Ordering::Acquire) != n {
        if sleep {
            futex(word, libc::FUTEX_WAIT, n - 1);
        } else {
            std::hint::spin_loop();
        }
    }
}

impl Court {
    /// Throws the nth ball and waits for it, asleep or spinning.
    pub fn serve(&self, n: u32, sleep: bool) {
        throw(&self.there, n, sleep);
        catch(&self.back, n, sleep);
    }

    /// Waits for the nth ball and throws it back.
    pub fn answer(&self, n: u32, sleep: bool) {
        catch(&self.there, n, sleep);
        throw(&self.back, n, sleep);
    }
}
