//! Directories of containers that are used again. On ext4 without a journal to make and to remove one costs as much as ten renames.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many are kept.
const MOST: usize = 16;

/// Empty directories that wait for a container.
pub(crate) struct Spares {
    place: PathBuf,
    waiting: Mutex<Vec<PathBuf>>,
    next: AtomicU64,
}

impl Spares {
    /// Keeps them in `place`, which is made; what an earlier engine kept there is removed.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub(crate) fn open(place: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(place)?;
        for entry in std::fs::read_dir(place)? {
            let path = entry?.path();
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "a leftover cannot be removed");
            }
        }
        Ok(Self { place: place.to_owned(), waiting: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Makes a directory, which is empty unless it was there.
    pub(crate) fn make(&self, path: &Path) -> io::Result<()> {
        let spare = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match spare {
            // Only an empty directory is replaced by this.
            Some(spare) if std::fs::rename(&spare, path).is_ok() => Ok(()),
            _ => std::fs::create_dir_all(path),
        }
    }

    /// Removes a directory with all that is in it, or keeps it empty. One that is not there is no error.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let room = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len() < MOST;
        if room && self.keep(path).is_ok() {
            return Ok(());
        }
        // Where it is on a file system of its own, for example.
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        let spare = self.place.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::rename(path, &spare)?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_again_without_its_content() {
        let place = tempfile::tempdir().expect("a directory");
        let kept = place.path().join("spare");
        let spares = Spares::open(&kept).expect("made");
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
        spares.make(&one).expect("made");
        let first = inode(&one);
        std::fs::create_dir(one.join("local-logs")).expect("made");
        std::fs::write(one.join("local-logs/container.log"), "secret").expect("written");
        std::os::unix::fs::symlink(place.path(), one.join("link")).expect("made");
        spares.remove(&one).expect("removed");
        assert!(!one.exists());
        spares.make(&two).expect("made");
        assert_eq!((inode(&two), std::fs::read_dir(&two).expect("there").count()), (first, 0));
        // One that was taken away, and one that was never there.
        spares.remove(&two).expect("removed");
        std::fs::remove_dir(kept.join("1")).expect("there");
        spares.make(&one).expect("made all the same");
        spares.remove(&two).expect("no error");
        spares.remove(&one).expect("removed");
        Spares::open(&kept).expect("opened again");
        assert_eq!(std::fs::read_dir(&kept).expect("there").count(), 0);
    }
}
