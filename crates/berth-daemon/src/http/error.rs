//! Why a request is refused, and the one place where a kind of error becomes a status.

use berth_model::{ErrorKind, plain_reasons};
use http::StatusCode;

/// A refusal as the client will see it: a kind, which decides the status, and one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// The line for the user.
    pub message: String,
}

impl ApiError {
    /// A refusal of some kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError { kind, message: plain_reasons(&message.into()).into_owned() }
    }

    /// A wrong request.
    pub fn invalid(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Invalid, message)
    }

    /// Something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::NotFound, message)
    }

    /// Something that does not fit the state of an object.
    pub fn conflict(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Conflict, message)
    }

    /// Something that this engine does not do yet.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::NotImplemented, message)
    }

    /// A fault of the engine itself.
    pub fn internal(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Internal, message)
    }

    /// The same refusal with words before its own.
    #[must_use]
    pub fn context(self, prefix: impl std::fmt::Display) -> Self {
        ApiError { kind: self.kind, message: format!("{prefix}: {}", self.message) }
    }

    /// The status that this refusal answers.
    pub fn status(&self) -> StatusCode {
        status(self.kind)
    }
}

/// The only place in the daemon where an error becomes a status (B014).
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<berth_engine::EngineError> for ApiError {
    fn from(error: berth_engine::EngineError) -> Self {
        ApiError::new(error.kind(), error.to_string())
    }
}
