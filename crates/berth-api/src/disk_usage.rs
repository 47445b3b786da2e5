//! Disk usage, in the grouped form of API 1.52 and in the lists before it.

use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::volume::Volume;
use crate::wire::{is_default, wire};

wire! {
    /// What the engine keeps on disk.
    pub struct DiskUsage {
        /// Bytes of layers; the list form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub layers_size: Option<i64>,
        /// Images; the list form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub images: Option<Vec<ImageSummary>>,
        /// Containers; the list form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containers: Option<Vec<ContainerSummary>>,
        /// Volumes; the list form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volumes: Option<Vec<Volume>>,
        /// Build cache; the list form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub build_cache: Option<Vec<BuildCache>>,
        /// Images, grouped.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_usage: Option<ImageUsage>,
        /// Containers, grouped.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub container_usage: Option<ContainerUsage>,
        /// Volumes, grouped.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_usage: Option<VolumeUsage>,
        /// Build cache, grouped.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub build_cache_usage: Option<BuildCacheUsage>,
    }

    /// Images, grouped.
    pub struct ImageUsage {
        /// Images that containers use.
        #[serde(skip_serializing_if = "is_default")]
        pub active_count: i64,
        /// Images, when asked to be verbose.
        #[serde(skip_serializing_if = "is_default")]
        pub items: Vec<ImageSummary>,
        /// Bytes that pruning would free.
        #[serde(skip_serializing_if = "is_default")]
        pub reclaimable: i64,
        /// Images.
        #[serde(skip_serializing_if = "is_default")]
        pub total_count: i64,
        /// Bytes.
        #[serde(skip_serializing_if = "is_default")]
        pub total_size: i64,
    }

    /// Containers, grouped.
    pub struct ContainerUsage {
        /// Running containers.
        #[serde(skip_serializing_if = "is_default")]
        pub active_count: i64,
        /// Containers, when asked to be verbose.
        #[serde(skip_serializing_if = "is_default")]
        pub items: Vec<ContainerSummary>,
        /// Bytes that pruning would free.
        #[serde(skip_serializing_if = "is_default")]
        pub reclaimable: i64,
        /// Containers.
        #[serde(skip_serializing_if = "is_default")]
        pub total_count: i64,
        /// Bytes.
        #[serde(skip_serializing_if = "is_default")]
        pub total_size: i64,
    }

    /// Volumes, grouped.
    pub struct VolumeUsage {
        /// Volumes that containers use.
        #[serde(skip_serializing_if = "is_default")]
        pub active_count: i64,
        /// Volumes, when asked to be verbose.
        #[serde(skip_serializing_if = "is_default")]
        pub items: Vec<Volume>,
        /// Bytes that pruning would free.
        #[serde(skip_serializing_if = "is_default")]
        pub reclaimable: i64,
        /// Volumes.
        #[serde(skip_serializing_if = "is_default")]
        pub total_count: i64,
        /// Bytes.
        #[serde(skip_serializing_if = "is_default")]
        pub total_size: i64,
    }

    /// Build cache, grouped.
    pub struct BuildCacheUsage {
        /// Records in use.
        #[serde(skip_serializing_if = "is_default")]
        pub active_count: i64,
        /// Records, when asked to be verbose.
        #[serde(skip_serializing_if = "is_default")]
        pub items: Vec<BuildCache>,
        /// Bytes that pruning would free.
        #[serde(skip_serializing_if = "is_default")]
        pub reclaimable: i64,
        /// Records.
        #[serde(skip_serializing_if = "is_default")]
        pub total_count: i64,
        /// Bytes.
        #[serde(skip_serializing_if = "is_default")]
        pub total_size: i64,
    }

    /// One record of the build cache.
    pub struct BuildCache {
        /// Id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Ids of the records that it builds on.
        #[serde(skip_serializing_if = "is_default")]
        pub parents: Vec<String>,
        /// `regular`, `source.local`, ...
        #[serde(rename = "Type")]
        pub kind: String,
        /// The step.
        pub description: String,
        /// Whether a build uses it.
        pub in_use: bool,
        /// Whether its content is shared.
        pub shared: bool,
        /// Bytes.
        pub size: i64,
        /// RFC 3339.
        pub created_at: String,
        /// RFC 3339.
        pub last_used_at: Option<String>,
        /// Uses.
        pub usage_count: i64,
    }
}
