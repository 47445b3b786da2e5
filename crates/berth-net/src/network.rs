//! What a network is: the three that are always there, and those that people make.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_model::{HexId, Timestamp};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::{DefaultBridge, NetConfig};
use crate::mac::MacAddress;
use crate::options::{
    OPTION_BRIDGE, OPTION_DEFAULT, OPTION_GATEWAY_MODE_V4, OPTION_GATEWAY_MODE_V6, OPTION_HOST_ADDRESS, OPTION_ICC,
    OPTION_INHIBIT_V4, OPTION_IPVLAN_MODE, OPTION_MASQUERADE, OPTION_MTU, OPTION_PREFIX,
};

/// Names that nobody may take: the networks that are always there.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// How the containers of a bridge network reach the world in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayMode {
    /// By the host's address; published ports are the only way in.
    Nat,
    /// By the host's address; every port can be reached by those who route to the container.
    NatUnprotected,
    /// By their own address; published ports are open on it, nothing is translated.
    Routed,
    /// Not at all, and the host is no part of the network either.
    Isolated,
}

impl GatewayMode {
    /// The mode of a word.
    pub fn of_word(word: &str) -> Option<GatewayMode> {
        match word {
            "nat" => Some(GatewayMode::Nat),
            "nat-unprotected" => Some(GatewayMode::NatUnprotected),
            "routed" => Some(GatewayMode::Routed),
            "isolated" => Some(GatewayMode::Isolated),
            _ => None,
        }
    }
}

/// How the containers of a network are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// By a bridge on this host.
    Bridge,
    /// Each has a device with a hardware address of its own on top of one of the host's.
    Macvlan,
    /// Each has a device on top of one of the host's, with that one's hardware address.
    Ipvlan,
    /// They use the host's own network.
    Host,
    /// Not at all.
    Null,
}

impl Driver {
    /// Every driver, by the word for it.
    pub const ALL: [Driver; 5] = [Driver::Bridge, Driver::Macvlan, Driver::Ipvlan, Driver::Host, Driver::Null];

    /// The word for it in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }

    /// The driver of a word.
    pub fn of_word(word: &str) -> Option<Driver> {
        Driver::ALL.into_iter().find(|driver| driver.word() == word)
    }

    /// Whether its containers have endpoints: namespaces, interfaces, addresses.
    pub const fn has_endpoints(self) -> bool {
        matches!(self, Driver::Bridge | Driver::Macvlan | Driver::Ipvlan)
    }
}

/// A range of addresses that belongs to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub net: IpNet,
    /// The address of the way out; on a bridge network it belongs to the bridge.
    pub gateway: Option<IpAddr>,
    /// The part that containers get addresses from; all of it if absent.
    pub range: Option<IpNet>,
    /// Addresses that something else on the network has, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether somebody chose it: only then may a container ask for a certain address.
    #[serde(default)]
    pub chosen: bool,
}

impl Subnet {
    /// A subnet whose first address is the gateway.
    pub fn of(net: IpNet) -> Subnet {
        Subnet { net, gateway: Some(first_address(net)), range: None, auxiliary: BTreeMap::new(), chosen: false }
    }

    /// The gateway's address together with the length of the prefix.
    pub fn gateway_net(&self) -> Option<IpNet> {
        let gateway = self.gateway?;
        Some(IpNet::new(gateway, self.net.prefix_len()).expect("the length comes from a subnet of that family"))
    }

    /// Whether it is one of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.net.addr().is_ipv6()
    }
}

/// The address after that of the network itself.
pub(crate) fn first_address(net: IpNet) -> IpAddr {
    match net.network() {
        IpAddr::V4(own) => IpAddr::V4(Ipv4Addr::from(u32::from(own).saturating_add(1))),
        IpAddr::V6(own) => IpAddr::V6(Ipv6Addr::from(u128::from(own).saturating_add(1))),
    }
}

/// The name of the auxiliary address that is the containers' way out instead of the bridge, as Docker calls it.
pub(crate) const fn gateway_key(ipv6: bool) -> &'static str {
    if ipv6 { "DefaultGatewayIPv6" } else { "DefaultGatewayIPv4" }
}

/// A network, as its record keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: HexId,
    /// Its name; no two networks share one.
    pub name: String,
    /// How its containers are connected.
    pub driver: Driver,
    /// When it was made.
    pub created: Timestamp,
    /// Its addresses; none for `host` and `none`.
    pub subnets: Vec<Subnet>,
    /// Whether its containers get IPv4 addresses.
    #[serde(default = "yes")]
    pub ipv4: bool,
    /// Whether its containers get IPv6 addresses.
    #[serde(default)]
    pub ipv6: bool,
    /// What the allocator of addresses was told; only shown.
    #[serde(default)]
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it was made to be joined by hand.
    pub attachable: bool,
    /// Whether it is only a description that others are made from.
    #[serde(default)]
    pub config_only: bool,
    /// The network that it was made from; empty if from none.
    #[serde(default)]
    pub config_from: String,
    /// Whether the parent device was made for it, and goes with it.
    #[serde(default)]
    pub owns_parent: bool,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
    /// What people wrote on it.
    pub labels: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// How many addresses of a subnet are used and free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetUsage {
    /// The subnet.
    pub net: IpNet,
    /// Held by containers or set aside.
    pub in_use: u64,
    /// Free to be given.
    pub available: u64,
}

/// A network and what happens on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The network.
    pub network: Network,
    /// Its addresses.
    pub usage: Vec<SubnetUsage>,
}

impl Network {
    /// Whether it is one of the three that are always there.
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.contains(&self.name.as_str())
    }

    /// Whether it is the network of containers that ask for none.
    pub fn is_default_bridge(&self) -> bool {
        self.name == PREDEFINED[0]
    }

    /// The name of the bridge.
    pub fn bridge_name(&self) -> String {
        self.options.get(OPTION_BRIDGE).cloned().unwrap_or_else(|| format!("br-{}", self.id.short()))
    }

    /// The first subnet of a family.
    pub fn subnet(&self, ipv6: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.is_ipv6() == ipv6)
    }

    /// The subnet that an address lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&address))
    }

    /// The longest packet, in bytes.
    pub fn mtu(&self) -> u32 {
        self.chosen_mtu().unwrap_or(crate::config::DEFAULT_MTU)
    }

    /// The longest packet that somebody chose, in bytes.
    pub(crate) fn chosen_mtu(&self) -> Option<u32> {
        self.options.get(OPTION_MTU).and_then(|text| text.parse().ok()).filter(|mtu| *mtu > 0)
    }

    /// Whether outbound traffic of a family takes the host's address.
    pub fn masquerades(&self, ipv6: bool) -> bool {
        let translated = matches!(self.gateway_mode(ipv6), GatewayMode::Nat | GatewayMode::NatUnprotected);
        !self.internal && translated && self.switch(OPTION_MASQUERADE, true)
    }

    /// Whether its containers reach each other.
    pub fn connects_containers(&self) -> bool {
        self.switch(OPTION_ICC, true)
    }

    /// The address on which ports are published when nobody names one; `None` for every address of both families.
    pub fn host_binding(&self) -> Option<IpAddr> {
        let address = self.options.get(OPTION_HOST_ADDRESS).and_then(|text| text.parse::<IpAddr>().ok());
        address.filter(|address| !address.is_unspecified())
    }

    /// How its containers reach the world in a family.
    pub fn gateway_mode(&self, ipv6: bool) -> GatewayMode {
        let option = if ipv6 { OPTION_GATEWAY_MODE_V6 } else { OPTION_GATEWAY_MODE_V4 };
        self.options.get(option).and_then(|word| GatewayMode::of_word(word)).unwrap_or(GatewayMode::Nat)
    }

    /// The address that its bridge has in a family: none where the network is isolated from the host, or where the option says that
    /// somebody else has the gateway's address.
    pub fn bridge_address(&self, ipv6: bool) -> Option<IpNet> {
        let inhibited = !ipv6 && self.switch(OPTION_INHIBIT_V4, false);
        let isolated = self.gateway_mode(ipv6) == GatewayMode::Isolated;
        self.subnet(ipv6).filter(|_| !inhibited && !isolated).and_then(Subnet::gateway_net)
    }

    /// The way out for a container with this address; none on networks without one.
    pub fn gateway_of(&self, address: IpAddr) -> Option<IpAddr> {
        let closed = self.internal || self.gateway_mode(address.is_ipv6()) == GatewayMode::Isolated;
        let subnet = self.subnet_of(address).filter(|_| !closed)?;
        // Somebody else on a bridge may be the way out; the bridge has the gateway's address all the same.
        let other = subnet.auxiliary.get(gateway_key(address.is_ipv6())).filter(|_| self.driver == Driver::Bridge);
        other.copied().or(subnet.gateway)
    }

    /// Whether packets to everywhere simply leave by the interface: there is no gateway that they are handed to.
    pub(crate) fn routes_by_device(&self) -> bool {
        self.driver == Driver::Ipvlan && self.options.get(OPTION_IPVLAN_MODE).is_some_and(|mode| mode != "l2")
    }

    /// Whether it can be the way to everywhere in a family.
    pub fn leads_out(&self, ipv6: bool) -> bool {
        let enabled = if ipv6 { self.ipv6 } else { self.ipv4 };
        let open = !self.internal && self.gateway_mode(ipv6) != GatewayMode::Isolated;
        let gateway = self.subnet(ipv6).is_some_and(|subnet| subnet.gateway.is_some());
        self.driver.has_endpoints() && enabled && open && (self.routes_by_device() || gateway)
    }

    /// How interfaces in containers are called, before their number.
    pub(crate) fn interface_prefix(&self) -> &str {
        self.options.get(OPTION_PREFIX).map_or("eth", String::as_str)
    }

    /// The hardware address of whoever has this address.
    ///
    /// It is random, as the network's id is, and local. The same address always comes with the same hardware address,
    /// so that no neighbour's table is wrong when an address goes from one container to the next.
    pub fn mac_of(&self, address: IpAddr) -> MacAddress {
        let mut random = [0; 6];
        for (byte, digits) in random.iter_mut().zip(self.id.as_str().as_bytes().chunks(2)) {
            let text = std::str::from_utf8(digits).expect("an id is made of hex digits");
            *byte = u8::from_str_radix(text, 16).expect("an id is made of hex digits");
        }
        let octets = match address {
            IpAddr::V4(address) => address.octets(),
            // The part that differs within a network.
            IpAddr::V6(address) => *address.octets().last_chunk().expect("there are sixteen"),
        };
        for (byte, part) in random[2..].iter_mut().zip(octets) {
            *byte ^= part;
        }
        MacAddress::local(random)
    }

    /// Whether a hardware address comes with one of this network's addresses.
    pub(crate) fn gives(&self, mac: MacAddress) -> bool {
        let base = self.mac_of(Ipv4Addr::UNSPECIFIED.into()).octets();
        let own = mac.octets();
        let address = Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|at| own[at + 2] ^ base[at + 2]));
        own[..2] == base[..2] && self.subnet(false).is_none_or(|subnet| subnet.net.contains(&IpAddr::V4(address)))
    }

    fn switch(&self, option: &str, otherwise: bool) -> bool {
        self.options.get(option).and_then(|text| crate::options::boolean(text)).unwrap_or(otherwise)
    }
}

/// One of the three networks that are always there, made for the first time.
pub(crate) fn predefined(name: &str, id: HexId, created: Timestamp) -> Network {
    let driver = match name {
        "bridge" => Driver::Bridge,
        "host" => Driver::Host,
        _ => Driver::Null,
    };
    Network { name: name.to_owned(), driver, ..Network::plain(id, created) }
}

impl Network {
    /// A network about which nothing was said.
    pub(crate) fn plain(id: HexId, created: Timestamp) -> Network {
        Network {
            id,
            name: String::new(),
            driver: Driver::Bridge,
            created,
            subnets: Vec::new(),
            ipv4: true,
            ipv6: false,
            ipam_options: None,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: String::new(),
            owns_parent: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// The options of the default bridge, which follow the configuration.
pub(crate) fn default_bridge_options(config: &NetConfig) -> BTreeMap<String, String> {
    let name = match &config.bridge {
        DefaultBridge::Managed { name, .. } | DefaultBridge::Foreign { name } => name.clone(),
        DefaultBridge::Off => "none".to_owned(),
    };
    let host_address = config.default_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let options = [
        (OPTION_DEFAULT, "true".to_owned()),
        (OPTION_ICC, config.between_containers.to_string()),
        (OPTION_MASQUERADE, config.masquerade.to_string()),
        (OPTION_HOST_ADDRESS, host_address.to_string()),
        (OPTION_BRIDGE, name),
        (OPTION_MTU, config.mtu.to_string()),
    ];
    options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        predefined("bridge", "c0ffee".repeat(11)[..64].parse().unwrap(), Timestamp::from_nanos(0))
    }

    #[test]
    fn each_address_has_its_own_hardware_address_for_ever() {
        let network = network();
        let macs: std::collections::HashSet<_> = (0..=u16::MAX)
            .map(|host| network.mac_of(IpAddr::V4(Ipv4Addr::from(0xac11_0000 | u32::from(host)))))
            .collect();
        assert_eq!(macs.len(), 65536);
        assert!(macs.iter().all(|mac| mac.octets()[0] & 3 == 2));
        let network = Network { subnets: vec![Subnet::of("172.17.0.0/16".parse().unwrap())], ..network };
        assert!(macs.iter().all(|mac| network.gives(*mac)));
        assert!(!network.gives(network.mac_of(IpAddr::from([172, 18, 0, 2]))));
        assert!(!network.gives(MacAddress::new([2, 0x42, 172, 17, 0, 2])));
    }

    #[test]
    fn options_are_on_until_they_are_switched_off() {
        let mut network = network();
        assert!(network.masquerades(false) && network.connects_containers());
        network.options.insert(OPTION_ICC.to_owned(), "false".to_owned());
        network.options.insert(OPTION_MTU.to_owned(), "1400".to_owned());
        assert!(!network.connects_containers());
        assert_eq!(network.mtu(), 1400);
        network.internal = true;
        assert!(!network.masquerades(false));
    }

    #[test]
    fn the_default_bridge_shows_the_options_that_clients_know() {
        let keys: Vec<_> = default_bridge_options(&NetConfig::default()).into_keys().collect();
        assert_eq!(keys.len(), 6);
        assert!(keys.iter().all(|key| key.starts_with("com.docker.network.")));
    }
}
