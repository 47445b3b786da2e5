//! Blobs by digest: ingest, verify, commit, read, sweep.
//!
//! A blob is `blobs/<algorithm>/<hex>` beneath the content directory, and is what its name says: it gets there by a rename, after its bytes
//! were hashed on the way in and synced. What is still on its way lies in `ingest/`, in one piece ([`Ingest`]) or in many ([`PartialBlob`]). Whoever makes something takes a [`Lease`] first;
//! a sweep leaves alone what is younger than the oldest lease.
//!
//! Deliberately absent: what blobs mean, and which of them are needed.
#![forbid(unsafe_code)]

mod error;
mod ingest;
mod lease;
mod partial;
mod sweep;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use berth_model::{Algorithm, Digest};
use berth_store::Store;

pub use error::ContentError;
pub use ingest::{Finished, Ingest, digest_of};
pub use lease::Lease;
pub use partial::{PIECE, PartialBlob};
pub use sweep::{Sweep, Swept};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A content directory. Cheap to clone.
#[derive(Clone)]
pub struct Content {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    store: Store,
    leases: lease::Held,
    holding: Mutex<()>,
    /// Blobs that are whole, and wait for their sync.
    pending: Mutex<HashMap<Digest, PathBuf>>,
}

impl Content {
    /// Opens a content directory, which is made if it is missing. What a dead engine left on its way in is thrown away, but for blobs that can
    /// be gone on with ([`PartialBlob`]), and its leases end.
    ///
    /// # Errors
    /// [`ContentError`] if the directories cannot be made or the database not be written.
    pub fn open(root: &Path, store: Store) -> Result<Self, ContentError> {
        let ingest = root.join("ingest");
        partial::clear(&ingest)?;
        let blobs = ALGORITHMS.map(|algorithm| root.join("blobs").join(algorithm.word()));
        for directory in blobs.iter().chain([&ingest]) {
            std::fs::create_dir_all(directory).map_err(ContentError::io("making", directory))?;
        }
        if !store.images().leases()?.is_empty() {
            store.images().end_all_leases()?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                store,
                leases: lease::Held::default(),
                holding: Mutex::default(),
                pending: Mutex::default(),
            }),
        })
    }

    /// Where a blob lies, or would.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory(digest.algorithm()).join(digest.hex())
    }

    /// The size of a blob in bytes, if it is here.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.find(digest, |path| std::fs::metadata(path)).ok().map(|data| data.len())
    }

    /// Makes a blob that is here count as new, so that no sweep takes it while the caller's lease lives. `false` if it is not here.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn hold(&self, digest: &Digest) -> Result<bool, ContentError> {
        let path = self.path(digest);
        let _lock = self.lock_against_holding();
        let touched = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        match touched {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ContentError::io("touching", &path)(error)),
        }
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// [`ContentError::NotFound`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, ContentError> {
        self.find(digest, |path| File::open(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::NotFound { digest: digest.clone() },
            _ => ContentError::io("opening", &self.path(digest))(error),
        })
    }

    /// Looks for a blob where it lies, or where it waits for its sync.
    fn find<T>(&self, digest: &Digest, look: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match look(&self.path(digest)) {
            Err(error) if missing(&error) => {}
            found => return found,
        }
        let Some(waiting) = self.lock_pending().get(digest).cloned() else {
            // It may have been renamed between the two looks.
            return look(&self.path(digest));
        };
        match look(&waiting) {
            Err(error) if missing(&error) => look(&self.path(digest)),
            found => found,
        }
    }

    fn lock_pending(&self) -> MutexGuard<'_, HashMap<Digest, PathBuf>> {
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a small blob, checked against its digest.
    ///
    /// # Errors
    /// [`ContentError::NotFound`]; [`ContentError::TooLarge`] if it has more than `limit` bytes; [`ContentError::Mismatch`] if the disk
    /// gives other bytes than were written.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(ContentError::io("reading", &self.path(digest)))?;
        if bytes.len() as u64 > limit {
            return Err(ContentError::TooLarge { digest: digest.clone(), limit });
        }
        let found = digest_of(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(ContentError::Mismatch { expected: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Removes a blob; one that is not here is no error.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn delete(&self, digest: &Digest) -> Result<(), ContentError> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ContentError::io("removing", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    fn lock_against_holding(&self) -> MutexGuard<'_, ()> {
        self.inner.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, algorithm: Algorithm) -> PathBuf {
        self.inner.root.join("blobs").join(algorithm.word())
    }
}
