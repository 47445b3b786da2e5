//! Manifests and lists of them, as documents: laid out as docker's clients lay them out, to the byte, because digests are made of them.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_api::auth::RemoteManifest;
use berth_api::descriptor::{Descriptor, Platform};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::CliError;

/// The media types of Docker's own manifests and of their list.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest with what is known about it, as `inspect --verbose` shows it and as it lies in a local list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Known<'a> {
    #[serde(rename = "Ref")]
    reference: &'a str,
    descriptor: &'a Descriptor,
    raw: &'a str,
    #[serde(rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<serde_json::Value>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<serde_json::Value>,
}

impl<'a> Known<'a> {
    pub fn of(manifest: &'a RemoteManifest) -> Result<Self, CliError> {
        let document: serde_json::Value = serde_json::from_str(raw(manifest)?.get()).map_err(|error| broken(&error))?;
        let is_docker = manifest.descriptor.media_type == DOCKER_MANIFEST;
        Ok(Self {
            reference: &manifest.reference,
            descriptor: &manifest.descriptor,
            raw: &manifest.raw,
            docker: is_docker.then(|| document.clone()),
            oci: (!is_docker).then_some(document),
        })
    }
}

/// An index made anew of what is known about its manifests.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    schema_version: u32,
    pub media_type: &'static str,
    manifests: Vec<Member>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    media_type: String,
    size: i64,
    digest: String,
    platform: Platform,
}

impl List {
    pub fn of(manifests: &[RemoteManifest]) -> Self {
        let is_oci = manifests.first().is_some_and(|first| first.descriptor.media_type == OCI_MANIFEST);
        let member = |manifest: &RemoteManifest| {
            let Descriptor { media_type, size, digest, platform, .. } = manifest.descriptor.clone();
            Member { media_type, size, digest, platform: platform.unwrap_or_default() }
        };
        Self {
            schema_version: 2,
            media_type: if is_oci { OCI_INDEX } else { DOCKER_LIST },
            manifests: manifests.iter().map(member).collect(),
        }
    }

    /// Its bytes, without a line's end.
    pub fn text(&self) -> Result<String, CliError> {
        escaped("   ", self)
    }
}

/// The bytes of a manifest, which must be a document.
pub(super) fn raw(manifest: &RemoteManifest) -> Result<Box<RawValue>, CliError> {
    let bytes = STANDARD.decode(&manifest.raw).map_err(|error| CliError::message(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| broken(&error))
}

pub(super) fn broken(error: &serde_json::Error) -> CliError {
    CliError::message(format!("the manifest is no JSON document: {error}"))
}

/// Prints a document of our own.
pub(super) fn write(out: &mut dyn Write, indent: &str, document: &impl Serialize) -> Result<(), CliError> {
    Ok(writeln!(out, "{}", escaped(indent, document)?)?)
}

/// With the characters escaped that docker's clients escape.
fn escaped(indent: &str, document: &impl Serialize) -> Result<String, CliError> {
    // These stand in strings only.
    let text = laid_out(indent, document)?;
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

/// A document with one field a line.
pub(super) fn laid_out(indent: &str, document: &(impl Serialize + ?Sized)) -> Result<String, CliError> {
    let value = serde_json::to_string(document).and_then(|text| serde_json::from_str::<serde_json::Value>(&text));
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.and_then(|value| value.serialize(&mut serializer)).map_err(|error| broken(&error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
