//! Volumes: create, inspect, list, prune.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::{is_default, wire};

wire! {
    /// A volume.
    pub struct Volume {
        /// RFC 3339, whole seconds.
        #[serde(skip_serializing_if = "is_default")]
        pub created_at: String,
        /// Name of the driver.
        pub driver: String,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
        /// Directory on the host.
        pub mountpoint: String,
        /// Name.
        pub name: String,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// `local` or `global`.
        pub scope: String,
        /// What the driver says.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<BTreeMap<String, Value>>,
        /// Use, from disk usage only.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub usage_data: Option<UsageData>,
    }

    /// Use of a volume.
    pub struct UsageData {
        /// Containers that refer to it; -1 when unknown.
        pub ref_count: i64,
        /// Bytes; -1 when unknown.
        pub size: i64,
    }

    /// The body of volume create.
    pub struct CreateRequest {
        /// Name; empty makes an anonymous volume.
        #[serde(skip_serializing_if = "is_default")]
        pub name: String,
        /// Driver; empty is `local`.
        #[serde(skip_serializing_if = "is_default")]
        pub driver: String,
        /// Options of the driver.
        #[serde(skip_serializing_if = "is_default")]
        pub driver_opts: BTreeMap<String, String>,
        /// Labels.
        #[serde(skip_serializing_if = "is_default")]
        pub labels: BTreeMap<String, String>,
        /// A cluster volume; kept as given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cluster_volume_spec: Option<Value>,
    }

    /// The volume list.
    pub struct ListResponse {
        /// Volumes.
        pub volumes: Vec<Volume>,
        /// What went wrong while listing.
        pub warnings: Option<Vec<String>>,
    }

    /// The answer of volume prune.
    pub struct PruneResponse {
        /// Names.
        pub volumes_deleted: Option<Vec<String>>,
        /// Bytes.
        pub space_reclaimed: u64,
    }
}
