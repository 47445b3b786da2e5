//! Making what a container stands on: sandboxes, their plugs, and the bridge behind them with its rules.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_model::HexId;
use ipnet::Ipv4Net;

use super::{Bridge, Wish, Worker};
use crate::book::Ready;
use crate::bridge::Wanted;
use crate::config::DefaultBridge;
use crate::error::NetError;
use crate::firewall::{self, Rules};
use crate::mac::MacAddress;
use crate::netlink::{NetlinkError, Socket};
use crate::network::Network;
use crate::sandbox::{Plug, Sandbox, write_setting};

/// How our devices on the host are named: this, and eight hex digits. Programs that manage a host's network leave
/// `veth*` alone; the letter sets ours apart from those of other engines.
const DEVICE_PREFIX: &str = "vethb";

impl Worker {
    pub(super) fn isolate(&self) -> Result<OwnedFd, NetError> {
        let mut sandbox = Sandbox::make(&self.traveller)?;
        sandbox.raise_loopback()?;
        Ok(sandbox.netns)
    }

    pub(super) fn prepare(&mut self, id: &HexId, wish: &Wish) -> Result<Ready, NetError> {
        let network = self.book.network(id)?;
        self.bridge(&network)?;
        let address = self.allocate(&network, wish)?;
        let made = Sandbox::make(&self.traveller)
            .and_then(|mut sandbox| self.plug(&network, &mut sandbox, address, wish).map(|plugged| (sandbox, plugged)));
        match made {
            Ok((sandbox, (device, interface, mac))) => {
                Ok(Ready { netns: sandbox.netns, device, interface, address, mac })
            }
            Err(error) => {
                // The namespace is closed by now, and the pair, if it was made, goes with it.
                self.book.give_back(id, address);
                Err(error)
            }
        }
    }

    pub(super) fn connect(&mut self, id: &HexId, netns: OwnedFd, wish: &Wish) -> Result<Ready, NetError> {
        let network = self.book.network(id)?;
        self.bridge(&network)?;
        let mut sandbox = Sandbox::open(&self.traveller, netns)?;
        let interface = match &wish.interface {
            Some(name) => name.clone(),
            None => sandbox.free_interface().map_err(|source| refused(&network, source))?,
        };
        let address = self.allocate(&network, wish)?;
        let wish = Wish { interface: Some(interface), ..wish.clone() };
        match self.plug(&network, &mut sandbox, address, &wish) {
            Ok((device, interface, mac)) => Ok(Ready { netns: sandbox.netns, device, interface, address, mac }),
            Err(error) => {
                self.book.give_back(id, address);
                Err(error)
            }
        }
    }

    /// Takes an address; if there is none, what departed is hurried out first.
    fn allocate(&mut self, network: &Network, wish: &Wish) -> Result<Ipv4Addr, NetError> {
        let wanted = || wish.address.as_ref().map(|(address, container)| (*address, container));
        let shortage = |error: &NetError| matches!(error, NetError::NoFreeAddress { .. } | NetError::AddressTaken);
        match self.book.allocate(&network.id, wanted()) {
            Err(error) if shortage(&error) && self.departed.iter().any(|one| one.what.network == network.id) => {
                self.sweep(Duration::ZERO);
                self.book.allocate(&network.id, wanted())
            }
            outcome => outcome,
        }
    }

    /// Joins a sandbox to a network's bridge. Gives the names of both ends and the hardware address.
    fn plug(
        &mut self,
        network: &Network,
        sandbox: &mut Sandbox,
        address: Ipv4Addr,
        wish: &Wish,
    ) -> Result<(String, String, MacAddress), NetError> {
        self.try_plug(network, sandbox, address, wish).or_else(|error| match error {
            // Somebody may have deleted the bridge: then it is made again, with its rules.
            NetError::Kernel { .. } if self.bridges.remove(&network.id).is_some() => {
                self.try_plug(network, sandbox, address, wish)
            }
            error => Err(error),
        })
    }

    fn try_plug(
        &mut self,
        network: &Network,
        sandbox: &mut Sandbox,
        address: Ipv4Addr,
        wish: &Wish,
    ) -> Result<(String, String, MacAddress), NetError> {
        let subnet = network.subnets.first().ok_or_else(|| NetError::NoEndpoints(network.name.clone()))?;
        let mac = wish.mac.unwrap_or_else(|| network.mac_of(address));
        let interface = wish.interface.clone().unwrap_or_else(|| "eth0".to_owned());
        let device = device_name();
        let plug = Plug {
            bridge: self.bridge(network)?,
            mtu: network.mtu(),
            device: &device,
            interface: &interface,
            address: Ipv4Net::new(address, subnet.net.prefix_len()).expect("the length comes from a subnet"),
            mac,
            gateway: (wish.default_route && !network.internal).then_some(subnet.gateway),
            isolated: !network.connects_containers(),
        };
        let outcome = sandbox.plug(&mut self.route, &plug);
        if outcome.is_err() {
            // The refusal is what matters; a device that cannot be deleted either is found at the next start.
            let _ = self.delete_device(&device);
        }
        outcome.map_err(|source| refused(network, source))?;
        Ok((device, interface, mac))
    }

    /// The number of a network's bridge, which is made if need be, with everything that belongs to it.
    pub(super) fn bridge(&mut self, network: &Network) -> Result<u32, NetError> {
        if let Some(bridge) = self.bridges.get(&network.id) {
            return Ok(bridge.index);
        }
        let foreign = network.is_default_bridge() && matches!(self.config.bridge, DefaultBridge::Foreign { .. });
        let subnet = network.subnets.first().ok_or_else(|| match network.is_default_bridge() {
            true => NetError::BridgeOff,
            false => NetError::NoEndpoints(network.name.clone()),
        })?;
        let wanted = Wanted {
            network: network.name.clone(),
            name: network.bridge_name(),
            gateway: subnet.gateway_net(),
            mac: network.mac_of(subnet.gateway),
            mtu: network.mtu(),
            foreign,
        };
        let index = wanted.ensure(&mut self.route)?;
        let rules = firewall::Bridge {
            name: wanted.name,
            subnet: subnet.net,
            masquerade: network.masquerades(),
            between_containers: network.connects_containers(),
            internal: network.internal,
        };
        self.bridges.insert(network.id.clone(), Bridge { index, rules });
        self.enforce().inspect_err(|_| drop(self.bridges.remove(&network.id))).map_err(|error| match error {
            NetError::Netlink { source } => refused(network, source),
            other => other,
        })?;
        Ok(index)
    }

    /// Lets packets through, and only those that may pass.
    pub(super) fn enforce(&mut self) -> Result<(), NetError> {
        if self.config.rules {
            let bridges: Vec<_> = self.bridges.values().map(|bridge| bridge.rules.clone()).collect();
            let mut socket = Socket::netfilter()?;
            Rules { table: &self.config.table, bridges: &bridges }.apply(&mut socket)?;
            self.obstacles = firewall::admit(&mut socket, &self.config.table, &bridges)?;
        }
        // After the rules: a host that starts to forward should not do so unguarded for a moment.
        if self.config.forward {
            forward_packets()?;
        }
        Ok(())
    }
}

fn refused(network: &Network, source: NetlinkError) -> NetError {
    NetError::Kernel { network: network.name.clone(), source }
}

/// Turns the host into a router between its interfaces, if it is none yet.
fn forward_packets() -> Result<(), NetError> {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    // Written only when it must change: some hosts have it right but read-only.
    match std::fs::read_to_string(FORWARD) {
        Ok(value) if value.trim() == "1" => Ok(()),
        _ => write_setting(FORWARD, "1"),
    }
}

/// A name for a device on the host that no other has, as far as chance can tell.
fn device_name() -> String {
    let number = u32::from_ne_bytes(crate::random());
    format!("{DEVICE_PREFIX}{number:08x}")
}

/// Whether a device on the host was named by us.
pub(super) fn is_ours(device: &str) -> bool {
    let digits = device.strip_prefix(DEVICE_PREFIX).unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_devices_are_known_by_their_names() {
        assert!(is_ours(&device_name()));
        assert!(device_name().len() <= 15);
        for other in ["veth1234567", "vethb12", "vethbABCDEF01", "eth0", "vethb0123456789", ""] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
