//! Mounts: as asked for in the long form, and as a container has them.

use std::collections::BTreeMap;

use crate::wire::{is_default, wire};

wire! {
    /// A mount as create asks for it.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        #[serde(rename = "Type", skip_serializing_if = "is_default")]
        pub kind: String,
        /// Host path, volume name or image.
        #[serde(skip_serializing_if = "is_default")]
        pub source: String,
        /// Path in the container.
        #[serde(skip_serializing_if = "is_default")]
        pub target: String,
        /// Whether writing is refused.
        #[serde(skip_serializing_if = "is_default")]
        pub read_only: bool,
        /// Ignored word of another platform.
        #[serde(skip_serializing_if = "is_default")]
        pub consistency: String,
        /// Options of a bind.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// Options of a volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// Options of an image.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
        /// Options of a tmpfs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
        /// Options of a cluster volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cluster_options: Option<ClusterOptions>,
    }

    /// Options of a bind mount.
    pub struct BindOptions {
        /// Propagation word.
        #[serde(skip_serializing_if = "is_default")]
        pub propagation: String,
        /// Whether mounts below the source stay away.
        #[serde(skip_serializing_if = "is_default")]
        pub non_recursive: bool,
        /// Whether a missing source is made as a directory.
        #[serde(skip_serializing_if = "is_default")]
        pub create_mountpoint: bool,
        /// Whether only the top mount becomes read-only.
        #[serde(skip_serializing_if = "is_default")]
        pub read_only_non_recursive: bool,
        /// Whether it is an error if the whole tree cannot become read-only.
        #[serde(skip_serializing_if = "is_default")]
        pub read_only_force_recursive: bool,
    }

    /// Options of a volume mount.
    pub struct VolumeOptions {
        /// Whether the image's content is not copied into an empty volume.
        #[serde(skip_serializing_if = "is_default")]
        pub no_copy: bool,
        /// Labels of a volume that is made.
        #[serde(skip_serializing_if = "is_default")]
        pub labels: BTreeMap<String, String>,
        /// Path inside the volume.
        #[serde(skip_serializing_if = "is_default")]
        pub subpath: String,
        /// Driver of a volume that is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<Driver>,
    }

    /// A volume driver and its options.
    pub struct Driver {
        /// Name.
        #[serde(skip_serializing_if = "is_default")]
        pub name: String,
        /// Options.
        #[serde(skip_serializing_if = "is_default")]
        pub options: BTreeMap<String, String>,
    }

    /// Options of an image mount.
    pub struct ImageOptions {
        /// Path inside the image.
        #[serde(skip_serializing_if = "is_default")]
        pub subpath: String,
    }

    /// Options of a tmpfs mount.
    pub struct TmpfsOptions {
        /// Bytes; 0 is unlimited.
        #[serde(skip_serializing_if = "is_default")]
        pub size_bytes: i64,
        /// Permission bits.
        #[serde(skip_serializing_if = "is_default")]
        pub mode: u32,
        /// Further options, `[key]` or `[key, value]`.
        #[serde(skip_serializing_if = "is_default")]
        pub options: Vec<Vec<String>>,
    }

    /// Options of a cluster volume: none.
    pub struct ClusterOptions {}

    /// A mount that a container has.
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs` or `image`.
        #[serde(rename = "Type", skip_serializing_if = "is_default")]
        pub kind: String,
        /// Name of the volume.
        #[serde(skip_serializing_if = "is_default")]
        pub name: String,
        /// Path on the host.
        pub source: String,
        /// Path in the container.
        pub destination: String,
        /// Driver of the volume.
        #[serde(skip_serializing_if = "is_default")]
        pub driver: String,
        /// Options as given in the short form.
        pub mode: String,
        /// Whether writing is allowed.
        #[serde(rename = "RW")]
        pub rw: bool,
        /// Propagation word of a bind.
        pub propagation: String,
    }
}
