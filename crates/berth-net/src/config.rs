//! What the operator decides about networks: the part of the daemon's options that belongs here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::subnet::{self, AddressPool};

/// The name of the default bridge, when nobody gives another.
pub const DEFAULT_BRIDGE: &str = "berth0";

/// The longest packet on bridges, in bytes, when nobody says.
pub const DEFAULT_MTU: u32 = 1500;

/// How many sandboxes wait ready for the next containers of a network. Each costs the kernel some 160 KiB.
pub const DEFAULT_PREPARED: usize = 4;

/// How many ports of a bridge are used, when nobody says. The kernel has 1,023; but a broadcast is queued for every port at once, in a
/// queue of 1,000 (`net.core.netdev_max_backlog`), where those of this bridge and of the next one in the row should fit.
pub const DEFAULT_BRIDGE_PORTS: usize = 450;

/// How many ports are held by sockets, when nobody says; those beyond only by records.
pub const DEFAULT_HELD_PORTS: usize = 1000;

/// The settings of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The bridge of the network `bridge` (`--bridge`, `--bip`).
    pub bridge: DefaultBridge,
    /// The part of the default bridge's subnet that containers get addresses from (`--fixed-cidr`); all of it if absent. Where nothing else
    /// says which subnet the bridge has, it is this.
    pub fixed_range: Option<Ipv4Net>,
    /// The containers' way out on the default bridge, where that is not the bridge (`--default-gateway`).
    pub default_gateway: Option<Ipv4Addr>,
    /// Whether the default bridge has IPv6 (`--ipv6`).
    pub ipv6: bool,
    /// The IPv6 address of the default bridge and its subnet (`--bip6`).
    pub bridge_address_v6: Option<Ipv6Net>,
    /// As [`NetConfig::fixed_range`], for IPv6 (`--fixed-cidr-v6`).
    pub fixed_range_v6: Option<Ipv6Net>,
    /// As [`NetConfig::default_gateway`], for IPv6 (`--default-gateway-v6`).
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// The longest packet on the default bridge, in bytes (`--mtu`).
    pub mtu: u32,
    /// Where subnets come from that nobody chose (`--default-address-pool`).
    pub pools: Vec<AddressPool>,
    /// Whether to let the host pass packets on between its interfaces, if it does not yet (`--ip-forward`).
    pub forward: bool,
    /// Whether outbound traffic takes the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// Whether containers on the default bridge reach each other (`--icc`).
    pub between_containers: bool,
    /// Whether to keep firewall rules (`--iptables`).
    pub rules: bool,
    /// Whether these rules, translation among them, are about IPv6 too (`--ip6tables`).
    pub rules_v6: bool,
    /// Whether a process carries what rules cannot lead: between families, and from the host's IPv6 loopback address (`--userland-proxy`).
    pub carries: bool,
    /// Options of new networks by the word of their driver, where a request does not say otherwise (`--default-network-opt`).
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// Who decides whether published ports are reached (`--firewall`).
    pub firewall: FirewallMode,
    /// The firewall table's name; two engines on one host need two.
    pub table: String,
    /// How many sandboxes are made ahead for a network that is in use; 0 turns that off.
    pub prepared: usize,
    /// Where ports of containers on the default bridge are published when nobody says (`--ip`); at every address if absent.
    pub default_address: Option<IpAddr>,
    /// How many ports of a bridge are used before its network is extended by another bridge.
    pub bridge_ports: usize,
    /// How many published ports are held by sockets (`--held-ports`).
    pub held_ports: usize,
}

/// Who decides whether a published port is reached from other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirewallMode {
    /// Whoever publishes it, as with Docker.
    #[default]
    Docker,
    /// The host's own input rules: a port that they do not open stays closed.
    Respect,
}

/// The bridge of the network `bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultBridge {
    /// Made by the engine when it is first needed.
    Managed {
        /// The device.
        name: String,
        /// The gateway's address in its subnet; the first free pool if absent.
        address: Option<Ipv4Net>,
    },
    /// Made by somebody else, address included.
    Foreign {
        /// The device.
        name: String,
    },
    /// None: containers ask for another network.
    Off,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig {
            bridge: DefaultBridge::Managed { name: DEFAULT_BRIDGE.to_owned(), address: None },
            fixed_range: None,
            default_gateway: None,
            ipv6: false,
            bridge_address_v6: None,
            fixed_range_v6: None,
            default_gateway_v6: None,
            mtu: DEFAULT_MTU,
            pools: subnet::default_pools(),
            forward: true,
            masquerade: true,
            between_containers: true,
            rules: true,
            rules_v6: true,
            carries: true,
            default_options: BTreeMap::new(),
            firewall: FirewallMode::default(),
            table: "berth".to_owned(),
            prepared: DEFAULT_PREPARED,
            default_address: None,
            bridge_ports: DEFAULT_BRIDGE_PORTS,
            held_ports: DEFAULT_HELD_PORTS,
        }
    }
}
