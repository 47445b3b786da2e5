//! Networks: list, inspect, create, connect, disconnect, prune.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::endpoint::EndpointSettings;
use crate::wire::{is_default, wire};

wire! {
    /// A network; the list leaves `containers` and `status` out.
    pub struct Network {
        /// Name.
        pub name: String,
        /// Id.
        pub id: String,
        /// RFC 3339.
        pub created: String,
        /// `local` or `swarm`.
        pub scope: String,
        /// `bridge`, `host`, `null`, ...
        pub driver: String,
        /// Whether containers get IPv4 addresses.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        /// Whether containers get IPv6 addresses.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        /// Addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        /// Whether there is no way out.
        pub internal: bool,
        /// Whether containers of other nodes may join by hand.
        pub attachable: bool,
        /// Whether it routes a cluster's published ports.
        pub ingress: bool,
        /// Network that this one takes its configuration from.
        pub config_from: ConfigReference,
        /// Whether it is only a configuration for others.
        pub config_only: bool,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
        /// Other engines of an overlay.
        #[serde(skip_serializing_if = "is_default")]
        pub peers: Vec<Value>,
        /// Endpoints by container id.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containers: Option<BTreeMap<String, EndpointResource>>,
        /// Services of an overlay.
        #[serde(skip_serializing_if = "is_default")]
        pub services: BTreeMap<String, Value>,
        /// Use of addresses; since API 1.52.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<NetworkStatus>,
    }

    /// Where addresses come from.
    pub struct Ipam {
        /// Driver.
        pub driver: String,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Subnets.
        pub config: Option<Vec<IpamConfig>>,
    }

    /// One subnet.
    pub struct IpamConfig {
        /// Subnet with prefix.
        #[serde(skip_serializing_if = "is_default")]
        pub subnet: String,
        /// Part of the subnet from which addresses are taken.
        #[serde(rename = "IPRange", skip_serializing_if = "is_default")]
        pub ip_range: String,
        /// Address of the host.
        #[serde(skip_serializing_if = "is_default")]
        pub gateway: String,
        /// Addresses that are never given out.
        #[serde(skip_serializing_if = "is_default")]
        pub auxiliary_addresses: BTreeMap<String, String>,
    }

    /// A reference to another network's configuration.
    pub struct ConfigReference {
        /// Name.
        pub network: String,
    }

    /// One container in a network.
    pub struct EndpointResource {
        /// Name of the container.
        pub name: String,
        /// Id of the endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// Hardware address.
        pub mac_address: String,
        /// Address with prefix.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// Address with prefix.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// Use of a network.
    pub struct NetworkStatus {
        /// Use of addresses.
        #[serde(rename = "IPAM")]
        pub ipam: IpamStatus,
    }

    /// Use of a network's addresses.
    pub struct IpamStatus {
        /// By subnet.
        #[serde(skip_serializing_if = "is_default")]
        pub subnets: BTreeMap<String, SubnetStatus>,
    }

    /// Use of one subnet.
    pub struct SubnetStatus {
        /// Addresses that are taken or reserved.
        #[serde(rename = "IPsInUse")]
        pub ips_in_use: u64,
        /// Addresses that may still be given out.
        #[serde(rename = "DynamicIPsAvailable")]
        pub dynamic_ips_available: u64,
    }

    /// The body of network create.
    pub struct CreateRequest {
        /// Name.
        pub name: String,
        /// Driver; empty is `bridge`.
        pub driver: String,
        /// Scope; empty is the driver's.
        pub scope: String,
        /// Whether containers get IPv4 addresses; unset is yes.
        #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
        pub enable_ipv4: Option<bool>,
        /// Whether containers get IPv6 addresses; unset is the daemon's default.
        #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
        pub enable_ipv6: Option<bool>,
        /// Addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Option<Ipam>,
        /// Whether there is no way out.
        pub internal: bool,
        /// Whether containers of other nodes may join by hand.
        pub attachable: bool,
        /// Whether it routes a cluster's published ports.
        pub ingress: bool,
        /// Whether it is only a configuration for others.
        pub config_only: bool,
        /// Network that this one takes its configuration from.
        pub config_from: Option<ConfigReference>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Labels.
        pub labels: Option<BTreeMap<String, String>>,
    }

    /// The answer of network create.
    pub struct CreateResponse {
        /// Id.
        pub id: String,
        /// Warning or empty.
        pub warning: String,
    }

    /// The body of network connect.
    pub struct ConnectRequest {
        /// Container.
        pub container: String,
        /// Endpoint settings.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub endpoint_config: Option<EndpointSettings>,
    }

    /// The body of network disconnect.
    pub struct DisconnectRequest {
        /// Container.
        pub container: String,
        /// Whether to go on when the container is gone.
        pub force: bool,
    }

    /// The answer of network prune.
    pub struct PruneResponse {
        /// Names.
        pub networks_deleted: Option<Vec<String>>,
    }
}
