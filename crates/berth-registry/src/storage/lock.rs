//! One server per directory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::storage::StorageError;

/// The file that is locked.
pub(super) const LOCK_FILE: &str = "registry.lock";

/// Holds a directory as long as it lives.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the directory, unless another server has it.
    pub(super) fn take(root: &Path) -> Result<Self, StorageError> {
        let path = root.join(LOCK_FILE);
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(StorageError::io("opening", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            // Without it the message only lacks the number.
            let _ = file.read_to_string(&mut text);
            return Err(StorageError::InUse { root: root.to_owned(), pid: text.trim().parse().ok() });
        }
        let mut note = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        note().map_err(StorageError::io("writing", &path))?;
        Ok(Self { _file: file })
    }
}
