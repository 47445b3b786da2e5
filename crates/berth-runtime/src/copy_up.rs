//! What a directory holds, copied into the tmpfs that is mounted over it (`tmpcopyup`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_sys::rooted;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

use crate::error::{RuntimeError, Step};

/// Opens the directory before it is covered.
pub(crate) fn open(target: &OwnedFd, shown: &Path) -> Result<OwnedFd, RuntimeError> {
    rustix::fs::openat(target, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step("opening for tmpcopyup", shown)
}

/// Copies all of it to what now is mounted at `destination`.
pub(crate) fn copy(from: &OwnedFd, root: BorrowedFd<'_>, destination: &Path) -> Result<(), RuntimeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let to = rooted::open(root, destination, flags, Mode::empty()).step("opening", destination)?;
    copy_directory(from.as_fd(), to.as_fd()).step("copying for tmpcopyup to", destination)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(from, name, flags, Mode::empty())?;
            copy_directory(inner.as_fd(), rustix::fs::openat(to, name, flags, Mode::empty())?.as_fd())?;
        }
        FileType::RegularFile => copy_file(from, to, name, mode)?,
        FileType::Symlink => {
            rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
        }
        FileType::Socket => return Ok(()), // Belongs to a process that is not here.
        kind => rustix::fs::mknodat(to, name, kind, mode, status.st_rdev)?,
    }
    keep_owner_and_times(to, name, &status)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> io::Result<()> {
    let source = rustix::fs::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, mode)?;
    loop {
        let count = rustix::fs::sendfile(&copy, &source, None, 1 << 20)?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn keep_owner_and_times(to: BorrowedFd<'_>, name: &CStr, status: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        // A change of owner takes the set-id bits away.
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(status.st_mode & 0o7777), AtFlags::empty())?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: status.st_atime, tv_nsec: status.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
