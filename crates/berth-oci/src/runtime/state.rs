//! What a runtime answers: `state` ("Runtime and Lifecycle") and `features`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The specification version the runtime follows.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Process id of the main process; absent (or 0) when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Points of a container's life that the specification names, and `paused`, which every runtime adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made; the program was not yet executed.
    Created,
    /// The program runs.
    Running,
    /// All processes are frozen.
    Paused,
    /// The main process has ended.
    Stopped,
}

impl Status {
    /// The word of the specification.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What a runtime can do ("Features").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// Oldest accepted version of `config.json`.
    pub oci_version_min: String,
    /// Newest accepted version of `config.json`.
    pub oci_version_max: String,
    /// Names of hooks.
    pub hooks: Vec<String>,
    /// Names of mount options.
    pub mount_options: Vec<String>,
    /// The Linux part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxFeatures>,
    /// Free metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Annotations that can change what the configuration means.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// The Linux part of the features.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    pub namespaces: Vec<String>,
    /// `CAP_` names.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: CgroupFeatures,
    /// System call filters.
    pub seccomp: SeccompFeatures,
    /// AppArmor.
    pub apparmor: FeatureSwitch,
    /// SELinux.
    pub selinux: FeatureSwitch,
    /// Intel RDT.
    pub intel_rdt: FeatureSwitch,
    /// Kinds of mounts beyond the common ones.
    pub mount_extensions: MountExtensions,
    /// Network devices moved into the container.
    pub net_devices: FeatureSwitch,
}

/// Kinds of control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// By the system's systemd.
    pub systemd: bool,
    /// By the user's systemd.
    pub systemd_user: bool,
    /// The RDMA controller.
    pub rdma: bool,
}

/// System call filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompFeatures {
    /// Whether there are filters at all.
    pub enabled: bool,
    /// `SCMP_ACT_` names.
    pub actions: Vec<String>,
    /// `SCMP_CMP_` names.
    pub operators: Vec<String>,
    /// `SCMP_ARCH_` names.
    pub archs: Vec<String>,
    /// Flags the runtime knows.
    pub known_flags: Vec<String>,
    /// Flags the kernel takes too.
    pub supported_flags: Vec<String>,
}

/// Something that is there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSwitch {
    /// Whether it is there.
    pub enabled: bool,
}

/// Kinds of mounts beyond the common ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountExtensions {
    /// Idmapped mounts.
    pub idmap: FeatureSwitch,
}
