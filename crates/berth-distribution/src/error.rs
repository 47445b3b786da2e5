//! Why a registry did not give or take something. The texts are those that users of Docker know.

use std::io;

use berth_model::ErrorKind;
use serde::Deserialize;

/// An error of talking to a registry.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// No answer came.
    #[error("failed to do request: {method} \"{url}\": {source}")]
    Request {
        /// `Get`, `Head`, `Put`.
        method: String,
        /// Of whom what was asked.
        url: String,
        /// Why there is no answer.
        source: io::Error,
    },
    /// It is not there.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry wants to know who asks, and nobody told.
    #[error("authorization failed: no basic auth credentials")]
    NoCredentials,
    /// The registry knows who asks, and does not allow it.
    #[error("{reason}: authorization failed")]
    Denied {
        /// What the registry says: `insufficient_scope`, `denied: requested access to the resource is denied`.
        reason: String,
    },
    /// Credentials were sent and refused.
    #[error("unexpected status from {method} request to {url}: 401 Unauthorized{}", shown(.reason))]
    Refused {
        /// `HEAD`.
        method: String,
        /// What was asked.
        url: String,
        /// What the registry says.
        reason: String,
    },
    /// Too many requests.
    #[error("unexpected status from {method} request to {url}: 429 Too Many Requests{}", shown(.reason))]
    RateLimited {
        /// `HEAD`.
        method: String,
        /// What was asked.
        url: String,
        /// What the registry says.
        reason: String,
    },
    /// An answer that nobody expected.
    #[error("unexpected status from {method} request to {url}: {status}{}", shown(.reason))]
    Status {
        /// `HEAD`.
        method: String,
        /// What was asked.
        url: String,
        /// With its words: `500 Internal Server Error`.
        status: Status,
        /// What the registry says.
        reason: String,
    },
    /// An answer that is no registry's: a login page, an error page of a proxy.
    #[error(
        "{url} answers with {what} instead of what a registry would say; is there a proxy or a login page between?"
    )]
    NotARegistry {
        /// What was asked.
        url: String,
        /// What came.
        what: String,
    },
    /// A document of a registry is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(String),
    /// The settings of a host cannot be used.
    #[error("{0}")]
    Settings(String),
    /// Nobody wants it any more.
    #[error("context canceled")]
    Cancelled,
}

/// A status with its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match self.0 {
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            204 => "No Content",
            206 => "Partial Content",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Request Entity Too Large",
            416 => "Requested Range Not Satisfiable",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => return write!(f, "{}", self.0),
        };
        write!(f, "{} {words}", self.0)
    }
}

fn shown(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

impl DistributionError {
    /// The coarse kind of this error. A registry's refusal is no fault of the request to the engine.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Settings(_) => ErrorKind::Invalid,
            Self::Denied { .. } => ErrorKind::Forbidden,
            _ => ErrorKind::Internal,
        }
    }

    /// Whether asking once more, or somebody else, may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status.0, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether no registry answered at all.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Request { .. })
    }
}

/// What a registry says in the body of a refusal (`{"errors":[{"code","message"}]}`), in one line; empty if it says nothing readable.
pub(crate) fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(said) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let one = |error: &One| {
        let code = error.code.to_lowercase();
        let code = if code == "toomanyrequests" { code } else { code.replace('_', " ") };
        match (code.is_empty(), error.message.is_empty()) {
            (true, _) => error.message.clone(),
            (false, true) => code,
            (false, false) => format!("{code}: {}", error.message),
        }
    };
    let mut all: Vec<String> = said.errors.iter().map(one).collect();
    all.extend(said.details.filter(|_| all.is_empty()));
    all.retain(|text| !text.is_empty());
    // Whatever a server says stays one line on the user's terminal.
    all.join(", ").chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_becomes_one_line() {
        let body =
            br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[]}]}"#;
        assert_eq!(reason(body), "denied: requested access to the resource is denied");
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached\nyour limit"}]}"#;
        assert_eq!(reason(body), "toomanyrequests: You have reachedyour limit");
        assert_eq!(reason(br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#), "manifest unknown");
        assert_eq!(reason(b"<html>"), "");
        assert_eq!(reason(br#"{"details":"incorrect username or password"}"#), "incorrect username or password");
    }
}
