//! From one process to two: the new one in its namespaces and its cgroup, the maker with a hold on it.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_cgroup::{Join, JoinFile};
use berth_sys::clone::{CloneRequest, Cloned, exit_now};
use berth_sys::namespace::{self, Namespace, Namespaces};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};
use rustix::thread::CpuSet;

use crate::channel::Channel;
use crate::error::{RuntimeError, Step};
use crate::limits;

/// Where the new process is born.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Birth<'a> {
    /// Namespaces that are made with it.
    pub(crate) created: Namespaces,
    /// A pid namespace to be born in; a pidfd will do.
    pub(crate) pid_namespace: Option<BorrowedFd<'a>>,
    /// A user namespace to be born in, which then owns the ones that are made.
    pub(crate) user_namespace: Option<BorrowedFd<'a>>,
    /// Its cgroup.
    pub(crate) cgroup: Option<&'a Join>,
    /// CPUs it is bound to before it joins the cgroup.
    pub(crate) cpus: Option<&'a CpuSet>,
}

/// A hold on the new process.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
}

impl Birth<'_> {
    /// Makes the process, which runs `life` until it becomes a program; whatever stops it is reported through the channel.
    ///
    /// The caller becomes non-dumpable, and so is the new process from its first instruction on: nobody in a namespace it
    /// enters can look into it (CVE-2016-9962).
    pub(crate) fn launch(
        &self,
        life: impl FnOnce(&Channel) -> Result<Infallible, RuntimeError>,
    ) -> Result<Launched, RuntimeError> {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("becoming non-dumpable", "")?;
        let (here, there) = Channel::pair()?;
        let (pid, pidfd) = match self.user_namespace {
            None => match self.clone_process(false).step("making the container process", "")? {
                Cloned::Parent { pid, pidfd } => (pid, pidfd),
                Cloned::Child => {
                    drop(here);
                    self.live(&there, life)
                }
            },
            Some(user) => match self.launch_through(user)? {
                Some(born) => born,
                None => {
                    drop(here);
                    self.live(&there, life)
                }
            },
        };
        drop(there);
        Ok(Launched { pid, pidfd, channel: here })
    }

    fn clone_process(&self, sibling: bool) -> std::io::Result<Cloned> {
        let cgroup = match self.cgroup {
            Some(Join::ByClone(directory)) => Some(directory.as_fd()),
            _ => None,
        };
        let request = CloneRequest { namespaces: self.created, cgroup, sibling };
        match self.pid_namespace {
            Some(target) => request.run_in_pid_namespace(target),
            None => request.run(),
        }
    }

    /// A user namespace is entered by a process in between, and the new one is born inside as its sibling: so the
    /// other new namespaces belong to it, and the caller stays where it is. `None` in the new process.
    fn launch_through(&self, user: BorrowedFd<'_>) -> Result<Option<(Pid, OwnedFd)>, RuntimeError> {
        let (result, number) = Channel::pair()?;
        let between = match CloneRequest::default().run().step("making the container process", "")? {
            Cloned::Parent { pidfd, .. } => pidfd,
            Cloned::Child => {
                drop(result);
                return match self.clone_within(user) {
                    Ok(Cloned::Child) => Ok(None),
                    Ok(Cloned::Parent { pid, .. }) => {
                        number.failed(&RuntimeError::Lost { reason: pid.as_raw_nonzero().to_string() });
                        exit_now(0)
                    }
                    Err(error) => {
                        number.failed(&error);
                        exit_now(1)
                    }
                };
            }
        };
        drop(number);
        let report = result.receive();
        reap(&between);
        match report? {
            crate::channel::Report::Failed(RuntimeError::Lost { reason }) => {
                let pid = reason.parse().ok().and_then(Pid::from_raw).ok_or(RuntimeError::Lost { reason })?;
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
                Ok(Some((pid, pidfd.step("opening the container process", "")?)))
            }
            crate::channel::Report::Failed(error) => Err(error),
            _ => Err(RuntimeError::Lost { reason: "while it joined the user namespace".to_owned() }),
        }
    }

    fn clone_within(&self, user: BorrowedFd<'_>) -> Result<Cloned, RuntimeError> {
        // The pid namespace first: the right over it may be lost inside the user namespace.
        if let Some(target) = self.pid_namespace {
            namespace::enter(target, Namespace::Pid).step("joining pid namespace", "")?;
        }
        namespace::enter(user, Namespace::User).step("joining user namespace", "")?;
        let inside = Birth { pid_namespace: None, user_namespace: None, ..*self };
        inside.clone_process(true).step("making the container process", "")
    }

    fn live(&self, channel: &Channel, life: impl FnOnce(&Channel) -> Result<Infallible, RuntimeError>) -> ! {
        let result = limits::bind_to(self.cpus).and_then(|()| self.join_cgroup()).and_then(|()| life(channel));
        match result {
            Ok(never) => match never {},
            Err(error) => {
                channel.failed(&error);
                exit_now(error.exit_code())
            }
        }
    }

    fn join_cgroup(&self) -> Result<(), RuntimeError> {
        let Some(Join::ByWriting(files)) = self.cgroup else { return Ok(()) };
        files.iter().try_for_each(join)
    }
}

/// Moves the calling process, which has one thread, into one hierarchy of its cgroup.
pub(crate) fn join(file: &JoinFile) -> Result<(), RuntimeError> {
    rustix::io::write(file, b"0").map(drop).map_err(|errno| match file.hint(errno.raw_os_error()) {
        Some(hint) => RuntimeError::Cgroup { message: format!("joining cgroup {}: {hint}", file.path().display()) },
        None => RuntimeError::step("joining cgroup", file.path(), &errno.into()),
    })
}

/// Waits for the end of a child and takes its status away.
pub(crate) fn reap(pidfd: &OwnedFd) -> Option<WaitIdStatus> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.ok().flatten(),
        }
    }
}
