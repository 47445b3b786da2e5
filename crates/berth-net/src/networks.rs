//! The network as the engine sees it: [`Networks`].

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use berth_model::ContainerId;
use berth_store::{EndpointRow, Store};
use berth_sys::fault;

use crate::asked::write_endpoint;
use crate::book::{Book, Ready};
use crate::config::NetConfig;
use crate::endpoint::{Connection, Endpoint, EndpointRecord, EndpointRequest};
use crate::error::NetError;
use crate::files::Ipv6Loopback;
use crate::firewall::Obstacle;
use crate::netlink::route::{Counters, Hop};
use crate::network::{Network, NetworkInfo};
use crate::ports::{PortTable, read_port};
use crate::records::{read_endpoint, settle_networks};
use crate::worker::{self, Departure, Job, Wish};

/// How often an address is tried anew that the records hold against our memory of them.
const ADDRESS_TRIES: usize = 16;

/// All networks of an engine.
///
/// Opened once, in the network namespace that becomes the host of the containers: whatever thread calls later, from
/// whatever namespace, means that one. [`Networks::attach`] gives a container a namespace of its own on a network;
/// when the container has ended, [`Networks::detach`] takes the address back, and the kernel the devices. After a start
/// [`Networks::reconcile`] removes what belongs to containers that no longer live. Calls block, for some microseconds
/// when a sandbox waits ready and for about a millisecond when none does.
#[derive(Clone, Debug)]
pub struct Networks {
    pub(crate) inner: Arc<Inner>,
}

/// What guards of endpoints keep alive.
pub(crate) struct Inner {
    pub(crate) config: NetConfig,
    pub(crate) book: Arc<Book>,
    pub(crate) networks: berth_store::Networks,
    endpoints: berth_store::Endpoints,
    pub(crate) port_records: berth_store::Ports,
    pub(crate) ports: PortTable,
    pub(crate) holder: OnceLock<berth_ports::Client>,
    pub(crate) host_ipv6: bool,
    jobs: Sender<Job>,
}

/// What was found and removed after a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Records of containers that no longer live.
    pub removed: Vec<EndpointRecord>,
    /// How many devices on bridges belonged to nobody.
    pub stray_devices: usize,
}

/// What went through an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in.
    pub received: Count,
    /// What went out.
    pub sent: Count,
}

/// One direction of [`Traffic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

impl Traffic {
    /// What one end of a pair sent, the other received.
    fn seen_from_the_other_end(counters: Counters) -> Traffic {
        let count = |[packets, bytes, errors, dropped]: [u64; 4]| Count { packets, bytes, errors, dropped };
        Traffic { received: count(counters.sent), sent: count(counters.received) }
    }
}

impl Networks {
    /// Opens the networks. Nothing of the host is changed before a container needs it.
    ///
    /// # Errors
    /// The store cannot be read or written; the host's routes cannot be listed; no pool is free for the default bridge.
    pub fn open(config: NetConfig, store: &Store) -> Result<Networks, NetError> {
        let (networks, endpoints) = (store.networks(), store.endpoints());
        let book = Arc::new(Book::default());
        for network in settle_networks(&config, &networks)? {
            book.enter(network);
        }
        for reserved in networks.reservations()? {
            if let (Ok(network), Ok(container)) = (reserved.network.parse(), reserved.container.parse()) {
                // One of a network that is gone does no harm.
                let _ = book.reserve(&network, reserved.address, container);
            }
        }
        for row in endpoints.list()? {
            let record = read_endpoint(&row)?;
            book.note(&record.network, record.addresses());
        }
        let port_records = store.ports();
        let ports = port_records.list()?.iter().map(read_port).collect::<Result<Vec<_>, _>>()?;
        let jobs = worker::start(config.clone(), Arc::clone(&book))?;
        Ok(Networks {
            inner: Arc::new(Inner {
                config,
                book,
                networks,
                endpoints,
                port_records,
                ports: PortTable::new(ports),
                holder: OnceLock::new(),
                host_ipv6: crate::sandbox::ipv6_is_on(),
                jobs,
            }),
        })
    }

    /// Makes an endpoint for a container, in a namespace of its own.
    ///
    /// # Errors
    /// [`NetError::NotFound`], [`NetError::AddressTaken`], [`NetError::NoFreeAddress`], or what the kernel refused; nothing
    /// is left behind.
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetError> {
        let network = self.inner.joinable(request)?;
        let wish = Wish::of(request)?;
        for _ in 0..ADDRESS_TRIES {
            let ready = self.inner.sandbox(&network, &wish)?;
            let record = EndpointRecord::of(&network, request, &wish, &ready);
            if self.inner.enter(&record)? {
                return Ok(Endpoint::new(record, ready.netns, wish.is_usual(), Arc::clone(&self.inner)));
            }
            // The address stays noted as held: our memory of the records was wrong, and now it is right.
            if wish.certain().next().is_some() {
                return Err(NetError::AddressTaken);
            }
        }
        let (name, id) = (network.name.clone(), network.id.clone());
        Err(NetError::NoFreeAddress { family: if network.ipv4 { "IPv4" } else { "IPv6" }, name, id })
    }

    /// Makes one more endpoint in a namespace that a container has already.
    ///
    /// # Errors
    /// As [`Networks::attach`].
    pub fn connect(&self, netns: BorrowedFd<'_>, request: &EndpointRequest) -> Result<Connection, NetError> {
        let network = self.inner.joinable(request)?;
        let wish = Wish::of(request)?;
        self.recall(&request.container);
        let ready = self
            .inner
            .ask_about(netns, |netns, answer| Job::Connect(network.id.clone(), netns, wish.clone(), answer))?;
        fault::point("connect:plugged");
        let record = EndpointRecord::of(&network, request, &wish, &ready);
        let connection = Connection::new(record, ready.netns, Arc::clone(&self.inner));
        if self.inner.enter(connection.record())? { Ok(connection) } else { Err(NetError::AddressTaken) }
    }

    /// Has the default routes of a container lead by those of its endpoints that say so, and puts that on record.
    /// `before` are its endpoints as they were.
    ///
    /// # Errors
    /// The kernel refused, or the store cannot be written.
    pub fn reroute(
        &self,
        netns: BorrowedFd<'_>,
        before: &[EndpointRecord],
        after: &[EndpointRecord],
    ) -> Result<(), NetError> {
        let routes = |records: &[EndpointRecord]| -> Vec<(String, Hop)> {
            records.iter().flat_map(|record| record.hops().map(|hop| (record.interface.clone(), hop))).collect()
        };
        let (old, new) = (routes(before), routes(after));
        let from: Vec<_> = old.iter().filter(|route| !new.contains(route)).cloned().collect();
        let to: Vec<_> = new.iter().filter(|route| !old.contains(route)).cloned().collect();
        if !from.is_empty() || !to.is_empty() {
            self.inner.ask_about(netns, |netns, answer| Job::Reroute(netns, from, to, answer))?;
        }
        for record in after.iter().filter(|record| !before.contains(record)) {
            self.inner.endpoints.update(record.id.to_string(), write_endpoint(record)?)?;
        }
        Ok(())
    }

    /// After a start: the endpoints that a running container really has, of those on record. What is left of a connection or
    /// disconnection that was not finished is removed.
    ///
    /// # Errors
    /// The kernel refused, or the store cannot be written.
    pub fn compare(
        &self,
        netns: BorrowedFd<'_>,
        records: Vec<EndpointRecord>,
    ) -> Result<Vec<EndpointRecord>, NetError> {
        let gone = self.inner.ask_about(netns, |netns, answer| Job::Compare(netns, records.clone(), answer))?;
        if gone.is_empty() {
            return Ok(records);
        }
        let (gone, left): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| gone.contains(&record.id));
        gone.iter().try_for_each(|record| self.inner.unpublish(&record.id))?;
        self.inner.endpoints.delete(gone.iter().map(|record| record.id.to_string()).collect())?;
        gone.iter().for_each(|record| self.inner.book.give_back(&record.network, record.addresses()));
        Ok(left)
    }

    /// Takes an endpoint back whose container has ended. The devices go with the namespace; nobody waits for that.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn detach(&self, record: &EndpointRecord) -> Result<(), NetError> {
        self.inner.detach(record)
    }

    /// Takes an endpoint back from a container that runs on: its interface is gone when this returns.
    ///
    /// # Errors
    /// The kernel refused, or the store cannot be written.
    pub fn disconnect(&self, record: &EndpointRecord, netns: BorrowedFd<'_>) -> Result<(), NetError> {
        self.inner.disconnect(record, netns)
    }

    /// A namespace without a network: a loopback device that is up, and nothing else.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn isolated(&self) -> Result<OwnedFd, NetError> {
        match self.inner.book.take_isolated() {
            Some(netns) => {
                self.inner.send(Job::TakenIsolated)?;
                Ok(netns)
            }
            None => self.inner.ask(Job::Isolate)?,
        }
    }

    /// Remembers a namespace without a network for as long as a container has it that cannot change it, nor hand a piece of it to
    /// somebody outside. When it has ended, the next container may get the namespace as it is.
    pub fn lend_isolated(&self, container: ContainerId, netns: OwnedFd) {
        self.inner.book.lend(container, netns);
    }

    /// A container has ended that had a namespace without a network.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub fn isolated_ended(&self, container: &ContainerId) -> Result<(), NetError> {
        match self.inner.book.recall(container) {
            Some(netns) => self.inner.send(Job::Returned(netns, None)),
            None => Ok(()),
        }
    }

    /// Somebody else has to do with the namespace of a container: no other will get it.
    pub fn recall(&self, container: &ContainerId) {
        drop(self.inner.book.recall(container));
    }

    /// Removes what belongs to containers that are not in `live`, records and devices, and puts bridges and rules of the
    /// others in place.
    ///
    /// # Errors
    /// The store cannot be read or written, or the kernel refused.
    pub fn reconcile(&self, live: &[ContainerId]) -> Result<Reconciled, NetError> {
        let live: HashSet<_> = live.iter().collect();
        let records = self.endpoints()?;
        self.inner.reconcile_ports(&records, &live)?;
        let (kept, removed): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| live.contains(&record.container));
        self.inner.endpoints.delete(removed.iter().map(|record| record.id.to_string()).collect())?;
        let networks: HashSet<_> = kept.iter().map(|record| record.network.clone()).collect();
        let devices = kept.into_iter().map(|record| record.device).filter(|device| !device.is_empty()).collect();
        let networks = networks.into_iter().collect();
        let stray_devices = self.inner.ask(|answer| Job::Restore(networks, devices, answer))??;
        for record in &removed {
            self.inner.book.give_back(&record.network, record.addresses());
        }
        Ok(Reconciled { removed, stray_devices })
    }

    /// The records of all endpoints, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn endpoints(&self) -> Result<Vec<EndpointRecord>, NetError> {
        self.inner.endpoints.list()?.iter().map(read_endpoint).collect()
    }

    /// A network by its id, its name, or the beginning of its id.
    ///
    /// # Errors
    /// [`NetError::NotFound`], [`NetError::Ambiguous`].
    pub fn network(&self, wanted: &str) -> Result<NetworkInfo, NetError> {
        self.inner.book.info(&self.inner.book.find(wanted)?.id)
    }

    /// All networks, by name.
    pub fn list(&self) -> Vec<NetworkInfo> {
        let all = self.inner.book.all();
        // One that is removed meanwhile is not listed.
        all.iter().filter_map(|network| self.inner.book.info(&network.id).ok()).collect()
    }

    /// Does something in a network namespace, on the thread that may go there.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        netns: OwnedFd,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetError> {
        self.errand(Some(netns), work)
    }

    /// Does something in the host's network namespace, whatever the caller's is.
    pub(crate) fn at_home<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetError> {
        self.errand(None, work)
    }

    fn errand<T: Send + 'static>(
        &self,
        netns: Option<OwnedFd>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetError> {
        let step = "entering the container's network";
        self.inner.ask(|answer| {
            let errand = move |refused: Option<std::io::Error>| {
                let outcome = match refused {
                    None => Ok(work()),
                    Some(source) => Err(NetError::Namespace { step, source }),
                };
                let _ = answer.send(outcome);
            };
            Job::Inside(netns, Box::new(errand))
        })?
    }

    /// What went through an endpoint, from the container's point of view; `None` if it is gone.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn traffic(&self, record: &EndpointRecord) -> Result<Option<Traffic>, NetError> {
        if record.device.is_empty() {
            return Ok(None);
        }
        let counters = self.inner.ask(|answer| Job::Counters(record.device.clone(), answer))??;
        Ok(counters.map(Traffic::seen_from_the_other_end))
    }

    /// Firewall chains of others that drop what our rules let pass, and what was done about them. Empty until the first
    /// container was on a bridge.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub fn obstacles(&self) -> Result<Vec<Obstacle>, NetError> {
        self.inner.ask(Job::Obstacles)
    }

    /// Waits until the devices of all detached endpoints are gone, by force after two seconds.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub fn settle(&self) -> Result<(), NetError> {
        self.inner.ask(Job::Settle)
    }

    /// Whether containers have an IPv6 address on their loopback device.
    pub fn ipv6_loopback(&self) -> Ipv6Loopback {
        if crate::sandbox::has_ipv6() { Ipv6Loopback::Present } else { Ipv6Loopback::Absent }
    }

    /// The settings the networks were opened with.
    pub fn config(&self) -> &NetConfig {
        &self.inner.config
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // One that is gone needs no telling.
        let _ = self.jobs.send(Job::End);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Inner {
    /// The network a request names, if a container can join it like this.
    fn joinable(&self, request: &EndpointRequest) -> Result<Arc<Network>, NetError> {
        let network = self.book.find(&request.network)?;
        if network.config_only {
            return Err(NetError::ConfigOnly);
        }
        if !network.driver.has_endpoints() {
            return Err(NetError::NoEndpoints(network.name.clone()));
        }
        if network.subnets.is_empty() {
            return Err(NetError::BridgeOff);
        }
        let certain = request.ipv4.map(IpAddr::V4).into_iter().chain(request.ipv6.map(IpAddr::V6));
        for address in certain {
            if network.is_default_bridge() {
                return Err(NetError::FixedAddress);
            }
            // Where the engine chose the subnet it may choose another after a restart.
            if !network.subnet_of(address).is_some_and(|subnet| subnet.chosen) {
                return Err(NetError::AddressOutside(address));
            }
        }
        Ok(network)
    }

    /// A sandbox as wished for: one that waits ready, or one that is made now.
    fn sandbox(&self, network: &Network, wish: &Wish) -> Result<Ready, NetError> {
        let wanted: Vec<IpAddr> = wish.certain().chain(wish.preferred.iter().copied()).collect();
        let has = |ready: &Ready, address: &IpAddr| ready.given.addresses().any(|own| own == *address);
        let fits = |ready: &Ready| wish.is_met_by(ready) && wanted.iter().all(|address| has(ready, address));
        if let Some(ready) = self.book.take_ready(&network.id, fits) {
            self.send(Job::Taken(network.id.clone()))?;
            return Ok(ready);
        }
        // One that has an address we want, but not the rest, goes; its addresses are free when its device is gone.
        while let Some(ready) =
            self.book.take_ready(&network.id, |ready| wanted.iter().any(|address| has(ready, address)))
        {
            let Ready { device, interface, given, .. } = ready;
            self.send(Job::Departed(Departure { network: network.id.clone(), device, interface, given }))?;
        }
        self.ask(|answer| Job::Prepare(network.id.clone(), wish.clone(), answer))?
    }

    /// Writes the record. `false` if another record holds an address.
    fn enter(&self, record: &EndpointRecord) -> Result<bool, NetError> {
        Ok(self.endpoints.insert(EndpointRow {
            id: record.id.to_string(),
            network: record.network.to_string(),
            container: record.container.to_string(),
            addresses: record.addresses().collect(),
            document: write_endpoint(record)?,
        })?)
    }

    pub(crate) fn detach(&self, record: &EndpointRecord) -> Result<(), NetError> {
        self.unpublish(&record.id)?;
        self.endpoints.delete(vec![record.id.to_string()])?;
        let departure = Departure::of(record);
        self.send(match self.book.recall(&record.container) {
            Some(netns) => Job::Returned(netns, Some((departure, record.mac))),
            None => Job::Departed(departure),
        })
    }

    pub(crate) fn disconnect(&self, record: &EndpointRecord, netns: BorrowedFd<'_>) -> Result<(), NetError> {
        drop(self.book.recall(&record.container));
        self.unpublish(&record.id)?;
        self.ask_about(netns, |netns, answer| Job::Unplug(Departure::of(record), netns, answer))?;
        fault::point("disconnect:unplugged");
        Ok(self.endpoints.delete(vec![record.id.to_string()])?)
    }

    /// Asks for something in a namespace that the caller holds.
    fn ask_about<T>(
        &self,
        netns: BorrowedFd<'_>,
        job: impl FnOnce(OwnedFd, SyncSender<Result<T, NetError>>) -> Job,
    ) -> Result<T, NetError> {
        let own = netns.try_clone_to_owned();
        let own = own.map_err(|source| NetError::Namespace { step: "holding the container's network", source })?;
        self.ask(|answer| job(own, answer))?
    }

    fn send(&self, job: Job) -> Result<(), NetError> {
        self.jobs.send(job).map_err(|_| NetError::Closed)
    }

    pub(crate) fn ask<T>(&self, job: impl FnOnce(SyncSender<T>) -> Job) -> Result<T, NetError> {
        self.begin(job)?.recv().map_err(|_| NetError::Closed)
    }

    /// Asks the worker for something; the answer comes when it is ready.
    pub(crate) fn begin<T>(&self, job: impl FnOnce(SyncSender<T>) -> Job) -> Result<Receiver<T>, NetError> {
        let (answer, answered) = sync_channel(1);
        self.send(job(answer))?;
        Ok(answered)
    }
}
