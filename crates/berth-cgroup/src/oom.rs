//! Out of memory: how often the kernel killed in the cgroup, and a descriptor that tells when.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    event::{EventfdFlags, PollFlags, eventfd},
    fs::{Mode, OFlags, open},
};

use crate::{control_file, error::CgroupError, layout::Version};

/// One descriptor that becomes ready when the cgroup may have run out of memory.
///
/// Readiness is a hint (on v1 it also comes when the group is removed); what happened is told by
/// [`Cgroup::oom_kills`](crate::Cgroup::oom_kills).
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    version: Version,
}

impl OomWatch {
    /// Which events to poll the descriptor for: reading on v1, an exception on v2.
    #[must_use]
    pub fn events(&self) -> PollFlags {
        match self.version {
            Version::V1 => PollFlags::IN,
            Version::V2 => PollFlags::PRI,
        }
    }

    /// Makes the descriptor not ready until the next event. Call it each time before reading the count of kills.
    pub fn acknowledge(&self) {
        // On v1 this drains the eventfd; on v2 reading the file is what arms the next notification. Either way the content is no news.
        let mut buffer = [0u8; 512];
        match self.version {
            Version::V1 => drop(rustix::io::read(&self.fd, &mut buffer[..8])),
            Version::V2 => drop(rustix::io::pread(&self.fd, &mut buffer, 0)),
        }
    }

    pub(crate) fn open_v1(dir: &Path) -> Result<Self, CgroupError> {
        let control = open_for_reading(dir, "memory.oom_control")?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| CgroupError::Read { file: dir.join("memory.oom_control"), source: errno.into() })?;
        let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        // The kernel keeps what it needs of both, so the control file can be closed afterwards.
        control_file::write(dir, "cgroup.event_control", &line)?;
        Ok(Self { fd: event, version: Version::V1 })
    }

    pub(crate) fn open_v2(dir: &Path) -> Result<Self, CgroupError> {
        let watch = Self { fd: open_for_reading(dir, "memory.events")?, version: Version::V2 };
        watch.acknowledge();
        Ok(watch)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Processes killed in a v1 group and the groups below it: the kernel counts each group for itself.
pub(crate) fn kills_v1(dir: &Path) -> Result<u64, CgroupError> {
    let mut kills = control_file::read_key(dir, "memory.oom_control", "oom_kill")?.unwrap_or(0);
    // Its own and its parent's link; each group below adds one.
    const LINKS_OF_A_LEAF: u64 = 2;
    if rustix::fs::stat(dir).is_ok_and(|status| status.st_nlink == LINKS_OF_A_LEAF) {
        return Ok(kills);
    }
    for child in subdirectories(dir) {
        kills += kills_v1(&child)?;
    }
    Ok(kills)
}

/// Processes killed in a v2 group and the groups below it.
pub(crate) fn kills_v2(dir: &Path) -> Result<u64, CgroupError> {
    Ok(control_file::read_key(dir, "memory.events", "oom_kill")?.unwrap_or(0))
}

/// The groups directly below one.
pub(crate) fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    // A leaf's link count would tell faster on v1, but not on v2; reading the directory is a few microseconds either way.
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

fn open_for_reading(dir: &Path, file: &str) -> Result<OwnedFd, CgroupError> {
    let path = dir.join(file);
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CgroupError::Read { file: path, source: errno.into() })
}
