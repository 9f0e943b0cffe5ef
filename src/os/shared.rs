//! What the system does for memory that processes share: a sealed file without a name, room in it, sleeping on its words.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::primitive::{AtomicU32, AtomicUsize, Ordering};

#[cfg(test)]
use super::fake;

fn last() -> io::Error {
    io::Error::last_os_error()
}

/// A file in memory of `len` bytes, all of them holes; its length can never change. Closed on exec.
pub(crate) fn memory_file(len: usize) -> io::Result<OwnedFd> {
    #[cfg(test)]
    if fake::refuses(fake::Call::MemoryFile, len) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    // A length above the limit would be a signal, not an error.
    if file_size_limit() < len as u64 {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let name = c"millpond";
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string. Systems before 6.3 don't know the flag against execution and say EINVAL.
    let mut fd = unsafe { libc::memfd_create(name.as_ptr(), flags | libc::MFD_NOEXEC_SEAL) };
    if fd < 0 && last().raw_os_error() == Some(libc::EINVAL) {
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    }
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: made just above, owned by nobody else.
    let file = super::process::above_stdio(unsafe { OwnedFd::from_raw_fd(fd) })?;
    let fd = file.as_raw_fd();
    let length = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: changes the length of a file that is ours.
    if unsafe { libc::ftruncate(fd, length) } != 0 {
        return Err(last());
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: adds seals to a file that is ours.
    if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } != 0 {
        return Err(last());
    }
    Ok(file)
}

/// The length of a file, and whether it is sealed against ever becoming shorter.
pub(crate) fn sealed_length(file: BorrowedFd<'_>) -> io::Result<usize> {
    let fd = file.as_raw_fd();
    // SAFETY: asks for the seals; a file that can have none is an error.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(last());
    }
    if seals & libc::F_SEAL_SHRINK == 0 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: asks for the end of the file; the offset is used by nobody.
    let end = unsafe { libc::lseek(fd, 0, libc::SEEK_END) };
    usize::try_from(end).map_err(|_| last())
}

/// Maps a whole file, shared with everybody who maps it.
pub(crate) fn map_shared(file: BorrowedFd<'_>, len: usize) -> io::Result<NonNull<u8>> {
    #[cfg(test)]
    if fake::refuses(fake::Call::Map, len) {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, which replaces nothing.
    let got = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
    if got == libc::MAP_FAILED {
        return Err(last());
    }
    // SAFETY: the range just mapped; advice changes no byte. A dump of a crash would write every block of every process.
    let _ = unsafe { libc::madvise(got, len, libc::MADV_DONTDUMP) };
    NonNull::new(got.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Undoes [`map_shared`].
///
/// # Safety
/// Nobody uses the mapping any more.
pub(crate) unsafe fn unmap_shared(at: NonNull<u8>, len: usize) {
    // SAFETY: the caller's duty.
    let _ = unsafe { libc::munmap(at.as_ptr().cast(), len) };
}

/// Takes the pages of a range of a file from the system; those that it has keep their bytes, new ones are zero.
pub(crate) fn take_room(file: BorrowedFd<'_>, at: usize, len: usize) -> io::Result<()> {
    #[cfg(test)]
    if fake::refuses(fake::Call::Room, len) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    if file_size_limit() < (at + len) as u64 {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    allocate(file, 0, at, len)
}

/// Gives the pages of a range of a file back; they read as zero afterwards.
pub(crate) fn give_room(file: BorrowedFd<'_>, at: usize, len: usize) -> io::Result<()> {
    allocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, at, len)
}

/// Where the first hole of a file is, at or behind this offset.
pub(crate) fn first_hole(file: BorrowedFd<'_>, at: usize) -> Option<usize> {
    let at = libc::off_t::try_from(at).ok()?;
    // SAFETY: asks about the file; its offset is used by nobody.
    usize::try_from(unsafe { libc::lseek(file.as_raw_fd(), at, libc::SEEK_HOLE) }).ok()
}

/// Bytes that the system has given for a file.
pub(crate) fn file_room(file: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all zeroes is a value of it.
    let mut about: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: writes what is known of the file.
    if unsafe { libc::fstat(file.as_raw_fd(), &raw mut about) } != 0 {
        return Err(last());
    }
    Ok(about.st_blocks.unsigned_abs() * 512)
}

fn allocate(file: BorrowedFd<'_>, mode: i32, at: usize, len: usize) -> io::Result<()> {
    let convert = |n: usize| libc::off_t::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
    let (offset, length) = (convert(at)?, convert(len)?);
    loop {
        // SAFETY: changes which pages of the file exist; the mapping stays.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } == 0 {
            return Ok(());
        }
        let error = last();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The largest file that this process may make, in bytes.
fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: writes the limit.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    limit.rlim_cur
}

/// Sleeps while `word`, which processes share, holds `expected`: until woken, or for `most`. May return early. True: it slept
/// for so long, and nobody woke it.
pub(crate) fn shared_wait(word: &AtomicU32, expected: u32, most: Option<Duration>) -> bool {
    let timeout = most.map(|most| libc::timespec {
        tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(most.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the kernel reads the word and the timeout, which live through the call.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
}

/// Wakes at most `most` of those that sleep on `word`, in whatever process; how many there were.
pub(crate) fn shared_wake(word: &AtomicU32, most: i32) -> usize {
    // SAFETY: the kernel uses the address only as a key.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
    usize::try_from(woken).unwrap_or(0)
}

/// Asks the system to let [`fence_others`], in whatever process, be a fence of this process's threads. Whether it will.
pub(crate) fn join_fences() -> bool {
    #[cfg(test)]
    if fake::refuses(fake::Call::Fence, 0) {
        return false;
    }
    // SAFETY: asks for something; changes no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 }
}

/// A full fence of this thread and of every thread of the processes that joined, whatever they are at. False if the system
/// refuses.
pub(crate) fn fence_others() -> bool {
    #[cfg(test)]
    if fake::refuses(fake::Call::Fence, 0) {
        return false;
    }
    // SAFETY: a fence; changes no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0 }
}

/// The processors on which the calling thread may run.
pub(crate) fn processors() -> usize {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: writes the calling thread's set, whose size is said.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return 1;
    }
    // SAFETY: counts the bits of a set.
    let count = unsafe { libc::CPU_COUNT(&set) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// The processors that the machine has, asked for once.
pub(crate) fn online() -> usize {
    static ONLINE: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: every thread that finds 0 stores the same value.
    let known = ONLINE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: only reads its argument.
    let online = usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1);
    ONLINE.store(online, Ordering::Relaxed);
    online
}

/// This process's id.
pub(crate) fn process_id() -> u32 {
    // SAFETY: has no duties.
    unsafe { libc::getpid() }.unsigned_abs()
}

/// Ends this process at once, as the test's plan says.
#[cfg(test)]
pub(crate) fn kill_self() {
    let me = process_id().cast_signed();
    // SAFETY: ends this process and no other.
    let _ = unsafe { libc::kill(me, libc::SIGKILL) };
    loop {
        crate::primitive::spin_loop();
    }
}

/// Registers what a child made by `fork` does first.
pub(crate) fn in_forked_child(run: extern "C" fn()) {
    // SAFETY: the function lives as long as the program.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(run)) };
}

/// Copies `len` bytes out of memory that another process may write meanwhile: they are read once, whatever they are.
///
/// # Safety
/// Both ranges are valid for `len` bytes and don't overlap; `to` is the caller's alone.
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's duty. The call is opaque to the compiler, so it reads the bytes once.
    unsafe { memcpy(to.cast(), from.cast(), len) };
}

/// Copies `len` bytes into memory that another process may read meanwhile.
///
/// # Safety
/// Both ranges are valid for `len` bytes and don't overlap; `from` is not written by others.
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's duty.
    unsafe { memcpy(to.cast(), from.cast(), len) };
}

/// The C library's copy, behind a pointer that the compiler must load: it can neither split nor repeat it.
unsafe fn memcpy(to: *mut c_void, from: *const c_void, len: usize) {
    type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
    let copy: Copy = core::hint::black_box(libc::memcpy);
    // SAFETY: the caller's duty.
    unsafe { copy(to, from, len) };
}
