//! Networks that people make and remove, and addresses that they keep for a container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use berth_model::{ContainerId, Timestamp};
use berth_store::ReservedAddressRow;
use ipnet::IpNet;

use crate::EndpointRecord;
use crate::checks::{check_devices, check_modes, check_name, check_subnet, check_without_subnet};
use crate::error::NetError;
use crate::network::{Driver, GatewayMode, Network, NetworkInfo, PREDEFINED, Subnet, first_address};
use crate::networks::Networks;
use crate::options::check;
use crate::records::write_network;
use crate::subnet;
use crate::worker::Job;

/// What somebody wants of a new network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// The word for its driver; `bridge` if empty.
    pub driver: String,
    /// Its addresses; free pieces of the pools where a family has none.
    pub subnets: Vec<SubnetRequest>,
    /// Whether its containers get IPv4 addresses; they do unless told otherwise.
    pub ipv4: Option<bool>,
    /// Whether its containers get IPv6 addresses.
    pub ipv6: bool,
    /// What the allocator of addresses is told; only shown.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it was made to be joined by hand.
    pub attachable: bool,
    /// Whether it is only a description that others are made from.
    pub config_only: bool,
    /// The network whose description it takes; empty if none.
    pub config_from: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// What people write on it.
    pub labels: BTreeMap<String, String>,
}

/// What somebody wants of a subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    /// The range; a free piece of the pools if absent.
    pub subnet: Option<IpNet>,
    /// The address of the way out; the first that is free if absent.
    pub gateway: Option<IpAddr>,
    /// The part that containers get addresses from; all of it if absent.
    pub range: Option<IpNet>,
    /// Addresses that something else on the network has, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The network.
    pub info: NetworkInfo,
    /// Options that its driver does not know; they have no effect.
    pub unknown_options: Vec<String>,
}

impl Networks {
    /// Makes a network. A bridge itself is made when the first container comes; the parent of a macvlan or ipvlan
    /// network is looked for, or made, now.
    ///
    /// # Errors
    /// The name is taken or empty; the driver or one of its options is not known; subnet, gateway and range do not fit
    /// together; a subnet overlaps with that of another network; no pool is free; the kernel has no such devices.
    pub fn create(&self, request: &NetworkRequest) -> Result<Created, NetError> {
        let others = self.list();
        check_name(&request.name, &others)?;
        let mut network = self.described(request, &others)?;
        let unknown_options = check(network.driver, &network.options)?;
        check_modes(&network)?;
        if !network.config_only {
            check_devices(&network, &others)?;
            network.subnets = self.choose_subnets(&network, &wanted_subnets(request, &others)?, &others)?;
        }
        if matches!(network.driver, Driver::Macvlan | Driver::Ipvlan) && !network.config_only {
            let planned = Arc::new(network.clone());
            network.owns_parent = self.inner.ask(|answer| Job::Parent(planned, answer))??;
        }
        let written = write_network(&network).and_then(|row| Ok(self.inner.networks.insert(vec![row])?));
        match written {
            Ok(true) => {}
            failed => {
                if network.owns_parent {
                    self.inner.ask(|answer| Job::Retire(Arc::new(network.clone()), answer))??;
                }
                failed?;
                return Err(NetError::NameTaken(network.name));
            }
        }
        let id = network.id.clone();
        self.inner.book.enter(network);
        Ok(Created { info: self.inner.book.info(&id)?, unknown_options })
    }

    /// Removes a network that somebody made, with its bridge and rules.
    ///
    /// # Errors
    /// [`NetError::NotFound`], [`NetError::PredefinedRemoval`], [`NetError::InUse`], or what the kernel refused.
    pub fn remove(&self, wanted: &str) -> Result<Arc<Network>, NetError> {
        let network = self.inner.book.find(wanted)?;
        if network.is_predefined() {
            return Err(NetError::PredefinedRemoval(network.name.clone()));
        }
        if network.config_only && self.inner.book.all().iter().any(|other| other.config_from == network.name) {
            return Err(NetError::ConfigInUse(network.name.clone()));
        }
        let mut active: Vec<_> = self.endpoints()?;
        active.retain(|record| record.network == network.id);
        if !active.is_empty() {
            let name = |record: &EndpointRecord| format!("name:{:?} id:{:?}", record.container_name, record.id.short());
            let endpoints = active.iter().map(name).collect::<Vec<_>>().join(", ");
            return Err(NetError::InUse { network: network.name.clone(), endpoints });
        }
        // First out of service, so that nobody joins; the record goes last, so that a failure can be tried again.
        self.inner.ask(|answer| Job::Retire(network.clone(), answer))??;
        self.inner.networks.delete(network.id.to_string())?;
        self.inner.book.erase(&network.id);
        Ok(network)
    }

    /// Has an address wait for a container, running or not, until [`Networks::release`]: nobody gets it by chance. Who
    /// asks for it by number has it, as long as no running container does.
    ///
    /// # Errors
    /// [`NetError::NotFound`], or the store cannot be written.
    pub fn reserve(&self, wanted: &str, address: IpAddr, container: &ContainerId) -> Result<(), NetError> {
        let network = self.inner.book.find(wanted)?;
        self.inner.book.reserve(&network.id, address, container.clone())?;
        let row = ReservedAddressRow { network: network.id.to_string(), address, container: container.to_string() };
        // Where somebody else's reservation is written already, the address waits as well.
        self.inner.networks.reserve(row)?;
        Ok(())
    }

    /// Ends what was reserved for a container.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn release(&self, container: &ContainerId) -> Result<(), NetError> {
        self.inner.networks.release(container.to_string())?;
        self.inner.book.release(container, None);
        Ok(())
    }

    /// Ends what was reserved for containers that are not in `known`.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn release_others(&self, known: &[ContainerId]) -> Result<(), NetError> {
        let known: BTreeSet<&str> = known.iter().map(ContainerId::as_str).collect();
        let reserved: BTreeSet<String> =
            self.inner.networks.reservations()?.into_iter().map(|row| row.container).collect();
        for container in reserved.iter().filter(|container| !known.contains(container.as_str())) {
            self.inner.networks.release(container.clone())?;
            if let Ok(container) = container.parse() {
                self.inner.book.release(&container, None);
            }
        }
        Ok(())
    }

    /// The network that a request describes, by itself or by another that it takes its description from; still without subnets.
    fn described(&self, request: &NetworkRequest, others: &[NetworkInfo]) -> Result<Network, NetError> {
        let plain = Network::plain(crate::new_id(), Timestamp::from(SystemTime::now()));
        let own = Network {
            name: request.name.clone(),
            driver: driver_of(request)?,
            ipv4: request.ipv4.unwrap_or(true),
            ipv6: request.ipv6,
            ipam_options: request.ipam_options.clone(),
            internal: request.internal,
            attachable: request.attachable,
            config_only: request.config_only,
            config_from: request.config_from.clone(),
            options: request.options.clone(),
            labels: request.labels.clone(),
            ..plain
        };
        let defaults = self.inner.config.default_options.get(own.driver.word());
        let defaults = defaults.filter(|_| request.config_from.is_empty()).cloned().unwrap_or_default();
        let own = Network { options: defaults.into_iter().chain(own.options).collect(), ..own };
        if !own.ipv4 && !own.ipv6 {
            return Err(NetError::NoFamily);
        }
        if request.config_from.is_empty() {
            // A description keeps its subnets as they were written: those who take it make them true.
            let subnets =
                if own.config_only { request.subnets.iter().filter_map(written).collect() } else { Vec::new() };
            return Ok(Network { subnets, ..own });
        }
        if !request.subnets.is_empty() || !request.options.is_empty() || request.ipv6 || request.internal {
            return Err(NetError::ConfigTwice);
        }
        let source = description(&request.config_from, others)?;
        Ok(Network {
            ipv4: source.ipv4,
            ipv6: source.ipv6,
            ipam_options: source.ipam_options.clone(),
            internal: source.internal,
            options: source.options.clone(),
            labels: source.labels.clone().into_iter().chain(request.labels.clone()).collect(),
            ..own
        })
    }

    /// The subnets of a new network: those that were asked for, and free ones for families without.
    fn choose_subnets(
        &self,
        network: &Network,
        wanted: &[SubnetRequest],
        others: &[NetworkInfo],
    ) -> Result<Vec<Subnet>, NetError> {
        let mut taken: Vec<IpNet> = others
            .iter()
            .filter(|info| !info.network.config_only)
            .flat_map(|info| &info.network.subnets)
            .map(|subnet| subnet.net)
            .collect();
        let mut chosen = Vec::new();
        for request in wanted {
            let Some(net) = request.subnet else {
                check_without_subnet(request)?;
                continue;
            };
            check_subnet(net, request)?;
            if taken.iter().any(|other| subnet::overlap(other, &net)) {
                return Err(NetError::Overlap);
            }
            taken.push(net);
            chosen.push(Subnet {
                net,
                gateway: request.gateway.or_else(|| gateway_for(network, net, request)),
                range: request.range,
                auxiliary: request.auxiliary.clone(),
                chosen: true,
            });
        }
        for (enabled, ipv6) in [(network.ipv4, false), (network.ipv6, true)] {
            let count = chosen.iter().filter(|subnet| subnet.is_ipv6() == ipv6).count();
            if count > 1 && network.driver == Driver::Bridge {
                return Err(NetError::SeveralSubnets);
            }
            if enabled && count == 0 {
                let net = self.free_subnet(ipv6, &taken)?;
                taken.push(net);
                let gateway = gateway_for(network, net, &SubnetRequest::default());
                chosen.push(Subnet { gateway, ..Subnet::of(net) });
            }
        }
        // Families that are off have no addresses, whatever was said about them.
        chosen.retain(|subnet| if subnet.is_ipv6() { network.ipv6 } else { network.ipv4 });
        chosen.sort_by_key(Subnet::is_ipv6);
        Ok(chosen)
    }

    fn free_subnet(&self, ipv6: bool, others: &[IpNet]) -> Result<IpNet, NetError> {
        let taken = self.inner.ask(|answer| Job::Routes(others.to_vec(), answer))??;
        let seed = self.inner.book.find(PREDEFINED[0])?;
        let local = subnet::local_pool(&seed.id);
        let pools = self.inner.config.pools.iter().chain([&local]);
        subnet::first_free(pools, ipv6, &taken).ok_or(NetError::NoFreePool)
    }
}

fn driver_of(request: &NetworkRequest) -> Result<Driver, NetError> {
    if request.config_only {
        return Ok(Driver::Null);
    }
    let driver = match request.driver.as_str() {
        "" => Driver::Bridge,
        word => Driver::of_word(word).ok_or_else(|| NetError::UnknownDriver(word.to_owned()))?,
    };
    if driver.has_endpoints() { Ok(driver) } else { Err(NetError::OneInstance(driver.word())) }
}

fn description<'a>(name: &str, others: &'a [NetworkInfo]) -> Result<&'a Network, NetError> {
    let named = others.iter().map(|info| &info.network).find(|network| network.name == name && network.config_only);
    named.ok_or_else(|| NetError::NoConfigNetwork(name.to_owned()))
}

/// The subnets to choose: the request's own, or those of the description it takes.
fn wanted_subnets(request: &NetworkRequest, others: &[NetworkInfo]) -> Result<Vec<SubnetRequest>, NetError> {
    if request.config_from.is_empty() {
        return Ok(request.subnets.clone());
    }
    let again = |subnet: &Subnet| SubnetRequest {
        subnet: Some(subnet.net),
        gateway: subnet.gateway,
        range: subnet.range,
        auxiliary: subnet.auxiliary.clone(),
    };
    Ok(description(&request.config_from, others)?.subnets.iter().map(again).collect())
}

fn written(request: &SubnetRequest) -> Option<Subnet> {
    let SubnetRequest { subnet, gateway, range, auxiliary } = request.clone();
    Some(Subnet { net: subnet?, gateway, range, auxiliary, chosen: true })
}

/// The gateway's address where nobody chose it: the first that nothing else has.
fn gateway_for(network: &Network, net: IpNet, request: &SubnetRequest) -> Option<IpAddr> {
    let isolated =
        network.driver == Driver::Bridge && network.gateway_mode(net.addr().is_ipv6()) == GatewayMode::Isolated;
    if isolated || network.routes_by_device() {
        return None;
    }
    let mut gateway = first_address(net);
    while request.auxiliary.values().any(|taken| *taken == gateway) {
        gateway = first_address(IpNet::from(gateway));
    }
    Some(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_first_address_that_nothing_else_has() {
        let network = crate::network::predefined("bridge", crate::new_id(), Timestamp::from_nanos(0));
        let auxiliary = [("a".to_owned(), IpAddr::from([10, 0, 0, 1])), ("b".to_owned(), IpAddr::from([10, 0, 0, 2]))];
        let request = SubnetRequest { auxiliary: auxiliary.into(), ..SubnetRequest::default() };
        let gateway = gateway_for(&network, "10.0.0.0/24".parse().unwrap(), &request);
        assert_eq!(gateway, Some(IpAddr::from([10, 0, 0, 3])));
    }
}
