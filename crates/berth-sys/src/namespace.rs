//! Kinds of namespaces, sets of them, and entering them.
//!
//! What a network namespace needs beyond that is in [`crate::netns`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One kind of namespace, see namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// user_namespaces(7)
    User,
    /// mount_namespaces(7)
    Mount,
    /// pid_namespaces(7)
    Pid,
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// time_namespaces(7)
    Time,
}

impl Namespace {
    /// Every kind, the user namespace first: it owns the others, so it is entered before them.
    pub const ALL: [Namespace; 8] = [
        Namespace::User,
        Namespace::Pid,
        Namespace::Network,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Cgroup,
        Namespace::Time,
        Namespace::Mount,
    ];

    /// The name of its file in `/proc/PID/ns`.
    pub fn file_name(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Mount => "mnt",
            Namespace::Pid => "pid",
            Namespace::Network => "net",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Cgroup => "cgroup",
            Namespace::Time => "time",
        }
    }

    /// The `CLONE_NEW*` bit of this kind.
    pub(crate) const fn bit(self) -> u64 {
        (match self {
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Mount => libc::CLONE_NEWNS,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Network => libc::CLONE_NEWNET,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
            Namespace::Cgroup => libc::CLONE_NEWCGROUP,
            Namespace::Time => libc::CLONE_NEWTIME,
        }) as u32 as u64
    }
}

/// A set of namespace kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// The empty set.
    pub const NONE: Namespaces = Namespaces(0);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Namespace) -> Namespaces {
        Namespaces(self.0 | kind.bit())
    }

    /// This set less `kind`.
    #[must_use]
    pub const fn without(self, kind: Namespace) -> Namespaces {
        Namespaces(self.0 & !kind.bit())
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: Namespace) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The `CLONE_NEW*` bits.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<Namespace> for Namespaces {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        kinds.into_iter().fold(Namespaces::NONE, Namespaces::with)
    }
}

/// Enters the namespace behind an open `/proc/PID/ns/*` file. See setns(2).
///
/// A pid namespace and a time namespace take effect for the children only.
///
/// # Errors
/// `EINVAL` when the descriptor is of another kind, `EPERM` without the right over it.
pub fn enter(namespace: BorrowedFd<'_>, kind: Namespace) -> io::Result<()> {
    // SAFETY: takes two integers; the descriptor is borrowed, hence open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind.bit() as i32) })
}

/// Enters several namespaces of the process behind `pidfd` at once (5.8 and newer). See setns(2).
///
/// # Errors
/// Those of setns(2); all or none are entered.
pub fn enter_all(pidfd: impl AsFd, kinds: Namespaces) -> io::Result<()> {
    // SAFETY: takes two integers; the descriptor is borrowed, hence open.
    check(unsafe { libc::setns(pidfd.as_fd().as_raw_fd(), kinds.bits() as i32) })
}

/// Opens the mount namespace of the process behind `pidfd`, without a look into `/proc` (6.11 and newer). See ioctl_pidfd(2).
///
/// # Errors
/// `ENOTTY` or `EINVAL` before 6.11, `ESRCH` when the process is gone.
pub fn mount_namespace_of(pidfd: impl AsFd) -> io::Result<OwnedFd> {
    const PIDFD_GET_MNT_NAMESPACE: u32 = 0xff03;
    // SAFETY: takes no argument, and touches no memory of ours.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_MNT_NAMESPACE as _, 0) };
    check(result.min(0))?;
    // SAFETY: the kernel has made a new descriptor that nobody else owns, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Moves the calling process, which has one thread, into new namespaces. See unshare(2).
///
/// # Errors
/// `EPERM` without the right, `EINVAL` in a process with several threads.
pub fn unshare(kinds: Namespaces) -> io::Result<()> {
    // SAFETY: no memory is passed, and no descriptor table is unshared: only namespaces change.
    check(unsafe { libc::unshare(kinds.bits() as i32) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: Namespaces = [Namespace::Pid, Namespace::Time].into_iter().collect();
        assert!(set.contains(Namespace::Pid) && set.contains(Namespace::Time));
        assert!(!set.contains(Namespace::Mount));
        assert!(set.without(Namespace::Pid).without(Namespace::Time).is_empty());
    }

    #[test]
    fn every_kind_has_its_own_bit() {
        let all: Namespaces = Namespace::ALL.into_iter().collect();
        assert_eq!(all.bits().count_ones(), 8);
    }
}
