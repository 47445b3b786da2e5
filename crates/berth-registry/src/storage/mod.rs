//! What a registry keeps on disk: blobs by digest, uploads on their way, the index, and a plain OCI layout for each repository.
//!
//! ```text
//! DIR/
//!   berth-registry.json       the format
//!   registry.lock             held by the one server
//!   index.db                  repositories, manifests, tags (see berth-store)
//!   blobs/<algorithm>/<hex>   every blob and manifest, once
//!   uploads/<repository>/<id> what is on its way
//!   repositories/<name>/      an OCI layout; `/` in names is `+`, blobs are hard links
//! ```
//!
//! Order of things: bytes are synced, then their name, then the row that counts; only then the client hears of it. So a crash loses
//! nothing that was acknowledged, and leaves at most bytes that no row names, which a collection removes.

pub mod blobs;
pub mod collect;
mod error;
pub mod layout;
mod lock;
pub mod uploads;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use berth_model::{Digest, Timestamp};
use berth_store::{BlobRow, RegistryChange, RegistryIndex, RegistryView, RepositoryId, StoreError};
use tokio::sync::{Notify, oneshot};

pub use error::StorageError;

use crate::names::RepositoryName;
use blobs::Blobs;
use lock::DirectoryLock;
use uploads::Uploads;

/// The directory's format that this program writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "berth-registry.json";

/// A registry's directory, held by this process.
pub struct Storage {
    root: PathBuf,
    index: RegistryIndex,
    /// Blobs and manifests.
    pub blobs: Blobs,
    /// Uploads on their way.
    pub uploads: Uploads,
    /// Woken when repositories have changed.
    pub changed: Notify,
    /// When blobs that no manifest needs were last asked for: a client may be about to push a manifest that does.
    touched: Mutex<HashMap<(RepositoryId, Digest), Instant>>,
    opened: SystemTime,
    _lock: DirectoryLock,
}

impl Storage {
    /// Opens a directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another server holds it; [`StorageError::Foreign`] if it holds something else.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        fs::create_dir_all(root).map_err(StorageError::io("making", root))?;
        check_format(root)?;
        let lock = DirectoryLock::take(root)?;
        let format = serde_json::json!({"format": FORMAT}).to_string();
        let file = root.join(FORMAT_FILE);
        if !file.exists() {
            fs::write(&file, format).map_err(StorageError::io("writing", &file))?;
        }
        let blobs = Blobs::open(&root.join("blobs"))?;
        blobs.remove_partials();
        let uploads = Uploads::open(&root.join("uploads"))?;
        let layouts = root.join("repositories");
        fs::create_dir_all(&layouts).map_err(StorageError::io("making", &layouts))?;
        Ok(Self {
            root: root.to_owned(),
            index: RegistryIndex::open(&root.join("index.db"))?,
            blobs,
            uploads,
            changed: Notify::new(),
            touched: Mutex::default(),
            opened: SystemTime::now(),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads a snapshot of the index. Quick enough to be done on a thread that serves: its pages are in the kernel's cache.
    pub fn read<T>(&self, query: impl FnOnce(&RegistryView<'_>) -> Result<T, StoreError>) -> Result<T, StorageError> {
        Ok(self.index.read(query)?)
    }

    /// Changes the index, and waits until the change is synced.
    pub async fn change<T, F>(&self, change: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let result = self.change_quietly(change).await;
        self.changed.notify_one();
        result
    }

    /// Changes what no layout shows, and waits until it is synced. For threads that may wait.
    pub fn change_now<T, F>(&self, change: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        Ok(self.index.change_now(change)?)
    }

    /// Changes what no layout shows; `done` is called once it is synced, or was taken back.
    pub fn change_later<T, F, D>(&self, change: F, done: D)
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
        D: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.index.change(change, done);
    }

    /// As [`Self::change`], but changes nothing that a layout would show.
    async fn change_quietly<T, F>(&self, change: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.index.change(change, move |result| {
            // A request whose client is gone does not need the answer.
            let _ = tell.send(result);
        });
        Ok(told.await.unwrap_or(Err(StoreError::Closed))?)
    }

    /// Checks the bytes of an upload against a digest, and makes them a blob of a repository. Wrong ones are thrown away.
    pub async fn commit(
        &self,
        mut upload: uploads::Upload,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StorageError> {
        let hold = self.blobs.hold(digest);
        let (file, path, size) = match upload.finish(digest).await {
            Ok(finished) => finished,
            Err(error) => {
                if matches!(error, StorageError::Mismatch { .. }) {
                    self.uploads.forget(upload);
                }
                return Err(error);
            }
        };
        let blobs = self.blobs.clone();
        // The hold must outlive the row that makes it needless.
        let hold = blocking(move || blobs.adopt(&file, &path, &hold).map(|()| hold)).await?;
        let row = BlobRow { digest: digest.clone(), size, added: now() };
        let name = name.clone();
        self.change(move |change| {
            let repository = change.repository(name.as_str())?;
            change.add_blob(repository, &row)
        })
        .await?;
        drop(hold);
        self.uploads.forget(upload);
        Ok(())
    }

    /// A blob was asked for: for a while it is not collected, though no manifest needs it.
    pub fn touch(&self, repository: RepositoryId, digest: &Digest) {
        let needed = self.read(|view| view.is_needed(repository, digest)).unwrap_or(false);
        if !needed {
            let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.insert((repository, digest.clone()), Instant::now());
        }
    }
}

/// Now, as records have it.
pub fn now() -> i64 {
    Timestamp::from(SystemTime::now()).nanos()
}

/// Runs work that waits for the disk off the threads that serve.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(StorageError::Stopping),
    }
}

/// Refuses a directory of something else before anything is written to it.
fn check_format(root: &Path) -> Result<(), StorageError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let file = root.join(FORMAT_FILE);
    match fs::read(&file) {
        Ok(bytes) => match serde_json::from_slice::<Format>(&bytes) {
            Ok(found) if found.format == FORMAT => Ok(()),
            Ok(found) => Err(StorageError::Newer { root: root.to_owned(), found: found.format, known: FORMAT }),
            Err(_) => Err(StorageError::Foreign { root: root.to_owned(), found: FORMAT_FILE.to_owned() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let entries = fs::read_dir(root).map_err(StorageError::io("reading", root))?;
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            match names.filter(|name| name != lock::LOCK_FILE && name != "lost+found").min() {
                None => Ok(()),
                Some(found) => Err(StorageError::Foreign { root: root.to_owned(), found }),
            }
        }
        Err(error) => Err(StorageError::io("reading", &file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_server() {
        let dir = tempfile::tempdir().expect("temp dir");
        let held = Storage::open(dir.path()).expect("open");
        let error = Storage::open(dir.path()).err().expect("held").to_string();
        assert!(error.contains("another registry server") && error.contains("uses"), "{error}");
        drop(held);
        Storage::open(dir.path()).expect("free again");
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::create_dir(dir.path().join("docker")).expect("directory");
        let error = Storage::open(dir.path()).err().expect("foreign").to_string();
        assert!(error.contains("holds docker"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join(FORMAT_FILE), r#"{"format":7}"#).expect("write");
        let error = Storage::open(dir.path()).err().expect("newer").to_string();
        assert!(error.contains("has format 7, this program knows up to 1"), "{error}");
    }
}
