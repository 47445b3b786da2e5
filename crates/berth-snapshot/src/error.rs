//! Why a layer tree could not be worked with.

use std::{
    io,
    path::{Path, PathBuf},
};

use berth_model::ErrorKind;

/// An error of the layer trees.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No writable layer was prepared for that container, or it did not survive.
    #[error("container {id} has no writable layer")]
    NotPrepared {
        /// The container.
        id: String,
    },
    /// The disk is full.
    #[error("no space left in {}, needed for {action} {}", .directory.display(), .path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Where space is needed.
        directory: PathBuf,
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
}

impl SnapshotError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotPrepared { .. } => ErrorKind::NotFound,
            Self::Full { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull => {
                    let directory = path.parent().unwrap_or(&path).to_owned();
                    Self::Full { action, path, directory }
                }
                _ => Self::Io { action, path, source },
            }
        }
    }
}
