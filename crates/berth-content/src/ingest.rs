//! How a blob gets in: hashed while it is written, synced, then renamed to its digest.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use berth_model::{Algorithm, Digest};
use berth_sys::page_cache::write_past;
use sha2::{Digest as _, Sha256, Sha512};

use crate::{Content, ContentError};

/// The digest of some bytes.
#[must_use]
pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::sha256(&Sha256::digest(bytes).into()),
        Algorithm::Sha512 => Digest::sha512(&Sha512::digest(bytes).into()),
    }
}

/// A blob on its way in. Dropped, it is gone.
pub struct Ingest {
    content: Content,
    partial: Partial,
    hasher: Hasher,
    bytes: u64,
    early: EarlySync,
    past_cache: bool,
}

/// A blob whose bytes are all here, and are what was promised, but not yet synced. Within this process it can be read by its digest already, so
/// that work on it need not wait for the disk; [`Content::hold`] does not know it yet. Dropped, it is gone.
pub struct Finished {
    content: Content,
    partial: Partial,
    digest: Digest,
    bytes: u64,
}

/// Gets large blobs onto the disk while they still come in, so that little is left to do at their end.
#[derive(Default)]
pub(crate) struct EarlySync {
    unsynced: u64,
    runs: Arc<AtomicBool>,
}

/// So many bytes are worth a sync of their own.
const EARLY_SYNC_BYTES: u64 = 32 << 20;

impl EarlySync {
    pub(crate) fn written(&mut self, bytes: usize, file: &File) {
        self.unsynced += bytes as u64;
        if self.unsynced < EARLY_SYNC_BYTES || self.runs.swap(true, Ordering::AcqRel) {
            return;
        }
        self.unsynced = 0;
        let (runs, Ok(file)) = (Arc::clone(&self.runs), file.try_clone()) else { return };
        let sync = move || {
            // Only a head start: the sync that counts, with its error, is the one of the commit.
            let _ = file.sync_data();
            runs.store(false, Ordering::Release);
        };
        // Without a thread everything is left to the commit.
        let _ = std::thread::Builder::new().name("early-sync".to_owned()).stack_size(128 * 1024).spawn(sync);
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// The file in `ingest/`; removed when dropped, unless it was renamed away.
struct Partial {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays behind is thrown away when the store is opened again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Content {
    /// Begins a blob whose digest will be of that algorithm. Whoever calls this holds a [`crate::Lease`].
    ///
    /// # Errors
    /// [`ContentError`] if no file can be made.
    pub fn ingest(&self, algorithm: Algorithm) -> Result<Ingest, ContentError> {
        let path = self.inner.root.join("ingest").join(random_name());
        // Nobody ever writes to a blob again.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&path);
        let file = file.map_err(ContentError::io("creating", &path))?;
        let hasher = match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        };
        Ok(Ingest {
            content: self.clone(),
            partial: Partial { path, file, renamed: false },
            hasher,
            bytes: 0,
            early: EarlySync::default(),
            past_cache: false,
        })
    }

    /// Keeps a small blob of the caller's own making.
    ///
    /// # Errors
    /// [`ContentError`] if it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = digest_of(Algorithm::Sha256, bytes);
        if self.hold(&digest)? {
            return Ok(digest);
        }
        let mut ingest = self.ingest(Algorithm::Sha256)?;
        ingest.write_all(bytes).map_err(|error| ingest.failed(error))?;
        ingest.finish(Some(&digest))?.commit()
    }
}

impl Ingest {
    /// Leaves nothing more of it in the page cache: nobody reads it soon. It should come in pieces of many whole pages.
    pub fn pass_cache(&mut self) {
        self.past_cache = true;
    }

    /// All bytes are written: checks them against the digest that was promised.
    ///
    /// # Errors
    /// [`ContentError::Mismatch`].
    pub fn finish(self, promised: Option<&Digest>) -> Result<Finished, ContentError> {
        let digest = match self.hasher {
            Hasher::Sha256(hash) => Digest::sha256(&hash.finalize().into()),
            Hasher::Sha512(hash) => Digest::sha512(&hash.finalize().into()),
        };
        if let Some(expected) = promised.filter(|promised| **promised != digest) {
            return Err(ContentError::Mismatch { expected: expected.clone(), found: digest });
        }
        self.content.lock_pending().insert(digest.clone(), self.partial.path.clone());
        Ok(Finished { content: self.content, partial: self.partial, digest, bytes: self.bytes })
    }

    /// How many bytes were written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What an error of writing to this means.
    #[must_use]
    pub fn failed(&self, error: io::Error) -> ContentError {
        if error.kind() == io::ErrorKind::StorageFull {
            return ContentError::Full { directory: self.content.inner.root.clone(), written: self.bytes };
        }
        ContentError::io("writing", &self.partial.path)(error)
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = if self.past_cache {
            write_past(self.partial.file.as_fd(), bytes)?
        } else {
            self.partial.file.write(bytes)?
        };
        match &mut self.hasher {
            Hasher::Sha256(hash) => hash.update(&bytes[..n]),
            Hasher::Sha512(hash) => hash.update(&bytes[..n]),
        }
        self.bytes += n as u64;
        self.early.written(n, &self.partial.file);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Finished {
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Syncs it and makes it visible. When this returns, it survives the loss of power.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn commit(mut self) -> Result<Digest, ContentError> {
        if self.content.hold(&self.digest)? {
            return Ok(self.digest.clone());
        }
        let failed = ContentError::io("syncing", &self.partial.path);
        // The kernel's own mark lags behind the clock that leases go by.
        let dated = self.partial.file.set_modified(std::time::SystemTime::now());
        dated.and_then(|()| self.partial.file.sync_all()).map_err(failed)?;
        let path = self.content.path(&self.digest);
        std::fs::rename(&self.partial.path, &path).map_err(ContentError::io("renaming to", &path))?;
        self.partial.renamed = true;
        let directory = self.content.directory(self.digest.algorithm());
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.map_err(ContentError::io("syncing", &directory))?;
        Ok(self.digest.clone())
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        let mut pending = self.content.lock_pending();
        // Another one with the same bytes may be on its way too.
        if pending.get(&self.digest) == Some(&self.partial.path) {
            pending.remove(&self.digest);
        }
    }
}

/// 128 random bits in hex.
pub(crate) fn random_name() -> String {
    let mut bytes = [0_u8; 16];
    // Never fails or returns less once the kernel's pool is ready, which is long before any engine starts.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use berth_store::Store;

    use super::*;

    fn content(dir: &tempfile::TempDir) -> Content {
        let store = Store::open(dir.path(), dir.path()).expect("store");
        Content::open(&dir.path().join("content"), store).expect("content")
    }

    fn partials(content: &Content) -> usize {
        std::fs::read_dir(content.root().join("ingest")).expect("ingest").count()
    }

    #[test]
    fn a_blob_is_seen_only_when_it_is_whole_and_right() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = content(&dir);
        let digest = digest_of(Algorithm::Sha256, b"hello");
        let mut ingest = content.ingest(Algorithm::Sha256).expect("ingest");
        ingest.write_all(b"hello").expect("write");
        assert_eq!(content.size(&digest), None);
        let finished = ingest.finish(Some(&digest)).expect("right");
        // It can be read, but nobody may count on it yet.
        assert_eq!((content.size(&digest), partials(&content)), (Some(5), 1));
        assert_eq!(
            (content.read(&digest, 5).expect("read"), content.hold(&digest).expect("hold")),
            (b"hello".to_vec(), false)
        );
        assert_eq!(finished.commit().expect("commit"), digest);
        assert_eq!((content.size(&digest), partials(&content)), (Some(5), 0));
        assert_eq!(content.read(&digest, 5).expect("read"), b"hello");
        assert!(matches!(content.read(&digest, 4), Err(ContentError::TooLarge { .. })));
    }

    #[test]
    fn a_large_blob_that_is_dropped_is_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = content(&dir);
        let mut ingest = content.ingest(Algorithm::Sha256).expect("ingest");
        let chunk = vec![7; 1 << 20];
        (0..70).for_each(|_| ingest.write_all(&chunk).expect("write"));
        let finished = ingest.finish(None).expect("finish");
        let digest = finished.digest().clone();
        drop(finished);
        assert_eq!((content.size(&digest), partials(&content)), (None, 0));
    }

    #[test]
    fn wrong_bytes_leave_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = content(&dir);
        let mut ingest = content.ingest(Algorithm::Sha512).expect("ingest");
        ingest.write_all(b"hullo").expect("write");
        let promised = digest_of(Algorithm::Sha512, b"hello");
        let error = ingest.finish(Some(&promised)).err().expect("wrong");
        assert!(matches!(error, ContentError::Mismatch { .. }), "{error}");
        assert_eq!((content.size(&promised), partials(&content)), (None, 0));
    }

    #[test]
    fn a_damaged_blob_is_noticed_when_it_is_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = content(&dir);
        let digest = content.put(b"document").expect("put");
        std::fs::remove_file(content.path(&digest)).expect("remove");
        std::fs::write(content.path(&digest), b"documenT").expect("damage");
        assert!(matches!(content.read(&digest, 100), Err(ContentError::Mismatch { .. })));
        content.delete(&digest).expect("delete");
        content.delete(&digest).expect("delete again");
        assert!(matches!(content.open_blob(&digest), Err(ContentError::NotFound { .. })));
    }
}
