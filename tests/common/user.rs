//! An ordinary user, whom limits bind.

/// Becomes somebody else, who has no other processes, if it is root and the system knows anybody else: a namespace of one user
/// does not, and limits bind its root too.
#[expect(unsafe_code, reason = "asks the system")]
pub(crate) fn stop_being_root() {
    // SAFETY: reads a number.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: a number only.
        let became = unsafe { libc::setuid(64_321) };
        let error = std::io::Error::last_os_error();
        assert!(became == 0 || error.raw_os_error() == Some(libc::EINVAL), "{error}");
    }
}
