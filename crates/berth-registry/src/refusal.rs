//! What a client is told when a request is not done: status, code and message. Section "Error Codes".

use std::fmt;

use ::http::StatusCode;
use serde_json::{Value, json};

use crate::{
    http::response::Response,
    names::{InvalidName, InvalidReference, InvalidTag},
    storage::StorageError,
};

/// The codes of the distribution specification, and those that older registries added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No such blob in the repository.
    BlobUnknown,
    /// The upload cannot go on.
    BlobUploadInvalid,
    /// No such upload.
    BlobUploadUnknown,
    /// Bytes and digest do not match, or the digest is none.
    DigestInvalid,
    /// The manifest needs a blob or manifest that is not here.
    ManifestBlobUnknown,
    /// The manifest does not parse or check.
    ManifestInvalid,
    /// No such manifest in the repository.
    ManifestUnknown,
    /// A bad name of a repository.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// Lengths do not match.
    SizeInvalid,
    /// A bad tag.
    TagInvalid,
    /// A login is needed.
    Unauthorized,
    /// Not allowed.
    Denied,
    /// Not done here.
    Unsupported,
    /// Too many at once.
    TooManyRequests,
    /// A bad number of results.
    PaginationNumberInvalid,
    /// The server's own fault.
    Unknown,
    /// The server cannot do it now.
    Unavailable,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TagInvalid => "TAG_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Code::Unknown => "UNKNOWN",
            Code::Unavailable => "UNAVAILABLE",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown
            | Code::BlobUploadUnknown
            | Code::ManifestBlobUnknown
            | Code::ManifestUnknown
            | Code::NameUnknown => StatusCode::NOT_FOUND,
            Code::BlobUploadInvalid
            | Code::DigestInvalid
            | Code::ManifestInvalid
            | Code::NameInvalid
            | Code::SizeInvalid
            | Code::TagInvalid
            | Code::PaginationNumberInvalid => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a request is not done.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: StatusCode,
    errors: Vec<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with the usual status of its code.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            status: code.status(),
            errors: vec![json!({"code": code.word(), "message": message.to_string()})],
            headers: Vec::new(),
        }
    }

    /// Another status than the usual one.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Details for programs.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        if let Some(Value::Object(error)) = self.errors.last_mut() {
            error.insert("detail".to_owned(), detail);
        }
        self
    }

    /// Another header of the answer.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Also says what `other` says.
    #[must_use]
    pub fn and(mut self, other: Refusal) -> Self {
        self.errors.extend(other.errors);
        self
    }

    /// The answer.
    pub fn response(self) -> Response {
        let body = Response::json(self.status, &json!({"errors": self.errors}));
        self.headers.into_iter().fold(body, |response, (name, value)| response.with(name, value))
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Refusal::new(Code::NameInvalid, error)
    }
}

impl From<InvalidTag> for Refusal {
    fn from(error: InvalidTag) -> Self {
        Refusal::new(Code::TagInvalid, error)
    }
}

impl From<InvalidReference> for Refusal {
    fn from(error: InvalidReference) -> Self {
        match error {
            InvalidReference::Digest(error) => error.into(),
            InvalidReference::Tag(error) => error.into(),
        }
    }
}

impl From<berth_model::InvalidDigest> for Refusal {
    fn from(error: berth_model::InvalidDigest) -> Self {
        Refusal::new(Code::DigestInvalid, error)
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        let code = match &error {
            StorageError::Mismatch { .. } => Code::DigestInvalid,
            StorageError::NoUpload(_) => Code::BlobUploadUnknown,
            StorageError::UploadBusy(_) => Code::TooManyRequests,
            StorageError::Client(_) => Code::BlobUploadInvalid,
            StorageError::Full { .. } => Code::Unavailable,
            _ => Code::Unknown,
        };
        match code {
            Code::Unknown | Code::Unavailable => {
                // What a path on this machine is called is not for everybody.
                tracing::error!(%error, "request failed");
                let message = match code {
                    Code::Unavailable => "no space left in the registry",
                    _ => "the registry cannot do this now: its log says why",
                };
                let refusal = Refusal::new(code, message);
                if code == Code::Unavailable { refusal.status(StatusCode::INSUFFICIENT_STORAGE) } else { refusal }
            }
            Code::TooManyRequests => Refusal::new(code, error).with("Retry-After", "1"),
            _ => Refusal::new(code, error),
        }
    }
}
