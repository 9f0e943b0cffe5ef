//! The system calls, each with the error folded into what callers need.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use crate::primitive::{AtomicU32, AtomicUsize, Ordering};

#[cfg(test)]
use super::fake;

/// A system without transparent huge pages of 2 MiB simply ignores the advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Huge {
    /// `MADV_HUGEPAGE`: fault whole huge pages.
    Whole,
    /// `MADV_NOHUGEPAGE`: never.
    Never,
}

/// The size of the system's pages in bytes, asked for once.
pub(crate) fn page_size() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: every thread that finds 0 stores the same value.
    let known = PAGE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: sysconf only reads its argument.
    let asked = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let size = usize::try_from(asked).unwrap_or(4096).max(4096);
    PAGE.store(size, Ordering::Relaxed);
    size
}

/// No address space is as large as this.
pub(crate) const LARGEST: usize = isize::MAX as usize / 4;

/// The memory that the machine has, in bytes.
pub(crate) fn physical_memory() -> usize {
    // SAFETY: sysconf only reads its argument.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(page_size())
}

fn map_raw(hint: *mut c_void, len: usize, extra: i32) -> Option<NonNull<u8>> {
    #[cfg(test)]
    if fake::refuses(fake::Call::Map, len) {
        return None;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | extra;
    // SAFETY: a new anonymous mapping; without MAP_FIXED it replaces nothing, and MAP_FIXED_NOREPLACE refuses to.
    let got = unsafe { libc::mmap(hint, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED { None } else { NonNull::new(got.cast()) }
}

/// Maps `len` zeroed bytes at a multiple of `align` (a power of two, at least a page).
///
/// First asks for no more than `len`, then moves down to the next boundary, and only then maps `len + align` and
/// trims: a process near its `RLIMIT_AS` gets what is left.
pub(crate) fn map(len: usize, align: usize) -> Option<NonNull<u8>> {
    if len > LARGEST || align > LARGEST {
        return None;
    }
    let first = map_raw(ptr::null_mut(), len, 0)?;
    if first.addr().get() & (align - 1) == 0 {
        return Some(first);
    }
    // SAFETY: the mapping was made just above and nobody has seen it.
    unsafe { unmap(first, len) };
    let down = first.addr().get() & !(align - 1);
    // Never at address 0, which a privileged process could map.
    let hinted =
        if down == 0 { None } else { map_raw(ptr::without_provenance_mut(down), len, libc::MAP_FIXED_NOREPLACE) };
    if let Some(got) = hinted {
        if got.addr().get() == down {
            return Some(got);
        }
        // An old kernel takes the flag for a hint.
        // SAFETY: as above.
        unsafe { unmap(got, len) };
    }
    let total = len.checked_add(align)?;
    let wide = map_raw(ptr::null_mut(), total, 0)?;
    let lead = wide.addr().get().next_multiple_of(align) - wide.addr().get();
    if lead > 0 {
        // SAFETY: the leading part of the mapping just made; `lead` is a multiple of the page size.
        unsafe { unmap(wide, lead) };
    }
    // SAFETY: lead < align, so the result is inside the mapping of len + align bytes.
    let start = unsafe { wide.add(lead) };
    let tail = total - lead - len;
    if tail > 0 {
        // SAFETY: start + len is inside the mapping, `tail` bytes before its end.
        let end = unsafe { start.add(len) };
        // SAFETY: the trailing part of the same mapping.
        unsafe { unmap(end, tail) };
    }
    Some(start)
}

/// Maps `len` bytes right at `at` if nothing is mapped there.
///
/// The caller extends a mapping of its own: `at` is its end.
pub(crate) fn map_extended(at: NonNull<u8>, len: usize) -> bool {
    match map_raw(at.as_ptr().cast(), len, libc::MAP_FIXED_NOREPLACE) {
        Some(got) if got == at => true,
        Some(got) => {
            // SAFETY: made just above, not where we asked for it, seen by nobody.
            unsafe { unmap(got, len) };
            false
        }
        None => false,
    }
}

/// Gives address space back.
///
/// # Safety
/// `[at, at + len)` was mapped by this module, is in pages, and nobody uses it any more.
pub(crate) unsafe fn unmap(at: NonNull<u8>, len: usize) {
    // SAFETY: the caller's duty. It can fail only where splitting a mapping exceeds the system's number of mappings:
    // the address space then stays ours and is not used again.
    let _ = unsafe { libc::munmap(at.as_ptr().cast(), len) };
}

/// Grows or shrinks a mapping, moving it where it must; the bytes keep their values, new ones are zero.
///
/// # Safety
/// `[at, at + old)` is one whole mapping made by [`map`], used by nobody else.
pub(crate) unsafe fn remap(at: NonNull<u8>, old: usize, new: usize) -> Option<NonNull<u8>> {
    #[cfg(test)]
    if fake::refuses(fake::Call::Remap, new) {
        return None;
    }
    // SAFETY: the caller's duty.
    let got = unsafe { libc::mremap(at.as_ptr().cast(), old, new, libc::MREMAP_MAYMOVE) };
    if got == libc::MAP_FAILED { None } else { NonNull::new(got.cast()) }
}

/// Gives the pages of `[at, at + len)` back at once; they read as zero afterwards. False if the system refused.
///
/// # Safety
/// The range is mapped by this module, in whole pages, and holds nothing that anybody wants.
pub(crate) unsafe fn purge(at: NonNull<u8>, len: usize) -> bool {
    #[cfg(test)]
    if fake::refuses(fake::Call::Purge, len) {
        return false;
    }
    // SAFETY: the caller's duty.
    unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) == 0 }
}

/// Makes the pages of a range present in one call (`MADV_POPULATE_WRITE`, Linux 5.14); older systems fault as ever.
pub(crate) fn populate(at: NonNull<u8>, len: usize) {
    // SAFETY: populating changes no byte; a range that isn't mapped is an error and no more.
    let _ = unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) };
}

/// Advises for or against huge pages.
pub(crate) fn advise_huge(at: NonNull<u8>, len: usize, huge: Huge) {
    let advice = match huge {
        Huge::Whole => libc::MADV_HUGEPAGE,
        Huge::Never => libc::MADV_NOHUGEPAGE,
    };
    // SAFETY: advice changes no byte; a range that isn't mapped is an error and no more.
    let _ = unsafe { libc::madvise(at.as_ptr().cast(), len, advice) };
}

/// A coarse monotonic clock in milliseconds: some ten nanoseconds a call, no system call.
pub(crate) fn milliseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time into `now`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Sleeps while `word` holds `expected`; may return early.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel reads the word, which the reference keeps alive.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, expected, ptr::null::<libc::timespec>()) };
}

/// Wakes one sleeper on `word`.
pub(crate) fn futex_wake_one(word: &AtomicU32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel uses the address only as a key.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, 1) };
}

/// Runs a function when a thread ends, after all its thread-local destructors: by a pthread key, since a thread-local
/// destructor that is registered during other keys' destructors would never run.
#[derive(Debug)]
pub(crate) struct ExitHook {
    /// The key, plus one; 0 before first use.
    key: AtomicU32,
    run: unsafe extern "C" fn(*mut c_void),
}

impl ExitHook {
    /// `run` gets a pointer that means nothing but that the thread ends.
    pub(crate) const fn new(run: unsafe extern "C" fn(*mut c_void)) -> Self {
        Self { key: AtomicU32::new(0), run }
    }

    /// Arms it for the calling thread. False if the system has no keys left.
    pub(crate) fn arm(&self) -> bool {
        let Some(key) = self.key() else { return false };
        // SAFETY: the key exists; any value but null has the function run.
        unsafe { libc::pthread_setspecific(key, ptr::dangling::<u8>().cast()) == 0 }
    }

    fn key(&self) -> Option<libc::pthread_key_t> {
        // Acquire: pairs with the Release below: whoever sees the key may use it.
        let known = self.key.load(Ordering::Acquire);
        if known != 0 {
            return Some(known - 1);
        }
        let mut made: libc::pthread_key_t = 0;
        // SAFETY: writes the key; the function lives as long as the program.
        if unsafe { libc::pthread_key_create(&raw mut made, Some(self.run)) } != 0 {
            return None;
        }
        match self.key.compare_exchange(0, made + 1, Ordering::Release, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(theirs) => {
                // SAFETY: made here, used by nobody.
                let _ = unsafe { libc::pthread_key_delete(made) };
                Some(theirs - 1)
            }
        }
    }
}

/// Registers what to do around `fork`: before it, and after it in the parent and in the child.
pub(crate) fn at_fork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: the three functions live as long as the program.
    let _ = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

/// A thread of a process: the process's number and the thread's, so that a child of a fork is nobody of its parent's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who(u64);

impl Who {
    /// Above 2^32.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_of_same_process(self, other: u64) -> bool {
        self.0 >> 32 == other >> 32
    }
}

/// Who asks: two system calls.
pub(crate) fn who() -> Who {
    // SAFETY: only returns a number.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    Who(u64::from(std::process::id()) << 32 | u64::from(u32::try_from(thread).unwrap_or(0)))
}

/// An address that no other thread of the process has, and that a child of this thread keeps. Not 0.
pub(crate) fn thread_mark() -> usize {
    std::thread_local! {
        static MARK: u64 = const { 0 };
    }
    MARK.with(|mark| (&raw const *mark).addr())
}

/// Writes `parts` to standard error without allocating, and aborts: the last word on a caller's broken promise.
#[cfg(debug_assertions)]
#[cold]
pub(crate) fn fatal(parts: &[&str]) -> ! {
    for part in parts {
        // SAFETY: writes from a live string.
        let _ = unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    std::process::abort()
}
