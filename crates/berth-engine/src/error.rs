//! Why the engine did not do what it was asked. The texts are part of the interface: Docker's, where clients know them.

use std::{io, path::PathBuf};

use berth_model::{ErrorKind, lifecycle::Failure};

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container of that name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No exec of that id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No volume of that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// No network of that name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// Several ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousPrefix(String),
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Its holder.
        id: String,
    },
    /// The container has no process.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// It is already so; nothing was done.
    #[error("nothing to do")]
    NotModified,
    /// The container could not be started. The container remembers it.
    #[error("{}", .0.message)]
    Start(Failure),
    /// The request, or the state of things, does not allow it.
    #[error("{message}")]
    Refused {
        /// Which way.
        kind: ErrorKind,
        /// One line that names the object and the reason.
        message: String,
    },
    /// The image store's reason.
    #[error(transparent)]
    Image(#[from] berth_image::ImageError),
    /// The network's reason.
    #[error(transparent)]
    Network(#[from] berth_net::NetError),
    /// An archive's reason.
    #[error(transparent)]
    Archive(#[from] berth_archive::ArchiveError),
    /// The layer trees' reason.
    #[error(transparent)]
    Snapshot(#[from] berth_snapshot::SnapshotError),
    /// The database's reason.
    #[error(transparent)]
    Store(#[from] berth_store::StoreError),
    /// The shim's reason.
    #[error("container {id}: {source}")]
    Shim {
        /// The container.
        id: String,
        /// What the shim said, or why it could not be asked.
        source: berth_proto::client::CallError,
    },
    /// A file of the engine could not be worked with.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The engine is going down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl EngineError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::NoSuchContainer(_)
            | EngineError::NoSuchExec(_)
            | EngineError::NoSuchVolume(_)
            | EngineError::NoSuchNetwork(_) => ErrorKind::NotFound,
            EngineError::AmbiguousPrefix(_) => ErrorKind::Invalid,
            EngineError::NameInUse { .. } | EngineError::NotRunning(_) => ErrorKind::Conflict,
            EngineError::NotModified => ErrorKind::NotModified,
            // Docker answers a start that fails because of the request (no such program, bad mount) with 400.
            EngineError::Start(failure) => match failure.code {
                126 | 127 => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            },
            EngineError::Refused { kind, .. } => *kind,
            EngineError::Image(error) => error.kind(),
            EngineError::Network(error) => error.kind(),
            EngineError::Archive(error) => error.kind(),
            EngineError::Snapshot(error) => error.kind(),
            EngineError::Store(error) => error.kind(),
            EngineError::Shim { .. } | EngineError::Io { .. } => ErrorKind::Internal,
            EngineError::ShuttingDown => ErrorKind::Unavailable,
        }
    }

    /// A refusal of a request that is wrong in itself.
    pub fn invalid(message: impl Into<String>) -> Self {
        EngineError::Refused { kind: ErrorKind::Invalid, message: message.into() }
    }

    /// A refusal because of the state an object is in.
    pub fn conflict(message: impl Into<String>) -> Self {
        EngineError::Refused { kind: ErrorKind::Conflict, message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        EngineError::Refused { kind: ErrorKind::Internal, message: message.into() }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| EngineError::Io { what, path, source }
    }
}
