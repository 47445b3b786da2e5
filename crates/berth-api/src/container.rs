//! Containers: list, inspect, wait, top, update, prune, changes.

use std::collections::BTreeMap;

use crate::container_config::ContainerConfig;
use crate::descriptor::Descriptor;
use crate::endpoint::{NetworkSettings, NetworkSettingsSummary};
use crate::host_config::{HostConfig, Resources, RestartPolicy};
use crate::mount::MountPoint;
use crate::wire::{is_default, wire};

wire! {
    /// One entry of the container list.
    pub struct ContainerSummary {
        /// Id.
        pub id: String,
        /// Names, each with a leading slash.
        pub names: Vec<String>,
        /// The image as the user named it, or its id when the name points elsewhere by now.
        pub image: String,
        /// Digest of the image.
        #[serde(rename = "ImageID")]
        pub image_id: String,
        /// The manifest that the container runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
        /// Program and arguments as one line.
        pub command: String,
        /// Unix seconds.
        pub created: i64,
        /// Published and exposed ports.
        pub ports: Vec<PortSummary>,
        /// Bytes that the container wrote, on request.
        #[serde(skip_serializing_if = "is_default")]
        pub size_rw: i64,
        /// Bytes of the whole root file system, on request.
        #[serde(skip_serializing_if = "is_default")]
        pub size_root_fs: i64,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        pub state: String,
        /// State in words, `Up 5 minutes`.
        pub status: String,
        /// Two fields of the host configuration.
        pub host_config: HostConfigSummary,
        /// Health; since API 1.52.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<HealthSummary>,
        /// Endpoints.
        pub network_settings: Option<NetworkSettingsSummary>,
        /// Mounts.
        pub mounts: Vec<MountPoint>,
    }

    /// What the default columns of a list show of a [`ContainerSummary`]. Most of an entry's text is about other things, and
    /// is passed over unread here.
    pub struct ContainerColumns {
        /// As in the summary.
        pub id: String,
        /// As in the summary.
        pub names: Vec<String>,
        /// As in the summary.
        pub image: String,
        /// As in the summary.
        #[serde(rename = "ImageID")]
        pub image_id: String,
        /// As in the summary.
        pub command: String,
        /// As in the summary.
        pub created: i64,
        /// As in the summary.
        pub ports: Vec<PortSummary>,
        /// As in the summary.
        pub size_rw: i64,
        /// As in the summary.
        pub size_root_fs: i64,
        /// As in the summary.
        pub status: String,
    }

    /// Two fields of the host configuration.
    pub struct HostConfigSummary {
        /// Network mode.
        #[serde(skip_serializing_if = "is_default")]
        pub network_mode: String,
        /// Annotations.
        #[serde(skip_serializing_if = "is_default")]
        pub annotations: BTreeMap<String, String>,
    }

    /// Health in the list.
    pub struct HealthSummary {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
    }

    /// One port of a container.
    pub struct PortSummary {
        /// Address of the host.
        #[serde(rename = "IP")]
        pub ip: String,
        /// Port in the container.
        pub private_port: u16,
        /// Port of the host.
        #[serde(skip_serializing_if = "is_default")]
        pub public_port: u16,
        /// `tcp`, `udp` or `sctp`.
        #[serde(rename = "Type")]
        pub kind: String,
    }

    /// Everything about one container.
    pub struct ContainerInspect {
        /// Id.
        pub id: String,
        /// Time of creation, RFC 3339.
        pub created: String,
        /// Program.
        pub path: String,
        /// Arguments.
        pub args: Vec<String>,
        /// Lifecycle.
        pub state: Option<ContainerState>,
        /// Digest of the image.
        pub image: String,
        /// The container's resolv.conf on the host.
        pub resolv_conf_path: String,
        /// The container's hostname file on the host.
        pub hostname_path: String,
        /// The container's hosts file on the host.
        pub hosts_path: String,
        /// The log file on the host; empty when the driver has none.
        pub log_path: String,
        /// Name with a leading slash.
        pub name: String,
        /// Restarts by policy.
        pub restart_count: i64,
        /// Storage driver.
        pub driver: String,
        /// Operating system.
        pub platform: String,
        /// SELinux label of mounts.
        pub mount_label: String,
        /// SELinux label of processes.
        pub process_label: String,
        /// AppArmor profile.
        pub app_armor_profile: String,
        /// Ids of running and waiting exec instances.
        #[serde(rename = "ExecIDs")]
        pub exec_ids: Option<Vec<String>>,
        /// Host configuration.
        pub host_config: Option<HostConfig>,
        /// Storage; since API 1.52, `GraphDriver` before.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage: Option<Storage>,
        /// Bytes that the container wrote, on request.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of the whole root file system, on request.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// Mounts.
        pub mounts: Vec<MountPoint>,
        /// Portable configuration.
        pub config: Option<ContainerConfig>,
        /// Network.
        pub network_settings: Option<NetworkSettings>,
        /// The manifest that the container runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
    }

    /// Lifecycle of a container.
    pub struct ContainerState {
        /// The state's word.
        pub status: String,
        /// Whether it runs; a paused or restarting one counts.
        pub running: bool,
        /// Whether it is paused.
        pub paused: bool,
        /// Whether it waits to be started again.
        pub restarting: bool,
        /// Whether the kernel killed it for want of memory.
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        /// Whether its removal failed half way.
        pub dead: bool,
        /// Process id on the host; 0 when stopped.
        pub pid: i64,
        /// Last exit code.
        pub exit_code: i64,
        /// Why the last start failed.
        pub error: String,
        /// Time of the last start, RFC 3339.
        pub started_at: String,
        /// Time of the last end, RFC 3339.
        pub finished_at: String,
        /// Health, with a health check only.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// Health of a container.
    pub struct Health {
        /// `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
        /// The last checks.
        pub log: Vec<HealthcheckResult>,
    }

    /// One health check that ran.
    pub struct HealthcheckResult {
        /// RFC 3339.
        pub start: String,
        /// RFC 3339.
        pub end: String,
        /// 0 is healthy.
        pub exit_code: i64,
        /// First 4096 bytes of output.
        pub output: String,
    }

    /// How a container's files are stored.
    pub struct Storage {
        /// The root file system.
        #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
        pub root_fs: Option<RootFsStorage>,
    }

    /// How the root file system is stored.
    pub struct RootFsStorage {
        /// As a snapshot.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub snapshot: Option<SnapshotStorage>,
    }

    /// A root file system that is a snapshot.
    pub struct SnapshotStorage {
        /// Name of the snapshotter.
        pub name: String,
    }

    /// The processes of a container.
    pub struct Top {
        /// One row of cells a process.
        pub processes: Vec<Vec<String>>,
        /// The columns' titles.
        pub titles: Vec<String>,
    }

    /// The end of a container, as wait reports it.
    pub struct WaitResponse {
        /// Exit code.
        pub status_code: i64,
        /// Why waiting or starting failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitError>,
    }

    /// Why waiting or starting failed.
    pub struct WaitError {
        /// One line.
        pub message: String,
    }

    /// The body of container update.
    pub struct UpdateRequest {
        /// New restart policy; an empty name leaves it alone.
        pub restart_policy: RestartPolicy,
        ;
        /// New limits; zero leaves a limit alone.
        flatten resources: Resources,
    }

    /// The answer of container update.
    pub struct UpdateResponse {
        /// What was given but will not have the wanted effect.
        pub warnings: Option<Vec<String>>,
    }

    /// The answer of container prune.
    pub struct PruneResponse {
        /// Ids.
        pub containers_deleted: Option<Vec<String>>,
        /// Bytes.
        pub space_reclaimed: u64,
    }

    /// One changed path of a container.
    pub struct FilesystemChange {
        /// Path in the container.
        pub path: String,
        /// 0 modified, 1 added, 2 deleted.
        pub kind: u8,
    }
}

impl From<ContainerColumns> for ContainerSummary {
    fn from(columns: ContainerColumns) -> Self {
        let ContainerColumns { id, names, image, image_id, command, created, ports, size_rw, size_root_fs, status } =
            columns;
        let rest = ContainerSummary::default();
        ContainerSummary { id, names, image, image_id, command, created, ports, size_rw, size_root_fs, status, ..rest }
    }
}
