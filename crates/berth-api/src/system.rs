//! The engine itself: info and version.

use std::collections::BTreeMap;

use crate::wire::{is_default, wire};

wire! {
    /// Everything about the engine and its host.
    pub struct Info {
        /// Id of the engine.
        #[serde(rename = "ID")]
        pub id: String,
        /// Containers.
        pub containers: i64,
        /// Running ones.
        pub containers_running: i64,
        /// Paused ones.
        pub containers_paused: i64,
        /// Stopped ones.
        pub containers_stopped: i64,
        /// Images.
        pub images: i64,
        /// Storage driver.
        pub driver: String,
        /// What the storage driver says.
        pub driver_status: Option<Vec<[String; 2]>>,
        /// What the system says.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub system_status: Option<Vec<[String; 2]>>,
        /// Drivers.
        pub plugins: PluginsInfo,
        /// Whether memory can be limited.
        pub memory_limit: bool,
        /// Whether swap can be limited.
        pub swap_limit: bool,
        /// Whether the CFS period can be set.
        pub cpu_cfs_period: bool,
        /// Whether the CFS quota can be set.
        pub cpu_cfs_quota: bool,
        /// Whether processor shares can be set.
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        /// Whether processors can be chosen.
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        /// Whether processes can be limited.
        pub pids_limit: bool,
        /// Whether the host forwards IPv4.
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        /// Whether the daemon is in debug mode.
        pub debug: bool,
        /// Open descriptors.
        #[serde(rename = "NFd")]
        pub open_descriptors: i64,
        /// Whether the out-of-memory killer can be off.
        pub oom_kill_disable: bool,
        /// Tasks of the daemon.
        #[serde(rename = "NGoroutines")]
        pub tasks: i64,
        /// RFC 3339.
        pub system_time: String,
        /// Default log driver.
        pub logging_driver: String,
        /// `cgroupfs` or `systemd`.
        pub cgroup_driver: String,
        /// `1` or `2`.
        #[serde(skip_serializing_if = "is_default")]
        pub cgroup_version: String,
        /// Clients that listen to events.
        #[serde(rename = "NEventsListener")]
        pub event_listeners: i64,
        /// Kernel.
        pub kernel_version: String,
        /// Distribution.
        pub operating_system: String,
        /// Version of the distribution.
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        /// `linux`.
        #[serde(rename = "OSType")]
        pub os_type: String,
        /// `x86_64`, `aarch64`.
        pub architecture: String,
        /// The default registry.
        pub index_server_address: String,
        /// Registries.
        pub registry_config: Option<RegistryConfig>,
        /// Processors.
        #[serde(rename = "NCPU")]
        pub processors: i64,
        /// Bytes of memory.
        pub mem_total: i64,
        /// Resources of a cluster node.
        pub generic_resources: Option<Vec<serde_json::Value>>,
        /// Data root.
        pub docker_root_dir: String,
        /// Proxy.
        pub http_proxy: String,
        /// Proxy.
        pub https_proxy: String,
        /// Hosts without proxy.
        pub no_proxy: String,
        /// Host name.
        pub name: String,
        /// Labels of the daemon.
        pub labels: Vec<String>,
        /// Whether experimental features are on.
        pub experimental_build: bool,
        /// Version of the engine.
        pub server_version: String,
        /// Runtimes by name.
        pub runtimes: BTreeMap<String, RuntimeInfo>,
        /// Name of the default runtime.
        pub default_runtime: String,
        /// Cluster.
        pub swarm: SwarmInfo,
        /// Whether containers outlive a shutdown of the daemon.
        pub live_restore_enabled: bool,
        /// Windows isolation; empty.
        pub isolation: String,
        /// The small init.
        pub init_binary: String,
        /// Container manager.
        pub containerd_commit: Commit,
        /// Runtime.
        pub runc_commit: Commit,
        /// Init.
        pub init_commit: Commit,
        /// `name=seccomp,profile=builtin`, ...
        pub security_options: Vec<String>,
        /// Address pools of new networks.
        #[serde(skip_serializing_if = "is_default")]
        pub default_address_pools: Vec<AddressPool>,
        /// How packets are filtered.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub firewall_backend: Option<FirewallInfo>,
        /// Devices found.
        #[serde(skip_serializing_if = "is_default")]
        pub discovered_devices: Vec<serde_json::Value>,
        /// Directories of device specifications.
        #[serde(rename = "CDISpecDirs")]
        pub cdi_spec_dirs: Option<Vec<String>>,
        /// The external container manager.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containerd: Option<ContainerdInfo>,
        /// What an operator should know.
        pub warnings: Option<Vec<String>>,
    }

    /// Names of drivers.
    pub struct PluginsInfo {
        /// Volume drivers.
        pub volume: Option<Vec<String>>,
        /// Network drivers.
        pub network: Option<Vec<String>>,
        /// Authorization plugins.
        pub authorization: Option<Vec<String>>,
        /// Log drivers.
        pub log: Option<Vec<String>>,
    }

    /// Registries.
    pub struct RegistryConfig {
        /// Networks whose registries may be insecure.
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        /// Registries by name.
        pub index_configs: BTreeMap<String, IndexInfo>,
        /// Mirrors of the default registry.
        pub mirrors: Vec<String>,
    }

    /// One registry.
    pub struct IndexInfo {
        /// Name.
        pub name: String,
        /// Mirrors.
        pub mirrors: Vec<String>,
        /// Whether certificates are checked.
        pub secure: bool,
        /// Whether it is the default one.
        pub official: bool,
    }

    /// Cluster.
    pub struct SwarmInfo {
        /// Id of this node.
        #[serde(rename = "NodeID")]
        pub node_id: String,
        /// Address of this node.
        pub node_addr: String,
        /// `inactive`.
        pub local_node_state: String,
        /// Whether this node is a manager.
        pub control_available: bool,
        /// What is wrong.
        pub error: String,
        /// Managers.
        pub remote_managers: Option<Vec<serde_json::Value>>,
    }

    /// Version of a part.
    pub struct Commit {
        /// Commit or version.
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// One pool of addresses.
    pub struct AddressPool {
        /// Base network.
        pub base: String,
        /// Prefix length of the networks cut from it.
        pub size: i64,
    }

    /// How packets are filtered.
    pub struct FirewallInfo {
        /// Name.
        pub driver: String,
        /// Details.
        #[serde(skip_serializing_if = "is_default")]
        pub info: Vec<[String; 2]>,
    }

    /// The external container manager.
    pub struct ContainerdInfo {
        /// Socket.
        #[serde(skip_serializing_if = "is_default")]
        pub address: String,
        /// Its namespaces.
        pub namespaces: ContainerdNamespaces,
    }

    /// Namespaces of the external container manager.
    pub struct ContainerdNamespaces {
        /// Of containers.
        pub containers: String,
        /// Of plugins.
        pub plugins: String,
    }

    /// Versions of the engine and its parts.
    pub struct Version {
        /// Product.
        pub platform: PlatformName,
        /// Version.
        pub version: String,
        /// Newest API version.
        pub api_version: String,
        /// Oldest API version.
        #[serde(rename = "MinAPIVersion")]
        pub min_api_version: String,
        /// `linux`.
        pub os: String,
        /// `amd64`, `arm64`.
        pub arch: String,
        /// Parts.
        pub components: Vec<ComponentVersion>,
        /// Commit.
        pub git_commit: String,
        /// Language version; kept for clients that print it.
        pub go_version: String,
        /// Kernel.
        pub kernel_version: String,
        /// Whether experimental features are on.
        #[serde(skip_serializing_if = "is_default")]
        pub experimental: bool,
        /// RFC 3339.
        #[serde(skip_serializing_if = "is_default")]
        pub build_time: String,
    }

    /// Name of the product.
    pub struct PlatformName {
        /// Name.
        pub name: String,
    }

    /// Version of one part.
    pub struct ComponentVersion {
        /// Name.
        pub name: String,
        /// Version.
        pub version: String,
        /// Details.
        #[serde(skip_serializing_if = "is_default")]
        pub details: BTreeMap<String, String>,
    }
}

wire! { "camelCase";
    /// One runtime.
    pub struct RuntimeInfo {
        /// Program.
        #[serde(skip_serializing_if = "is_default")]
        pub path: String,
        /// Arguments.
        #[serde(skip_serializing_if = "is_default")]
        pub runtime_args: Vec<String>,
        /// What it says about itself.
        #[serde(skip_serializing_if = "is_default")]
        pub status: BTreeMap<String, String>,
    }
}
