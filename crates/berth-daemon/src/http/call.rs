//! One request after routing: the only thing an endpoint gets.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use serde::de::DeserializeOwned;

use crate::daemon::Daemon;
use crate::http::body::{self, RequestBody, Upload};
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::version::ApiVersion;

/// A request whose method, route, object, version and caller are known.
pub struct Call {
    /// The daemon that was asked.
    pub daemon: Arc<Daemon>,
    /// Name of the operation in the API's description.
    pub operation: &'static str,
    /// The object that the path names, decoded; empty when it names none.
    pub object: String,
    /// The version that the client speaks.
    pub version: ApiVersion,
    /// Query.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, until somebody takes it.
    pub body: Option<RequestBody>,
    /// Who asks.
    pub peer: Peer,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A process of this host.
    Local {
        /// Its user.
        uid: u32,
        /// Its process id; 0 when it is in no namespace of ours.
        pid: i32,
    },
    /// A host that nobody authenticated.
    Remote {
        /// Its address.
        address: SocketAddr,
    },
    /// A host that showed a certificate of our authority.
    Certified {
        /// Its address.
        address: SocketAddr,
        /// The certificate, in DER.
        certificate: Arc<[u8]>,
    },
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Local { uid, pid } => write!(f, "uid={uid} pid={pid}"),
            Peer::Remote { address } => write!(f, "{address}"),
            Peer::Certified { address, certificate } => {
                write!(f, "{address} certificate of {} bytes", certificate.len())
            }
        }
    }
}

impl Call {
    /// The span in which everything about this request is logged.
    pub fn span(&self) -> tracing::Span {
        let Call { operation, object, version, peer, .. } = self;
        tracing::info_span!("request", operation, object, %version, %peer)
    }

    /// Takes the JSON document of the body; `None` when the body is empty.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn document<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        match self.body.take() {
            Some(RequestBody::Whole(bytes)) => body::document(&self.headers, &bytes),
            Some(RequestBody::Incoming(_)) => Err(ApiError::internal("an upload is no document")),
            None => Ok(None),
        }
    }

    /// Takes the body as an upload that blocking code can read.
    ///
    /// # Errors
    /// An internal one if the endpoint is not declared to take uploads.
    pub fn upload(&mut self) -> Result<Upload, ApiError> {
        match self.body.take() {
            Some(RequestBody::Incoming(incoming)) => Ok(Upload::new(incoming)),
            _ => Err(ApiError::internal("the request body is no upload")),
        }
    }

    /// Whether the request has a body.
    pub fn has_body(&self) -> bool {
        match &self.body {
            Some(RequestBody::Whole(bytes)) => !bytes.is_empty(),
            Some(RequestBody::Incoming(incoming)) => !hyper::body::Body::is_end_stream(incoming),
            None => false,
        }
    }

    /// The value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client offers to leave HTTP.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(http::header::UPGRADE)
    }
}
