//! What is checked of a manifest before it is kept, and what is remembered of it.

use berth_model::Digest;
use berth_oci::image::{Descriptor, Index, Manifest, media_type};
use serde_json::Value;

/// Bytes of the largest manifest. Section "Pushing Manifests" asks for at least as much.
pub const MAX_MANIFEST: usize = 4 << 20;
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest invalid: {0}")]
pub struct InvalidManifest(String);

/// What a manifest says that a registry must know.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The media type it is kept with.
    pub media_type: String,
    /// What it needs to be complete: blobs, or the manifests of an index.
    pub needs: Vec<Need>,
    /// What it says something about.
    pub subject: Option<Digest>,
    /// The kind of artifact, as a list of referrers shows it.
    pub artifact: Option<String>,
    /// Its annotations, as JSON.
    pub annotations: Option<String>,
}

/// Something that a manifest needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its address.
    pub digest: Digest,
    /// As the manifest has it, in bytes.
    pub size: u64,
    /// It may be somewhere else: a layer that must not be distributed.
    pub is_foreign: bool,
}

/// Reads and checks a manifest that came with a content type.
///
/// # Errors
/// [`InvalidManifest`] says what is wrong.
pub fn examine(content_type: Option<&str>, bytes: &[u8]) -> Result<Facts, InvalidManifest> {
    let wrong = |reason: String| InvalidManifest(reason);
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if content_type.is_some_and(|text| SCHEMA_1.contains(&text)) {
        return Err(wrong("schema 1 is no longer supported: push the image with a newer client".to_owned()));
    }
    let document: Value = serde_json::from_slice(bytes).map_err(|error| wrong(format!("not JSON: {error}")))?;
    let Some(fields) = document.as_object() else { return Err(wrong("not a JSON object".to_owned())) };
    if fields.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(wrong("schemaVersion must be 2".to_owned()));
    }
    // A document that is both can be read in two ways (CVE-2021-41190).
    let is_image = fields.contains_key("config") || fields.contains_key("layers");
    if is_image && fields.contains_key("manifests") {
        return Err(wrong("it is an image's manifest and an index at once".to_owned()));
    }
    let inner = fields.get("mediaType").and_then(Value::as_str);
    let media_type = match (content_type.filter(|text| !text.is_empty()), inner) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(wrong(format!("its mediaType is {inner:?}, but it was pushed as {outer:?}")));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) if is_image => media_type::MANIFEST,
        (None, None) => return Err(wrong("it has no media type: send a Content-Type".to_owned())),
    };
    let of_document = |error: serde_json::Error| wrong(error.to_string());
    if media_type::is_manifest(media_type) {
        Ok(of_image(media_type, serde_json::from_slice(bytes).map_err(of_document)?))
    } else if media_type::is_index(media_type) {
        if !fields.contains_key("manifests") {
            return Err(wrong("an index must have manifests".to_owned()));
        }
        Ok(of_index(media_type, serde_json::from_slice(bytes).map_err(of_document)?))
    } else {
        let shown: String = media_type.chars().take(128).collect();
        Err(wrong(format!("the media type {shown:?} is not that of a manifest")))
    }
}

fn of_image(media_type: &str, manifest: Manifest) -> Facts {
    let artifact = manifest.artifact_type.filter(|kind| !kind.is_empty());
    // Section "Listing Referrers": an image without a kind of its own is shown as its configuration's.
    let artifact = artifact.or_else(|| Some(manifest.config.media_type.clone()).filter(|kind| !kind.is_empty()));
    Facts {
        media_type: media_type.to_owned(),
        needs: std::iter::once(&manifest.config).chain(&manifest.layers).map(need).collect(),
        subject: manifest.subject.map(|subject| subject.digest),
        artifact,
        annotations: as_json(&manifest.annotations),
    }
}

fn of_index(media_type: &str, index: Index) -> Facts {
    Facts {
        media_type: media_type.to_owned(),
        needs: index.manifests.iter().map(need).collect(),
        subject: index.subject.map(|subject| subject.digest),
        artifact: index.artifact_type.filter(|kind| !kind.is_empty()),
        annotations: as_json(&index.annotations),
    }
}

fn need(descriptor: &Descriptor) -> Need {
    let kind = &descriptor.media_type;
    Need {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        is_foreign: kind.contains(".nondistributable.") || kind.contains(".foreign."),
    }
}

fn as_json(annotations: &std::collections::BTreeMap<String, String>) -> Option<String> {
    if annotations.is_empty() { None } else { serde_json::to_string(annotations).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(content_type: Option<&str>, document: &Value) -> Result<Facts, String> {
        examine(content_type, document.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn descriptor(media_type: &str, n: u8, size: u64) -> Value {
        json!({"mediaType": media_type, "digest": Digest::sha256(&[n; 32]).as_str(), "size": size})
    }

    #[test]
    fn an_image_needs_its_configuration_and_layers() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let document = json!({
            "schemaVersion": 2,
            "config": descriptor("application/x", 1, 2),
            "layers": [descriptor("application/y", 2, 3), descriptor(foreign, 3, 4)],
            "subject": descriptor("application/z", 4, 5),
            "annotations": {"k": "v"},
        });
        let facts = check(Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), &document).expect("fine");
        assert_eq!(facts.media_type, media_type::MANIFEST);
        assert_eq!(
            facts.needs.iter().map(|need| (need.size, need.is_foreign)).collect::<Vec<_>>(),
            [(2, false), (3, false), (4, true)]
        );
        assert_eq!(facts.subject, Some(Digest::sha256(&[4; 32])));
        assert_eq!(
            (facts.artifact.as_deref(), facts.annotations.as_deref()),
            (Some("application/x"), Some(r#"{"k":"v"}"#))
        );
        assert_eq!(check(None, &document).expect("told by its fields").media_type, media_type::MANIFEST);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let image = json!({"schemaVersion": 2, "config": descriptor("c", 1, 2), "layers": []});
        let with = |key: &str, value: Value| {
            let mut document = image.clone();
            document[key] = value;
            document
        };
        let oci = Some(media_type::MANIFEST);
        for (content_type, document, reason) in [
            (oci, json!([]), "not a JSON object"),
            (oci, with("schemaVersion", json!(1)), "schemaVersion must be 2"),
            (oci, with("manifests", json!([])), "at once"),
            (oci, with("mediaType", json!(media_type::INDEX)), "but it was pushed as"),
            (oci, with("config", json!({"digest": "sha256:00", "size": 1})), "invalid digest"),
            (oci, with("config", json!({"digest": Digest::sha256(&[1; 32]).as_str(), "size": -1})), "invalid value"),
            (oci, json!({"schemaVersion": 2}), "missing field `config`"),
            (Some(media_type::INDEX), json!({"schemaVersion": 2}), "must have manifests"),
            (Some("text/html"), image.clone(), "is not that of a manifest"),
            (Some(SCHEMA_1[1]), image.clone(), "schema 1"),
            (None, json!({"schemaVersion": 2, "manifests": []}), "no media type"),
        ] {
            let error = check(content_type, &document).expect_err(reason);
            assert!(error.contains(reason), "{error} lacks {reason}");
        }
        assert!(examine(oci, b"<html>").expect_err("HTML").to_string().contains("not JSON"));
    }
}
