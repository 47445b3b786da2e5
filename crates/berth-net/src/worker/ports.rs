//! Published ports, in the hands of the thread that changes the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use berth_model::HexId;
use berth_ports::{Held, NotHeld, Place, Transport};

use super::Worker;
use crate::config::FirewallMode;
use crate::error::NetError;
use crate::explain::FirewallReport;
use crate::firewall;
use crate::netlink::{Batch, NetlinkError, Socket, conntrack, route};
use crate::ports::{PublishedPort, Way};
use crate::sandbox::write_setting;

/// Ports that nobody is given who minds none.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// What this thread knows of published ports.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// By endpoint, with the network it is on.
    published: BTreeMap<HexId, (HexId, Vec<PublishedPort>)>,
    /// Held here while no process holds them: by endpoint.
    held: BTreeMap<String, Vec<Held>>,
    /// What we have written into the kernel's list of reserved ports.
    reserved: BTreeSet<u16>,
}

impl Ports {
    /// Every port that rules are about.
    pub fn all(&self) -> Vec<PublishedPort> {
        self.published.values().flat_map(|(_, ports)| ports).cloned().collect()
    }

    /// Knows again what records tell of, before the first rule is made; `before` is what an earlier engine may have written
    /// into the kernel's list.
    pub fn take_over(&mut self, ports: Vec<(HexId, Vec<PublishedPort>)>, before: &[PublishedPort]) {
        self.reserved.extend(unheld(before));
        for (network, ports) in ports {
            if let Some(endpoint) = ports.first().map(|port| port.endpoint.clone()) {
                self.published.insert(endpoint, (network, ports));
            }
        }
    }
}

impl Worker {
    /// Leads ports to a container.
    pub(super) fn publish(&mut self, network: &HexId, device: &str, ports: &[PublishedPort]) -> Result<(), NetError> {
        let Some(endpoint) = ports.first().map(|port| port.endpoint.clone()) else { return Ok(()) };
        self.ports.published.insert(endpoint.clone(), (network.clone(), ports.to_vec()));
        let done = self.lead(network, ports).and_then(|()| self.answer_itself(device));
        if done.is_err() {
            // What was asked for is not in force; what was in force before must be again.
            self.ports.published.remove(&endpoint);
            let _ = self.enforce();
        }
        done
    }

    fn lead(&mut self, network: &HexId, ports: &[PublishedPort]) -> Result<(), NetError> {
        if self.config.rules {
            let added = match self.config.firewall {
                FirewallMode::Docker => {
                    self.change_rules(|table, socket| firewall::publish(socket, table, ports, None))
                }
                FirewallMode::Respect => self.publish_with_respect(ports),
            };
            // Somebody flushed the rules, or changed them: all of them are written anew.
            added.or_else(|_| self.enforce())?;
            self.answer_loopback(network, ports)?;
        }
        self.reserve();
        self.forget_flows(ports, Leads::Elsewhere);
        Ok(())
    }

    /// Ends the way to a container.
    pub(super) fn withdraw(&mut self, endpoint: &HexId) -> Result<(), NetError> {
        let Some((_, ports)) = self.ports.published.remove(endpoint) else { return Ok(()) };
        if self.config.rules {
            self.take_from_rules(&ports)?;
        }
        self.reserve();
        self.forget_flows(&ports, Leads::There);
        Ok(())
    }

    /// Lets every bridge with published ports answer loopback addresses.
    pub(super) fn answer_loopbacks(&self) -> Result<(), NetError> {
        self.ports.published.values().try_for_each(|(network, ports)| self.answer_loopback(network, ports))
    }

    /// After a start: the rules of an engine whose containers are all gone lead to nobody.
    pub(super) fn drop_idle_rules(&mut self) -> Result<(), NetError> {
        if !self.config.rules || !self.bridges.is_empty() {
            return Ok(());
        }
        self.change_rules(|table, socket| firewall::remove(socket, table))
    }

    /// Adds ports to the table with what the host's own rules say of them. Those that are open to some need chains of their own: then all
    /// of the table is written.
    fn publish_with_respect(&mut self, ports: &[PublishedPort]) -> Result<(), NetError> {
        let (number, policy) = self.host_policy()?;
        let mut closed = firewall::closed(&policy, ports);
        if closed.iter().any(|one| matches!(one.verdict, firewall::PortVerdict::Limited(_)))
            || (!closed.is_empty() && ports.iter().any(|port| port.way == Way::Routed))
        {
            return self.enforce();
        }
        self.change_rules(|table, socket| firewall::publish(socket, table, ports, Some((number, &closed))))?;
        closed.retain(|one| !self.closed.iter().any(|known| known.is_for_the_port_of(one)));
        self.closed.append(&mut closed);
        Ok(())
    }

    /// Takes ports out of the table, and what was said of them and is of no other port.
    fn take_from_rules(&mut self, ports: &[PublishedPort]) -> Result<(), NetError> {
        let others = self.ports.all();
        let known = std::mem::take(&mut self.closed);
        let (kept, gone): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|one| others.iter().any(|port| one.is_of(port)));
        self.closed = kept;
        if gone.iter().any(|one| matches!(one.verdict, firewall::PortVerdict::Limited(_)))
            || (!gone.is_empty() && ports.iter().any(|port| port.way == Way::Routed))
        {
            return self.enforce();
        }
        let removed = self.change_rules(|table, socket| firewall::withdraw(socket, table, ports, &gone));
        removed.or_else(|_| self.enforce())
    }

    /// What is in force, and what the host's own rules say of each port.
    pub(super) fn report(&mut self) -> Result<FirewallReport, NetError> {
        let (_, policy) = self.host_policy()?;
        let ports = self.ports.all().into_iter().map(|range| {
            let verdict = |port| policy.verdict(range.address.is_ipv6(), range.transport, port);
            let mut verdicts: Vec<_> = (range.first..=range.last).map(verdict).collect();
            verdicts.dedup();
            (range, verdicts)
        });
        Ok(FirewallReport {
            table: self.config.rules.then(|| self.config.table.clone()),
            mode: self.config.firewall,
            legacy: policy.has_legacy(),
            bridges: self.bridges.values().map(|bridge| bridge.rules.name.clone()).collect(),
            ports: ports.collect(),
            obstacles: self.obstacles.clone(),
            host: Arc::clone(&policy),
        })
    }

    fn change_rules(
        &mut self,
        change: impl FnOnce(&str, &mut Socket) -> Result<(), NetlinkError>,
    ) -> Result<(), NetError> {
        self.with_firewall(|table, socket| Ok(change(table, socket)?))
    }

    /// Lets packets from the host's loopback addresses leave by the bridge, and their answers come back. The table drops what others
    /// send to loopback addresses before this setting would let it in.
    fn answer_loopback(&self, network: &HexId, ports: &[PublishedPort]) -> Result<(), NetError> {
        let loopback = |port: &PublishedPort| {
            port.way == Way::Translated
                && port.address.is_ipv4()
                && (port.address.is_unspecified() || port.address.is_loopback())
        };
        if !ports.iter().any(loopback) {
            return Ok(());
        }
        let Some(bridge) = self.bridges.get(network) else { return Ok(()) };
        let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", bridge.rules.name);
        match std::fs::read_to_string(&path) {
            Ok(value) if value.trim() == "1" => Ok(()),
            _ => write_setting(&path, "1"),
        }
    }

    /// Where the kernel shows bridged frames to the firewall (br_netfilter), a container that asks for its own published port is
    /// translated on the bridge, and the frame has to leave by the port it came from.
    fn answer_itself(&mut self, device: &str) -> Result<(), NetError> {
        const FILTERED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let filtered = std::fs::read_to_string(FILTERED).is_ok_and(|text| text.trim() == "1");
        if !filtered || !self.config.rules {
            return Ok(());
        }
        // Unlike a question by netlink this does not wait until namespaces of others have been taken down.
        let Ok(port) = rustix::net::netdevice::name_to_index(&self.route, device) else { return Ok(()) };
        let mut batch = Batch::new();
        route::set_hairpin(&mut batch, port);
        Ok(self.route.run(batch)?)
    }

    /// Clients of UDP that went on sending keep the way their first packet took.
    fn forget_flows(&self, ports: &[PublishedPort], leads: Leads) {
        let udp: Vec<_> = ports.iter().filter(|port| port.transport == Transport::Udp).collect();
        if udp.is_empty() {
            return;
        }
        let stale = |flow: &conntrack::Flow| {
            udp.iter().any(|port| {
                let ours = (port.first..=port.last).contains(&flow.port)
                    && (port.address.is_unspecified() || port.address == flow.destination);
                ours && (leads == Leads::There) == (flow.answered_by == port.target)
            })
        };
        // Without the list the entries go by themselves, half a minute after their clients have.
        if let Ok(mut socket) = Socket::netfilter() {
            let _ = conntrack::forget_udp(&mut socket, stale);
        }
    }

    /// Keeps ports that only records hold from those who are given any port.
    pub(super) fn reserve(&mut self) {
        let wanted: BTreeSet<u16> = unheld(&self.ports.all()).collect();
        if wanted == self.ports.reserved {
            return;
        }
        let current = parse_ports(&std::fs::read_to_string(RESERVED).unwrap_or_default());
        let others = current.difference(&self.ports.reserved).copied();
        let text = print_ports(&others.chain(wanted.iter().copied()).collect());
        // It keeps others from taking them by chance only; who asks for one by number gets it in any case.
        if Path::new(RESERVED).exists() && write_setting(RESERVED, &text).is_ok() {
            self.ports.reserved = wanted;
        }
    }

    /// Holds ports with sockets of this process.
    pub(super) fn hold_ports(&mut self, owner: String, places: &[Place], limit: usize) -> Result<bool, NotHeld> {
        let mut held = berth_ports::hold_all(places).map_err(|(place, error)| NotHeld::Place(place, error))?;
        let room = limit.saturating_sub(self.ports.held.values().map(Vec::len).sum());
        let all = held.len() <= room;
        held.truncate(room);
        self.ports.held.entry(owner).or_default().extend(held);
        Ok(all)
    }

    pub(super) fn release_ports(&mut self, owner: &str) {
        self.ports.held.remove(owner);
    }
}

/// Where a flow leads that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// To the container.
    There,
    /// To wherever the port led before.
    Elsewhere,
}

fn unheld(ports: &[PublishedPort]) -> impl Iterator<Item = u16> + '_ {
    ports.iter().filter(|port| !port.held).flat_map(|port| port.first..=port.last)
}

/// Reads `80,90-95`.
fn parse_ports(text: &str) -> BTreeSet<u16> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn print_ports(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let print = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    // An empty line empties the list; an empty write would change nothing.
    format!("{}\n", ranges.iter().map(print).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_ports_is_read_and_written() {
        let ports = parse_ports("80,90-92,65535\n");
        assert_eq!(ports.iter().copied().collect::<Vec<_>>(), [80, 90, 91, 92, 65535]);
        assert_eq!(print_ports(&ports), "80,90-92,65535\n");
        assert_eq!(parse_ports("\n"), BTreeSet::new());
        assert_eq!(print_ports(&BTreeSet::new()), "\n");
    }
}
