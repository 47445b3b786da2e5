//! Documents of the OCI image specification 1.1 and of Docker's image format, which is its older twin.
//!
//! Blobs are kept as the bytes they came as; these types are for reading them, and for writing documents of our own. Whatever key
//! is not known here stays in `other`, so that a document that is changed and written again loses nothing. Go writes `null` where it
//! means "none": every list and map reads it so.

use std::collections::BTreeMap;

use berth_model::{Digest, Platform as Target};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Media types of manifests, configurations and layers, OCI's and Docker's.
pub mod media_type {
    /// OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, plain tar.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    /// Whether it names a list of manifests.
    #[must_use]
    pub fn is_index(text: &str) -> bool {
        matches!(text, INDEX | DOCKER_LIST)
    }

    /// Whether it names a manifest of one image.
    #[must_use]
    pub fn is_manifest(text: &str) -> bool {
        matches!(text, MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether it names a layer that unpacks to a file tree.
    #[must_use]
    pub fn is_layer(text: &str) -> bool {
        text.starts_with(LAYER)
            || text.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || text.starts_with("application/vnd.docker.image.rootfs.diff.tar")
            || text.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }
}

/// The annotation with the full name of an image in a layout, `docker.io/library/busybox:latest`.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation with the name that a layout's writer gave the image, often only the tag.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Points to content: what it is, its address and its size in bytes. Section "OCI Content Descriptors".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the content is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its address.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Other places to fetch it from.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// In an index: the platform of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The kind of artifact, where it is no image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor with the three fields that each must have.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
            other: Map::new(),
        }
    }
}

/// The platform of a manifest within an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Go's `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// Go's `GOOS`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system, for Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system, for Windows.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The three fields that choose an image.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().unwrap_or_default(),
        }
    }
}

impl From<Target> for Platform {
    fn from(target: Target) -> Self {
        let variant = Some(target.variant).filter(|v| !v.is_empty());
        Self { architecture: target.architecture, os: target.os, variant, ..Self::default() }
    }
}

/// One image: its configuration and its layers, lowest first. Section "OCI Image Manifest"; Docker's schema 2 has the same fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// [`media_type::MANIFEST`] or Docker's.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The kind of artifact, where it is no image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest of an image.
    #[must_use]
    pub fn image(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

/// Several manifests under one digest, usually one for each platform. Section "OCI Image Index".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// [`media_type::INDEX`] or Docker's.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The kind of artifact, where it is no image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, or further indexes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free words about it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Index {
    /// An OCI index.
    #[must_use]
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

/// The file `oci-layout`. Section "Image Layout".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// `1.0.0`.
    #[serde(rename = "imageLayoutVersion")]
    pub version: String,
}

impl Layout {
    /// The only version there is.
    pub const VERSION: &'static str = "1.0.0";
}

/// The configuration of an image: what to run, and how its layers came to be. Section "OCI Image Configuration".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339. Kept as text: archives carry times that no calendar has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Go's `GOOS`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system, for Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system, for Windows.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The layers, lowest first, by the digest of their uncompressed tar.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How the layers came to be, oldest first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What a container of it runs, unless told otherwise.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// Docker's: a word about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Docker's: the version that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Keys that are not known here (`id`, `parent`, `container`, `container_config` of old builders).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// What it runs on.
    #[must_use]
    pub fn platform(&self) -> Target {
        Target {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().unwrap_or_default(),
        }
    }
}

/// The layers of an image configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A word about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a container of an image runs. The specification's `config` object, and what Docker adds to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(rename = "User", default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol`.
    #[serde(
        rename = "ExposedPorts",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(rename = "Env", default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments; `None` when not set.
    #[serde(rename = "Entrypoint", default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments that the user may replace; `None` when not set.
    #[serde(rename = "Cmd", default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get a volume.
    #[serde(
        rename = "Volumes",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// Where it starts.
    #[serde(
        rename = "WorkingDir",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Free words; `None` when not set.
    #[serde(rename = "Labels", default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks it to end.
    #[serde(
        rename = "StopSignal",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Windows: the command line is one string.
    #[serde(rename = "ArgsEscaped", default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// Docker's: how to ask whether it works.
    #[serde(rename = "Healthcheck", default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's: instructions for builds on top of it.
    #[serde(rename = "OnBuild", default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Docker's: the shell of the shell forms; empty means `/bin/sh -c`.
    #[serde(rename = "Shell", default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Docker's: seconds between the stop signal and the kill.
    #[serde(rename = "StopTimeout", default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Keys that are not known here (`Hostname`, `Tty` and the like of old builders).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Docker's health check. Times in nanoseconds; zero means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args...]`, `["CMD-SHELL", command]`; empty means inherited.
    #[serde(rename = "Test", default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(rename = "Interval", default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long a probe may take.
    #[serde(rename = "Timeout", default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures do not count after the start.
    #[serde(rename = "StartPeriod", default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two probes during the start period.
    #[serde(rename = "StartInterval", default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures make it unhealthy.
    #[serde(rename = "Retries", default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// `{}`, the value of Docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

    fn round_trip<T: Serialize + for<'a> Deserialize<'a>>(text: &str) -> Value {
        let value: T = serde_json::from_str(text).expect("document");
        serde_json::to_value(&value).expect("json")
    }

    #[test]
    fn unknown_keys_survive_a_rewrite() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"x","digest":"sha256:{HEX}","size":3,"new":[1]}},
                "layers":[{{"mediaType":"y","digest":"sha256:{HEX}","size":4,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}],
                "annotations":{{"a":"b"}},"future":{{"k":1}}}}"#,
            media_type::MANIFEST
        );
        assert_eq!(round_trip::<Manifest>(&text), serde_json::from_str::<Value>(&text).expect("json"));
    }

    #[test]
    fn a_configuration_of_an_old_docker_reads_nulls_as_none_and_keeps_what_it_has() {
        let text = format!(
            r#"{{"architecture":"amd64","config":{{"Hostname":"h","Env":null,"Cmd":["sh"],"Volumes":null,"Labels":null,"OnBuild":null,
                "Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":5}},"Shell":["/bin/sh","-c"],"StopSignal":"SIGINT"}},
                "container":"c","created":"2020-01-01T00:00:00Z","docker_version":"18","history":[{{"created_by":"x","empty_layer":true}}],
                "os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}}}}"#
        );
        let config: ImageConfig = serde_json::from_str(&text).expect("config");
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.entrypoint, None);
        assert!(config.config.labels.is_none() && config.config.env.is_empty());
        assert_eq!(config.config.healthcheck.as_ref().map(|h| h.interval), Some(5));
        assert_eq!(config.other["container"], "c");
        assert_eq!(config.config.other["Hostname"], "h");
        let written = serde_json::to_value(&config).expect("json");
        assert_eq!(written["config"]["Hostname"], "h");
        assert_eq!(written["history"][0]["empty_layer"], true);
    }

    #[test]
    fn a_wrong_digest_is_refused_by_name() {
        let error = serde_json::from_str::<Descriptor>(r#"{"mediaType":"x","digest":"sha256:../../etc","size":1}"#)
            .expect_err("bad digest");
        assert!(error.to_string().contains("invalid digest"), "{error}");
    }
}
