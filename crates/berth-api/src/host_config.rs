//! The host's part of a container's configuration: resources, mounts, namespaces, security.

use std::collections::BTreeMap;

use crate::ConsoleSize;
use crate::mount::Mount;
use crate::wire::{is_default, wire};

/// Port bindings by container port, `80/tcp`.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

wire! {
    /// How a container meets its host.
    pub struct HostConfig {
        /// Binds and volumes, `source:target[:options]`.
        pub binds: Option<Vec<String>>,
        /// File to which the client wrote the id.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// Log driver and its options.
        pub log_config: LogConfig,
        /// `default`, `bridge`, `none`, `host`, `container:NAME` or a network's name.
        pub network_mode: String,
        /// Published ports.
        pub port_bindings: Option<PortMap>,
        /// What to do when the container ends.
        pub restart_policy: RestartPolicy,
        /// Whether the daemon removes the container when it ends.
        pub auto_remove: bool,
        /// Driver of volumes that `Binds` makes.
        pub volume_driver: String,
        /// Containers whose volumes are mounted too, `NAME[:ro|rw]`.
        pub volumes_from: Option<Vec<String>>,
        /// First size of the terminal.
        pub console_size: ConsoleSize,
        /// OCI annotations.
        #[serde(skip_serializing_if = "is_default")]
        pub annotations: BTreeMap<String, String>,
        /// Capabilities added to the default set.
        pub cap_add: Option<Vec<String>>,
        /// Capabilities taken from the default set.
        pub cap_drop: Option<Vec<String>>,
        /// `private`, `host` or empty for the daemon's default.
        pub cgroupns_mode: String,
        /// Name servers.
        pub dns: Option<Vec<String>>,
        /// Resolver options.
        pub dns_options: Option<Vec<String>>,
        /// Search domains.
        pub dns_search: Option<Vec<String>>,
        /// Lines for the hosts file, `name:address`.
        pub extra_hosts: Option<Vec<String>>,
        /// Supplementary groups.
        pub group_add: Option<Vec<String>>,
        /// `none`, `private`, `shareable`, `host` or `container:NAME`.
        pub ipc_mode: String,
        /// Cgroup namespace of another container; kept as given.
        pub cgroup: String,
        /// Legacy links, `container:alias`.
        pub links: Option<Vec<String>>,
        /// Preference of the out-of-memory killer, -1000 to 1000.
        pub oom_score_adj: i64,
        /// `host`, `container:NAME` or empty.
        pub pid_mode: String,
        /// Whether the container is as powerful as the host's root.
        pub privileged: bool,
        /// Whether every exposed port is published.
        pub publish_all_ports: bool,
        /// Whether the root file system is read-only.
        pub readonly_rootfs: bool,
        /// `no-new-privileges`, `seccomp=...`, `apparmor=...`, `label=...`, `systempaths=...`.
        pub security_opt: Option<Vec<String>>,
        /// Options of the storage driver.
        #[serde(skip_serializing_if = "is_default")]
        pub storage_opt: BTreeMap<String, String>,
        /// Tmpfs mounts: options by target.
        #[serde(skip_serializing_if = "is_default")]
        pub tmpfs: BTreeMap<String, String>,
        /// `host` or empty.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// `host` or empty.
        pub userns_mode: String,
        /// Bytes of `/dev/shm`.
        pub shm_size: i64,
        /// Kernel parameters of the container's namespaces.
        #[serde(skip_serializing_if = "is_default")]
        pub sysctls: BTreeMap<String, String>,
        /// Name of the runtime.
        #[serde(skip_serializing_if = "is_default")]
        pub runtime: String,
        /// Windows isolation; `default` or empty here.
        pub isolation: String,
        /// Mounts in the long form.
        #[serde(skip_serializing_if = "is_default")]
        pub mounts: Vec<Mount>,
        /// Paths that are hidden; `null` takes the default set.
        pub masked_paths: Option<Vec<String>>,
        /// Paths that are read-only; `null` takes the default set.
        pub readonly_paths: Option<Vec<String>>,
        /// Whether a small init is process 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
        ;
        /// Limits and devices.
        flatten resources: Resources,
    }

    /// Limits and devices, which update can change.
    pub struct Resources {
        /// Relative share of processor time.
        pub cpu_shares: i64,
        /// Bytes of memory.
        pub memory: i64,
        /// Processors times 10^9.
        pub nano_cpus: i64,
        /// Cgroup under which the container's own is made.
        pub cgroup_parent: String,
        /// Block I/O weight, 10 to 1000.
        pub blkio_weight: u16,
        /// Block I/O weight by device.
        pub blkio_weight_device: Option<Vec<WeightDevice>>,
        /// Read limit in bytes a second by device.
        pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
        /// Write limit in bytes a second by device.
        pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
        /// Read limit in operations a second by device.
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
        /// Write limit in operations a second by device.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
        /// CFS period in microseconds.
        pub cpu_period: i64,
        /// CFS quota in microseconds.
        pub cpu_quota: i64,
        /// Realtime period in microseconds.
        pub cpu_realtime_period: i64,
        /// Realtime runtime in microseconds.
        pub cpu_realtime_runtime: i64,
        /// Processors, `0-2,7`.
        pub cpuset_cpus: String,
        /// Memory nodes, `0-2,7`.
        pub cpuset_mems: String,
        /// Devices of the host.
        pub devices: Option<Vec<DeviceMapping>>,
        /// Rules of the device cgroup, `c 7:* rmw`.
        pub device_cgroup_rules: Option<Vec<String>>,
        /// Devices asked of drivers.
        pub device_requests: Option<Vec<DeviceRequest>>,
        /// Bytes of kernel TCP buffers; cgroup v1.
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_default")]
        pub kernel_memory_tcp: i64,
        /// Bytes of memory below which reclaim leaves the container alone.
        pub memory_reservation: i64,
        /// Bytes of memory plus swap; -1 is unlimited.
        pub memory_swap: i64,
        /// Swappiness, 0 to 100; cgroup v1.
        pub memory_swappiness: Option<i64>,
        /// Whether the out-of-memory killer is off.
        pub oom_kill_disable: Option<bool>,
        /// Most processes and threads; 0 or -1 is unlimited.
        pub pids_limit: Option<i64>,
        /// Resource limits of the process.
        pub ulimits: Option<Vec<Ulimit>>,
        /// Windows only.
        pub cpu_count: i64,
        /// Windows only.
        pub cpu_percent: i64,
        /// Windows only.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// How traffic is shaped: an extension of Berth.
        #[serde(skip_serializing_if = "is_default")]
        pub network_shape: Option<NetworkShape>,
    }

    /// How a container's traffic is shaped; 0 lifts what was asked before.
    pub struct NetworkShape {
        /// Bits a second in each direction.
        #[serde(skip_serializing_if = "is_default")]
        pub rate: Option<u64>,
        /// Nanoseconds that packets leave later.
        #[serde(skip_serializing_if = "is_default")]
        pub delay: Option<u64>,
        /// How many of a million packets that leave are lost.
        #[serde(skip_serializing_if = "is_default")]
        pub loss: Option<u32>,
    }

    /// Log driver and its options.
    pub struct LogConfig {
        /// Name of the driver; empty takes the daemon's.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Options of the driver.
        pub config: Option<BTreeMap<String, String>>,
    }

    /// What to do when the container ends.
    pub struct RestartPolicy {
        /// `no`, `always`, `unless-stopped`, `on-failure` or empty.
        pub name: String,
        /// Attempts of `on-failure`; 0 is unlimited.
        pub maximum_retry_count: i64,
    }

    /// One address and port of the host.
    pub struct PortBinding {
        /// Address; empty is every address.
        pub host_ip: String,
        /// Port or range; empty picks one.
        pub host_port: String,
    }

    /// Weight of one block device.
    pub struct WeightDevice {
        /// Path of the device.
        pub path: String,
        /// Weight, 10 to 1000.
        pub weight: u16,
    }

    /// Limit of one block device.
    pub struct ThrottleDevice {
        /// Path of the device.
        pub path: String,
        /// Bytes or operations a second.
        pub rate: u64,
    }

    /// A device of the host inside the container.
    pub struct DeviceMapping {
        /// Path on the host.
        pub path_on_host: String,
        /// Path in the container.
        pub path_in_container: String,
        /// Of `r`, `w`, `m`.
        pub cgroup_permissions: String,
    }

    /// Devices asked of a driver.
    pub struct DeviceRequest {
        /// Name of the driver.
        pub driver: String,
        /// How many; -1 is all.
        pub count: i64,
        /// Which ones.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Option<Vec<String>>,
        /// An or-list of and-lists of capabilities.
        pub capabilities: Option<Vec<Vec<String>>>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
    }

    /// One resource limit.
    pub struct Ulimit {
        /// Name without `RLIMIT_`, in lower case.
        pub name: String,
        /// Hard limit; -1 is unlimited.
        pub hard: i64,
        /// Soft limit; -1 is unlimited.
        pub soft: i64,
    }
}
