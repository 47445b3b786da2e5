//! Credentials of registries, and what registries say about an image.

use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, Platform};
use crate::wire::{is_default, null_is_default};

/// Who asks a registry: the body of `/auth`, and in base64url the header `X-Registry-Auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub username: String,
    /// Password.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub password: String,
    /// Base64 of `user:password`, as configuration files have it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub auth: String,
    /// Which registry.
    #[serde(rename = "serveraddress", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub server_address: String,
    /// Stands for user and password, to get tokens with.
    #[serde(rename = "identitytoken", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub identity_token: String,
    /// A token for the registry itself.
    #[serde(rename = "registrytoken", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub registry_token: String,
}

/// Secrets do not get into messages and logs.
impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// What `/auth` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// For people.
    #[serde(deserialize_with = "null_is_default")]
    pub status: String,
    /// To be kept instead of the password.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub identity_token: String,
}

/// What `/distribution/{name}/json` answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// What the name points to.
    pub descriptor: Descriptor,
    /// For which platforms there is something; `null` where that is not known.
    pub platforms: Option<Vec<Platform>>,
}

/// The manifests behind a name at its registry. Not of the reference API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemoteManifests {
    /// Whether the name points to an index; its manifests are in its order.
    pub index: bool,
    /// The manifests.
    pub manifests: Vec<RemoteManifest>,
}

/// A list of manifests that is to be put under a name. Not of the reference API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestList {
    /// The media type of the list.
    pub media_type: String,
    /// Its bytes, in base64.
    pub raw: String,
    /// What it names. Those that are in other repositories of the registry are brought to that of the list.
    pub manifests: Vec<RemoteManifest>,
}

/// A list that was put under its name. Not of the reference API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushedManifestList {
    /// Its digest.
    pub digest: String,
    /// The manifests that came from other repositories, by their names now.
    pub manifests: Vec<String>,
}

/// A manifest as it is at its registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemoteManifest {
    /// Its name.
    #[serde(rename = "Ref")]
    pub reference: String,
    /// Where it is, and for which platform.
    pub descriptor: Descriptor,
    /// Its bytes, in base64.
    pub raw: String,
}
