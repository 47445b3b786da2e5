//! The one thread that changes the kernel's network: bridges, sandboxes, rules; and cleans up after containers.
//!
//! It is the only thread that ever goes into another namespace, and it owns the sockets, so nothing here needs a lock.
//! Callers wait for it only when no ready sandbox fits. When it has nothing to do it makes the next ones, and looks
//! after devices that should have gone with their containers' namespaces.

mod cleanup;
mod compare;
mod make;
mod parent;
mod ports;
mod reuse;
mod segments;
mod watch;

pub(crate) use make::routes;
pub(crate) use watch::Disturbance;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use berth_model::HexId;
use berth_ports::{NotHeld, Owner, Place};
use berth_sys::netns::Traveller;
use ipnet::IpNet;

use crate::book::{Book, Given, PREPARED_ISOLATED, Ready};
use crate::config::NetConfig;
use crate::endpoint::EndpointRecord;
use crate::error::NetError;
use crate::explain::FirewallReport;
use crate::firewall::{self, Obstacle};
use crate::mac::MacAddress;
use crate::netlink::Socket;
use crate::netlink::route::{self, Counters, Hop};
use crate::network::Network;
use crate::ports::PublishedPort;
use crate::records::taken_subnets;

/// How long after a container took a sandbox the next one is made, where others are ready: its start, and its whole life if that is short,
/// should have the processors to itself.
const REFILL_DELAY: Duration = Duration::from_millis(100);
/// The same where none is left.
const URGENT_REFILL_DELAY: Duration = Duration::from_millis(5);
/// How long sandboxes wait for a container before they are taken apart: an idle host has no devices to spare.
const IDLE: Duration = Duration::from_secs(60);
/// How long a device may outlive its container before it is deleted by force: somebody holds the namespace.
const DEPARTURE_GRACE: Duration = Duration::from_secs(2);

/// What an endpoint must have, where the caller minds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Addresses that would be welcome.
    pub preferred: Vec<IpAddr>,
    pub link_local: Vec<IpAddr>,
    pub mac: Option<MacAddress>,
    pub interface: Option<String>,
    /// Kernel settings of the interface.
    pub settings: Vec<(String, String)>,
    /// Whether the network's gateway is the way to everywhere.
    pub default_v4: bool,
    pub default_v6: bool,
}

impl Wish {
    /// Whatever the next container may want.
    pub fn usual() -> Wish {
        Wish { default_v4: true, default_v6: true, ..Wish::default() }
    }

    /// The addresses that must be had.
    pub fn certain(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// A place on a network that is no longer used.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    pub network: HexId,
    /// The device on the host; empty where there is none of its own.
    pub device: String,
    /// The interface inside.
    pub interface: String,
    pub given: Given,
}

/// What callers ask of the worker.
pub(crate) enum Job {
    /// Make a sandbox on a network.
    Prepare(HexId, Wish, SyncSender<Result<Ready, NetError>>),
    /// Join a namespace that is there to a network; the answer holds the descriptor again.
    Connect(HexId, OwnedFd, Wish, SyncSender<Result<Ready, NetError>>),
    /// Make a namespace without a network.
    Isolate(SyncSender<Result<OwnedFd, NetError>>),
    /// A ready sandbox of a network was taken.
    Taken(HexId),
    /// A ready namespace without a network was taken.
    TakenIsolated,
    /// A container has ended; its device goes with its namespace.
    Departed(Departure),
    /// A container has ended that could not change its namespace: the next may have it, with the endpoint that is in it.
    Returned(OwnedFd, Option<(Departure, Option<MacAddress>)>),
    /// Delete the device now, whoever holds the namespace.
    Unplug(Departure, OwnedFd, SyncSender<Result<(), NetError>>),
    /// Have a namespace's default routes lead elsewhere: those that were, those that are to be.
    Reroute(OwnedFd, Vec<(String, Hop)>, Vec<(String, Hop)>, SyncSender<Result<(), NetError>>),
    /// Compare what a running container has with its records; the answer names those of which nothing else is left.
    Compare(OwnedFd, Vec<EndpointRecord>, SyncSender<Result<Vec<HexId>, NetError>>),
    /// Find or make the parent device of a network; the answer says whether it was made.
    Parent(Arc<Network>, SyncSender<Result<bool, NetError>>),
    /// Put bridges and rules of these networks in place, and delete devices of ours that are not in the list.
    Restore(Vec<HexId>, HashSet<String>, SyncSender<Result<usize, NetError>>),
    /// Lead ports of the host to an endpoint of a network, which has this device on the host.
    Publish(HexId, String, Vec<PublishedPort>, SyncSender<Result<(), NetError>>),
    /// End what leads to an endpoint.
    Withdraw(HexId, SyncSender<Result<(), NetError>>),
    /// Know again what leads to endpoints that are still there, and what an earlier engine had reserved.
    TakeOver(Vec<(HexId, Vec<PublishedPort>)>, Vec<PublishedPort>, SyncSender<()>),
    /// Hold ports with sockets of this process, up to a number of them.
    HoldPorts(String, Vec<Place>, usize, SyncSender<Result<bool, NotHeld>>),
    /// Let go of them.
    ReleasePorts(String, SyncSender<()>),
    /// What is in force.
    Report(SyncSender<Result<FirewallReport, NetError>>),
    /// Somebody else changed the firewall.
    Disturbed(Disturbance),
    /// Nobody asks for anything any more.
    End,
    /// The first port from one to another that somebody has.
    FirstTaken(Place, u16, SyncSender<Option<u16>>),
    /// Who keeps us from a port.
    PortOwner(Place, SyncSender<Option<Owner>>),
    /// Take a network out of service: sandboxes, rules, bridge.
    Retire(Arc<Network>, SyncSender<Result<(), NetError>>),
    /// Answer when no departed device is left.
    Settle(SyncSender<()>),
    /// What stands in the way of our packets.
    Obstacles(SyncSender<Vec<Obstacle>>),
    /// What a new subnet must not overlap with: these, and what the host can reach.
    Routes(Vec<IpNet>, SyncSender<Result<Vec<IpNet>, NetError>>),
    /// Do something in a namespace, or at home.
    Inside(Option<OwnedFd>, Errand),
    /// What a device has carried.
    Counters(String, SyncSender<Result<Option<Counters>, NetError>>),
}

/// What is to be done in a namespace; it is told when the namespace cannot be entered, and sends its own answer.
pub(crate) type Errand = Box<dyn FnOnce(Option<io::Error>) + Send>;

struct Bridge {
    /// The bridge of that name, and those that it is extended by; never empty.
    segments: Vec<Segment>,
    rules: firewall::Bridge,
}

/// One bridge of a network.
struct Segment {
    index: u32,
    /// How many ports it had when they were last counted, and those that were added since.
    ports: usize,
}

struct Departed {
    what: Departure,
    since: Instant,
}

/// The thread's own state.
pub(crate) struct Worker {
    config: NetConfig,
    book: Arc<Book>,
    traveller: Traveller,
    route: Socket,
    bridges: BTreeMap<HexId, Bridge>,
    obstacles: Vec<Obstacle>,
    /// The socket for rules, and its number, by which our own changes are known.
    firewall: Option<Socket>,
    firewall_port: Arc<AtomicU32>,
    watch: Option<watch::Watch>,
    repair: watch::Repair,
    /// Published ports that the host's own rules do not open to everybody.
    closed: Vec<firewall::Closed>,
    /// These rules, and the number of the ruleset in which they were read.
    host_policy: Option<(u32, Arc<firewall::HostPolicy>)>,
    jobs: Sender<Job>,
    ports: ports::Ports,
    departed: Vec<Departed>,
    next_sweep: Instant,
    refills: BTreeMap<HexId, Instant>,
    refill_isolated: Option<Instant>,
    idle_at: Option<Instant>,
    waiting_to_settle: Vec<SyncSender<()>>,
}

/// Starts the worker in the network namespace of the calling thread. It ends when it is told so.
pub(crate) fn start(config: NetConfig, book: Arc<Book>) -> Result<Sender<Job>, NetError> {
    let failed = |source| NetError::Namespace { step: "starting the network's thread", source };
    let (jobs, queue) = channel();
    let (ready, started) = sync_channel(1);
    let own = jobs.clone();
    let run = move || {
        let worker = Worker::new(config, book, own);
        let outcome = worker.map(|worker| {
            let _ = ready.send(Ok(()));
            worker.run(&queue);
        });
        if let Err(error) = outcome {
            let _ = ready.send(Err(error));
        }
    };
    std::thread::Builder::new().name("network".to_owned()).stack_size(256 * 1024).spawn(run).map_err(failed)?;
    started.recv().unwrap_or(Err(NetError::Closed))?;
    Ok(jobs)
}

impl Worker {
    fn new(config: NetConfig, book: Arc<Book>, jobs: Sender<Job>) -> Result<Worker, NetError> {
        let home = |source| NetError::Namespace { step: "opening the host's network namespace", source };
        Ok(Worker {
            config,
            book,
            traveller: Traveller::at_home().map_err(home)?,
            route: Socket::route()?,
            bridges: BTreeMap::new(),
            obstacles: Vec::new(),
            firewall: None,
            firewall_port: Arc::default(),
            watch: None,
            repair: watch::Repair::default(),
            closed: Vec::new(),
            host_policy: None,
            jobs,
            ports: ports::Ports::default(),
            departed: Vec::new(),
            next_sweep: Instant::now(),
            refills: BTreeMap::new(),
            refill_isolated: None,
            idle_at: None,
            waiting_to_settle: Vec::new(),
        })
    }

    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let job = match self.next_chore() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::End) => return,
                Ok(job) => self.carry_out(job),
                Err(RecvTimeoutError::Timeout) => self.do_chores(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, job: Job) {
        // Callers wait for their answers; one that cannot be delivered has nobody left to miss it.
        match job {
            Job::Prepare(network, wish, answer) => {
                let _ = answer.send(self.prepare(&network, &wish));
                self.order_refill(network);
            }
            Job::Connect(network, netns, wish, answer) => {
                let outcome = self.connect(&network, netns, &wish);
                let _ = answer.send(outcome);
            }
            Job::Isolate(answer) => {
                let _ = answer.send(self.isolate());
                self.order_isolated();
            }
            Job::Taken(network) => self.order_refill(network),
            Job::TakenIsolated => self.order_isolated(),
            Job::Departed(what) => self.expect_departure(what),
            Job::Returned(netns, endpoint) => self.take_back(netns, endpoint),
            Job::Unplug(what, netns, answer) => {
                let _ = answer.send(self.unplug(&what, netns));
            }
            Job::Reroute(netns, from, to, answer) => {
                let _ = answer.send(self.reroute(netns, &from, &to));
            }
            Job::Compare(netns, records, answer) => {
                let _ = answer.send(self.compare(netns, &records));
            }
            Job::Parent(network, answer) => {
                let _ = answer.send(self.parent(&network).map(|parent| parent.made));
            }
            Job::Restore(networks, devices, answer) => {
                let restored = self.restore(&networks, &devices);
                let _ = answer.send(restored.and_then(|strays| self.drop_idle_rules().map(|()| strays)));
            }
            Job::Publish(network, device, ports, answer) => {
                let _ = answer.send(self.publish(&network, &device, &ports));
            }
            Job::Withdraw(endpoint, answer) => {
                let _ = answer.send(self.withdraw(&endpoint));
            }
            Job::TakeOver(ports, before, answer) => {
                self.ports.take_over(ports, &before);
                self.reserve();
                let _ = answer.send(());
            }
            Job::HoldPorts(owner, places, limit, answer) => {
                let _ = answer.send(self.hold_ports(owner, &places, limit));
            }
            Job::ReleasePorts(owner, answer) => {
                self.release_ports(&owner);
                let _ = answer.send(());
            }
            Job::Report(answer) => {
                let _ = answer.send(self.report());
            }
            Job::Disturbed(what) => self.disturbed(what),
            Job::End => {}
            Job::FirstTaken(first, last, answer) => {
                let _ = answer.send(berth_ports::first_taken(&first, last));
            }
            Job::PortOwner(place, answer) => {
                let _ = answer.send(berth_ports::owner_of(&place));
            }
            Job::Retire(network, answer) => {
                let _ = answer.send(self.retire(&network));
            }
            Job::Settle(answer) => {
                self.waiting_to_settle.push(answer);
                self.settle();
            }
            Job::Routes(others, answer) => {
                let _ = answer.send(taken_subnets(&mut self.route, &others));
            }
            Job::Inside(None, errand) => errand(None),
            Job::Inside(Some(netns), errand) => self.inside(&netns, errand),
            Job::Counters(device, answer) => {
                let _ = answer.send(route::counters(&mut self.route, &device).map_err(NetError::from));
            }
            Job::Obstacles(answer) => {
                let _ = answer.send(self.obstacles.clone());
            }
        }
    }

    fn inside(&self, netns: &OwnedFd, errand: Errand) {
        let mut errand = Some(errand);
        let visited = self.traveller.visit(netns.as_fd(), || errand.take().map(|errand| errand(None)));
        if let (Err(error), Some(errand)) = (visited, errand) {
            errand(Some(error));
        }
    }

    fn next_chore(&self) -> Option<Instant> {
        let sweep = (!self.departed.is_empty()).then_some(self.next_sweep);
        let refills = self.refills.values().copied();
        let repairs = self.repair.rules_at.into_iter().chain(self.repair.others_at);
        refills.chain(sweep).chain(self.refill_isolated).chain(self.idle_at).chain(repairs).min()
    }

    fn do_chores(&mut self) {
        let now = Instant::now();
        self.do_repairs(now);
        if !self.departed.is_empty() && self.next_sweep <= now {
            self.sweep(DEPARTURE_GRACE);
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.take_apart();
        }
        // One sandbox at a time: a caller who comes meanwhile waits for one at most.
        if self.refill_isolated.is_some_and(|at| at <= now) {
            self.refill_isolated();
        } else if let Some(network) = self.refills.iter().find(|(_, at)| **at <= now).map(|(id, _)| id.clone()) {
            self.refill(&network);
        }
    }

    fn order_refill(&mut self, network: HexId) {
        if self.config.prepared > 0 {
            let left = self.book.count_ready(&network).unwrap_or(0);
            self.refills.insert(network, Instant::now() + refill_delay(left));
            self.idle_at = Some(Instant::now() + IDLE);
        }
    }

    fn order_isolated(&mut self) {
        if self.config.prepared > 0 {
            self.refill_isolated = Some(Instant::now() + refill_delay(self.book.count_isolated()));
            self.idle_at = Some(Instant::now() + IDLE);
        }
    }

    /// Takes every ready sandbox apart; their addresses are free when the devices are gone.
    fn take_apart(&mut self) {
        self.idle_at = None;
        self.book.drain_isolated();
        for network in self.book.all() {
            self.give_up_ready(&network.id);
        }
    }

    /// Takes the ready sandboxes of a network apart. Says whether there were any.
    fn give_up_ready(&mut self, network: &HexId) -> bool {
        let all = self.book.drain_ready(network);
        let any = !all.is_empty();
        for Ready { device, interface, given, .. } in all {
            self.expect_departure(Departure { network: network.clone(), device, interface, given });
        }
        any
    }

    fn refill(&mut self, id: &HexId) {
        let wanted = self.book.count_ready(id).is_some_and(|count| count < self.config.prepared);
        // A sandbox that cannot be made now is not missed: the next container makes its own, or tells why it cannot.
        let made = if wanted { self.prepare_ahead(id).ok() } else { None };
        match made {
            None => _ = self.refills.remove(id),
            Some(ready) => drop(self.book.put_ready(id, ready)),
        }
    }

    fn refill_isolated(&mut self) {
        if self.book.count_isolated() < PREPARED_ISOLATED
            && let Ok(netns) = self.isolate()
        {
            self.book.put_isolated(netns);
        } else {
            self.refill_isolated = None;
        }
    }
}

fn refill_delay(left: usize) -> Duration {
    if left == 0 { URGENT_REFILL_DELAY } else { REFILL_DELAY }
}
