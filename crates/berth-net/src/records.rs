//! The records of networks: read at the start, completed with the predefined ones, fitted to the configuration.

use std::collections::BTreeMap;
use std::time::SystemTime;

use berth_model::Timestamp;
use berth_store::{EndpointRow, NetworkRow};
use ipnet::{IpNet, Ipv4Net};

use crate::bridge::addresses_on;
use crate::config::{DefaultBridge, NetConfig};
use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::netlink::{Socket, route};
use crate::network::{self, Network, PREDEFINED, Subnet};
use crate::subnet;

/// Reads the networks' records, adds those of the predefined ones, and fits the default bridge to the configuration.
pub(crate) fn settle_networks(config: &NetConfig, records: &berth_store::Networks) -> Result<Vec<Network>, NetError> {
    let mut networks: BTreeMap<String, Network> = BTreeMap::new();
    for row in records.list()? {
        let read = serde_json::from_str(&row.document);
        let network = read.map_err(|source| NetError::Record { what: format!("network {}", row.name), source })?;
        networks.insert(row.name, network);
    }
    let mut missing = Vec::new();
    for name in PREDEFINED {
        if !networks.contains_key(name) {
            let made = network::predefined(name, crate::new_id(), Timestamp::from(SystemTime::now()));
            missing.push(write_network(&made)?);
            networks.insert(name.to_owned(), made);
        }
    }
    if !missing.is_empty() {
        records.insert(missing)?;
    }
    let others: Vec<_> = networks.values().filter(|network| !network.is_default_bridge()).collect();
    let others: Vec<IpNet> = others.iter().flat_map(|one| one.subnets.iter().map(|subnet| subnet.net)).collect();
    let bridge = networks.get_mut(PREDEFINED[0]).expect("added above if it was missing");
    let before = bridge.clone();
    bridge.options = network::default_bridge_options(config);
    bridge.subnets = default_subnet(config, &others, bridge.subnets.first())?.into_iter().collect();
    if *bridge != before {
        records.update(bridge.id.to_string(), write_network(bridge)?.document)?;
    }
    Ok(networks.into_values().collect())
}

/// The subnet of the default bridge: the configured one; that of a bridge that is there; the one it had; a free one.
fn default_subnet(config: &NetConfig, others: &[IpNet], recorded: Option<&Subnet>) -> Result<Option<Subnet>, NetError> {
    let (name, configured, foreign) = match &config.bridge {
        DefaultBridge::Off => return Ok(None),
        DefaultBridge::Managed { name, address } => (name, *address, false),
        DefaultBridge::Foreign { name } => (name, None, true),
    };
    let range = config.fixed_range.map(IpNet::V4);
    let with_range = |address: Ipv4Net| Subnet {
        gateway: Some(address.addr().into()),
        range,
        ..Subnet::of(IpNet::V4(address.trunc()))
    };
    if let Some(address) = configured {
        return Ok(Some(with_range(address)));
    }
    let mut socket = Socket::route()?;
    let bridge = route::link_by_name(&mut socket, name)?;
    let on_bridge = match &bridge {
        Some(link) => addresses_on(&mut socket, link.index)?.into_iter().find_map(usable_as_gateway),
        None => None,
    };
    match (on_bridge, foreign) {
        (Some(address), _) => return Ok(Some(with_range(address))),
        (None, true) if bridge.is_none() => return Err(NetError::NoSuchBridge(name.clone())),
        (None, true) => return Err(NetError::NoBridgeAddress(name.clone())),
        (None, false) => {}
    }
    let taken = taken_subnets(&mut socket, others)?;
    if let Some(recorded) = recorded.filter(|recorded| subnet::is_free(&recorded.net, &taken)) {
        return Ok(Some(Subnet { range, ..recorded.clone() }));
    }
    let free = subnet::first_free(&config.pools, false, &taken).ok_or(NetError::NoFreePool)?;
    Ok(Some(Subnet { range, ..Subnet::of(free) }))
}

fn usable_as_gateway(address: IpNet) -> Option<Ipv4Net> {
    let IpNet::V4(address) = address else { return None };
    (!address.addr().is_link_local() && address.prefix_len() < 32).then_some(address)
}

/// What a new subnet must not overlap with: the host's routes and addresses, and the other networks.
pub(crate) fn taken_subnets(socket: &mut Socket, others: &[IpNet]) -> Result<Vec<IpNet>, NetError> {
    let routes = route::routed_networks(socket)?.into_iter().map(|(_, net)| net);
    let addresses = route::addresses(socket)?.into_iter().map(|(_, address)| address.trunc());
    Ok(routes.chain(addresses).chain(others.iter().copied()).collect())
}

pub(crate) fn write_network(network: &Network) -> Result<NetworkRow, NetError> {
    let document = serde_json::to_string(network)
        .map_err(|source| NetError::Record { what: format!("network {}", network.name), source })?;
    Ok(NetworkRow { id: network.id.to_string(), name: network.name.clone(), document })
}

pub(crate) fn read_endpoint(row: &EndpointRow) -> Result<EndpointRecord, NetError> {
    serde_json::from_str(&row.document)
        .map_err(|source| NetError::Record { what: format!("endpoint {}", row.id), source })
}
