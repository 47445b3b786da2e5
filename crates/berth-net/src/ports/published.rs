//! A range of ports of the host that leads to a container.

use std::net::{IpAddr, SocketAddr};

use berth_model::{ContainerId, HexId};
use berth_ports::{Place, Transport};
use berth_store::PortRow;
use serde::{Deserialize, Serialize};

use crate::error::NetError;

/// Longer ranges are not relayed unless that was asked for: each of their ports would cost a socket.
pub(crate) const LONGEST_RELAY: u16 = 64;

/// Ports of the host, one behind the other, that lead to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The endpoint they lead to.
    pub endpoint: HexId,
    /// Whose it is.
    pub container: ContainerId,
    /// The protocol.
    pub transport: Transport,
    /// The host's address; the unspecified one is every one of its family.
    pub address: IpAddr,
    /// The first port of the host.
    pub first: u16,
    /// The last port of the host.
    pub last: u16,
    /// The container's address.
    pub target: IpAddr,
    /// The container's first port; the others follow as those of the host do.
    pub target_first: u16,
    /// How packets get there.
    pub way: Way,
    /// Whether sockets keep others away from these ports, or only the record does.
    pub held: bool,
}

/// How packets get from a port of the host to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The firewall changes where they go; the container sees the client's address.
    Translated,
    /// A process carries their contents; the container sees the host's address.
    Relayed,
    /// The container has an address that others reach: the port is open there, and none of the host's is taken. The host's address and ports
    /// in the record are those of the container.
    Routed,
}

impl PublishedPort {
    /// Each pair of a port of the container and one of the host.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        (self.target_first..).zip(self.first..=self.last)
    }

    /// What must be held for it. Clients on the host's IPv6 loopback address are carried if `carries`.
    pub(crate) fn places(&self, carries: bool) -> impl Iterator<Item = Place> + '_ {
        let carried = self.way == Way::Relayed || (carries && self.is_carried_locally());
        self.pairs().map(move |(inside, port)| Place {
            transport: self.transport,
            address: self.address,
            port,
            relay: carried.then(|| SocketAddr::new(self.target, inside)),
        })
    }

    /// Whether clients on the host's IPv6 loopback address are carried by hand: the kernel never lets the answer to a translated
    /// packet back to that address. All others are translated before they come to the socket.
    fn is_carried_locally(&self) -> bool {
        self.address == IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED) && self.last - self.first < LONGEST_RELAY
    }

    /// Whether a port is in both and an address means both.
    pub(crate) fn overlaps(&self, other: &PublishedPort) -> bool {
        if self.way == Way::Routed || other.way == Way::Routed {
            return false;
        }
        let every = self.address.is_unspecified() || other.address.is_unspecified();
        self.transport == other.transport
            && self.first <= other.last
            && other.first <= self.last
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (every || self.address == other.address)
    }

    pub(crate) fn to_row(&self) -> Result<PortRow, NetError> {
        let document = serde_json::to_string(self)
            .map_err(|source| NetError::Record { what: format!("port {}", self.first), source })?;
        // A range that ends before it begins: no port of the host is held.
        let (first, last) = if self.way == Way::Routed { (1, 0) } else { (self.first, self.last) };
        Ok(PortRow {
            endpoint: self.endpoint.to_string(),
            container: self.container.to_string(),
            transport: self.transport.word().to_owned(),
            address: self.address,
            first,
            last,
            document,
        })
    }
}

pub(crate) fn read(row: &PortRow) -> Result<PublishedPort, NetError> {
    serde_json::from_str(&row.document)
        .map_err(|source| NetError::Record { what: format!("port {}/{}", row.first, row.transport), source })
}
