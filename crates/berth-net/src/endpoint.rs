//! One container's place on one network: what is asked for, what is given, and what the record of it says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use berth_model::{ContainerId, HexId};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::error::NetError;
use crate::mac::MacAddress;
use crate::networks::Inner;

/// What a container wants of a network.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    /// Who asks.
    pub container: ContainerId,
    /// The name of who asks.
    pub container_name: String,
    /// The network, by name, id, or the beginning of an id.
    pub network: String,
    /// A certain address; the next free one if absent.
    pub address: Option<Ipv4Addr>,
    /// A certain hardware address.
    pub mac: Option<MacAddress>,
    /// A certain name of the interface; `eth0`, `eth1`, ... if absent.
    pub interface: Option<String>,
    /// Other names by which the network's containers find this one.
    pub aliases: BTreeSet<String>,
    /// Whether the network's gateway is the way to everywhere that no better route leads to.
    pub default_route: bool,
}

impl EndpointRequest {
    /// The default bridge, and whatever address comes next.
    pub fn default_bridge(container: ContainerId, container_name: &str) -> EndpointRequest {
        EndpointRequest::on("bridge", container, container_name)
    }

    /// A network, and whatever address comes next. The gateway is the way out.
    pub fn on(network: &str, container: ContainerId, container_name: &str) -> EndpointRequest {
        EndpointRequest {
            container,
            container_name: container_name.to_owned(),
            network: network.to_owned(),
            address: None,
            mac: None,
            interface: None,
            aliases: BTreeSet::new(),
            default_route: true,
        }
    }
}

/// A container's place on a network, as its record keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The endpoint's id.
    pub id: HexId,
    /// The network's id.
    pub network: HexId,
    /// The network's name.
    pub network_name: String,
    /// Whose it is.
    pub container: ContainerId,
    /// The name of whose it is, when it was made.
    pub container_name: String,
    /// The name of the interface inside the container.
    pub interface: String,
    /// The name of the device on the host that it is joined to.
    pub device: String,
    /// The address with the length of the subnet's prefix.
    pub address: Ipv4Net,
    /// The way out; `None` on a network without one.
    pub gateway: Option<Ipv4Addr>,
    /// The hardware address.
    pub mac: MacAddress,
    /// Other names by which the network's containers find this one.
    pub aliases: BTreeSet<String>,
}

impl EndpointRecord {
    /// The address without its prefix.
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.address.addr())
    }
}

/// An endpoint in a namespace of its own. Dropped without [`Endpoint::keep`] it takes everything back: the record, the
/// address, and with the namespace the devices.
#[derive(Debug)]
pub struct Endpoint {
    record: EndpointRecord,
    netns: OwnedFd,
    undo: Undo,
}

impl Endpoint {
    pub(crate) fn new(record: EndpointRecord, netns: OwnedFd, owner: Arc<Inner>) -> Endpoint {
        let undo = Undo { owner, record: Some(record.clone()) };
        Endpoint { record, netns, undo }
    }

    /// The namespace, ready for a container's processes.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// What was given.
    pub fn record(&self) -> &EndpointRecord {
        &self.record
    }

    /// Leaves the endpoint to the container, whose processes hold the namespace from now on; our descriptor is closed.
    pub fn keep(mut self) -> EndpointRecord {
        self.undo.record = None;
        self.record.clone()
    }
}

/// An endpoint in a namespace that somebody else holds. Dropped without [`Connection::keep`] the interface is removed.
#[derive(Debug)]
pub struct Connection {
    record: EndpointRecord,
    owner: Arc<Inner>,
    kept: bool,
}

impl Connection {
    pub(crate) fn new(record: EndpointRecord, owner: Arc<Inner>) -> Connection {
        Connection { record, owner, kept: false }
    }

    /// What was given.
    pub fn record(&self) -> &EndpointRecord {
        &self.record
    }

    /// Leaves the interface to the container.
    pub fn keep(mut self) -> EndpointRecord {
        self.kept = true;
        self.record.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is found by the next reconciliation: it has no record then, or no container.
            let _ = self.owner.disconnect(&self.record);
        }
    }
}

#[derive(Debug)]
struct Undo {
    owner: Arc<Inner>,
    record: Option<EndpointRecord>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            // As above: a record that stays is removed by the next reconciliation.
            let _ = self.owner.detach(&record);
        }
    }
}

/// Checks a name that somebody chose for an interface, as the kernel will.
pub(crate) fn check_interface(name: &str) -> Result<(), NetError> {
    let length = (1..=15).contains(&name.len());
    let letters = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if length && letters && name != "." && name != ".." && name != "lo" {
        Ok(())
    } else {
        Err(NetError::InvalidInterface(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_is_short_and_plain() {
        for good in ["eth0", "wan", "a.b-c_9"] {
            assert!(check_interface(good).is_ok(), "{good}");
        }
        for bad in ["", "lo", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx", "ä"] {
            assert!(check_interface(bad).is_err(), "{bad}");
        }
    }
}
