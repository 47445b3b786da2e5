//! Publishing, step by step: choose, hold, record, translate. Whatever fails takes the steps before it back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use berth_model::{ContainerId, HexId};
use berth_ports::{Asked, NotHeld, Place};

use super::choose::{Choice, Families};
use super::published::{LONGEST_RELAY, PublishedPort, Way};
use super::request::{HostPort, PortRequest, grouped};
use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::network::GatewayMode;
use crate::networks::{Inner, Networks};
use crate::worker::Job;

/// Ports of a container that are published. Dropped without [`Publication::keep`] it takes them back.
#[derive(Debug)]
pub struct Publication {
    endpoint: HexId,
    ports: Vec<PublishedPort>,
    owner: Option<Arc<Inner>>,
}

impl Publication {
    /// The ports, in the order of the requests.
    pub fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// Leaves them to the container, until [`Networks::unpublish`].
    pub fn keep(mut self) -> Vec<PublishedPort> {
        self.owner = None;
        std::mem::take(&mut self.ports)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            // A record that stays is removed by the next reconciliation.
            let _ = owner.unpublish(&self.endpoint);
        }
    }
}

impl Networks {
    /// Publishes ports of an endpoint on the host: all of them, or none.
    ///
    /// # Errors
    /// [`NetError::PortAllocated`] if another container has a port, [`NetError::PortInUse`] if some other program has, [`NetError::NoFreePort`], [`NetError::NotCarried`];
    /// or what the kernel refused. Nothing is left behind.
    pub fn publish(&self, record: &EndpointRecord, requests: &[PortRequest]) -> Result<Publication, NetError> {
        let inner = &self.inner;
        let families = inner.families(record);
        if let Some(address) =
            requests.iter().filter_map(|request| request.address).find(|one| families.is_cut_off(*one))
        {
            return Err(NetError::NotCarried(address));
        }
        let mut choices: Vec<Choice> =
            grouped(requests).into_iter().map(|group| Choice::of(group, &inner.ports)).collect();
        let ports = inner.take_ports(&mut choices, record, &families)?;
        let undo = Publication { endpoint: record.id.clone(), ports, owner: Some(Arc::clone(inner)) };
        for choice in choices.iter().filter(|choice| choice.group.host == HostPort::Free) {
            inner.ports.given(choice.port());
        }
        let rows = undo.ports.iter().map(PublishedPort::to_row).collect::<Result<Vec<_>, _>>()?;
        // The rules are written while the records are: after a crash between the two the next start writes them as the records say.
        let translated = inner.translate(record, &undo.ports)?;
        if let Some(position) = inner.port_records.insert(rows)? {
            return Err(allocated(&undo.ports[position]));
        }
        translated.map_or(Ok(()), |answer| answer.recv().map_err(|_| NetError::Closed)?)?;
        Ok(undo)
    }

    /// Takes the ports of an endpoint back.
    ///
    /// # Errors
    /// The rules cannot be changed, or the process that holds ports cannot be asked. The ports are free all the same until the next start.
    pub fn unpublish(&self, endpoint: &HexId) -> Result<(), NetError> {
        self.inner.unpublish(endpoint)
    }

    /// The ports of an endpoint.
    pub fn published(&self, endpoint: &HexId) -> Vec<PublishedPort> {
        self.inner.ports.of(endpoint)
    }

    /// Leaves the holding of ports to a process, which outlives this one. Until then they are held by this one.
    pub fn hold_ports_by(&self, process: berth_ports::Client) {
        // The first one stays: ports that it holds already would be lost with it.
        let _ = self.inner.holder.set(process);
    }
}

impl Inner {
    fn families(&self, record: &EndpointRecord) -> Families {
        let (ipv4, ipv6) = record.target_addresses();
        let network = self.book.network(&record.network).ok();
        let routed = |ipv6| network.as_ref().is_some_and(|network| network.gateway_mode(ipv6) == GatewayMode::Routed);
        Families {
            ipv4,
            ipv6,
            host_ipv6: self.host_ipv6,
            translates: self.config.rules,
            translates_v6: self.config.rules && self.config.rules_v6,
            carries: self.config.carries,
            default: network.as_ref().and_then(|network| network.host_binding()),
            routed: routed(false),
            routed_v6: routed(true),
        }
    }

    /// Tries ports until all of them can be had, and holds them.
    fn take_ports(
        &self,
        choices: &mut [Choice],
        record: &EndpointRecord,
        families: &Families,
    ) -> Result<Vec<PublishedPort>, NetError> {
        loop {
            let mut owners = Vec::new();
            let mut ports = Vec::new();
            for (position, choice) in choices.iter().enumerate() {
                let mut ranges = choice.ranges(record, families);
                // Two ports of the host that lead to one of the container's are the same where none of the host's is taken.
                ranges.retain(|range| range.way != Way::Routed || !ports.contains(range));
                owners.extend(std::iter::repeat_n(position, ranges.len()));
                ports.extend(ranges);
            }
            if let Some(twice) = overlapping(&ports) {
                advance(choices, owners[twice], || allocated(&ports[twice]))?;
                continue;
            }
            if let Err(position) = self.ports.take(&ports) {
                advance(choices, owners[position], || allocated(&ports[position]))?;
                continue;
            }
            match self.hold(&record.id, &mut ports) {
                Ok(()) => {
                    self.ports.update(&ports);
                    return Ok(ports);
                }
                Err((position, error)) => {
                    self.ports.give_back(&record.id);
                    let Some(at) = position else { return Err(error) };
                    advance(choices, owners[at], || error)?;
                }
            }
        }
    }

    /// Has the ports held. The position of the range that cannot be had comes with the error, where it is that.
    fn hold(&self, endpoint: &HexId, ports: &mut [PublishedPort]) -> Result<(), (Option<usize>, NetError)> {
        let mut places = Vec::new();
        let mut ranges = Vec::new();
        for (position, port) in ports.iter_mut().enumerate().filter(|(_, port)| port.way != Way::Routed) {
            let many = self.config.held_ports.max(usize::from(LONGEST_RELAY));
            if port.way == Way::Translated && usize::from(port.last - port.first) >= many {
                // More sockets than there may be: it is enough to know that nobody else has one of these ports.
                self.look_for_others(port).map_err(|error| (Some(position), error))?;
                port.held = false;
                continue;
            }
            places.extend(port.places(self.config.carries));
            ranges.resize(places.len(), position);
        }
        if places.is_empty() {
            return Ok(());
        }
        let owner = endpoint.to_string();
        let held = match self.holder.get() {
            Some(process) => process.hold(&Asked { owner: &owner, places: &places, limit: self.config.held_ports }),
            None => {
                let (places, limit) = (places.clone(), self.config.held_ports);
                self.ask(|answer| Job::HoldPorts(owner, places, limit, answer)).map_err(|error| (None, error))?
            }
        };
        match held {
            Ok(all) => {
                let tried = |port: &&mut PublishedPort| port.way == Way::Translated && port.held;
                for port in ports.iter_mut().filter(tried) {
                    port.held = all;
                }
                Ok(())
            }
            Err(NotHeld::Place(place, source)) => {
                let error = self.not_free(places[place], source);
                Err((Some(ranges[place]), error))
            }
            Err(NotHeld::Process(source)) => Err((None, NetError::PortHolder { source })),
        }
    }

    fn look_for_others(&self, range: &PublishedPort) -> Result<(), NetError> {
        let Some(first) = range.places(self.config.carries).next() else { return Ok(()) };
        match self.ask(|answer| Job::FirstTaken(first, range.last, answer))? {
            None => Ok(()),
            Some(port) => Err(self.not_free(Place { port, ..first }, io::Error::from(io::ErrorKind::AddrInUse))),
        }
    }

    fn not_free(&self, place: Place, source: io::Error) -> NetError {
        let owner = match source.kind() {
            // Whom it belongs to is good to know, but not to know it is no other error.
            io::ErrorKind::AddrInUse => self.ask(|answer| Job::PortOwner(place, answer)).ok().flatten(),
            _ => None,
        };
        NetError::PortInUse { place, owner, source }
    }

    /// Has the rules written.
    fn translate(
        &self,
        record: &EndpointRecord,
        ports: &[PublishedPort],
    ) -> Result<Option<Receiver<Result<(), NetError>>>, NetError> {
        if ports.is_empty() {
            return Ok(None);
        }
        let (network, device) = (record.network.clone(), record.device.clone());
        self.begin(|answer| Job::Publish(network, device, ports.to_vec(), answer)).map(Some)
    }

    /// After a start: gives back the ports of containers that are gone, and has the others held and led again.
    pub(crate) fn reconcile_ports(
        &self,
        endpoints: &[EndpointRecord],
        live: &HashSet<&ContainerId>,
    ) -> Result<(), NetError> {
        let before = self.ports.all();
        let mut kept: BTreeMap<HexId, (HexId, Vec<PublishedPort>)> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for port in &before {
            match endpoints.iter().find(|record| record.id == port.endpoint && live.contains(&record.container)) {
                Some(record) => {
                    let (_, ports) =
                        kept.entry(record.id.clone()).or_insert_with(|| (record.network.clone(), Vec::new()));
                    ports.push(port.clone());
                }
                None => drop(gone.insert(port.endpoint.clone())),
            }
        }
        gone.iter().for_each(|endpoint| self.ports.give_back(endpoint));
        self.port_records.delete(gone.iter().map(ToString::to_string).collect())?;
        self.hold_again(&mut kept)?;
        let taken = kept.into_values().collect();
        self.ask(|answer| Job::TakeOver(taken, before, answer))
    }

    /// Has everything held that should be, and nothing else. A port that somebody took while nobody held it stays ours by its rule.
    fn hold_again(&self, kept: &mut BTreeMap<HexId, (HexId, Vec<PublishedPort>)>) -> Result<(), NetError> {
        let failed = |source| NetError::PortHolder { source };
        let owners = self.holder.get().map(berth_ports::Client::owners).transpose().map_err(failed)?;
        let owners = owners.unwrap_or_default();
        for owner in owners.iter().filter(|owner| !kept.keys().any(|endpoint| endpoint.as_str() == *owner)) {
            self.release_ports(owner)?;
        }
        for (endpoint, (_, ports)) in kept.iter_mut().filter(|(endpoint, _)| !owners.contains(&endpoint.to_string())) {
            if self.hold(endpoint, ports).is_err() {
                ports.iter_mut().for_each(|port| port.held = false);
            }
            self.ports.update(ports);
        }
        Ok(())
    }

    fn release_ports(&self, owner: &str) -> Result<(), NetError> {
        match self.holder.get() {
            Some(process) => process.release(owner).map_err(|source| NetError::PortHolder { source }),
            None => self.ask(|answer| Job::ReleasePorts(owner.to_owned(), answer)),
        }
    }

    pub(crate) fn unpublish(&self, endpoint: &HexId) -> Result<(), NetError> {
        if self.ports.of(endpoint).is_empty() {
            return Ok(());
        }
        let withdrawn = self.begin(|answer| Job::Withdraw(endpoint.clone(), answer));
        // Nobody waits for the records to be gone: who is given the ports next writes his behind this.
        drop(self.port_records.begin_delete(vec![endpoint.to_string()]));
        let released = self.release_ports(endpoint.as_str());
        let withdrawn = withdrawn.and_then(|answer| answer.recv().map_err(|_| NetError::Closed)?);
        self.ports.give_back(endpoint);
        withdrawn?;
        released
    }
}

/// Another range of the same container that overlaps with one before it.
fn overlapping(ports: &[PublishedPort]) -> Option<usize> {
    (1..ports.len()).find(|at| ports[..*at].iter().any(|before| before.overlaps(&ports[*at])))
}

/// Tries the next port of a choice, or gives up with the error.
fn advance(choices: &mut [Choice], position: usize, error: impl FnOnce() -> NetError) -> Result<(), NetError> {
    let choice = &mut choices[position];
    if choice.advance() {
        return Ok(());
    }
    Err(match choice.group.host {
        HostPort::Free => NetError::NoFreePort(choice.group.transport),
        _ => error(),
    })
}

fn allocated(port: &PublishedPort) -> NetError {
    NetError::PortAllocated { address: port.address, port: port.first }
}
