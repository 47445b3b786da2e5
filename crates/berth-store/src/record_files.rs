//! A directory with one file for each record: what the runtime directory holds of containers that end with the boot at the latest.
//!
//! For a file in a file system of memory nobody has to be woken, as the writer of a database has to be for a transaction; what that gains is in
//! `docs/design/container-task.md`. A record appears, changes and goes as a whole, whenever the process ends.
//! Each record is changed by one task only, its container's: there is no lock.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Marks a file that is being written.
const UNFINISHED: char = '.';

/// The directory.
pub(crate) struct RecordFiles {
    directory: PathBuf,
}

impl RecordFiles {
    /// Makes the directory if it is not there, and takes away what was not finished.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, StoreError> {
        let files = Self { directory };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&files.directory);
        made.map_err(|error| files.failed(&error))?;
        for name in files.names()?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            fs::remove_file(files.directory.join(name)).map_err(|error| files.failed(&error))?;
        }
        Ok(files)
    }

    /// All keys with their records.
    pub(crate) fn list(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut records = Vec::new();
        for key in self.names()?.into_iter().filter(|name| !name.starts_with(UNFINISHED)) {
            records.extend(self.read(&key)?.map(|record| (key, record)));
        }
        Ok(records)
    }

    /// One record; `None` if it is not there.
    pub(crate) fn read(&self, key: &str) -> Result<Option<String>, StoreError> {
        match fs::read(self.path(key)) {
            // Whoever reads the record says what is wrong with it.
            Ok(record) => Ok(Some(String::from_utf8_lossy(&record).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Writes a record, over that of before if there is one.
    pub(crate) fn write(&self, key: &str, pieces: &[&str]) -> Result<(), StoreError> {
        let unfinished = self.directory.join(format!("{UNFINISHED}{key}"));
        let written = write_new(&unfinished, &pieces.concat()).and_then(|()| fs::rename(&unfinished, self.path(key)));
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            self.failed(&error)
        })
    }

    /// Takes a record away; that there is none is no error.
    pub(crate) fn remove(&self, key: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error)),
            _ => Ok(()),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(|error| self.failed(&error))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<Result<_, _>>().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { path: self.directory.clone() }
            }
            _ => StoreError::Directory { path: self.directory.clone(), reason: error.to_string() },
        }
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // Records hold what containers were told in confidence, such as their environment.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_not_finished_was_never_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("records");
        let files = RecordFiles::open(path.clone()).expect("open");
        files.write("a", &["one", "two"]).expect("write");
        fs::write(path.join(".b"), "hal").expect("half a record");
        fs::create_dir(path.join("c")).expect("no record at all");
        let again = RecordFiles::open(path.clone()).expect("reopen");
        assert_eq!(again.list().expect("list"), [("a".to_owned(), "onetwo".to_owned())]);
        assert!(!path.join(".b").exists());
        assert_eq!(again.read("b").expect("read"), None);
    }

    #[test]
    fn records_are_closed_to_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let files = RecordFiles::open(dir.path().join("records")).expect("open");
        files.write("a", &["secret"]).expect("write");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&files.directory), mode(&files.path("a"))), (0o700, 0o600));
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let files = RecordFiles::open(dir.path().join("records")).expect("open");
        fs::remove_dir(&files.directory).expect("gone");
        let error = files.write("a", &["x"]).expect_err("nowhere to write");
        assert!(error.to_string().contains("records"), "{error}");
        files.remove("a").expect("nothing to remove");
    }
}
