//! The running program, out of reach of containers (CVE-2019-5736).
//!
//! A container can come by a handle on the file of a program that enters it (`/proc/PID/exe`). So a program that will
//! do so runs from a copy nobody can write: a sealed memory file, or a detached read-only mount of its own file.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::mount::{self, AttributeChange, Attributes};

const OWN_PROGRAM: &CStr = c"/proc/self/exe";
const MFD_EXEC: u32 = 0x10;
/// `F_SEAL_EXEC` (6.3) is left out: it only fixes the mode bits, which a descriptor without write access cannot change anyway.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A sealed executable memory file with a copy of the running program. See memfd_create(2).
///
/// Costs a copy of the whole program; a daemon makes it once and starts many from it, and all share its pages.
///
/// # Errors
/// Those of opening `/proc/self/exe`, of memfd_create(2) and of the copy.
pub fn sealed_self() -> io::Result<OwnedFd> {
    let program = open_own_program()?;
    let size = rustix::fs::fstat(&program)?.st_size as u64;
    let copy = create_executable()?;
    let mut left = size;
    while left > 0 {
        let count = rustix::fs::sendfile(&copy, &program, None, usize::try_from(left).unwrap_or(usize::MAX))?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count as u64;
    }
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?;
    seal(&copy)?;
    Ok(copy)
}

/// Seals a file. The kernel refuses while anybody else looks at one of its pages, be it its own memory management, and has waited a moment by then.
fn seal(file: &OwnedFd) -> io::Result<()> {
    const ATTEMPTS: u32 = 20;
    for _ in 1..ATTEMPTS {
        match rustix::fs::fcntl_add_seals(file, SEALS) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(1)),
            result => return Ok(result?),
        }
    }
    Ok(rustix::fs::fcntl_add_seals(file, SEALS)?)
}

/// The running program on a detached read-only mount: as safe as [`sealed_self`] against the container, and without a copy.
///
/// # Errors
/// Those of open_tree(2) and mount_setattr(2): `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` before 5.12.
pub fn read_only_self() -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(&open_own_program()?, mount::Depth::Single)?;
    let change = AttributeChange { set: Attributes::READ_ONLY, ..AttributeChange::default() };
    mount::change_attributes(&tree, mount::Depth::Single, &change)?;
    // The clone is a path descriptor; the program is executed from an ordinary one, so that its mount lives as long.
    let program =
        rustix::fs::open(mount::descriptor_path(tree.as_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(program)
}

/// Whether the running program already is such a copy.
pub fn is_protected() -> bool {
    open_own_program().is_ok_and(|program| is_sealed(program.as_fd()) || is_detached_read_only(program.as_fd()))
}

fn is_sealed(program: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SEALS))
}

/// A file on a read-only mount of which it is itself the root: no ordinary program is.
fn is_detached_read_only(program: BorrowedFd<'_>) -> bool {
    let read_only =
        rustix::fs::fstatvfs(program).is_ok_and(|status| status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    read_only && is_mount_root(program)
}

fn is_mount_root(program: BorrowedFd<'_>) -> bool {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    rustix::fs::statx(program, c"", flags, rustix::fs::StatxFlags::empty())
        .is_ok_and(|status| status.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

fn open_own_program() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(OWN_PROGRAM, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn create_executable() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and make every memory file executable.
    match rustix::fs::memfd_create(c"berth", flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(c"berth", flags)?),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_whole_and_cannot_be_written() {
        let copy = sealed_self().unwrap();
        let own = open_own_program().unwrap();
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_size, rustix::fs::fstat(&own).unwrap().st_size);
        assert!(is_sealed(copy.as_fd()));
        assert!(rustix::io::write(&copy, b"x").is_err());
    }

    #[test]
    fn the_read_only_mount_is_recognized() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let program = read_only_self().unwrap();
        assert!(is_detached_read_only(program.as_fd()));
        let reopened = rustix::fs::open(mount::descriptor_path(program.as_fd()), OFlags::WRONLY, Mode::empty());
        // Busy as long as the program runs from it, read-only ever after.
        assert!(matches!(reopened.unwrap_err(), rustix::io::Errno::ROFS | rustix::io::Errno::TXTBSY));
        assert!(!is_protected());
    }
}
