//! What can go wrong with an archive: one line each, with the member and the reason.

use std::io;

use berth_model::ErrorKind;

/// An archive could not be read, applied or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream ended too early.
    #[error("unexpected EOF: the archive ends inside {0}")]
    Truncated(String),
    /// A header that is none.
    #[error("invalid tar header at byte {offset}: {reason}")]
    Header {
        /// Where the header begins in the uncompressed archive.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A member that would be written outside the root, or that has an impossible name.
    #[error("refusing archive member {name:?}: {reason}")]
    Refused {
        /// The member's name as it stands in the archive.
        name: String,
        /// Why.
        reason: String,
    },
    /// More data than was allowed.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The stream could not be read.
    #[error("reading the archive: {0}")]
    Read(#[source] io::Error),
    /// The compressed stream is damaged.
    #[error("decompressing {format} data: {source}")]
    Decompress {
        /// `gzip`, `zstd`, `bzip2` or `xz`.
        format: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{action} {path:?}: {source}")]
    Write {
        /// What was tried, `creating` and the like.
        action: &'static str,
        /// On which path, from the root of the layer.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("writing the archive: {0}")]
    Output(#[source] io::Error),
}

impl ArchiveError {
    /// Where it belongs among the kinds of errors.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated(_) | Self::Header { .. } | Self::Refused { .. } | Self::TooLarge { .. } => {
                ErrorKind::Invalid
            }
            Self::Decompress { .. } => ErrorKind::Invalid,
            Self::Read(_) | Self::Write { .. } | Self::Output(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn refused(name: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused { name: lossy(name), reason: reason.into() }
    }

    pub(crate) fn write(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { action, path: lossy(path), source: source.into() }
    }
}

/// Errors cross `std::io::Read` on their way through decoders and pipes; this carries them through unchanged.
pub(crate) fn into_io(error: ArchiveError) -> io::Error {
    io::Error::other(error)
}

/// The way back of [`into_io`]; any other error becomes [`ArchiveError::Read`].
pub(crate) fn from_io(error: io::Error) -> ArchiveError {
    match error.downcast::<ArchiveError>() {
        Ok(own) => own,
        Err(foreign) => ArchiveError::Read(foreign),
    }
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
