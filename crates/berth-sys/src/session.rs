//! What a process shares with those that started it: the session keyring.

use std::ffi::CStr;
use std::io;

/// Gives the calling process a session keyring of its own. See keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`.
///
/// # Errors
/// `ENOSYS` in a kernel without keys, `EDQUOT` when the user has too many.
pub fn join_new_keyring(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: the kernel reads a NUL-terminated name.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
