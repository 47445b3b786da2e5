//! The standard streams of the process: those it was given, or a terminal of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_oci::runtime::ConsoleSize;
use berth_sys::exec::{self, Standard};
use berth_sys::mount::{Depth, Interface};
use berth_sys::pty::{self, Pty, Size};
use berth_sys::{mount, rooted};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Uid;

use crate::error::{RuntimeError, Step};
use crate::request::Stdio;

/// `statfs` of a devpts.
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Puts the given streams at 0, 1 and 2.
pub(crate) fn install(stdio: &Stdio<'_>) -> Result<(), RuntimeError> {
    // One of them may be where another is to go, so all are moved out of the way first.
    let away =
        |stream: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(stream, 3).step("copying a standard stream", "");
    let (input, output, error) = (away(stdio.input)?, away(stdio.output)?, away(stdio.error)?);
    place(&input, &output, &error)
}

fn place(input: &OwnedFd, output: &OwnedFd, error: &OwnedFd) -> Result<(), RuntimeError> {
    let step = "placing a standard stream";
    exec::replace_standard(input.as_fd(), Standard::Input).step(step, "")?;
    exec::replace_standard(output.as_fd(), Standard::Output).step(step, "")?;
    exec::replace_standard(error.as_fd(), Standard::Error).step(step, "")
}

/// Opens a terminal in the container's own devpts and makes it all three streams; gives its master.
///
/// The process leads a session, whose controlling terminal it becomes.
pub(crate) fn open_terminal(root: BorrowedFd<'_>, size: Option<ConsoleSize>) -> Result<Pty, RuntimeError> {
    let directory = rooted::open(root, "/dev/pts", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok();
    let is_devpts =
        |directory: &OwnedFd| rustix::fs::fstatfs(directory).is_ok_and(|status| status.f_type == DEVPTS_SUPER_MAGIC);
    let Some(directory) = directory.filter(is_devpts) else {
        return Err(RuntimeError::invalid("process.terminal", "no devpts is mounted at /dev/pts"));
    };
    let pty = Pty::open_at(directory.as_fd(), c"ptmx").step("opening", "/dev/pts/ptmx")?;
    if let Some(ConsoleSize { height, width }) = size.filter(|size| size.height > 0 && size.width > 0) {
        let bounded = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
        let size = Size { width: bounded(width), height: bounded(height) };
        pty::resize(pty.slave.as_fd(), size).step("setting the size of the terminal", "")?;
    }
    rustix::process::ioctl_tiocsctty(&pty.slave).step("taking the controlling terminal", "")?;
    place(&pty.slave, &pty.slave, &pty.slave)?;
    Ok(pty)
}

/// Puts the terminal at `/dev/console`.
pub(crate) fn mount_console(interface: Interface, root: BorrowedFd<'_>, pty: &Pty) -> Result<(), RuntimeError> {
    let target = rooted::make_file(root, "/dev/console", Mode::from_raw_mode(0o600)).step("making", "/dev/console")?;
    // Taken from the open descriptor: a path would be resolved in what the image prepared (CVE-2025-52565).
    mount::bind(interface, pty.slave.as_fd(), Depth::Single, target.as_fd()).step("mounting at", "/dev/console")
}

/// Gives the streams to the user, who may want to open them again by `/dev/stdout`.
pub(crate) fn give_to(uid: Uid) -> Result<(), RuntimeError> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(status) = rustix::fs::fstat(stream) else { continue };
        let null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == rustix::fs::makedev(1, 3);
        if status.st_uid == uid.as_raw() || null {
            continue;
        }
        match rustix::fs::fchown(stream, Some(uid), None) {
            // Not every stream can have an owner: a file of a read-only mount, one of another user namespace, a socket.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => {}
            Err(error) => return Err(error).step("setting the owner of a standard stream", ""),
        }
    }
    Ok(())
}
