//! Blobs by digest, each once, whichever repositories hold it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use berth_model::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};

use crate::storage::StorageError;

/// Both algorithms that the specification names.
pub const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The directory of blobs.
#[derive(Clone)]
pub struct Blobs {
    root: PathBuf,
    /// Digests that somebody is about to write a row for: a collection leaves their files alone.
    held: Arc<Mutex<HashMap<Digest, usize>>>,
}

/// Keeps a blob's file from a collection until its row is written.
pub struct Hold {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
    digest: Digest,
}

impl Blobs {
    /// Opens the directory, which is made if it is missing.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        for algorithm in ALGORITHMS {
            let directory = root.join(algorithm.word());
            fs::create_dir_all(&directory).map_err(StorageError::io("making", &directory))?;
        }
        Ok(Self { root: root.to_owned(), held: Arc::default() })
    }

    /// Where a blob lies, or would.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory(digest.algorithm()).join(digest.hex())
    }

    /// The directory of an algorithm's blobs.
    pub fn directory(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join(algorithm.word())
    }

    /// Opens a blob; nothing if it is not here.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StorageError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("opening", &path)(error)),
        }
    }

    /// Keeps the file of a blob, here or not yet, from a collection.
    pub fn hold(&self, digest: &Digest) -> Hold {
        *self.lock().entry(digest.clone()).or_default() += 1;
        Hold { held: Arc::clone(&self.held), digest: digest.clone() }
    }

    /// Makes a finished file the blob of a digest that was checked. When this returns, it survives the loss of power.
    pub fn adopt(&self, file: &File, partial: &Path, hold: &Hold) -> Result<(), StorageError> {
        let path = self.path(&hold.digest);
        if path.exists() {
            fs::remove_file(partial).map_err(StorageError::io("removing", partial))?;
        } else {
            // Nobody ever writes to a blob again.
            let sealed = file.set_permissions(fs::Permissions::from_mode(0o444)).and_then(|()| file.sync_all());
            sealed.map_err(StorageError::io("syncing", partial))?;
            fs::rename(partial, &path).map_err(StorageError::io("renaming to", &path))?;
        }
        // Also for one that was here: whoever renamed it may not have come to this yet.
        self.sync_directory(hold.digest.algorithm())
    }

    /// Writes a small blob whose digest was checked.
    pub fn put(&self, bytes: &[u8], hold: &Hold) -> Result<(), StorageError> {
        let path = self.path(&hold.digest);
        if path.exists() {
            return self.sync_directory(hold.digest.algorithm());
        }
        let partial = self.root.join(format!("{}.partial", super::uploads::random_id()));
        let written = File::create_new(&partial).and_then(|mut file| file.write_all(bytes).map(|()| file));
        let adopted =
            written.map_err(StorageError::io("writing", &partial)).and_then(|file| self.adopt(&file, &partial, hold));
        if adopted.is_err() {
            // The first error tells more.
            let _ = fs::remove_file(&partial);
        }
        adopted
    }

    /// Removes a blob's file unless it is held, or `is_needed` says so: how many bytes it had.
    pub fn remove_unless(
        &self,
        digest: &Digest,
        is_needed: impl FnOnce() -> Result<bool, StorageError>,
    ) -> Result<Option<u64>, StorageError> {
        // Whoever comes to hold it now waits, and then finds no file.
        let held = self.lock();
        if held.contains_key(digest) || is_needed()? {
            return Ok(None);
        }
        let path = self.path(digest);
        let size = fs::metadata(&path).map(|data| data.len()).unwrap_or_default();
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("removing", &path)(error)),
        }
    }

    /// Every digest that there is a file of; leftovers of a crash are removed on the way.
    pub fn list(&self) -> Result<Vec<Digest>, StorageError> {
        let mut found = Vec::new();
        for algorithm in ALGORITHMS {
            let directory = self.directory(algorithm);
            let entries = fs::read_dir(&directory).map_err(StorageError::io("reading", &directory))?;
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            found.extend(names.filter_map(|hex| format!("{}:{hex}", algorithm.word()).parse().ok()));
        }
        Ok(found)
    }

    /// Removes what a crash left on its way into the directory. Only at the start, when nothing is.
    pub fn remove_partials(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "partial") {
                // It only takes space; the next start tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn sync_directory(&self, algorithm: Algorithm) -> Result<(), StorageError> {
        let directory = self.directory(algorithm);
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.map_err(StorageError::io("syncing", &directory))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.digest);
            }
        }
    }
}

/// A digest in the making.
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Which digest comes out.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Hasher::Sha256(_) => Algorithm::Sha256,
            Hasher::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hash) => Digest::sha256(&hash.finalize().into()),
            Hasher::Sha512(hash) => Digest::sha512(&hash.finalize().into()),
        }
    }
}

/// The digest of bytes in memory.
pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_held_is_not_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let blobs = Blobs::open(dir.path()).expect("open");
        let digest = digest_of(Algorithm::Sha256, b"x");
        let hold = blobs.hold(&digest);
        blobs.put(b"x", &hold).expect("put");
        let second = blobs.hold(&digest);
        drop(hold);
        assert_eq!(blobs.remove_unless(&digest, || Ok(false)).expect("held"), None);
        drop(second);
        assert_eq!(blobs.remove_unless(&digest, || Ok(true)).expect("needed"), None);
        assert_eq!(blobs.remove_unless(&digest, || Ok(false)).expect("free"), Some(1));
        assert!(blobs.open_blob(&digest).expect("look").is_none());
    }

    #[test]
    fn the_same_bytes_twice_are_one_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let blobs = Blobs::open(dir.path()).expect("open");
        let hold = blobs.hold(&digest_of(Algorithm::Sha512, b"x"));
        blobs.put(b"x", &hold).expect("put");
        let partial = dir.path().join("1.partial");
        fs::write(&partial, b"x").expect("write");
        blobs.adopt(&File::open(&partial).expect("open"), &partial, &hold).expect("adopt");
        assert_eq!(blobs.list().expect("list"), [hold.digest.clone()]);
        assert!(!partial.exists());
    }
}
