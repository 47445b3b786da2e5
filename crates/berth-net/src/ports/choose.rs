//! Choosing the host's ports for a container: which of them are tried, and in what order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::published::{LONGEST_RELAY, PublishedPort, Way};
use super::request::{Group, HostPort};
use super::table::PortTable;
use crate::endpoint::EndpointRecord;

/// What the host and the container have that ports are led between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    /// The container's addresses.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Whether the host has IPv6.
    pub host_ipv6: bool,
    /// Whether there are rules that translate.
    pub translates: bool,
    /// The same for IPv6.
    pub translates_v6: bool,
    /// Whether a process carries what is not translated.
    pub carries: bool,
    /// Where ports are published when nobody says.
    pub default: Option<IpAddr>,
    /// Whether the container is reached at its own IPv4 address, and none is translated.
    pub routed: bool,
    /// The same for IPv6.
    pub routed_v6: bool,
}

/// A group, and the ports that are still to be tried for it.
pub(crate) struct Choice {
    pub group: Group,
    candidates: Vec<u16>,
    next: usize,
}

impl Choice {
    pub fn of(group: Group, table: &PortTable) -> Choice {
        let candidates = match group.host {
            HostPort::One(port) => vec![port],
            HostPort::FirstOf(first, last) => (first..=last).collect(),
            HostPort::Free => table.candidates().collect(),
        };
        Choice { group, candidates, next: 0 }
    }

    /// The port that is tried now.
    pub fn port(&self) -> u16 {
        self.candidates.get(self.next).or(self.candidates.last()).copied().unwrap_or_default()
    }

    /// Goes on to the next; `false` if there is none.
    pub fn advance(&mut self) -> bool {
        self.next += 1;
        self.next < self.candidates.len()
    }

    /// The ranges that are published if this port is taken: one for each family.
    pub fn ranges(&self, record: &EndpointRecord, families: &Families) -> Vec<PublishedPort> {
        let first = self.port();
        let addresses = addresses(self.group.address.or(families.default), families);
        let lead = |address: IpAddr| {
            if families.is_routed(address) {
                return families.own(address).map(|own| self.opened(record, own));
            }
            let (target, way) = families.lead(address)?;
            // Any address of the other family is served as far as that is cheap, one that was asked for in any case.
            let asked = self.group.address.is_some();
            (way == Way::Translated || asked || self.group.count <= LONGEST_RELAY).then(|| PublishedPort {
                endpoint: record.id.clone(),
                container: record.container.clone(),
                transport: self.group.transport,
                address,
                first,
                last: first.saturating_add(self.group.count - 1),
                target,
                target_first: self.group.first,
                way,
                held: true,
            })
        };
        addresses.into_iter().filter_map(lead).collect()
    }

    /// The ports at the container's own address.
    fn opened(&self, record: &EndpointRecord, own: IpAddr) -> PublishedPort {
        let Group { transport, first, count, .. } = self.group;
        PublishedPort {
            endpoint: record.id.clone(),
            container: record.container.clone(),
            transport,
            address: own,
            first,
            last: first.saturating_add(count - 1),
            target: own,
            target_first: first,
            way: Way::Routed,
            held: true,
        }
    }
}

impl Families {
    fn is_routed(&self, address: IpAddr) -> bool {
        if address.is_ipv6() { self.routed_v6 } else { self.routed }
    }

    fn own(&self, address: IpAddr) -> Option<IpAddr> {
        if address.is_ipv6() { self.ipv6.map(IpAddr::V6) } else { self.ipv4.map(IpAddr::V4) }
    }

    /// The container's address that a port of this address of the host leads to, and how.
    fn lead(&self, address: IpAddr) -> Option<(IpAddr, Way)> {
        let (ipv4, ipv6) = (self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6));
        let (same, other) = if address.is_ipv4() { (ipv4, ipv6) } else { (ipv6, ipv4) };
        let local = address == IpAddr::from(Ipv6Addr::LOCALHOST);
        let translates = if address.is_ipv6() { self.translates_v6 } else { self.translates };
        let way = if translates && !local { Way::Translated } else { Way::Relayed };
        let lead = same.map(|target| (target, way)).or_else(|| other.map(|target| (target, Way::Relayed)));
        lead.filter(|(_, way)| self.carries || *way != Way::Relayed)
    }

    /// Whether nothing leads from an address of the host to the container, only because nobody may carry it.
    pub fn is_cut_off(&self, address: IpAddr) -> bool {
        let carried = Families { carries: true, ..*self };
        !self.carries && !self.is_routed(address) && self.lead(address).is_none() && carried.lead(address).is_some()
    }
}

fn addresses(asked: Option<IpAddr>, families: &Families) -> Vec<IpAddr> {
    match asked {
        Some(address) => vec![address],
        None if families.host_ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        None => vec![Ipv4Addr::UNSPECIFIED.into()],
    }
}
