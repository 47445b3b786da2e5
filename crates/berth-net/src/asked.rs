//! From what is asked of a network to what the worker is told, and from what it made to the record.

use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::book::{Given, Ready};
use crate::endpoint::{EndpointRecord, EndpointRequest};
use crate::error::NetError;
use crate::netlink::route::Hop;
use crate::network::Network;
use crate::worker::{self, Departure, Wish};

impl Wish {
    pub fn of(request: &EndpointRequest) -> Result<Wish, NetError> {
        Ok(Wish {
            ipv4: request.ipv4,
            ipv6: request.ipv6,
            preferred: request.preferred.clone(),
            link_local: request.link_local.clone(),
            mac: request.mac,
            interface: request.interface()?,
            settings: request.settings()?,
            default_v4: request.default_v4,
            default_v6: request.default_v6,
        })
    }

    /// Whether a sandbox that was made for whoever comes is as wished for.
    pub fn is_met_by(&self, ready: &Ready) -> bool {
        self.interface.as_ref().is_none_or(|name| *name == ready.interface)
            && self.mac.is_none_or(|mac| Some(mac) == ready.mac)
            && self.has_usual_routes_and_settings()
    }

    /// Whether a sandbox made for it is one for whoever comes: nothing of it was chosen.
    pub fn is_usual(&self) -> bool {
        let chosen = self.certain().next().is_some() || self.mac.is_some() || self.interface.is_some();
        !chosen && self.has_usual_routes_and_settings()
    }

    fn has_usual_routes_and_settings(&self) -> bool {
        self.default_v4 && self.default_v6 && self.link_local.is_empty() && self.settings.is_empty()
    }
}

impl Departure {
    /// What is left behind by an endpoint.
    pub fn of(record: &EndpointRecord) -> Departure {
        Departure {
            network: record.network.clone(),
            device: record.device.clone(),
            interface: record.interface.clone(),
            given: Given { ipv4: record.ipv4.map(|net| net.addr()), ipv6: record.ipv6.map(|net| net.addr()) },
        }
    }
}

impl EndpointRecord {
    /// The record of an endpoint that was made.
    pub(crate) fn of(network: &Network, request: &EndpointRequest, wish: &Wish, ready: &Ready) -> EndpointRecord {
        let prefix = |address: IpAddr| network.subnet_of(address).map(|subnet| subnet.net.prefix_len());
        let way_out = |address: IpAddr| network.gateway_of(address).filter(|_| !network.routes_by_device());
        let routes = worker::routes(network, ready.given, wish);
        let leads = |ipv6: bool| routes.iter().any(|hop| hop.is_ipv6() == ipv6);
        let mut record = EndpointRecord {
            id: crate::new_id(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            container: request.container.clone(),
            container_name: request.container_name.clone(),
            interface: ready.interface.clone(),
            device: ready.device.clone(),
            ipv4: None,
            ipv6: None,
            link_local: request.link_local.clone(),
            gateway_v4: None,
            gateway_v6: None,
            default_v4: leads(false),
            default_v6: leads(true),
            mac: ready.mac,
            aliases: request.aliases.clone(),
        };
        for address in ready.given.addresses() {
            match (address, way_out(address)) {
                (IpAddr::V4(own), gateway) => {
                    record.ipv4 = Ipv4Net::new(own, prefix(address).unwrap_or(32)).ok();
                    record.gateway_v4 = gateway.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
                }
                (IpAddr::V6(own), gateway) => {
                    record.ipv6 = Ipv6Net::new(own, prefix(address).unwrap_or(128)).ok();
                    record.gateway_v6 = gateway.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
                }
            }
        }
        record
    }

    /// The default routes that lead by this endpoint.
    pub(crate) fn hops(&self) -> impl Iterator<Item = Hop> {
        let hop = |gateway: Option<IpAddr>, ipv6| gateway.map_or(Hop::Link { ipv6 }, Hop::Gateway);
        let ipv4 = self.default_v4.then(|| hop(self.gateway_v4.map(IpAddr::V4), false));
        ipv4.into_iter().chain(self.default_v6.then(|| hop(self.gateway_v6.map(IpAddr::V6), true)))
    }
}

pub(crate) fn write_endpoint(record: &EndpointRecord) -> Result<String, NetError> {
    serde_json::to_string(record)
        .map_err(|source| NetError::Record { what: format!("endpoint {:?}", record.id), source })
}
