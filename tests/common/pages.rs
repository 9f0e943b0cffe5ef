//! Which pages are present.

/// How many of the pages under `[at, at + len)` are present.
#[expect(unsafe_code, reason = "asks the system")]
pub(crate) fn present_pages(at: *const u8, len: usize) -> usize {
    let start = at.map_addr(|address| address & !4095);
    let pages = (at.addr() + len - start.addr()).div_ceil(4096);
    let mut seen = vec![0_u8; pages];
    // SAFETY: mincore writes one byte for each page, and reads nothing of the range.
    let answer = unsafe { libc::mincore(start.cast_mut().cast(), pages * 4096, seen.as_mut_ptr()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    seen.iter().filter(|page| **page & 1 == 1).count()
}
