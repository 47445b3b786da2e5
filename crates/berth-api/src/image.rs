//! Images: list, inspect, history, delete, prune.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Empty;
use crate::container_config::HealthConfig;
use crate::descriptor::{Descriptor, Platform};
use crate::wire::{is_default, wire};

wire! {
    /// One entry of the image list.
    pub struct ImageSummary {
        /// Containers that use it; -1 when not counted.
        pub containers: i64,
        /// Unix seconds.
        pub created: i64,
        /// Digest.
        pub id: String,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
        /// Digest of the parent; empty.
        pub parent_id: String,
        /// What the name points to; since API 1.48.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// Manifests of the image, on request; since API 1.47.
        #[serde(skip_serializing_if = "is_default")]
        pub manifests: Vec<ManifestSummary>,
        /// `name@digest`.
        pub repo_digests: Vec<String>,
        /// `name:tag`.
        pub repo_tags: Vec<String>,
        /// Bytes shared with other images; -1 when not computed.
        pub shared_size: i64,
        /// Bytes of content and unpacked layers.
        pub size: i64,
    }

    /// One manifest of an image.
    pub struct ManifestSummary {
        /// Digest.
        #[serde(rename = "ID")]
        pub id: String,
        /// Where it is.
        pub descriptor: Descriptor,
        /// Whether all its content is here.
        pub available: bool,
        /// Bytes.
        pub size: ManifestSize,
        /// `image`, `attestation` or `unknown`.
        pub kind: String,
        /// For an image.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_data: Option<ManifestImageData>,
        /// For an attestation.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub attestation_data: Option<ManifestAttestationData>,
    }

    /// Bytes of one manifest.
    pub struct ManifestSize {
        /// Blobs.
        pub content: i64,
        /// Blobs and unpacked layers.
        pub total: i64,
    }

    /// An image manifest.
    pub struct ManifestImageData {
        /// Its platform.
        pub platform: Platform,
        /// Its unpacked size.
        pub size: UnpackedSize,
        /// Ids of containers that use it.
        pub containers: Option<Vec<String>>,
    }

    /// Bytes of unpacked layers.
    pub struct UnpackedSize {
        /// Bytes.
        pub unpacked: i64,
    }

    /// An attestation manifest.
    pub struct ManifestAttestationData {
        /// Digest of the image manifest that it is about.
        #[serde(rename = "For")]
        pub subject: String,
    }

    /// A statement about an image.
    pub struct AttestationStatement {
        /// Where it is.
        pub descriptor: Descriptor,
        /// The type of its predicate.
        pub predicate_type: String,
        /// The statement.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub statement: Option<serde_json::Value>,
    }

    /// Everything about one image.
    pub struct ImageInspect {
        /// Digest.
        pub id: String,
        /// `name:tag`.
        pub repo_tags: Vec<String>,
        /// `name@digest`.
        pub repo_digests: Vec<String>,
        /// Digest of the parent, of a committed image.
        #[serde(skip_serializing_if = "is_default")]
        pub parent: String,
        /// Comment.
        #[serde(skip_serializing_if = "is_default")]
        pub comment: String,
        /// RFC 3339.
        #[serde(skip_serializing_if = "is_default")]
        pub created: String,
        /// Author.
        #[serde(skip_serializing_if = "is_default")]
        pub author: String,
        /// What containers of it run.
        pub config: Option<ImageConfig>,
        /// `amd64`, `arm64`, ...
        pub architecture: String,
        /// Variant of the architecture.
        #[serde(skip_serializing_if = "is_default")]
        pub variant: String,
        /// `linux`.
        pub os: String,
        /// Version of the operating system.
        #[serde(skip_serializing_if = "is_default")]
        pub os_version: String,
        /// Bytes of content and unpacked layers.
        pub size: i64,
        /// Layers.
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        /// What the engine noted.
        pub metadata: ImageMetadata,
        /// What the name points to; since API 1.48.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// Manifests, on request; since API 1.48.
        #[serde(skip_serializing_if = "is_default")]
        pub manifests: Vec<ManifestSummary>,
        /// Where the image is known to come from; kept as given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub identity: Option<Value>,
    }

    /// The layers of an image.
    pub struct RootFs {
        /// `layers`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Digests of the uncompressed layers, lowest first.
        #[serde(skip_serializing_if = "is_default")]
        pub layers: Vec<String>,
    }

    /// What the engine noted about an image.
    pub struct ImageMetadata {
        /// RFC 3339.
        #[serde(skip_serializing_if = "is_default")]
        pub last_tag_time: String,
    }

    /// What containers of an image run; empty fields are left out.
    pub struct ImageConfig {
        /// User.
        #[serde(skip_serializing_if = "is_default")]
        pub user: String,
        /// Ports that the program listens on.
        #[serde(skip_serializing_if = "is_default")]
        pub exposed_ports: BTreeMap<String, Empty>,
        /// Environment.
        #[serde(skip_serializing_if = "is_default")]
        pub env: Vec<String>,
        /// Program and first arguments.
        #[serde(skip_serializing_if = "is_default")]
        pub entrypoint: Vec<String>,
        /// Arguments.
        #[serde(skip_serializing_if = "is_default")]
        pub cmd: Vec<String>,
        /// Paths that become anonymous volumes.
        #[serde(skip_serializing_if = "is_default")]
        pub volumes: BTreeMap<String, Empty>,
        /// Directory in which the command starts.
        #[serde(skip_serializing_if = "is_default")]
        pub working_dir: String,
        /// Labels.
        #[serde(skip_serializing_if = "is_default")]
        pub labels: BTreeMap<String, String>,
        /// Signal that asks the container to stop.
        #[serde(skip_serializing_if = "is_default")]
        pub stop_signal: String,
        /// Windows only.
        #[serde(skip_serializing_if = "is_default")]
        pub args_escaped: bool,
        /// How to test that a container works.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Build instructions that run in child images.
        #[serde(skip_serializing_if = "is_default")]
        pub on_build: Vec<String>,
        /// Shell of shell-form instructions.
        #[serde(skip_serializing_if = "is_default")]
        pub shell: Vec<String>,
    }

    /// One step of an image's history.
    pub struct HistoryItem {
        /// Comment.
        pub comment: String,
        /// Unix seconds.
        pub created: i64,
        /// The instruction.
        pub created_by: String,
        /// Digest, or `<missing>`.
        pub id: String,
        /// Bytes.
        pub size: i64,
        /// Names of this step.
        pub tags: Option<Vec<String>>,
    }

    /// One thing that deleting an image did.
    pub struct DeleteItem {
        /// A name that is gone.
        #[serde(skip_serializing_if = "is_default")]
        pub untagged: String,
        /// A digest that is gone.
        #[serde(skip_serializing_if = "is_default")]
        pub deleted: String,
    }

    /// The answer of image prune.
    pub struct PruneResponse {
        /// What is gone.
        pub images_deleted: Option<Vec<DeleteItem>>,
        /// Bytes.
        pub space_reclaimed: u64,
    }
}
