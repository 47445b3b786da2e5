//! After a kill: what a running container really has on its networks, beside what the records say.
//!
//! A device on the host of which no record tells is found there (`cleanup`). One that was born inside the container, on top of a device of
//! the host, is seen from within only; and an interface that was being taken away may be gone while its record is still there.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_model::HexId;

use super::Worker;
use super::parent::parent_name;
use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::netlink::Batch;
use crate::netlink::route::{self, Link};
use crate::network::{Driver, Network};
use crate::sandbox::Sandbox;

impl Worker {
    /// Deletes what no record tells of, and gives the endpoints of which only the record is left.
    pub(super) fn compare(&mut self, netns: OwnedFd, records: &[EndpointRecord]) -> Result<Vec<HexId>, NetError> {
        let mut gone = Vec::new();
        for record in records.iter().filter(|record| !record.device.is_empty()) {
            if route::link_by_name(&mut self.route, &record.device)?.is_none() {
                gone.push(record.id.clone());
            }
        }
        let parents = self.parents()?;
        let inside: Vec<_> = records.iter().filter(|record| record.device.is_empty()).collect();
        if parents.is_empty() {
            gone.extend(inside.into_iter().map(|record| record.id.clone()));
            return Ok(gone);
        }
        let mut sandbox = Sandbox::open(&self.traveller, netns)?;
        let mut links = route::links(&mut sandbox.route)?;
        links.retain(|link| parents.iter().any(|(below, _)| link.below_elsewhere == Some(*below)));
        let (missing, strangers) = match_up(&inside, links);
        // What somebody else put there on the same parent is not ours to delete.
        let made = |link: &Link| {
            parents.iter().any(|(below, network)| link.below_elsewhere == Some(*below) && may_be_of(network, link))
        };
        let strangers: Vec<_> = strangers.into_iter().filter(made).collect();
        // As many of both: somebody in the container gave an interface another name.
        if missing.is_empty() || strangers.is_empty() {
            gone.extend(missing);
            let mut batch = Batch::new();
            strangers.iter().for_each(|link| route::delete_link(&mut batch, link.index));
            sandbox.route.run(batch)?;
        }
        Ok(gone)
    }

    /// The numbers of the host's devices under macvlan and ipvlan networks.
    fn parents(&mut self) -> Result<Vec<(u32, Arc<Network>)>, NetError> {
        let mut parents = Vec::new();
        for network in self.book.all() {
            if matches!(network.driver, Driver::Macvlan | Driver::Ipvlan) && !network.config_only {
                let parent = route::link_by_name(&mut self.route, &parent_name(&network))?;
                parents.extend(parent.map(|link| (link.index, network)));
            }
        }
        Ok(parents)
    }
}

/// Whether a device looks like one that was made for a network: by its hardware address, or by its name where it has the parent's.
fn may_be_of(network: &Network, link: &Link) -> bool {
    match (network.driver, link.kind.as_deref()) {
        (Driver::Macvlan, Some("macvlan")) => link.mac.is_some_and(|mac| network.gives(mac)),
        (Driver::Ipvlan, Some("ipvlan")) => {
            let number = link.name.strip_prefix(network.interface_prefix());
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        }
        _ => false,
    }
}

/// The records without a device, and the devices without a record. A hardware address is as good as a name.
fn match_up(records: &[&EndpointRecord], mut links: Vec<Link>) -> (Vec<HexId>, Vec<Link>) {
    let mut missing = Vec::new();
    for record in records {
        let is_its = |link: &Link| link.name == record.interface || (record.mac.is_some() && link.mac == record.mac);
        match links.iter().position(is_its) {
            Some(at) => drop(links.remove(at)),
            None => missing.push(record.id.clone()),
        }
    }
    (missing, links)
}
