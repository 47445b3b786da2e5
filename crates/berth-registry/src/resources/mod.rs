//! One file per resource of the API. Each only reads the request, asks the storage, and words the answer.

pub mod base;
pub mod blobs;
pub mod catalog;
pub mod collection;
pub mod manifests;
pub mod page;
pub mod paging;
pub mod referrers;
pub mod search;
pub mod tags;
pub mod token;
pub mod uploads;

use ::http::{HeaderMap, header};
use berth_model::Digest;
use berth_store::RepositoryId;

use crate::{
    names::RepositoryName,
    refusal::{Code, Refusal},
    registry::Request,
};

/// The repository's row.
///
/// # Errors
/// `NAME_UNKNOWN`.
fn known(request: Request<'_>, name: &RepositoryName) -> Result<RepositoryId, Refusal> {
    let found = request.registry.storage.read(|view| view.repository(name.as_str()))?;
    found.ok_or_else(|| name_unknown(name))
}

fn name_unknown(name: &RepositoryName) -> Refusal {
    Refusal::new(Code::NameUnknown, "repository name not known to registry")
        .detail(serde_json::json!({"name": name.as_str()}))
}

/// Whether the client already has what this digest names. RFC 9110, section 13.1.2.
fn is_unchanged(headers: &HeaderMap, digest: &Digest) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest.as_str()
    })
}
