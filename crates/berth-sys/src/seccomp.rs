//! Installing a system call filter on the calling thread. See seccomp(2).
//!
//! The filter comes compiled; what it says is no business of this module. Nothing here allocates, so it can be called between clone and
//! execve.

use std::{
    io,
    ops::BitOr,
    os::fd::{FromRawFd, OwnedFd},
};

/// One classic BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// The constant.
    pub constant: u32,
}

/// The longest program that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How a filter is installed (`SECCOMP_FILTER_FLAG_`). `TSYNC` is absent: whoever installs has one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterFlags(u32);

impl FilterFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Actions other than allowing are logged, as far as the administrator wants that.
    pub const LOG: Self = Self(1 << 1);
    /// The thread is not slowed by the mitigation of speculative store bypass.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// A descriptor is returned that hears of the calls whose action is to notify.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// A call whose notification was received can be interrupted only by a fatal signal (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// Whether all of the other's flags are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags but for the other's.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The word for the system call, which can be kept on disk.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flags of such a word; `None` if it has others.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        const KNOWN: u32 = FilterFlags::LOG.0
            | FilterFlags::SPEC_ALLOW.0
            | FilterFlags::NEW_LISTENER.0
            | FilterFlags::WAIT_KILLABLE_RECV.0;
        if bits & !KNOWN == 0 { Some(Self(bits)) } else { None }
    }
}

impl BitOr for FilterFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Installs a filter on the calling thread, for good. With [`FilterFlags::NEW_LISTENER`] the listener is returned, closed on `execve`.
///
/// Either `no_new_privs` must be set or the caller have `CAP_SYS_ADMIN` in its user namespace; the filters already there must allow the call.
///
/// # Errors
/// The kernel's: `EACCES` without the above, `EINVAL` for a malformed program or an unknown flag, `EBUSY` if there is a listener already.
pub fn install(program: &[SockFilter], flags: FilterFlags) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let description = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `description` names `len` instructions of the kernel's layout that stay borrowed for the call; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, &raw const description) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOSYS) if flags == FilterFlags::NONE => install_by_prctl(&description),
            _ => Err(error),
        };
    }
    if !flags.contains(FilterFlags::NEW_LISTENER) {
        return Ok(None);
    }
    let fd = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: with this flag the result is a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether this kernel knows a flag.
#[must_use]
pub fn knows_flag(flags: FilterFlags) -> bool {
    // SAFETY: a null program is what the kernel refuses (EFAULT) after it has checked the flags (EINVAL); nothing is installed.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, std::ptr::null::<u8>()) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Where only prctl(2) is let through, as in some other sandboxes: the same, without flags.
fn install_by_prctl(description: &libc::sock_fprog) -> io::Result<Option<OwnedFd>> {
    // SAFETY: as for seccomp(2): the description is valid during the call and only read.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(description), 0, 0) };
    if result == 0 { Ok(None) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<SockFilter>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<SockFilter>(), align_of::<libc::sock_filter>());
    }

    #[test]
    fn flags_are_probed_without_installing_anything() {
        assert!(knows_flag(FilterFlags::LOG));
        assert!(!knows_flag(FilterFlags(1 << 30)));
        assert_eq!(FilterFlags::from_bits(1 << 30), None);
    }

    #[test]
    fn an_empty_program_is_refused() {
        let error = install(&[], FilterFlags::NONE).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)), "{error}");
    }
}
