//! Making what a container stands on: sandboxes, their plugs, and the bridge behind them with its rules.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_model::HexId;
use ipnet::IpNet;

use super::segments::extensions;
use super::{Bridge, Departed, Wish, Worker};
use crate::book::{Given, Ready};
use crate::bridge::Wanted;
use crate::config::{DefaultBridge, FirewallMode};
use crate::error::NetError;
use crate::firewall::{self, Rules};
use crate::mac::MacAddress;
use crate::netlink::NetlinkError;
use crate::netlink::route::Hop;
use crate::network::{Driver, Network};
use crate::sandbox::{Cable, Plug, Sandbox, write_setting};

/// How our devices on the host are named: this, and eight hex digits. Programs that manage a host's network leave
/// `veth*` alone; the letter sets ours apart from those of other engines.
const DEVICE_PREFIX: &str = "vethb";
/// The table is written anew when somebody changes the host's rules meanwhile, so often.
const OUTDATED_TRIES: usize = 20;

impl Worker {
    pub(super) fn isolate(&self) -> Result<OwnedFd, NetError> {
        let mut sandbox = Sandbox::make(&self.traveller)?;
        sandbox.raise_loopback()?;
        Ok(sandbox.netns)
    }

    /// Makes a sandbox for a container.
    pub(super) fn prepare(&mut self, id: &HexId, wish: &Wish) -> Result<Ready, NetError> {
        let network = self.book.network(id)?;
        self.ensure(&network)?;
        let given = self.allocate_first(&network, wish)?;
        self.make_at(&network, given, wish)
    }

    /// Makes a sandbox that waits for a container.
    pub(super) fn prepare_ahead(&mut self, id: &HexId) -> Result<Ready, NetError> {
        let network = self.book.network(id)?;
        self.ensure(&network)?;
        let wish = Wish::usual();
        let given = self.allocate(&network, &wish)?;
        self.make_at(&network, given, &wish)
    }

    fn make_at(&mut self, network: &Network, given: Given, wish: &Wish) -> Result<Ready, NetError> {
        let interface = wish.interface.clone().unwrap_or_else(|| format!("{}0", network.interface_prefix()));
        let made = Sandbox::make(&self.traveller).and_then(|mut sandbox| {
            let plugged = self.plug(network, &mut sandbox, given, &interface, wish)?;
            Ok((sandbox, plugged))
        });
        match made {
            Ok((sandbox, (device, mac))) => Ok(Ready { netns: sandbox.netns, device, interface, given, mac }),
            Err(error) => {
                // The namespace is closed by now, and the pair, if it was made, goes with it.
                self.book.give_back(&network.id, given.addresses());
                Err(error)
            }
        }
    }

    pub(super) fn connect(&mut self, id: &HexId, netns: OwnedFd, wish: &Wish) -> Result<Ready, NetError> {
        let network = self.book.network(id)?;
        self.ensure(&network)?;
        let mut sandbox = Sandbox::open(&self.traveller, netns)?;
        let interface = match &wish.interface {
            Some(name) => name.clone(),
            None => sandbox.free_interface(network.interface_prefix()).map_err(|source| refused(&network, source))?,
        };
        let given = self.allocate_first(&network, wish)?;
        match self.plug(&network, &mut sandbox, given, &interface, wish) {
            Ok((device, mac)) => Ok(Ready { netns: sandbox.netns, device, interface, given, mac }),
            Err(error) => {
                self.book.give_back(id, given.addresses());
                Err(error)
            }
        }
    }

    /// Has a namespace's default routes lead elsewhere.
    pub(super) fn reroute(
        &mut self,
        netns: OwnedFd,
        from: &[(String, Hop)],
        to: &[(String, Hop)],
    ) -> Result<(), NetError> {
        Ok(Sandbox::open(&self.traveller, netns)?.reroute(from, to)?)
    }

    /// Takes addresses for a container, before any that only waits for one.
    fn allocate_first(&mut self, network: &Network, wish: &Wish) -> Result<Given, NetError> {
        match self.allocate(network, wish) {
            Err(error) if self.waits_with_what_lacks(network, &error, wish) && self.give_up_ready(&network.id) => {
                self.allocate(network, wish)
            }
            outcome => outcome,
        }
    }

    /// Whether a sandbox that waits has what somebody else cannot have.
    fn waits_with_what_lacks(&self, network: &Network, error: &NetError, wish: &Wish) -> bool {
        match error {
            NetError::NoFreeAddress { .. } => true,
            NetError::AddressTaken => {
                let certain = wish.ipv4.map(IpAddr::V4).into_iter().chain(wish.ipv6.map(IpAddr::V6));
                self.book.has_ready_with(&network.id, certain)
            }
            _ => false,
        }
    }

    /// Takes addresses; if one cannot be had, what departed is hurried out first.
    fn allocate(&mut self, network: &Network, wish: &Wish) -> Result<Given, NetError> {
        let leaving = |one: &Departed| {
            one.what.network == network.id && one.what.given.addresses().any(|ip| wish.preferred.contains(&ip))
        };
        if !wish.preferred.is_empty() && self.departed.iter().any(leaving) {
            // Its own former device still has the address that it would like again.
            self.sweep(Duration::ZERO);
        }
        match self.book.allocate(&network.id, wish) {
            Err(error) if is_shortage(&error) && self.departed.iter().any(|one| one.what.network == network.id) => {
                self.sweep(Duration::ZERO);
                self.book.allocate(&network.id, wish)
            }
            outcome => outcome,
        }
    }

    /// Joins a sandbox to a network. Gives the name of the end on the host and the hardware address.
    fn plug(
        &mut self,
        network: &Network,
        sandbox: &mut Sandbox,
        given: Given,
        interface: &str,
        wish: &Wish,
    ) -> Result<(String, Option<MacAddress>), NetError> {
        self.try_plug(network, sandbox, given, interface, wish).or_else(|error| match error {
            // Somebody may have deleted the bridge: then it is made again, with its rules.
            NetError::Kernel { .. } if self.bridges.remove(&network.id).is_some() => {
                self.try_plug(network, sandbox, given, interface, wish)
            }
            error => Err(error),
        })
    }

    fn try_plug(
        &mut self,
        network: &Network,
        sandbox: &mut Sandbox,
        given: Given,
        interface: &str,
        wish: &Wish,
    ) -> Result<(String, Option<MacAddress>), NetError> {
        let device = if network.driver == Driver::Bridge { device_name() } else { String::new() };
        let addresses = given.addresses().map(|address| in_subnet(network, address)).collect::<Result<Vec<_>, _>>()?;
        let first = given.addresses().next();
        let mac =
            wish.mac.or(first.map(|address| network.mac_of(address))).filter(|_| network.driver != Driver::Ipvlan);
        let plug = Plug {
            cable: self.cable(network, &device)?,
            mtu: if network.driver == Driver::Bridge { Some(network.mtu()) } else { network.chosen_mtu() },
            interface,
            addresses: &addresses,
            link_local: &wish.link_local,
            mac,
            routes: &routes(network, given, wish),
            settings: &wish.settings,
        };
        let outcome = sandbox.plug(&self.traveller, &mut self.route, &plug);
        if outcome.is_err() {
            // The refusal is what matters; a device that cannot be deleted either is found at the next start.
            let _ = if device.is_empty() {
                sandbox.unplug(interface).map_err(NetError::from)
            } else {
                self.delete_device(&device)
            };
        }
        outcome.map_err(|error| explained(network, error))?;
        if let Some(bridge) = self.bridges.get_mut(&network.id) {
            bridge.note_port(self.config.bridge_ports);
        }
        Ok((device, mac))
    }

    fn cable<'a>(&mut self, network: &Network, device: &'a str) -> Result<Cable<'a>, NetError> {
        match network.driver {
            Driver::Bridge => {
                let bridge = self.segment_with_room(network)?;
                Ok(Cable::Bridge { bridge, device, isolated: !network.connects_containers() })
            }
            Driver::Macvlan | Driver::Ipvlan => {
                let parent = self.parent(network)?;
                Ok(Cable::Parent { parent: parent.index, kind: parent.kind })
            }
            Driver::Host | Driver::Null => Err(NetError::NoEndpoints(network.name.clone())),
        }
    }

    /// Puts in place what the network's endpoints stand on.
    pub(super) fn ensure(&mut self, network: &Network) -> Result<(), NetError> {
        match network.driver {
            Driver::Bridge => self.bridge(network).map(|_| ()),
            Driver::Macvlan | Driver::Ipvlan => self.parent(network).map(|_| ()),
            Driver::Host | Driver::Null => Ok(()),
        }
    }

    /// The number of a network's bridge, which is made if need be, with everything that belongs to it.
    pub(super) fn bridge(&mut self, network: &Network) -> Result<u32, NetError> {
        if let Some(bridge) = self.bridges.get(&network.id) {
            return Ok(bridge.segments[0].index);
        }
        let foreign = network.is_default_bridge() && matches!(self.config.bridge, DefaultBridge::Foreign { .. });
        let first = network.subnets.first().ok_or_else(|| match network.is_default_bridge() {
            true => NetError::BridgeOff,
            false => NetError::NoEndpoints(network.name.clone()),
        })?;
        let wanted = Wanted {
            network: network.name.clone(),
            name: network.bridge_name(),
            gateways: [false, true].into_iter().filter_map(|ipv6| network.bridge_address(ipv6)).collect(),
            mac: network.mac_of(first.gateway.unwrap_or(first.net.network())),
            mtu: network.mtu(),
            foreign,
        };
        let index = wanted.ensure(&mut self.route)?;
        let segments = self.find_segments(network, index)?;
        let mut rules = firewall::Bridge { extensions: extensions(network, segments.len() - 1), ..rules_of(network) };
        rules.subnet_v6 = rules.subnet_v6.filter(|_| self.config.rules_v6);
        self.bridges.insert(network.id.clone(), Bridge { segments, rules });
        self.enforce().inspect_err(|_| drop(self.bridges.remove(&network.id))).map_err(|error| match error {
            NetError::Netlink { source } => refused(network, source),
            other => other,
        })?;
        Ok(index)
    }

    /// Asks for passage where others drop what our rules let pass.
    pub(super) fn admit(&mut self) -> Result<Vec<firewall::Obstacle>, NetError> {
        let bridges: Vec<_> = self.bridges.values().map(|bridge| bridge.rules.clone()).collect();
        let ipv6 = self.config.rules_v6;
        let mut obstacles = self.with_firewall(|table, socket| Ok(firewall::admit(socket, table, &bridges, ipv6)?))?;
        // A list that changes without end tells nothing, and keeps nobody from starting.
        if let Ok((_, policy)) = self.host_policy() {
            obstacles.extend(firewall::barriers(&policy, &bridges, &obstacles));
        }
        Ok(obstacles)
    }

    /// Writes the table anew. What the host's own rules say in it is what they say when it takes effect.
    fn write_rules(&mut self, bridges: &[firewall::Bridge]) -> Result<(), NetError> {
        let (ports, ipv6) = (self.ports.all(), self.config.rules_v6);
        let mut copied = true;
        for _ in 0..OUTDATED_TRIES {
            let host = match self.config.firewall {
                FirewallMode::Respect => Some(self.host_policy()?),
                FirewallMode::Docker => None,
            };
            let mut closed = host.as_ref().map(|(_, policy)| firewall::closed(policy, &ports)).unwrap_or_default();
            if !copied {
                closed.iter_mut().for_each(firewall::Closed::shut);
            }
            let has_copies = closed.iter().any(|one| matches!(one.verdict, firewall::PortVerdict::Limited(_)));
            let host = host.as_ref().map(|(number, policy)| (*number, policy.as_ref()));
            let written = self.with_firewall(|table, socket| {
                Ok(Rules { table, bridges, ipv6, ports: &ports, closed: &closed, host }.apply(socket)?)
            });
            match written {
                Err(NetError::Netlink { source }) if source.is_outdated() => {}
                // A rule of the host's may ask for what cannot be asked in our place: then nobody comes in by it.
                Err(NetError::Netlink { .. }) if has_copies => copied = false,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.closed = closed;
                    return Ok(());
                }
            }
        }
        Err(NetlinkError::Restless { step: "writing the firewall table" }.into())
    }

    /// Lets packets through, and only those that may pass.
    pub(super) fn enforce(&mut self) -> Result<(), NetError> {
        if self.config.rules {
            let bridges: Vec<_> = self.bridges.values().map(|bridge| bridge.rules.clone()).collect();
            self.write_rules(&bridges)?;
            self.obstacles = self.admit()?;
            self.answer_loopbacks()?;
            self.watch_over()?;
        }
        // After the rules: a host that starts to forward should not do so unguarded for a moment.
        if self.config.forward {
            forward_packets("/proc/sys/net/ipv4/ip_forward")?;
            let has_ipv6 = |id| self.book.network(id).is_ok_and(|network| network.subnet(true).is_some());
            if self.bridges.keys().any(has_ipv6) {
                forward_packets("/proc/sys/net/ipv6/conf/all/forwarding")?;
            }
        }
        Ok(())
    }
}

/// Whether somebody else has the address.
fn is_shortage(error: &NetError) -> bool {
    matches!(error, NetError::NoFreeAddress { .. } | NetError::AddressTaken)
}

/// What the firewall has to know of a network.
fn rules_of(network: &Network) -> firewall::Bridge {
    let net = |ipv6| network.subnet(ipv6).map(|subnet| subnet.net);
    firewall::Bridge {
        name: network.bridge_name(),
        extensions: Vec::new(),
        subnet: net(false).and_then(|net| if let IpNet::V4(net) = net { Some(net) } else { None }),
        subnet_v6: net(true).and_then(|net| if let IpNet::V6(net) = net { Some(net) } else { None }),
        masquerade: network.masquerades(false),
        masquerade_v6: network.masquerades(true),
        between_containers: network.connects_containers(),
        internal: network.internal,
        mode: network.gateway_mode(false),
        mode_v6: network.gateway_mode(true),
    }
}

/// The default routes of an endpoint: those that were wished for, as far as the network leads anywhere.
pub(crate) fn routes(network: &Network, given: Given, wish: &Wish) -> Vec<Hop> {
    let wished = |address: &IpAddr| if address.is_ipv4() { wish.default_v4 } else { wish.default_v6 };
    let hop = |address: IpAddr| match network.gateway_of(address) {
        _ if network.routes_by_device() && !network.internal => Some(Hop::Link { ipv6: address.is_ipv6() }),
        gateway => gateway.map(Hop::Gateway),
    };
    given.addresses().filter(wished).filter_map(hop).collect()
}

/// An address with the length of the prefix of the subnet that it was taken from.
fn in_subnet(network: &Network, address: IpAddr) -> Result<IpNet, NetError> {
    let subnet = network.subnet_of(address).ok_or(NetError::AddressOutside(address))?;
    Ok(IpNet::new(address, subnet.net.prefix_len()).expect("the length comes from a subnet of that family"))
}

pub(super) fn refused(network: &Network, source: NetlinkError) -> NetError {
    NetError::Kernel { network: network.name.clone(), source }
}

/// An error of the kernel with the network that it is about, or with what is missing in the kernel.
fn explained(network: &Network, error: NetError) -> NetError {
    match error {
        NetError::Netlink { source } => super::parent::unsupported(network, source),
        NetError::Setting { ref path, .. } if path.ends_with("disable_ipv6") => NetError::Ipv6Off(network.name.clone()),
        other => other,
    }
}

/// Turns the host into a router between its interfaces, if it is none yet.
fn forward_packets(path: &str) -> Result<(), NetError> {
    // Written only when it must change: some hosts have it right but read-only.
    match std::fs::read_to_string(path) {
        Ok(value) if value.trim() == "1" => Ok(()),
        _ => write_setting(path, "1"),
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
