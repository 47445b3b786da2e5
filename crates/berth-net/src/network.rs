//! What a network is: the three that are always there, and those that people make.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use berth_model::{HexId, Timestamp};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::{DefaultBridge, NetConfig};
use crate::error::NetError;
use crate::mac::MacAddress;

/// Names that nobody may take: the networks that are always there.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const OPTION_HOST_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";
const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";

/// How the containers of a network are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// By a bridge on this host.
    Bridge,
    /// They use the host's own network.
    Host,
    /// Not at all.
    Null,
}

impl Driver {
    /// The word for it in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// A range of addresses that belongs to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub net: Ipv4Net,
    /// The address of the way out; it belongs to the bridge.
    pub gateway: Ipv4Addr,
    /// The part that containers get addresses from; all of it if absent.
    pub range: Option<Ipv4Net>,
    /// Addresses that something else on the network has, by name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

impl Subnet {
    /// A subnet whose first address is the gateway.
    pub fn of(net: Ipv4Net) -> Subnet {
        let gateway = Ipv4Addr::from(u32::from(net.network()).saturating_add(1));
        Subnet { net, gateway, range: None, auxiliary: BTreeMap::new() }
    }

    /// The gateway's address together with the length of the prefix.
    pub fn gateway_net(&self) -> Ipv4Net {
        Ipv4Net::new(self.gateway, self.net.prefix_len()).expect("the length comes from a subnet")
    }
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
    /// Whether somebody chose the subnet: only then may a container ask for a certain address.
    pub chosen_subnet: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it was made to be joined by hand.
    pub attachable: bool,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
    /// What people wrote on it.
    pub labels: BTreeMap<String, String>,
}

/// How many addresses of a subnet are used and free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetUsage {
    /// The subnet.
    pub net: Ipv4Net,
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

    /// Checks the options that are numbers.
    pub(crate) fn check_options(&self) -> Result<(), NetError> {
        match self.options.get(OPTION_MTU) {
            Some(value) if value.parse::<u32>().is_err() => {
                Err(NetError::InvalidOption { option: OPTION_MTU, value: value.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The longest packet, in bytes.
    pub fn mtu(&self) -> u32 {
        self.options.get(OPTION_MTU).and_then(|text| text.parse().ok()).unwrap_or(crate::config::DEFAULT_MTU)
    }

    /// Whether outbound traffic takes the host's address.
    pub fn masquerades(&self) -> bool {
        !self.internal && self.switch(OPTION_MASQUERADE)
    }

    /// Whether its containers reach each other.
    pub fn connects_containers(&self) -> bool {
        self.switch(OPTION_ICC)
    }

    /// The hardware address of whoever has this address.
    ///
    /// It is random, as the network's id is, and local. The same address always comes with the same hardware address,
    /// so that no neighbour's table is wrong when an address goes from one container to the next.
    pub fn mac_of(&self, address: Ipv4Addr) -> MacAddress {
        let mut random = [0; 6];
        for (byte, digits) in random.iter_mut().zip(self.id.as_str().as_bytes().chunks(2)) {
            let text = std::str::from_utf8(digits).expect("an id is made of hex digits");
            *byte = u8::from_str_radix(text, 16).expect("an id is made of hex digits");
        }
        for (byte, part) in random[2..].iter_mut().zip(address.octets()) {
            *byte ^= part;
        }
        MacAddress::local(random)
    }

    fn switch(&self, option: &str) -> bool {
        // Absent means on; Go's words for false are all accepted, as clients were written for them.
        let off = |text: &String| matches!(text.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False");
        !self.options.get(option).is_some_and(off)
    }
}

/// One of the three networks that are always there, made for the first time.
pub(crate) fn predefined(name: &str, id: HexId, created: Timestamp) -> Network {
    let driver = match name {
        "bridge" => Driver::Bridge,
        "host" => Driver::Host,
        _ => Driver::Null,
    };
    Network {
        id,
        name: name.to_owned(),
        driver,
        created,
        subnets: Vec::new(),
        chosen_subnet: false,
        internal: false,
        attachable: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

/// The options of the default bridge, which follow the configuration.
pub(crate) fn default_bridge_options(config: &NetConfig) -> BTreeMap<String, String> {
    let name = match &config.bridge {
        DefaultBridge::Managed { name, .. } | DefaultBridge::Foreign { name } => name.clone(),
        DefaultBridge::Off => "none".to_owned(),
    };
    let options = [
        (OPTION_DEFAULT, "true".to_owned()),
        (OPTION_ICC, config.between_containers.to_string()),
        (OPTION_MASQUERADE, config.masquerade.to_string()),
        (OPTION_HOST_ADDRESS, "0.0.0.0".to_owned()),
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
        let macs: std::collections::HashSet<_> =
            (0..=u16::MAX).map(|host| network.mac_of(Ipv4Addr::from(0xac11_0000 | u32::from(host)))).collect();
        assert_eq!(macs.len(), 65536);
        assert!(macs.iter().all(|mac| mac.octets()[0] & 3 == 2));
    }

    #[test]
    fn options_are_on_until_they_are_switched_off() {
        let mut network = network();
        assert!(network.masquerades() && network.connects_containers());
        network.options.insert(OPTION_ICC.to_owned(), "false".to_owned());
        network.options.insert(OPTION_MTU.to_owned(), "1400".to_owned());
        assert!(!network.connects_containers());
        assert_eq!(network.mtu(), 1400);
        network.internal = true;
        assert!(!network.masquerades());
    }

    #[test]
    fn the_default_bridge_shows_the_options_that_clients_know() {
        let keys: Vec<_> = default_bridge_options(&NetConfig::default()).into_keys().collect();
        assert_eq!(keys.len(), 6);
        assert!(keys.iter().all(|key| key.starts_with("com.docker.network.")));
    }
}
