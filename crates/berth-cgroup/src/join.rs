//! How a new process gets into a cgroup.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use crate::error::CgroupError;

/// What a child needs to be in a cgroup from its first instruction on, prepared by its parent.
#[derive(Debug)]
pub enum Join {
    /// v1: the child itself, while it has one thread, writes `0` to each of these.
    ByWriting(Vec<JoinFile>),
    /// v2: the directory for `CLONE_INTO_CGROUP`.
    ByClone(OwnedFd),
}

/// One v1 hierarchy's file to write `0` to. It is closed on `execve`.
#[derive(Debug)]
pub struct JoinFile {
    file: OwnedFd,
    path: PathBuf,
}

impl JoinFile {
    /// Where the file is, for errors.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the kernel may have refused a process, for the cases in which its `errno` says too little.
    #[must_use]
    pub fn hint(&self, errno: i32) -> Option<&'static str> {
        let group = self.path.parent()?;
        let real_time = group.join("cpu.rt_runtime_us").exists();
        match Errno::from_raw_os_error(errno) {
            Errno::INVAL if real_time => {
                Some("a real-time process cannot join a cpu cgroup without cpu.realtimeRuntime")
            }
            Errno::NOSPC => Some("the cpuset of the cgroup has no CPUs or memory nodes"),
            _ => None,
        }
    }
}

impl AsFd for JoinFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens `tasks` rather than `cgroup.procs`: a thread that moves itself alone does not take the lock that all forks of the machine
/// share, whose wait for RCU costs milliseconds now and then. The child has one thread, so it is the same thing.
pub(crate) fn open_v1(dir: &Path) -> Result<JoinFile, CgroupError> {
    let path = dir.join("tasks");
    match open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(JoinFile { file, path }),
        Err(Errno::NOENT) => Err(CgroupError::Missing { path: dir.to_owned() }),
        Err(errno) => Err(CgroupError::Read { file: path, source: errno.into() }),
    }
}

pub(crate) fn open_v2(dir: &Path) -> Result<OwnedFd, CgroupError> {
    match open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(dir) => Ok(dir),
        Err(Errno::NOENT) => Err(CgroupError::Missing { path: dir.to_owned() }),
        Err(errno) => Err(CgroupError::Read { file: dir.to_owned(), source: errno.into() }),
    }
}
