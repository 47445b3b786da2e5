//! What happened, as the documents say it that Docker's registry sends: envelopes of events.

use serde::Serialize;

use crate::{auth::Caller, registry::Request};

/// The media type of an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";

/// What a server is sent: events that are JSON already.
pub fn envelope<'a>(events: impl Iterator<Item = &'a str>) -> String {
    format!("{{\"events\":[{}]}}", events.collect::<Vec<_>>().join(","))
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub id: String,
    pub timestamp: String,
    pub action: Action,
    pub target: Target,
    pub request: Asked,
    pub actor: Actor,
    pub source: Source,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Pull,
    Push,
    Mount,
    Delete,
}

/// With what.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The same as `size`, for older readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    pub repository: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from_repository: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

/// By which request.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    pub id: String,
    pub addr: String,
    pub host: String,
    pub method: String,
    pub useragent: String,
}

/// By whom.
#[derive(Clone, Debug, Serialize)]
pub struct Actor {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// At which registry.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    pub addr: String,
    #[serde(rename = "instanceID")]
    pub instance: String,
}

impl Target {
    /// A blob or manifest of so many bytes.
    pub fn of(repository: &str, media_type: &str, digest: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size: Some(size),
            length: Some(size),
            repository: repository.to_owned(),
            ..Self::default()
        }
    }
}

impl Event {
    /// Something that was done for a request just now. `part` is where the target is within its repository: `blobs` or `manifests`.
    pub fn new(request: &Request<'_>, action: Action, part: &str, mut target: Target, instance: &str) -> Self {
        let header = |name| request.head.header(&name).unwrap_or_default().to_owned();
        let host = header(::http::header::HOST);
        if !target.digest.is_empty() {
            let (scheme, repository, digest) = (request.peer.scheme, &target.repository, &target.digest);
            target.url = format!("{scheme}://{host}/v2/{repository}/{part}/{digest}");
        }
        let name = match request.caller {
            Caller::User(name) | Caller::Token { user: Some(name), .. } => name.clone(),
            Caller::Anonymous | Caller::Token { user: None, .. } => String::new(),
        };
        Self {
            id: crate::storage::uploads::random_id(),
            timestamp: jiff::Timestamp::now().to_string(),
            action,
            target,
            request: Asked {
                id: crate::storage::uploads::random_id(),
                addr: request.peer.address.clone(),
                host: host.clone(),
                method: request.head.method.to_string(),
                useragent: header(::http::header::USER_AGENT),
            },
            actor: Actor { name },
            source: Source { addr: host, instance: instance.to_owned() },
        }
    }
}
