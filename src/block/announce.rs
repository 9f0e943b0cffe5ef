//! Tells tools that watch memory which blocks somebody holds: valgrind with the feature `valgrind`, AddressSanitizer in
//! builds with `--cfg millpond_asan`. A block that is used after it was given back is reported like one of malloc's.
//!
//! Without either, nothing is here: every function is empty.

use core::ptr::NonNull;

/// Whether anybody listens.
pub(crate) const IS_ON: bool = cfg!(any(feature = "valgrind", millpond_asan));

/// A block goes to a user.
#[inline(always)]
pub(crate) fn handed_out(block: NonNull<u8>, bytes: usize) {
    let _ = (block, bytes);
    #[cfg(feature = "valgrind")]
    valgrind::request(valgrind::MALLOCLIKE_BLOCK, block, bytes);
    #[cfg(millpond_asan)]
    asan::unpoison(block, bytes);
}

/// A block is back: whoever uses it now is wrong.
#[inline(always)]
pub(crate) fn taken_back(block: NonNull<u8>, bytes: usize) {
    let _ = (block, bytes);
    // Its second word is the size of a red zone: there is none.
    #[cfg(feature = "valgrind")]
    valgrind::request(valgrind::FREELIKE_BLOCK, block, 0);
    #[cfg(millpond_asan)]
    asan::poison(block, bytes);
}

/// Memory that was cut into blocks is memory for anything again.
#[inline(always)]
pub(crate) fn cleared(memory: NonNull<u8>, bytes: usize) {
    let _ = (memory, bytes);
    #[cfg(feature = "valgrind")]
    valgrind::request(valgrind::MAKE_MEM_UNDEFINED, memory, bytes);
    #[cfg(millpond_asan)]
    asan::unpoison(memory, bytes);
}

/// Requests to valgrind, as its manual describes them ("The Client Request mechanism"): a sequence of instructions that
/// does nothing on a processor, and that valgrind knows.
#[cfg(feature = "valgrind")]
mod valgrind {
    use core::ptr::NonNull;

    /// Of the core: address, bytes, bytes of red zone, whether it is zeroed.
    pub(super) const MALLOCLIKE_BLOCK: usize = 0x1301;
    /// Of the core: address, bytes of red zone.
    pub(super) const FREELIKE_BLOCK: usize = 0x1302;
    /// Of memcheck ("MC"): address, bytes.
    pub(super) const MAKE_MEM_UNDEFINED: usize = ((b'M' as usize) << 24 | (b'C' as usize) << 16) + 1;

    #[cfg(not(target_arch = "x86_64"))]
    compile_error!("the feature `valgrind` knows the requests of x86-64 only");

    #[inline(never)]
    pub(super) fn request(code: usize, at: NonNull<u8>, bytes: usize) {
        let words = [code, at.addr().get(), bytes, 0, 0, 0];
        // SAFETY: rotating by 128 bits in all, and exchanging a register with itself, changes nothing; valgrind reads the
        // six words and writes its answer to rdx.
        unsafe {
            core::arch::asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") words.as_ptr(),
                inout("rdx") 0_usize => _,
                options(nostack),
            );
        }
    }
}

#[cfg(millpond_asan)]
mod asan {
    use core::ffi::c_void;
    use core::ptr::NonNull;

    unsafe extern "C" {
        fn __asan_poison_memory_region(at: *const c_void, bytes: usize);
        fn __asan_unpoison_memory_region(at: *const c_void, bytes: usize);
    }

    pub(super) fn poison(at: NonNull<u8>, bytes: usize) {
        // SAFETY: only notes that the memory, which is mapped, is not to be used.
        unsafe { __asan_poison_memory_region(at.as_ptr().cast(), bytes) }
    }

    pub(super) fn unpoison(at: NonNull<u8>, bytes: usize) {
        // SAFETY: only notes that the memory, which is mapped, may be used.
        unsafe { __asan_unpoison_memory_region(at.as_ptr().cast(), bytes) }
    }
}
