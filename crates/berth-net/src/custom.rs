//! Networks that people make and remove, and addresses that they keep for a container.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use berth_model::{ContainerId, Timestamp};
use berth_store::ReservedAddressRow;
use ipnet::Ipv4Net;

use crate::error::NetError;
use crate::network::{Driver, Network, NetworkInfo, PREDEFINED, Subnet};
use crate::networks::Networks;
use crate::records::write_network;
use crate::subnet;
use crate::worker::Job;

/// What somebody wants of a new bridge network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Its addresses; the next free pool if absent.
    pub subnet: Option<Ipv4Net>,
    /// The bridge's address; the first of the subnet if absent.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet that containers get addresses from; all of it if absent.
    pub range: Option<Ipv4Net>,
    /// Addresses that something else on the network has, by name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it was made to be joined by hand.
    pub attachable: bool,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// What people write on it.
    pub labels: BTreeMap<String, String>,
}

impl Networks {
    /// Makes a bridge network. The bridge itself is made when the first container comes.
    ///
    /// # Errors
    /// The name is taken or empty; subnet, gateway and range do not fit together; the subnet overlaps with that of
    /// another network; no pool is free.
    pub fn create(&self, request: &NetworkRequest) -> Result<NetworkInfo, NetError> {
        let others = self.list();
        check_name(&request.name, &others)?;
        let nets: Vec<_> =
            others.iter().flat_map(|info| info.network.subnets.iter().map(|subnet| subnet.net)).collect();
        let subnet = self.choose_subnet(request, &nets)?;
        let network = Network {
            id: crate::new_id(),
            name: request.name.clone(),
            driver: Driver::Bridge,
            created: Timestamp::from(SystemTime::now()),
            subnets: vec![subnet],
            chosen_subnet: request.subnet.is_some(),
            internal: request.internal,
            attachable: request.attachable,
            options: request.options.clone(),
            labels: request.labels.clone(),
        };
        network.check_options()?;
        check_bridge(&network, &others)?;
        if !self.inner.networks.insert(vec![write_network(&network)?])? {
            return Err(NetError::NameTaken(network.name));
        }
        let id = network.id.clone();
        self.inner.book.enter(network);
        self.inner.book.info(&id)
    }

    /// Removes a network that somebody made, with its bridge and rules.
    ///
    /// # Errors
    /// [`NetError::NotFound`], [`NetError::PredefinedRemoval`], [`NetError::InUse`], or what the kernel refused.
    pub fn remove(&self, wanted: &str) -> Result<(), NetError> {
        let network = self.inner.book.find(wanted)?;
        if network.is_predefined() {
            return Err(NetError::PredefinedRemoval(network.name.clone()));
        }
        let mut active: Vec<_> = self.endpoints()?;
        active.retain(|record| record.network == network.id);
        if !active.is_empty() {
            let name =
                |record: &crate::EndpointRecord| format!("name:{:?} id:{:?}", record.container_name, record.id.short());
            let endpoints = active.iter().map(name).collect::<Vec<_>>().join(", ");
            return Err(NetError::InUse { network: network.name.clone(), endpoints });
        }
        // First out of service, so that nobody joins; the record goes last, so that a failure can be tried again.
        self.inner.ask(|answer| Job::Retire(network.clone(), answer))??;
        self.inner.networks.delete(network.id.to_string())?;
        self.inner.book.erase(&network.id);
        Ok(())
    }

    /// Keeps an address for a container, running or not, until [`Networks::release`].
    ///
    /// # Errors
    /// [`NetError::AddressTaken`], [`NetError::AddressOutside`], or the store cannot be written.
    pub fn reserve(&self, wanted: &str, address: Ipv4Addr, container: &ContainerId) -> Result<(), NetError> {
        let network = self.inner.book.find(wanted)?;
        self.inner.book.reserve(&network.id, address, container.clone())?;
        let row = ReservedAddressRow {
            network: network.id.to_string(),
            address: IpAddr::V4(address),
            container: container.to_string(),
        };
        if self.inner.networks.reserve(row)? { Ok(()) } else { Err(NetError::AddressTaken) }
    }

    /// Ends what was reserved for a container.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn release(&self, container: &ContainerId) -> Result<(), NetError> {
        self.inner.networks.release(container.to_string())?;
        self.inner.book.release(container);
        Ok(())
    }

    fn choose_subnet(&self, request: &NetworkRequest, others: &[Ipv4Net]) -> Result<Subnet, NetError> {
        let net = match request.subnet {
            Some(net) => {
                check_subnet(net, request)?;
                if others.iter().any(|other| subnet::overlap(other, &net)) {
                    return Err(NetError::Overlap);
                }
                net
            }
            None => {
                if let Some(gateway) = request.gateway {
                    let text =
                        format!("invalid gateway {gateway}: parent subnet invalid Prefix doesn't contain this address");
                    return Err(NetError::InvalidSubnet(text));
                }
                let taken = self.inner.ask(|answer| Job::Routes(others.to_vec(), answer))??;
                subnet::first_free(&self.inner.config.pools, &taken).ok_or(NetError::NoFreePool)?
            }
        };
        let gateway = request.gateway.unwrap_or_else(|| Subnet::of(net).gateway);
        Ok(Subnet { net, gateway, range: request.range, auxiliary: request.auxiliary.clone() })
    }
}

fn check_name(name: &str, others: &[NetworkInfo]) -> Result<(), NetError> {
    if name.is_empty() {
        return Err(NetError::EmptyName);
    }
    if PREDEFINED.contains(&name) {
        return Err(NetError::Predefined(name.to_owned()));
    }
    if others.iter().any(|info| info.network.name == name) {
        return Err(NetError::NameTaken(name.to_owned()));
    }
    Ok(())
}

fn check_bridge(network: &Network, others: &[NetworkInfo]) -> Result<(), NetError> {
    let bridge = network.bridge_name();
    let same = |info: &&NetworkInfo| info.network.driver == Driver::Bridge && info.network.bridge_name() == bridge;
    match others.iter().find(same) {
        Some(other) => Err(NetError::BridgeTaken { id: network.id.clone(), bridge, other: other.network.id.clone() }),
        None => crate::endpoint::check_interface(&bridge),
    }
}

/// Whether gateway, range and auxiliary addresses lie in the subnet; the words are those that clients know.
fn check_subnet(net: Ipv4Net, request: &NetworkRequest) -> Result<(), NetError> {
    let mut wrong = Vec::new();
    if net != net.trunc() {
        wrong.push(format!("invalid subnet {net}: it should be {}", net.trunc()));
    }
    let inside = |address: &Ipv4Addr| net.contains(address);
    if let Some(range) = request.range.filter(|range| !net.contains(range)) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"));
    }
    if let Some(gateway) = request.gateway.filter(|gateway| !inside(gateway)) {
        wrong.push(format!("invalid gateway {gateway}: parent subnet {net} doesn't contain this address"));
    }
    for (name, _) in request.auxiliary.iter().filter(|(_, address)| !inside(address)) {
        wrong.push(format!("invalid auxiliary address {name}: parent subnet {net} doesn't contain this address"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(NetError::InvalidSubnet(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &NetworkRequest, expected: &str) {
        let error = check_subnet(request.subnet.unwrap(), request).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid network config:\n{expected}"));
    }

    #[test]
    fn what_does_not_fit_together_is_told_in_the_words_clients_know() {
        let subnet = |text: &str| NetworkRequest { subnet: text.parse().ok(), ..NetworkRequest::default() };
        check(&subnet("10.78.0.5/24"), "invalid subnet 10.78.0.5/24: it should be 10.78.0.0/24");
        check(
            &NetworkRequest { gateway: "10.79.0.1".parse().ok(), ..subnet("10.78.0.0/24") },
            "invalid gateway 10.79.0.1: parent subnet 10.78.0.0/24 doesn't contain this address",
        );
        check(
            &NetworkRequest { range: "10.79.0.0/25".parse().ok(), ..subnet("10.78.0.0/24") },
            "invalid ip-range 10.79.0.0/25: parent subnet 10.78.0.0/24 doesn't contain ip-range",
        );
        let auxiliary = [("a".to_owned(), Ipv4Addr::new(1, 2, 3, 4))].into();
        check(
            &NetworkRequest { auxiliary, ..subnet("10.78.0.0/24") },
            "invalid auxiliary address a: parent subnet 10.78.0.0/24 doesn't contain this address",
        );
    }
}
