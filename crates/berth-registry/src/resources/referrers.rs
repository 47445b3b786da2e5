//! Manifests that say something about another one. Section "Listing Referrers".
//!
//! Every manifest with a subject is noted when it is pushed, so what clients of older registries keep under a tag of their own is here as
//! well; the tag is theirs to keep.

use ::http::StatusCode;
use berth_model::Digest;
use berth_oci::image::media_type;
use berth_store::ManifestRow;
use serde_json::{Value, json};

use crate::{
    auth::rules::Action,
    http::{query, response::Response},
    names::RepositoryName,
    refusal::Refusal,
    registry::Request,
};

/// Entries of one page, and bytes of their annotations, so that a page stays below the 4 MiB that clients take.
const MAX_ENTRIES: usize = 1000;
const MAX_ANNOTATIONS: usize = 2 << 20;

/// `GET /v2/NAME/referrers/DIGEST`: never 404, so that clients do not look for a tag instead.
pub fn get(request: Request<'_>, name: &RepositoryName, subject: &Digest) -> Result<Response, Refusal> {
    request.may(&[Action::Pull], name)?;
    let kind = request.head.query.get("artifactType").filter(|kind| !kind.is_empty());
    let after = request.head.query.get("last").unwrap_or_default();
    let storage = &request.registry.storage;
    let rows = storage.read(|view| match view.repository(name.as_str())? {
        Some(repository) => view.referrers(repository, subject, kind, after, MAX_ENTRIES + 1),
        None => Ok(Vec::new()),
    })?;
    let count = fitting(&rows);
    let entries: Vec<Value> = rows[..count].iter().map(entry).collect();
    let document = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries});
    let body = serde_json::to_vec(&document).unwrap_or_default();
    let mut response = Response::text(StatusCode::OK, media_type::INDEX, body);
    if kind.is_some() {
        response = response.with("OCI-Filters-Applied", "artifactType");
    }
    if let Some(last) = rows[..count].last().filter(|_| count < rows.len()) {
        let filter = kind.map(|kind| format!("&artifactType={}", query::encode(kind))).unwrap_or_default();
        let next = format!(
            "</v2/{name}/referrers/{subject}?last={}{filter}>; rel=\"next\"",
            query::encode(last.digest.as_str())
        );
        response = response.with("Link", next);
    }
    Ok(response)
}

/// How many entries fit a page; always one.
fn fitting(rows: &[ManifestRow]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&ManifestRow| {
        bytes += row.annotations.as_ref().map_or(0, String::len);
        bytes <= MAX_ANNOTATIONS
    };
    rows.iter().take(MAX_ENTRIES).take_while(fits).count().max(1).min(rows.len())
}

fn entry(row: &ManifestRow) -> Value {
    let mut entry = json!({"mediaType": row.media_type, "digest": row.digest.as_str(), "size": row.size});
    if let Some(kind) = &row.artifact {
        entry["artifactType"] = json!(kind);
    }
    if let Some(annotations) = row.annotations.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        entry["annotations"] = annotations;
    }
    entry
}
