//! Why a call to the daemon failed.

use std::io;

/// Why a call to the daemon failed. The texts are those that docker's client prints, with our name.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the endpoint.
    #[error(
        "failed to connect to the berth API at {endpoint}; check if the path is correct and if the daemon is running: {source}"
    )]
    Connect {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The endpoint exists and this user may not use it.
    #[error("permission denied while trying to connect to the berth API at {endpoint}")]
    Permission {
        /// The endpoint as the user would write it.
        endpoint: String,
    },
    /// The name in a `tcp://` address has no address.
    #[error("cannot find the address of host {host}: {reason}")]
    UnknownHost {
        /// The name that was looked up.
        host: String,
        /// What was tried.
        reason: String,
    },
    /// Certificates could not be read, or the peer's could not be trusted.
    #[error("TLS with {endpoint}: {reason}")]
    Tls {
        /// The endpoint, or the file that could not be read.
        endpoint: String,
        /// What failed.
        reason: String,
    },
    /// The daemon answered with an error.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// The HTTP status.
        status: u16,
        /// The text of the daemon.
        message: String,
    },
    /// The daemon reported a failure inside a stream that had begun well.
    #[error("{message}")]
    Stream {
        /// The text of the daemon.
        message: String,
    },
    /// The connection broke in the middle of an exchange.
    #[error("error during connect to {endpoint}: {source}")]
    Broken {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The other side does not speak HTTP as we know it.
    #[error("the daemon's answer is not understood: {0}")]
    Protocol(String),
    /// A document of the daemon has another shape than the API says.
    #[error("the daemon's answer to {request} is not understood: {source}")]
    Document {
        /// Method and path of the request.
        request: String,
        /// Where the document differs.
        source: serde_json::Error,
    },
    /// The data to send could not be read, or what came could not be written.
    #[error(transparent)]
    Local(#[from] io::Error),
}

impl ClientError {
    /// The HTTP status, where the daemon answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Daemon { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nothing listens at the endpoint: no socket, or a socket that a dead daemon left behind.
    pub fn is_nobody_there(&self) -> bool {
        matches!(self, ClientError::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }
}
