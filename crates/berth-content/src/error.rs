//! Why content could not be kept or found.

use std::{
    io,
    path::{Path, PathBuf},
};

use berth_model::{Digest, ErrorKind};
use berth_store::StoreError;

/// An error of the content store.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It is not here.
    #[error("content {digest} not found")]
    NotFound {
        /// Which.
        digest: Digest,
    },
    /// The bytes are others than were promised.
    #[error("content has digest {found}, but should have {expected}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// There are more or fewer bytes than were promised.
    #[error("content {digest} has {found} bytes, but should have {expected}")]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What was promised.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A document is larger than any such document should be.
    #[error("content {digest} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk is full.
    #[error("no space left in {}: {written} bytes of a blob were written, and more are to come", .directory.display())]
    Full {
        /// Where.
        directory: PathBuf,
        /// How far it went.
        written: u64,
    },
    /// The file system refused.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ContentError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Mismatch { .. } | Self::WrongSize { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Full { .. } | Self::Io { .. } => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    /// What was tried with which file, to be completed with the reason.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
