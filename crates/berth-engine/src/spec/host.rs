//! How the host confines a container: the Engine API's `HostConfig`, checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MountRequest, NetworkMode, PortBindings};

/// How the host confines a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// The `-v` texts as given; shown by inspect. What they mean is in `mounts`.
    pub binds: Option<Vec<String>>,
    /// Every mount asked for, in the order of the request: binds, then `--mount`, then tmpfs. No two have the same target.
    pub mounts: Vec<MountRequest>,
    /// How many of the first `mounts` come from `binds`; shown apart from the rest by inspect.
    pub binds_parsed: usize,
    /// `--tmpfs` as given: path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose mounts are taken over, `name[:ro|rw]`.
    pub volumes_from: Option<Vec<String>>,
    /// Driver of volumes made on demand.
    pub volume_driver: String,
    /// File of the client that holds the id; only shown.
    pub container_id_file: String,
    /// Where output goes.
    pub log: LogConfig,
    /// Network.
    pub network: NetworkMode,
    /// Published ports.
    pub port_bindings: PortBindings,
    /// Publishes every exposed port.
    pub publish_all_ports: bool,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// The terminal's first size, rows and columns.
    pub console_size: [u32; 2],
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Name servers; empty takes the host's.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `name:address` lines for /etc/hosts.
    pub extra_hosts: Option<Vec<String>>,
    /// Old-style links.
    pub links: Option<Vec<String>>,
    /// Namespaces, capabilities, system call filter.
    pub isolation: Isolation,
    /// Limits.
    pub resources: Resources,
    /// Devices.
    pub devices: Devices,
    /// Bytes of /dev/shm.
    pub shm_size: i64,
    /// Options of the root's storage.
    pub storage_opt: BTreeMap<String, String>,
    /// Kernel parameters of the new namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Name of the OCI runtime; empty is the default.
    pub runtime: String,
    /// Runs the small init as PID 1; `None` as the daemon says.
    pub init: Option<bool>,
}

/// Namespaces, capabilities, filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// Everything is allowed.
    pub privileged: bool,
    /// The root cannot be written.
    pub readonly_rootfs: bool,
    /// Capabilities added, as given.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities dropped, as given.
    pub cap_drop: Option<Vec<String>>,
    /// Supplementary groups, by name or number.
    pub group_add: Option<Vec<String>>,
    /// `--security-opt` texts as given; shown by inspect.
    pub security_opt: Option<Vec<String>>,
    /// From `security_opt`: sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// From `security_opt`: the system call filter.
    pub seccomp: SeccompChoice,
    /// From `security_opt`: AppArmor profile.
    pub apparmor: String,
    /// From `security_opt`: SELinux labels.
    pub selinux: Vec<String>,
    /// From `security_opt` (`systempaths=unconfined`): no masked and read-only paths.
    pub unconfined_paths: bool,
    /// Replaces the default masked paths.
    pub masked_paths: Option<Vec<String>>,
    /// Replaces the default read-only paths.
    pub readonly_paths: Option<Vec<String>>,
    /// PID namespace.
    pub pid_mode: NamespaceMode,
    /// IPC namespace.
    pub ipc_mode: NamespaceMode,
    /// UTS namespace.
    pub uts_mode: NamespaceMode,
    /// User namespace, as given.
    pub userns_mode: String,
    /// Cgroup namespace.
    pub cgroupns_mode: CgroupMode,
    /// Parent of its cgroup; empty is the daemon's.
    pub cgroup_parent: String,
    /// Old field; only shown.
    pub cgroup: String,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
}

/// The system call filter of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompChoice {
    /// The engine's profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile given as a JSON document.
    Profile(String),
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// As usual: a new one (for IPC: private).
    #[default]
    Default,
    /// A new one that nobody else may join (IPC), said so.
    Private,
    /// A new one that others may join (IPC only).
    Shareable,
    /// A new one without /dev/shm (IPC only).
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

impl NamespaceMode {
    /// The text of the Engine API; empty for the default.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            NamespaceMode::Default => String::new(),
            NamespaceMode::Private => "private".to_owned(),
            NamespaceMode::Shareable => "shareable".to_owned(),
            NamespaceMode::None => "none".to_owned(),
            NamespaceMode::Host => "host".to_owned(),
            NamespaceMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// Cgroup namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Private on v2, the host's on v1.
    #[default]
    Default,
    /// A new one.
    Private,
    /// The host's.
    Host,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// The driver's name; the engine fills in its default when empty.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// What happens when a container ends (B054).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again, after a reboot too.
    Always,
    /// Likewise, unless somebody stopped it.
    UnlessStopped,
    /// It is started again after a failure.
    OnFailure {
        /// At most so often; 0 is without limit.
        max_retries: u32,
    },
}

impl RestartPolicy {
    /// The word of the Engine API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure { .. } => "on-failure",
        }
    }
}

/// Limits. 0, empty or `None` mean "not given".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 is without limit. Filled in from `memory` as Docker does (twice as much).
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Bytes (old).
    pub kernel_memory: i64,
    /// Bytes.
    pub kernel_memory_tcp: i64,
    /// Waits instead of killing.
    pub oom_kill_disable: Option<bool>,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Memory node list.
    pub cpuset_mems: String,
    /// Tasks; `Some(0)` and `Some(-1)` are without limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device path.
    pub blkio_weight_device: Option<Vec<BlockDeviceWeight>>,
    /// By device path.
    pub blkio_device_read_bps: Option<Vec<BlockDeviceRate>>,
    /// By device path.
    pub blkio_device_write_bps: Option<Vec<BlockDeviceRate>>,
    /// By device path.
    pub blkio_device_read_iops: Option<Vec<BlockDeviceRate>>,
    /// By device path.
    pub blkio_device_write_iops: Option<Vec<BlockDeviceRate>>,
    /// Limits of the process.
    pub ulimits: Option<Vec<Ulimit>>,
    /// How traffic is shaped.
    pub network_shape: NetworkShape,
}

/// How a container's traffic is shaped. In a change what is absent stays, and 0 lifts what was asked before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkShape {
    /// Bits a second in each direction.
    pub rate: Option<u64>,
    /// Nanoseconds that packets leave later.
    pub delay: Option<u64>,
    /// How many of a million packets that leave are lost.
    pub loss: Option<u32>,
}

impl NetworkShape {
    /// Takes over what is given.
    pub(crate) fn merge(&mut self, change: NetworkShape) {
        self.rate = change.rate.or(self.rate).filter(|rate| *rate > 0);
        self.delay = change.delay.or(self.delay).filter(|delay| *delay > 0);
        self.loss = change.loss.or(self.loss).filter(|loss| *loss > 0);
    }
}

/// A weight of a block device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDeviceWeight {
    /// Path on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate of a block device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDeviceRate {
    /// Path on the host.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// A limit of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile` and so on.
    pub name: String,
    /// Soft limit; -1 is without limit.
    pub soft: i64,
    /// Hard limit; -1 is without limit.
    pub hard: i64,
}

/// Devices of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Devices {
    /// Nodes: path on the host, path inside, permissions (`rwm`).
    pub mapped: Option<Vec<DeviceMapping>>,
    /// Rules like `c 1:3 rwm`.
    pub cgroup_rules: Option<Vec<String>>,
    /// Requests of drivers (GPUs), kept as JSON; refused at create while no driver is known.
    pub requests: Option<String>,
}

/// A device of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub host: String,
    /// Path inside.
    pub container: String,
    /// Any of `rwm`.
    pub permissions: String,
}
