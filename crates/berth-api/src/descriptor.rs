//! OCI descriptors and platforms as they appear inside API documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::{is_default, null_is_default};

/// A pointer to content by digest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Digest of the content.
    #[serde(deserialize_with = "null_is_default")]
    pub digest: String,
    /// Bytes.
    #[serde(deserialize_with = "null_is_default")]
    pub size: i64,
    /// Other places of the content.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// The platform that the content is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub artifact_type: String,
}

/// A machine and operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`, `arm64`, ...
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `linux`.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub os_features: Vec<String>,
    /// Variant of the architecture, `v7`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub variant: String,
}
