//! The one thread that changes the kernel's network: bridges, sandboxes, rules; and cleans up after containers.
//!
//! It is the only thread that ever goes into another namespace, and it owns the sockets, so nothing here needs a lock.
//! Callers wait for it only when no ready sandbox fits. When it has nothing to do it makes the next ones, and looks
//! after devices that should have gone with their containers' namespaces.

mod cleanup;
mod make;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use berth_model::{ContainerId, HexId};
use berth_sys::netns::Traveller;
use ipnet::Ipv4Net;

use crate::book::{Book, PREPARED_ISOLATED, Ready};
use crate::config::NetConfig;
use crate::error::NetError;
use crate::firewall::{self, Obstacle};
use crate::mac::MacAddress;
use crate::netlink::Socket;
use crate::netlink::route::{self, Counters};
use crate::network::Network;
use crate::records::taken_subnets;

/// How long after a container took a sandbox the next one is made: its start should have the processors to itself.
const REFILL_DELAY: Duration = Duration::from_millis(5);
/// How long sandboxes wait for a container before they are taken apart: an idle host has no devices to spare.
const IDLE: Duration = Duration::from_secs(60);
/// How long a device may outlive its container before it is deleted by force: somebody holds the namespace.
const DEPARTURE_GRACE: Duration = Duration::from_secs(2);

/// What an endpoint must have, where the caller minds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// An address, and the container it may be reserved for.
    pub address: Option<(Ipv4Addr, ContainerId)>,
    pub mac: Option<MacAddress>,
    pub interface: Option<String>,
    /// Whether the network's gateway is the way to everywhere.
    pub default_route: bool,
}

/// A place on a network that is no longer used.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    pub network: HexId,
    pub device: String,
    pub address: Ipv4Addr,
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
    /// Delete the device now, whoever holds the namespace.
    Unplug(Departure, SyncSender<Result<(), NetError>>),
    /// Put bridges and rules of these networks in place, and delete devices of ours that are not in the list.
    Restore(Vec<HexId>, HashSet<String>, SyncSender<Result<usize, NetError>>),
    /// Take a network out of service: sandboxes, rules, bridge.
    Retire(Arc<Network>, SyncSender<Result<(), NetError>>),
    /// Answer when no departed device is left.
    Settle(SyncSender<()>),
    /// What stands in the way of our packets.
    Obstacles(SyncSender<Vec<Obstacle>>),
    /// What a new subnet must not overlap with: these, and what the host can reach.
    Routes(Vec<Ipv4Net>, SyncSender<Result<Vec<Ipv4Net>, NetError>>),
    /// What a device has carried.
    Counters(String, SyncSender<Result<Option<Counters>, NetError>>),
}

struct Bridge {
    index: u32,
    rules: firewall::Bridge,
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
    departed: Vec<Departed>,
    next_sweep: Instant,
    refills: BTreeMap<HexId, Instant>,
    refill_isolated: Option<Instant>,
    idle_at: Option<Instant>,
    waiting_to_settle: Vec<SyncSender<()>>,
}

/// Starts the worker in the network namespace of the calling thread. It ends when the sender is dropped.
pub(crate) fn start(config: NetConfig, book: Arc<Book>) -> Result<Sender<Job>, NetError> {
    let failed = |source| NetError::Namespace { step: "starting the network's thread", source };
    let (jobs, queue) = channel();
    let (ready, started) = sync_channel(1);
    let run = move || {
        let worker = Worker::new(config, book);
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
    fn new(config: NetConfig, book: Arc<Book>) -> Result<Worker, NetError> {
        let home = |source| NetError::Namespace { step: "opening the host's network namespace", source };
        Ok(Worker {
            config,
            book,
            traveller: Traveller::at_home().map_err(home)?,
            route: Socket::route()?,
            bridges: BTreeMap::new(),
            obstacles: Vec::new(),
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
            Job::Unplug(what, answer) => {
                let _ = answer.send(self.unplug(&what));
            }
            Job::Restore(networks, devices, answer) => {
                let _ = answer.send(self.restore(&networks, &devices));
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
            Job::Counters(device, answer) => {
                let _ = answer.send(route::counters(&mut self.route, &device).map_err(NetError::from));
            }
            Job::Obstacles(answer) => {
                let _ = answer.send(self.obstacles.clone());
            }
        }
    }

    fn next_chore(&self) -> Option<Instant> {
        let sweep = (!self.departed.is_empty()).then_some(self.next_sweep);
        let refills = self.refills.values().copied();
        refills.chain(sweep).chain(self.refill_isolated).chain(self.idle_at).min()
    }

    fn do_chores(&mut self) {
        let now = Instant::now();
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
            self.refills.insert(network, Instant::now() + REFILL_DELAY);
            self.idle_at = Some(Instant::now() + IDLE);
        }
    }

    fn order_isolated(&mut self) {
        if self.config.prepared > 0 {
            self.refill_isolated = Some(Instant::now() + REFILL_DELAY);
            self.idle_at = Some(Instant::now() + IDLE);
        }
    }

    /// Takes every ready sandbox apart; their addresses are free when the devices are gone.
    fn take_apart(&mut self) {
        self.idle_at = None;
        self.book.drain_isolated();
        for network in self.book.all() {
            for ready in self.book.drain_ready(&network.id) {
                let Ready { device, address, .. } = ready;
                self.expect_departure(Departure { network: network.id.clone(), device, address });
            }
        }
    }

    fn refill(&mut self, id: &HexId) {
        let wanted = self.book.count_ready(id).is_some_and(|count| count < self.config.prepared);
        // A sandbox that cannot be made now is not missed: the next container makes its own, or tells why it cannot.
        let made = if wanted { self.prepare(id, &Wish { default_route: true, ..Wish::default() }).ok() } else { None };
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
