//! One container's place on one network: what is asked for, what is given, and what the record of it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use berth_model::{ContainerId, HexId};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::NetError;
use crate::mac::MacAddress;
use crate::networks::Inner;

/// The option that names the interface inside.
const OPTION_IFNAME: &str = "com.docker.network.endpoint.ifname";
/// The option that lists kernel settings of the interface: `net.ipv4.conf.IFNAME.log_martians=1,...`.
const OPTION_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What a container wants of a network.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    /// Who asks.
    pub container: ContainerId,
    /// The name of who asks.
    pub container_name: String,
    /// The network, by name, id, or the beginning of an id.
    pub network: String,
    /// A certain IPv4 address; the next free one if absent.
    pub ipv4: Option<Ipv4Addr>,
    /// A certain IPv6 address; the next free one if absent.
    pub ipv6: Option<Ipv6Addr>,
    /// Addresses it had before and would like again; they are no conditions.
    pub preferred: Vec<IpAddr>,
    /// Addresses beside its own that it has on this link.
    pub link_local: Vec<IpAddr>,
    /// A certain hardware address.
    pub mac: Option<MacAddress>,
    /// What the driver is told about the endpoint.
    pub options: BTreeMap<String, String>,
    /// Other names by which the network's containers find this one.
    pub aliases: BTreeSet<String>,
    /// Whether the network is the way to every IPv4 address that no better route leads to.
    pub default_v4: bool,
    /// Whether the network is the way to every IPv6 address that no better route leads to.
    pub default_v6: bool,
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
            ipv4: None,
            ipv6: None,
            preferred: Vec::new(),
            link_local: Vec::new(),
            mac: None,
            options: BTreeMap::new(),
            aliases: BTreeSet::new(),
            default_v4: true,
            default_v6: true,
        }
    }

    /// The name that the interface is to have.
    pub(crate) fn interface(&self) -> Result<Option<String>, NetError> {
        let Some(name) = self.options.get(OPTION_IFNAME) else { return Ok(None) };
        check_interface(name)?;
        Ok(Some(name.clone()))
    }

    /// Kernel settings of the interface, as paths below `/proc/sys/net` with `IFNAME` for its name.
    pub(crate) fn settings(&self) -> Result<Vec<(String, String)>, NetError> {
        let texts = self.options.get(OPTION_SYSCTLS).map(String::as_str).unwrap_or_default();
        texts.split(',').filter(|text| !text.is_empty()).map(setting).collect()
    }
}

/// `net.X.Y.IFNAME.Z=VALUE`: the only form in which settings of an interface are taken.
fn setting(text: &str) -> Result<(String, String), NetError> {
    let invalid = || NetError::InvalidSetting(text.to_owned());
    let (key, value) = text.split_once('=').ok_or_else(invalid)?;
    let parts: Vec<&str> = key.split('.').collect();
    let plain = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match parts.as_slice() {
        ["net", family, kind, "IFNAME", name] if [family, kind, name].into_iter().all(plain) => {
            Ok((format!("{family}/{kind}/IFNAME/{name}"), value.to_owned()))
        }
        _ => Err(invalid()),
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
    /// The name of the device on the host that it is joined to; empty where there is none of its own.
    pub device: String,
    /// The IPv4 address with the length of the subnet's prefix.
    #[serde(default, alias = "address")]
    pub ipv4: Option<Ipv4Net>,
    /// The IPv6 address with the length of the subnet's prefix.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
    /// Addresses beside these.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// The way out for IPv4; `None` on a network without one.
    #[serde(default, alias = "gateway")]
    pub gateway_v4: Option<Ipv4Addr>,
    /// The way out for IPv6; `None` on a network without one.
    #[serde(default)]
    pub gateway_v6: Option<Ipv6Addr>,
    /// Whether the container's IPv4 default route leads here.
    #[serde(default)]
    pub default_v4: bool,
    /// Whether the container's IPv6 default route leads here.
    #[serde(default)]
    pub default_v6: bool,
    /// The hardware address; `None` where the kernel shares the parent's.
    pub mac: Option<MacAddress>,
    /// Other names by which the network's containers find this one.
    pub aliases: BTreeSet<String>,
}

impl EndpointRecord {
    /// The addresses that ports lead to.
    pub(crate) fn target_addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (self.ipv4.map(|net| net.addr()), self.ipv6.map(|net| net.addr()))
    }

    /// Its own addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        ipv4.into_iter().chain(self.ipv6.map(|net| IpAddr::V6(net.addr())))
    }
}

/// An endpoint in a namespace of its own. Dropped without [`Endpoint::keep`] it takes everything back: the record, the
/// address, and with the namespace the devices.
#[derive(Debug)]
pub struct Endpoint {
    record: EndpointRecord,
    netns: OwnedFd,
    /// Whether it is as the next container would want it.
    usual: bool,
    undo: Undo,
}

impl Endpoint {
    pub(crate) fn new(record: EndpointRecord, netns: OwnedFd, usual: bool, owner: Arc<Inner>) -> Endpoint {
        let undo = Undo { owner, record: Some(record.clone()) };
        Endpoint { record, netns, usual, undo }
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

    /// As [`Endpoint::keep`], for a container that cannot change its namespace, nor hand a piece of it to somebody outside. When it has
    /// ended, the next container may get the namespace as it is.
    pub fn lend(self) -> EndpointRecord {
        let (owner, usual) = (Arc::clone(&self.undo.owner), self.usual && !self.record.device.is_empty());
        let namespace = self.netns.try_clone();
        let record = self.keep();
        if let (true, Ok(namespace)) = (usual, namespace) {
            owner.book.lend(record.container.clone(), namespace);
        }
        record
    }
}

/// An endpoint in a namespace that somebody else holds. Dropped without [`Connection::keep`] the interface is removed.
#[derive(Debug)]
pub struct Connection {
    record: EndpointRecord,
    netns: OwnedFd,
    owner: Arc<Inner>,
    kept: bool,
}

impl Connection {
    pub(crate) fn new(record: EndpointRecord, netns: OwnedFd, owner: Arc<Inner>) -> Connection {
        Connection { record, netns, owner, kept: false }
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
            let _ = self.owner.disconnect(&self.record, self.netns.as_fd());
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
    fn settings_speak_of_one_interface() {
        let parsed = |text: &str| setting(text).map_err(|error| error.to_string());
        assert_eq!(
            parsed("net.ipv4.conf.IFNAME.log_martians=1"),
            Ok(("ipv4/conf/IFNAME/log_martians".to_owned(), "1".to_owned()))
        );
        for bad in [
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME.x",
            "kernel.x=1",
            "net...IFNAME.x=1",
            "net.ipv4.../../IFNAME.x=1",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_of_older_engines_are_read() {
        let id = "c0ffee".repeat(11)[..64].to_owned();
        let old = serde_json::json!({
            "id": id, "network": id, "network_name": "bridge", "container": id, "container_name": "c",
            "interface": "eth0", "device": "vethb00000001", "address": "172.17.0.2/16", "gateway": "172.17.0.1",
            "mac": "02:42:ac:11:00:02", "aliases": [],
        });
        let record: EndpointRecord = serde_json::from_value(old).unwrap();
        assert_eq!(record.addresses().collect::<Vec<_>>(), ["172.17.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(record.gateway_v4, Some(Ipv4Addr::new(172, 17, 0, 1)));
    }

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
