//! Why a database did not do what it was asked.

use std::path::PathBuf;

use berth_model::ErrorKind;

/// An error of a database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or set up.
    #[error("opening the database {}: {source}", .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A directory of records cannot be used.
    #[error("records in {}: {reason}", .path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer engine wrote it.
    #[error("the database {} has format {found}, this engine knows up to {known}: use the newer engine, or another root directory", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The disk is full.
    #[error("no space left for {}: free some in its directory", .path.display())]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// A statement failed.
    #[error("database: {source}")]
    Sqlite {
        /// SQLite's reason.
        #[from]
        source: rusqlite::Error,
    },
    /// A record cannot be read back.
    #[error("database: the record {what} cannot be read: {reason}")]
    Record {
        /// Which record.
        what: String,
        /// Why.
        reason: String,
    },
    /// The writer has ended: the engine is going down.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Closed => ErrorKind::Unavailable,
            _ if self.is_unique_violation() => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        }
    }

    /// Whether a row with that key is there already.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, StoreError::Sqlite { source: rusqlite::Error::SqliteFailure(code, _) }
            if code.code == rusqlite::ErrorCode::ConstraintViolation)
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, StoreError::Sqlite { source: rusqlite::Error::SqliteFailure(code, _) }
            if code.code == rusqlite::ErrorCode::DiskFull)
    }
}
