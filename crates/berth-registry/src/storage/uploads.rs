//! Uploads on their way: files that survive a restart, and the digest that is counted along while they grow.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use berth_model::{Algorithm, Digest};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle, time::timeout};

use crate::{
    http::body::Body,
    names::RepositoryName,
    storage::{StorageError, blobs::Hasher, blocking},
};

/// Bytes that are read while as many are hashed and written.
const PIECE: usize = 256 << 10;
/// So many bytes are worth a sync of their own.
const EARLY_SYNC: u64 = 32 << 20;
/// How long a request waits for another one that writes to the same upload: a connection that died is noticed late.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// The directory of uploads.
pub struct Uploads {
    root: PathBuf,
    open: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// An upload in memory, or only on disk.
#[derive(Default)]
struct Slot(Option<Sink>);

/// An upload that a request holds: nobody else writes to it.
pub struct Upload {
    id: String,
    path: PathBuf,
    slot: OwnedMutexGuard<Slot>,
}

/// Where bytes go: the file, and the digest of all that is in it.
struct Sink {
    file: File,
    hasher: Hasher,
    written: u64,
    /// Bytes since the last early sync began.
    unsynced: u64,
    syncs: Arc<AtomicBool>,
}

impl Uploads {
    /// Opens the directory, which is made if it is missing.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        fs::create_dir_all(root).map_err(StorageError::io("making", root))?;
        Ok(Self { root: root.to_owned(), open: Mutex::default() })
    }

    /// Begins an upload to a repository.
    pub fn begin(&self, repository: &RepositoryName, algorithm: Algorithm) -> Result<Upload, StorageError> {
        let id = random_id();
        let path = self.path(repository, &id);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(StorageError::io("making", directory))?;
        }
        let created = File::options().read(true).append(true).create_new(true).open(&path);
        let file = created.map_err(StorageError::io("creating", &path))?;
        let sink = Sink { file, hasher: Hasher::new(algorithm), written: 0, unsynced: 0, syncs: Arc::default() };
        let slot = Arc::new(tokio::sync::Mutex::new(Slot(Some(sink))));
        self.lock().insert(path.clone(), Arc::clone(&slot));
        let slot = slot.try_lock_owned().map_err(|_| StorageError::UploadBusy(id.clone()))?;
        Ok(Upload { id, path, slot })
    }

    /// Finds an upload of a repository, also one that an earlier server began, and holds it.
    pub async fn find(&self, repository: &RepositoryName, id: &str) -> Result<Upload, StorageError> {
        let missing = || StorageError::NoUpload(id.chars().take(64).collect());
        if !is_id(id) {
            return Err(missing());
        }
        let path = self.path(repository, id);
        let slot = Arc::clone(self.lock().entry(path.clone()).or_default());
        let slot = timeout(BUSY_PATIENCE, slot.lock_owned()).await;
        let mut slot = slot.map_err(|_| StorageError::UploadBusy(id.to_owned()))?;
        if slot.0.is_none() {
            let from = path.clone();
            match blocking(move || Sink::reopen(&from)).await? {
                Some(sink) => slot.0 = Some(sink),
                None => {
                    self.lock().remove(&path);
                    return Err(missing());
                }
            }
        }
        Ok(Upload { id: id.to_owned(), path, slot })
    }

    /// Throws an upload away.
    pub fn cancel(&self, mut upload: Upload) -> Result<(), StorageError> {
        upload.slot.0 = None;
        self.lock().remove(&upload.path);
        fs::remove_file(&upload.path).map_err(StorageError::io("removing", &upload.path))
    }

    /// Forgets an upload whose file has become a blob.
    pub fn forget(&self, mut upload: Upload) {
        upload.slot.0 = None;
        self.lock().remove(&upload.path);
    }

    /// Removes uploads that nobody has written to for `age`: how many.
    pub fn purge(&self, age: Duration) -> u64 {
        let mut removed = 0;
        let now = SystemTime::now();
        for directory in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            for entry in fs::read_dir(directory.path()).into_iter().flatten().flatten() {
                let path = entry.path();
                let modified = entry.metadata().and_then(|data| data.modified());
                let is_old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|past| past > age));
                let mut open = self.lock();
                let is_free = open.get(&path).is_none_or(|slot| Arc::strong_count(slot) == 1);
                if is_old && is_free && fs::remove_file(&path).is_ok() {
                    open.remove(&path);
                    removed += 1;
                }
            }
            // Only an empty one goes.
            let _ = fs::remove_dir(directory.path());
        }
        removed
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        let directories = fs::read_dir(&self.root).into_iter().flatten().flatten();
        directories.map(|directory| fs::read_dir(directory.path()).into_iter().flatten().count() as u64).sum()
    }

    fn path(&self, repository: &RepositoryName, id: &str) -> PathBuf {
        self.root.join(repository.file_name()).join(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<tokio::sync::Mutex<Slot>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Its name in paths.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many bytes it has.
    pub fn written(&self) -> u64 {
        self.slot.0.as_ref().map_or(0, |sink| sink.written)
    }

    /// Appends a body: the next piece is read while the one before is hashed and written. What came before a break stays.
    pub async fn append(&mut self, body: &mut Body<'_>) -> Result<(), StorageError> {
        let mut at_rest = Some((self.slot.0.take().ok_or(StorageError::Stopping)?, Vec::new()));
        let mut writing: Option<Writing> = None;
        let mut buffer = Vec::new();
        loop {
            let read = body.fill(&mut buffer, PIECE).await;
            let (sink, mut spare) = match (writing.take(), at_rest.take()) {
                (Some(job), _) => finished(job).await?,
                (None, Some(idle)) => idle,
                (None, None) => return Err(StorageError::Stopping),
            };
            spare.clear();
            let job = sink.write(std::mem::replace(&mut buffer, spare), &self.path);
            if body.is_ended() || read.is_err() {
                self.slot.0 = Some(finished(job).await?.0);
                return read.map_err(StorageError::Client);
            }
            writing = Some(job);
        }
    }

    /// Where its bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whatever `read` gives until it gives nothing, and tells how many bytes there are by then.
    pub async fn append_from(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> Result<(), StorageError> {
        let mut sink = self.slot.0.take().ok_or(StorageError::Stopping)?;
        let path = self.path.clone();
        let done = blocking(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let n = read(&mut buffer).map_err(StorageError::Client)?;
                if n == 0 {
                    return Ok(sink);
                }
                sink.take(&buffer[..n], &path)?;
                tell(sink.written);
            }
        });
        self.slot.0 = Some(done.await?);
        Ok(())
    }

    /// Syncs what is written: what is acknowledged after this survives the loss of power.
    pub async fn sync(&mut self) -> Result<(), StorageError> {
        let sink = self.slot.0.take().ok_or(StorageError::Stopping)?;
        let path = self.path.clone();
        let synced = blocking(move || match sink.file.sync_data() {
            Ok(()) => Ok(sink),
            Err(error) => Err(StorageError::io("syncing", &path)(error)),
        });
        self.slot.0 = Some(synced.await?);
        Ok(())
    }

    /// All bytes are written: checks them, and gives the file and where it lies. Wrong bytes are thrown away.
    pub async fn finish(&mut self, promised: &Digest) -> Result<(File, PathBuf, u64), StorageError> {
        let sink = self.slot.0.take().ok_or(StorageError::Stopping)?;
        let (path, promised) = (self.path.clone(), promised.clone());
        blocking(move || {
            let hasher = match sink.hasher.algorithm() == promised.algorithm() {
                true => sink.hasher,
                // The client has told its algorithm only now.
                false => hash_file(&path, promised.algorithm())?.0,
            };
            let found = hasher.finish();
            if found != promised {
                fs::remove_file(&path).map_err(StorageError::io("removing", &path))?;
                return Err(StorageError::Mismatch { expected: promised, found });
            }
            Ok((sink.file, path, sink.written))
        })
        .await
    }
}

/// A piece that is being hashed and written; gives the sink back, and the buffer.
type Writing = JoinHandle<Result<(Sink, Vec<u8>), StorageError>>;

async fn finished(writing: Writing) -> Result<(Sink, Vec<u8>), StorageError> {
    writing.await.unwrap_or(Err(StorageError::Stopping))
}

impl Sink {
    /// An upload that only the disk knows; nothing if it is not there.
    fn reopen(path: &Path) -> Result<Option<Self>, StorageError> {
        match File::options().read(true).append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("opening", path)(error)),
            Ok(file) => {
                let (hasher, written) = hash_file(path, Algorithm::Sha256)?;
                Ok(Some(Self { file, hasher, written, unsynced: 0, syncs: Arc::default() }))
            }
        }
    }

    fn write(mut self, piece: Vec<u8>, path: &Path) -> Writing {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            self.take(&piece, &path)?;
            Ok((self, piece))
        })
    }

    fn take(&mut self, piece: &[u8], path: &Path) -> Result<(), StorageError> {
        self.file.write_all(piece).map_err(StorageError::io("writing", path))?;
        self.hasher.update(piece);
        self.written += piece.len() as u64;
        self.unsynced += piece.len() as u64;
        self.sync_early();
        Ok(())
    }

    /// Gets a large upload onto the disk while it still comes in, so that little is left to do at its end.
    fn sync_early(&mut self) {
        if self.unsynced < EARLY_SYNC || self.syncs.swap(true, Ordering::AcqRel) {
            return;
        }
        self.unsynced = 0;
        let syncs = Arc::clone(&self.syncs);
        let Ok(file) = self.file.try_clone() else { return };
        tokio::task::spawn_blocking(move || {
            // Only a head start: the sync that counts, with its error, comes at the end.
            let _ = file.sync_data();
            syncs.store(false, Ordering::Release);
        });
    }
}

fn hash_file(path: &Path, algorithm: Algorithm) -> Result<(Hasher, u64), StorageError> {
    let failed = || StorageError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        let n = file.read(&mut buffer).map_err(failed())?;
        if n == 0 {
            return Ok((hasher, total));
        }
        hasher.update(&buffer[..n]);
        total += n as u64;
    }
}

/// A random identifier in the form of a UUID, as the specification asks for. RFC 9562, version 4.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    // Never fails or returns less once the kernel's pool is ready, which is long before any server starts.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether a text has the form of our identifiers: it becomes a file name.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> RepositoryName {
        "a/b".parse().expect("a name")
    }

    #[tokio::test]
    async fn an_upload_is_found_by_the_next_server() {
        let dir = tempfile::tempdir().expect("temp dir");
        let uploads = Uploads::open(dir.path()).expect("open");
        let mut upload = uploads.begin(&repository(), Algorithm::Sha512).expect("begin");
        let sink = upload.slot.0.take().expect("a sink");
        upload.slot.0 = Some(finished(sink.write(b"abc".to_vec(), &upload.path)).await.expect("written").0);
        let id = upload.id().to_owned();
        drop((upload, uploads));
        let uploads = Uploads::open(dir.path()).expect("open again");
        let mut upload = uploads.find(&repository(), &id).await.expect("found");
        assert_eq!(upload.written(), 3);
        let digest = super::super::blobs::digest_of(Algorithm::Sha512, b"abc");
        let (_, path, size) = upload.finish(&digest).await.expect("right");
        assert_eq!((fs::read(path).expect("read"), size), (b"abc".to_vec(), 3));
    }

    #[tokio::test]
    async fn wrong_bytes_are_thrown_away() {
        let dir = tempfile::tempdir().expect("temp dir");
        let uploads = Uploads::open(dir.path()).expect("open");
        let mut upload = uploads.begin(&repository(), Algorithm::Sha256).expect("begin");
        let wrong = super::super::blobs::digest_of(Algorithm::Sha256, b"other");
        assert!(matches!(upload.finish(&wrong).await, Err(StorageError::Mismatch { .. })));
        let id = upload.id().to_owned();
        uploads.forget(upload);
        assert!(matches!(uploads.find(&repository(), &id).await, Err(StorageError::NoUpload(_))));
    }

    #[tokio::test]
    async fn names_of_uploads_are_no_paths() {
        let dir = tempfile::tempdir().expect("temp dir");
        let uploads = Uploads::open(dir.path()).expect("open");
        for id in ["", "..", "../../../../../../../../../../etc/passwd", "aaaaaaaa/aaaa/aaaa/aaaa/aaaaaaaaaaaa"] {
            assert!(matches!(uploads.find(&repository(), id).await, Err(StorageError::NoUpload(_))), "{id}");
        }
    }

    #[test]
    fn only_old_uploads_are_purged() {
        let dir = tempfile::tempdir().expect("temp dir");
        let uploads = Uploads::open(dir.path()).expect("open");
        drop(uploads.begin(&repository(), Algorithm::Sha256).expect("begin"));
        assert_eq!((uploads.purge(Duration::from_secs(60)), uploads.count()), (0, 1));
        assert_eq!((uploads.purge(Duration::ZERO), uploads.count()), (1, 0));
    }
}
