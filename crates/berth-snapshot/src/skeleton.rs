//! The lowest layer of every container: the places that things are mounted on, so that no container has to make them in a layer of its own.
//!
//! Below the image's layers it only shows where the image has nothing. It also has the two files by which programs tell that they are in a
//! container of Docker's kind.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use crate::SnapshotError;

const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
/// Where old programs look for what is mounted.
const MTAB: &str = "etc/mtab";

/// Makes what is missing of it.
pub(crate) fn make(root: &Path) -> Result<(), SnapshotError> {
    make_parts(root).map_err(SnapshotError::io("making", root))
}

fn make_parts(root: &Path) -> io::Result<()> {
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    }
    for file in FILES.map(|name| root.join(name)) {
        fs::File::options().create(true).append(true).open(&file)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    match std::os::unix::fs::symlink("/proc/mounts", root.join(MTAB)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
