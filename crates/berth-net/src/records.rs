//! The records of networks: read at the start, completed with the predefined ones, fitted to the configuration.

use std::collections::BTreeMap;
use std::time::SystemTime;

use berth_model::Timestamp;
use berth_store::{EndpointRow, NetworkRow};
use ipnet::IpNet;

use crate::config::NetConfig;
use crate::default_bridge;
use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::netlink::{Socket, route};
use crate::network::{self, Network, PREDEFINED};

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
    bridge.ipv6 = config.ipv6;
    bridge.subnets = default_bridge::subnets(config, &others, &bridge.subnets, &bridge.id)?;
    if *bridge != before {
        records.update(bridge.id.to_string(), write_network(bridge)?.document)?;
    }
    Ok(networks.into_values().collect())
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
