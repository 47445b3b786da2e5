//! A new process by clone3(2): namespaces, cgroup and pidfd in one call.
//!
//! The child gets a copy of the memory, never the memory itself (no `CLONE_VM`): it may run ordinary code, and nothing
//! of the caller is reachable from a container it enters.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use crate::namespace::{self, Namespace, Namespaces};

/// What the new process is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest<'a> {
    /// The namespaces to make new; the time namespace cannot be among them (its offsets are set before anyone enters).
    pub namespaces: Namespaces,
    /// A directory of the cgroup v2 hierarchy to be born in (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The new process becomes a child of the caller's parent (`CLONE_PARENT`): who stands between the two may leave.
    pub sibling: bool,
}

/// Who one is after [`CloneRequest::run`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller: the new process by its number in the caller's pid namespace, and by a descriptor.
    Parent {
        /// Its number.
        pid: Pid,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// The layout of the kernel's `struct clone_args`, version 2 (5.7, with `cgroup`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

impl CloneRequest<'_> {
    /// Makes the process and returns twice, as fork(2) does.
    ///
    /// The caller should have one thread: of several only the calling one goes on in the child, and locks that others
    /// held (the allocator's) are never released there. Handlers of signals are reset in the child, ignored ones stay.
    ///
    /// # Errors
    /// Those of clone3(2): `EPERM`, `ENOSPC` (too many namespaces), `EAGAIN` (pids limit), `EBUSY` (v2 cgroup with domain children).
    pub fn run(&self) -> io::Result<Cloned> {
        let mut pidfd: RawFd = -1;
        let mut args = CloneArgs {
            flags: CLONE_PIDFD | CLONE_CLEAR_SIGHAND | self.namespaces.bits(),
            pidfd: (&raw mut pidfd) as u64,
            ..CloneArgs::default()
        };
        if self.sibling {
            args.flags |= CLONE_PARENT; // The exit signal is inherited then, and must be zero.
        } else {
            args.exit_signal = libc::SIGCHLD as u64;
        }
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: `args` is a valid clone_args of the size passed; without CLONE_VM and with a zero stack the child goes on
        // on a copy of this stack, as after fork, and no memory is shared with it.
        let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
        match result {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Cloned::Child),
            pid => {
                let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive number to the parent");
                // SAFETY: with CLONE_PIDFD the kernel has stored a new descriptor that nobody else owns.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                Ok(Cloned::Parent { pid, pidfd })
            }
        }
    }

    /// As [`CloneRequest::run`], and the child is born in the pid namespace behind `target`, a pidfd or namespace file.
    ///
    /// The caller's own membership does not change. Spares the process in between that setns(2) with a pid namespace
    /// otherwise asks for: where children go is switched before the call and back after it.
    ///
    /// # Errors
    /// Those of setns(2) and clone3(2).
    pub fn run_in_pid_namespace(&self, target: BorrowedFd<'_>) -> io::Result<Cloned> {
        let own = rustix::fs::open(
            "/proc/self/ns/pid",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        namespace::enter(target, Namespace::Pid)?;
        let result = self.run();
        if !matches!(result, Ok(Cloned::Child)) {
            use std::os::fd::AsFd;
            namespace::enter(own.as_fd(), Namespace::Pid)?;
        }
        result
    }
}

/// Ends the process at once, without destructors or buffers of a caller it was copied from. See _exit(2).
pub fn exit_now(code: u8) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_child_runs_and_its_pidfd_tells_its_end() {
        let Cloned::Parent { pidfd, .. } = CloneRequest::default().run().unwrap() else { exit_now(7) };
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }
}
