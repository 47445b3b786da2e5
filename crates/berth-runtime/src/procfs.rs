//! The host's procfs, proven to be one, for what is set through files there (CVE-2025-52881).
//!
//! Opened before any mount of the container is made, and never followed through a link or another mount: what is
//! written here cannot be led elsewhere by an image that prepared its `/proc`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_sys::rooted;
use rustix::fs::{Mode, OFlags};

use crate::error::{RuntimeError, Step};

/// `statfs` of a procfs.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A trusted `/proc`.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Opens the one at `/proc`.
    pub(crate) fn open() -> Result<Procfs, RuntimeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open("/proc", flags, Mode::empty()).step("opening", "/proc")?;
        if !is_procfs(&directory) {
            return Err(RuntimeError::invalid("/proc", "is not a procfs"));
        }
        Ok(Procfs(directory))
    }

    /// The number of the calling process in the pid namespace of this procfs.
    pub(crate) fn own_pid(&self) -> Result<i32, RuntimeError> {
        let target = rooted::read_link(&self.0, "self".as_ref()).step("reading", "/proc/self")?;
        let pid = target.to_str().and_then(|text| text.parse().ok());
        pid.ok_or_else(|| RuntimeError::invalid("/proc/self", "is not a process"))
    }

    /// Writes to a file of the calling process, such as `attr/exec`.
    pub(crate) fn write_own(&self, file: &str, value: &str) -> Result<(), RuntimeError> {
        self.write(&Path::new(&self.own_pid()?.to_string()).join(file), value)
    }

    /// Writes to a file below `/proc`, all in one call.
    pub(crate) fn write(&self, file: &Path, value: &str) -> Result<(), RuntimeError> {
        let shown = || Path::new("/proc").join(file);
        let open = rooted::open_plain(&self.0, file, OFlags::WRONLY, Mode::empty()).step("opening", shown())?;
        rustix::io::write(&open, value.as_bytes()).step("writing", shown())?;
        Ok(())
    }

    /// Opens a file of the calling process for reading.
    pub(crate) fn open_own(&self, file: &str) -> Result<OwnedFd, RuntimeError> {
        // Files of `ns` are magic links, which a plain open refuses: `/proc/PID/ns` is opened plainly, the link from there.
        let path = PathBuf::from(self.own_pid()?.to_string()).join(file);
        let (directory, name) = (path.parent().unwrap_or(&path), path.file_name().unwrap_or_default());
        let directory = rooted::open_plain(&self.0, directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let directory = directory.step("opening", Path::new("/proc").join(&path))?;
        rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step("opening", Path::new("/proc").join(&path))
    }
}

/// Whether a descriptor is on a procfs.
pub(crate) fn is_procfs(descriptor: &OwnedFd) -> bool {
    rustix::fs::fstatfs(descriptor).is_ok_and(|status| status.f_type == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_found() {
        let procfs = Procfs::open().unwrap();
        assert_eq!(procfs.own_pid().unwrap(), std::process::id() as i32);
        assert!(procfs.open_own("ns/mnt").is_ok());
        assert!(procfs.write(Path::new("self/comm"), "x").is_err(), "links are not followed");
        assert!(procfs.write(Path::new("../tmp/x"), "x").is_err());
    }
}
