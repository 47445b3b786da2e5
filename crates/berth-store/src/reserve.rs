//! Room on the disk that only those may use who make room: from a full disk it must be possible to remove things.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags},
    io::Errno,
};

/// Bytes that are kept. Removing one container takes some tens of KiB of a database's journal.
const BYTES: u64 = 512 * 1024;

/// A file that does nothing but take room.
pub(crate) struct Reserve {
    path: PathBuf,
    is_held: Cell<bool>,
}

impl Reserve {
    /// The reserve beside a database.
    pub fn beside(database: &Path) -> Self {
        let path = database.with_extension("reserve");
        let reserve = Self { is_held: Cell::new(path.exists()), path };
        if !reserve.is_scarce() {
            reserve.take();
        }
        reserve
    }

    /// Whether the disk has no more room than the reserve is to have.
    pub fn is_scarce(&self) -> bool {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < BYTES)
    }

    /// Gives the room to whoever asks the disk first.
    pub fn give(&self) {
        // Given already, or not to be had.
        let _ = rustix::fs::unlink(&self.path);
        self.is_held.set(false);
    }

    /// Takes room again, if there is enough.
    pub fn take(&self) {
        if self.is_held.replace(true) {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let taken = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o600))
            .and_then(|file| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES));
        if let Err(errno) = taken {
            // This file system knows no such request: without a reserve, then. Or somebody was quicker: another time.
            let _ = rustix::fs::unlink(&self.path);
            self.is_held.set(errno != Errno::NOSPC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_and_gives_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let reserve = Reserve::beside(&dir.path().join("berth.db"));
        let file = dir.path().join("berth.reserve");
        assert_eq!(std::fs::metadata(&file).map(|metadata| metadata.len()).ok(), Some(BYTES));
        reserve.give();
        assert!(!file.exists());
        reserve.take();
        assert!(file.exists());
    }
}
