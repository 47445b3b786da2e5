//! Why the storage did not do what it was asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use berth_model::Digest;
use berth_store::StoreError;

/// An error of the storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another server holds the directory.
    #[error("another registry server{} uses {}: stop it, or name another directory", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .root.display())]
    InUse {
        /// The directory.
        root: PathBuf,
        /// The other's process.
        pid: Option<u32>,
    },
    /// The directory holds something else.
    #[error("{} is not a registry's directory: it holds {found}; name an empty directory, or a new one", .root.display())]
    Foreign {
        /// The directory.
        root: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// A newer program wrote the directory.
    #[error("the registry {} has format {found}, this program knows up to {known}: use the newer program", .root.display())]
    Newer {
        /// The directory.
        root: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The file system refuses.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left for {}: free some, or collect what is unneeded", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The index refuses.
    #[error(transparent)]
    Index(#[from] StoreError),
    /// Bytes and digest differ.
    #[error("provided digest did not match uploaded content: expected {expected}, found {found}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// There is no such upload.
    #[error("no such upload: {0}; it is finished, cancelled, or too old")]
    NoUpload(String),
    /// Another request writes to the upload.
    #[error("another request writes to the upload {0}")]
    UploadBusy(String),
    /// The client did not send what it said.
    #[error("the upload broke off: {0}")]
    Client(io::Error),
    /// The server is going down.
    #[error("the server is stopping")]
    Stopping,
}

impl StorageError {
    /// An error of the file system while doing something to a path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { action, path, source },
        }
    }
}
