//! The network as the engine sees it: [`Networks`].

use std::collections::HashSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};

use berth_model::ContainerId;
use berth_store::{EndpointRow, Store};
use ipnet::Ipv4Net;

use crate::book::{Book, Ready};
use crate::config::NetConfig;
use crate::endpoint::{Connection, Endpoint, EndpointRecord, EndpointRequest, check_interface};
use crate::error::NetError;
use crate::files::Ipv6Loopback;
use crate::firewall::Obstacle;
use crate::netlink::route::Counters;
use crate::network::{Driver, Network, NetworkInfo};
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
            let (network, container) = (reserved.network.parse(), reserved.container.parse());
            if let (Ok(network), Ok(container), std::net::IpAddr::V4(address)) = (network, container, reserved.address)
            {
                // Two records of one address cannot be, and one outside the subnet does no harm.
                let _ = book.reserve(&network, address, container);
            }
        }
        for row in endpoints.list()? {
            let record = read_endpoint(&row)?;
            book.note(&record.network, record.address.addr());
        }
        let jobs = worker::start(config.clone(), Arc::clone(&book))?;
        Ok(Networks { inner: Arc::new(Inner { config, book, networks, endpoints, jobs }) })
    }

    /// Makes an endpoint for a container, in a namespace of its own.
    ///
    /// # Errors
    /// [`NetError::NotFound`], [`NetError::AddressTaken`], [`NetError::NoFreeAddress`], or what the kernel refused; nothing
    /// is left behind.
    pub fn attach(&self, request: &EndpointRequest) -> Result<Endpoint, NetError> {
        let network = self.inner.joinable(request)?;
        let wish = Wish::of(request);
        for _ in 0..ADDRESS_TRIES {
            let ready = self.inner.sandbox(&network, &wish)?;
            let record = EndpointRecord::of(&network, request, &ready);
            if self.inner.enter(&record)? {
                return Ok(Endpoint::new(record, ready.netns, Arc::clone(&self.inner)));
            }
            // The address stays noted as held: our memory of the records was wrong, and now it is right.
            if request.address.is_some() {
                return Err(NetError::AddressTaken);
            }
        }
        Err(NetError::NoFreeAddress { name: network.name.clone(), id: network.id.clone() })
    }

    /// Makes one more endpoint in a namespace that a container has already.
    ///
    /// # Errors
    /// As [`Networks::attach`].
    pub fn connect(&self, netns: OwnedFd, request: &EndpointRequest) -> Result<Connection, NetError> {
        let network = self.inner.joinable(request)?;
        let wish = Wish::of(request);
        let again = |record: &EndpointRecord| record.container == request.container && record.network == network.id;
        if self.endpoints()?.iter().any(again) {
            let (container, network) = (request.container_name.clone(), network.name.clone());
            return Err(NetError::AlreadyConnected { container, network });
        }
        let ready = self.inner.ask(|answer| Job::Connect(network.id.clone(), netns, wish, answer))??;
        let record = EndpointRecord::of(&network, request, &ready);
        let connection = Connection::new(record, Arc::clone(&self.inner));
        if self.inner.enter(connection.record())? { Ok(connection) } else { Err(NetError::AddressTaken) }
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
    pub fn disconnect(&self, record: &EndpointRecord) -> Result<(), NetError> {
        self.inner.disconnect(record)
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

    /// Removes what belongs to containers that are not in `live`, records and devices, and puts bridges and rules of the
    /// others in place.
    ///
    /// # Errors
    /// The store cannot be read or written, or the kernel refused.
    pub fn reconcile(&self, live: &[ContainerId]) -> Result<Reconciled, NetError> {
        let live: HashSet<_> = live.iter().collect();
        let records = self.endpoints()?;
        let (kept, removed): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| live.contains(&record.container));
        self.inner.endpoints.delete(removed.iter().map(|record| record.id.to_string()).collect())?;
        let networks: HashSet<_> = kept.iter().map(|record| record.network.clone()).collect();
        let devices = kept.into_iter().map(|record| record.device).collect();
        let networks = networks.into_iter().collect();
        let stray_devices = self.inner.ask(|answer| Job::Restore(networks, devices, answer))??;
        for record in &removed {
            self.inner.book.give_back(&record.network, record.address.addr());
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

    /// What went through an endpoint, from the container's point of view; `None` if it is gone.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn traffic(&self, record: &EndpointRecord) -> Result<Option<Traffic>, NetError> {
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

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Inner {
    /// The network a request names, if a container can join it like this.
    fn joinable(&self, request: &EndpointRequest) -> Result<Arc<Network>, NetError> {
        let network = self.book.find(&request.network)?;
        if network.driver != Driver::Bridge {
            return Err(NetError::NoEndpoints(network.name.clone()));
        }
        if network.subnets.is_empty() {
            return Err(NetError::BridgeOff);
        }
        match request.address {
            Some(_) if network.is_default_bridge() => return Err(NetError::FixedAddress),
            // Where the engine chose the subnet it may choose another after a restart.
            Some(address) if !network.chosen_subnet => return Err(NetError::AddressOutside(address.into())),
            _ => {}
        }
        request.interface.as_deref().map_or(Ok(()), check_interface)?;
        Ok(network)
    }

    /// A sandbox as wished for: one that waits ready, or one that is made now.
    fn sandbox(&self, network: &Network, wish: &Wish) -> Result<Ready, NetError> {
        let usual = wish.interface.as_deref().is_none_or(|name| name == "eth0") && wish.default_route;
        let address = wish.address.as_ref().map(|(address, _)| *address);
        if let Some(ready) = self.book.take_ready(&network.id, address) {
            self.send(Job::Taken(network.id.clone()))?;
            if usual && wish.mac.is_none_or(|mac| mac == ready.mac) {
                return Ok(ready);
            }
            // It has an address that we want but not the rest: it goes, and its address with it.
            self.book.give_back(&network.id, ready.address);
        }
        self.ask(|answer| Job::Prepare(network.id.clone(), wish.clone(), answer))?
    }

    /// Writes the record. `false` if another record holds the address.
    fn enter(&self, record: &EndpointRecord) -> Result<bool, NetError> {
        let document = serde_json::to_string(record)
            .map_err(|source| NetError::Record { what: format!("endpoint {:?}", record.id), source })?;
        Ok(self.endpoints.insert(EndpointRow {
            id: record.id.to_string(),
            network: record.network.to_string(),
            container: record.container.to_string(),
            addresses: vec![record.ip()],
            document,
        })?)
    }

    pub(crate) fn detach(&self, record: &EndpointRecord) -> Result<(), NetError> {
        self.endpoints.delete(vec![record.id.to_string()])?;
        self.send(Job::Departed(Departure::of(record)))
    }

    pub(crate) fn disconnect(&self, record: &EndpointRecord) -> Result<(), NetError> {
        self.ask(|answer| Job::Unplug(Departure::of(record), answer))??;
        Ok(self.endpoints.delete(vec![record.id.to_string()])?)
    }

    fn send(&self, job: Job) -> Result<(), NetError> {
        self.jobs.send(job).map_err(|_| NetError::Closed)
    }

    pub(crate) fn ask<T>(&self, job: impl FnOnce(SyncSender<T>) -> Job) -> Result<T, NetError> {
        let (answer, answered) = sync_channel(1);
        self.send(job(answer))?;
        answered.recv().map_err(|_| NetError::Closed)
    }
}

impl Wish {
    fn of(request: &EndpointRequest) -> Wish {
        Wish {
            address: request.address.map(|address| (address, request.container.clone())),
            mac: request.mac,
            interface: request.interface.clone(),
            default_route: request.default_route,
        }
    }
}

impl Departure {
    fn of(record: &EndpointRecord) -> Departure {
        let (network, device) = (record.network.clone(), record.device.clone());
        Departure { network, device, address: record.address.addr() }
    }
}

impl EndpointRecord {
    fn of(network: &Network, request: &EndpointRequest, ready: &Ready) -> EndpointRecord {
        let subnet = network.subnets.first().expect("a network that gave an address has a subnet");
        EndpointRecord {
            id: crate::new_id(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            container: request.container.clone(),
            container_name: request.container_name.clone(),
            interface: ready.interface.clone(),
            device: ready.device.clone(),
            address: Ipv4Net::new(ready.address, subnet.net.prefix_len()).expect("the length comes from a subnet"),
            gateway: (!network.internal).then_some(subnet.gateway),
            mac: ready.mac,
            aliases: request.aliases.clone(),
        }
    }
}
