//! A container's networks: what it asked for on each, and what it has there while it runs.
//!
//! The list of [`NetworkAttachment`]s in a container's view (`ContainerView::networks`) is the one place where this is
//! written down. Its order is the order in which interfaces are made: the network of `HostConfig.NetworkMode` first, then
//! the others as they were named, then those that were connected later. It belongs to the changing half of the
//! container's record (`container/record.rs`), so that it is there again after the daemon was killed.
//!
//! [`NetworkAttachment::wanted`] stays as it is for the container's whole life; [`NetworkAttachment::endpoint`] is what the
//! present run has, and `None` between runs. It repeats what `berth_net::EndpointRecord` says, whose row in the store is
//! what holds the addresses. Published ports are part of the endpoint by whose gateway the container reaches the world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_net::{EndpointRecord, Networks};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerSpec, EndpointRequest, NetworkMode, PublishedRange};
use crate::view::ContainerView;

/// A container's place on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// The network's name.
    pub network: String,
    /// The network's id; empty until a start has found out which network the name means.
    #[serde(default)]
    pub network_id: String,
    /// What the container wants there.
    #[serde(default)]
    pub wanted: EndpointRequest,
    /// What it has there, while it runs.
    #[serde(default)]
    pub endpoint: Option<EndpointView>,
    /// The addresses of its last run: it gets them again if they are free.
    #[serde(default)]
    pub former: Vec<IpAddr>,
}

/// What a running container has on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    /// The endpoint's id: 64 hex digits.
    pub endpoint_id: String,
    /// The name of the interface inside.
    pub interface: String,
    /// Its IPv4 address with the length of the subnet's prefix.
    pub ipv4: Option<Ipv4Net>,
    /// Its IPv6 address with the length of the subnet's prefix.
    pub ipv6: Option<Ipv6Net>,
    /// Its link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// The network's way out for IPv4; `None` on a network without one.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The network's way out for IPv6; `None` on a network without one.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Whether the container's IPv4 default route goes by this network.
    pub default_v4: bool,
    /// Whether the container's IPv6 default route goes by this network.
    pub default_v6: bool,
    /// Its hardware address; empty where the kernel shares the parent's.
    pub mac_address: String,
    /// Ports that are published, and where.
    pub published: Vec<PublishedRange>,
}

impl EndpointView {
    /// Its addresses, IPv4 first; link-local ones are not among them.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        ipv4.into_iter().chain(self.ipv6.map(|net| IpAddr::V6(net.addr()))).collect()
    }
}

impl NetworkAttachment {
    /// An attachment that is still to be made.
    #[must_use]
    pub fn to(network: &str, wanted: EndpointRequest) -> NetworkAttachment {
        NetworkAttachment { network: network.to_owned(), wanted, ..NetworkAttachment::default() }
    }

    /// Whether it is on the network of this id; before the first start only the name is known.
    #[must_use]
    pub fn is_on(&self, network: &berth_net::Network) -> bool {
        if self.network_id.is_empty() { self.network == network.name } else { self.network_id == network.id.as_str() }
    }

    /// The names by which the network's other containers find this one: its name, its aliases, the beginning of its id. `None` where
    /// there is no name service: on the predefined networks.
    #[must_use]
    pub fn dns_names(&self, container: &ContainerView) -> Option<Vec<String>> {
        if berth_net::PREDEFINED.contains(&self.network.as_str()) {
            return None;
        }
        let mut names = vec![container.name.to_string()];
        let own = self.wanted.aliases.iter().flatten().cloned();
        let host = Some(&container.spec.config.hostname).filter(|name| !name.is_empty()).cloned();
        for name in own.chain([container.id.short().to_owned()]).chain(host) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names)
    }
}

/// The attachments of a container that is being made: that of its mode first, then the others it names.
///
/// Names, ids and beginnings of ids of networks that are there become names; others are left to the start, which will tell.
pub(crate) fn attachments_of(
    networks: &Networks,
    spec: &ContainerSpec,
    wanted: Vec<(String, EndpointRequest)>,
) -> Vec<NetworkAttachment> {
    let main = match &spec.host.network {
        NetworkMode::Default | NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Named(name) => name,
        NetworkMode::Container(_) => return Vec::new(),
    };
    let name = |text: &str| networks.network(text).map_or_else(|_| text.to_owned(), |info| info.network.name);
    let main = name(main);
    let named = wanted.into_iter().map(|(network, wanted)| (name(&network), wanted));
    let (first, others): (Vec<_>, Vec<_>) = named.partition(|(network, _)| *network == main);
    let first = first.into_iter().next().unwrap_or_else(|| (main, EndpointRequest::default()));
    [first].into_iter().chain(others).map(|(network, wanted)| NetworkAttachment::to(&network, wanted)).collect()
}

/// Notes which networks the names mean, as a start decides it: for those too that give no endpoint.
pub(crate) fn identify(networks: &Networks, attachments: &mut [NetworkAttachment]) {
    for attachment in attachments.iter_mut().filter(|attachment| attachment.network_id.is_empty()) {
        if let Ok(info) = networks.network(&attachment.network) {
            attachment.network_id = info.network.id.to_string();
        }
    }
}

/// The run is over: the endpoints are gone, their addresses remembered.
pub(crate) fn ended(attachments: &mut [NetworkAttachment]) {
    for attachment in attachments {
        if let Some(endpoint) = attachment.endpoint.take() {
            attachment.former = endpoint.addresses();
        }
    }
}

/// What readers see of an endpoint.
pub(crate) fn endpoint_view(record: &EndpointRecord) -> EndpointView {
    EndpointView {
        endpoint_id: record.id.to_string(),
        interface: record.interface.clone(),
        ipv4: record.ipv4,
        ipv6: record.ipv6,
        link_local: record.link_local.clone(),
        gateway_v4: record.gateway_v4,
        gateway_v6: record.gateway_v6,
        default_v4: record.default_v4,
        default_v6: record.default_v6,
        mac_address: record.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        published: Vec::new(),
    }
}
