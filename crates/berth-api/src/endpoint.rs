//! A container's place in a network: what is asked for, and what it has.

use std::collections::BTreeMap;

use crate::host_config::PortMap;
use crate::wire::{is_default, wire};

wire! {
    /// One endpoint of a container.
    pub struct EndpointSettings {
        /// Addresses asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpamConfig>,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// Further names.
        pub aliases: Option<Vec<String>>,
        /// Options of the network driver.
        pub driver_opts: Option<BTreeMap<String, String>>,
        /// Which network gives the default gateway: the highest.
        pub gw_priority: i64,
        /// Id of the network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// Id of the endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// Gateway address.
        pub gateway: String,
        /// Address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Hardware address.
        pub mac_address: String,
        /// Prefix length of the address.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// IPv6 gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// Global IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Prefix length of the IPv6 address.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Names under which the container is found in this network.
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }

    /// Addresses asked for.
    pub struct EndpointIpamConfig {
        /// IPv4 address.
        #[serde(rename = "IPv4Address", skip_serializing_if = "is_default")]
        pub ipv4_address: String,
        /// IPv6 address.
        #[serde(rename = "IPv6Address", skip_serializing_if = "is_default")]
        pub ipv6_address: String,
        /// Link-local addresses.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_default")]
        pub link_local_ips: Vec<String>,
    }

    /// What container inspect says about the network.
    pub struct NetworkSettings {
        /// Id of the network namespace.
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        /// Path of the network namespace.
        pub sandbox_key: String,
        /// Published and exposed ports of a running container.
        pub ports: PortMap,
        /// Endpoints by network name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// What the container list says about the network.
    pub struct NetworkSettingsSummary {
        /// Endpoints by network name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }
}
