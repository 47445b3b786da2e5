//! What the engine remembers of its networks between two system calls: the records, the addresses, the ready sandboxes.
//!
//! Callers' threads and the worker share one [`Book`]; its lock is held for look-ups only, never during a system call
//! or a write to the store.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::{ContainerId, HexId};

use crate::error::NetError;
use crate::ipam::{Allocator, Refusal};
use crate::mac::MacAddress;
use crate::network::{Network, NetworkInfo, Subnet, SubnetUsage};
use crate::worker::Wish;

/// How many namespaces without a network wait ready.
pub(crate) const PREPARED_ISOLATED: usize = 2;
/// How many namespaces of running containers are remembered: descriptors are few, and what runs for long is not worth one.
const LENT: usize = 16;

/// A sandbox with an endpoint in it that nobody has yet.
///
/// Only its descriptor keeps the namespace alive: when the process dies, the kernel takes everything back.
#[derive(Debug)]
pub(crate) struct Ready {
    pub netns: OwnedFd,
    pub device: String,
    pub interface: String,
    pub given: Given,
    pub mac: Option<MacAddress>,
}

/// Addresses that were given to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl Given {
    /// Each address, IPv4 first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    fn set(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.ipv4 = Some(address),
            IpAddr::V6(address) => self.ipv6 = Some(address),
        }
    }
}

#[derive(Debug)]
struct Entry {
    network: Arc<Network>,
    /// One for each subnet, in their order.
    allocators: Vec<Allocator>,
    ready: VecDeque<Ready>,
    /// Addresses that wait for a container.
    reserved: BTreeMap<IpAddr, ContainerId>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<HexId, Entry>,
    isolated: Vec<OwnedFd>,
    /// Namespaces that containers have and cannot change, the oldest first.
    lent: VecDeque<(ContainerId, OwnedFd)>,
}

impl Entry {
    /// Gives a certain address.
    fn take(&mut self, address: IpAddr) -> Result<(), NetError> {
        let allocator = self.allocators.iter_mut().find(|allocator| allocator.subnet().contains(&address));
        let allocator = allocator.ok_or(NetError::AddressOutside(address))?;
        allocator.take(address).map_err(|refusal| match refusal {
            Refusal::Taken => NetError::AddressTaken,
            Refusal::Outside => NetError::AddressOutside(address),
        })
    }

    /// Gives the next address of a family, from the first subnet that has one.
    fn take_next(&mut self, ipv6: bool) -> Result<IpAddr, NetError> {
        let own = self.allocators.iter_mut().filter(|allocator| allocator.subnet().addr().is_ipv6() == ipv6);
        own.map(Allocator::take_next).find_map(|address| address).ok_or_else(|| NetError::NoFreeAddress {
            family: if ipv6 { "IPv6" } else { "IPv4" },
            name: self.network.name.clone(),
            id: self.network.id.clone(),
        })
    }

    fn give_back(&mut self, address: IpAddr) {
        for allocator in &mut self.allocators {
            if allocator.subnet().contains(&address) {
                allocator.give_back(address);
            }
        }
    }

    fn reserve(&mut self, address: IpAddr, whether: bool) {
        for allocator in &mut self.allocators {
            if allocator.subnet().contains(&address) {
                allocator.reserve(address, whether);
            }
        }
    }

    /// Fills what is still missing: what is preferred if that can be had, else the next.
    fn complete(&mut self, preferred: &[IpAddr], given: &mut Given) -> Result<(), NetError> {
        for (wanted, ipv6) in [(self.network.ipv4, false), (self.network.ipv6, true)] {
            let have = if ipv6 { given.ipv6.is_some() } else { given.ipv4.is_some() };
            if !wanted || have {
                continue;
            }
            let old = preferred.iter().copied().find(|address| address.is_ipv6() == ipv6);
            let old = old.filter(|address| self.take(*address).is_ok());
            given.set(old.map_or_else(|| self.take_next(ipv6), Ok)?);
        }
        Ok(())
    }
}

/// The shared memory of the network.
#[derive(Debug, Default)]
pub(crate) struct Book {
    state: Mutex<State>,
}

impl Book {
    /// Notes a network, and forgets what was known of its addresses.
    pub fn enter(&self, network: Network) {
        let allocator = |subnet: &Subnet| {
            let aside = subnet.auxiliary.values().copied().chain(subnet.gateway);
            Allocator::new(subnet.net, subnet.range, aside)
        };
        let allocators = if network.config_only { Vec::new() } else { network.subnets.iter().map(allocator).collect() };
        let entry = Entry { network: Arc::new(network), allocators, ready: VecDeque::new(), reserved: BTreeMap::new() };
        self.lock().networks.insert(entry.network.id.clone(), entry);
    }

    /// Forgets a network; its ready sandboxes go.
    pub fn erase(&self, id: &HexId) {
        let removed = self.lock().networks.remove(id);
        drop(removed);
    }

    /// The network of a full id.
    pub fn network(&self, id: &HexId) -> Result<Arc<Network>, NetError> {
        let state = self.lock();
        state.networks.get(id).map(|entry| Arc::clone(&entry.network)).ok_or_else(|| NetError::NotFound(id.to_string()))
    }

    /// The network of an id, a name, or the beginning of an id, looked for in this order.
    pub fn find(&self, wanted: &str) -> Result<Arc<Network>, NetError> {
        let state = self.lock();
        let mut by_prefix = Vec::new();
        for entry in state.networks.values() {
            if entry.network.id.as_str() == wanted || entry.network.name == wanted {
                return Ok(Arc::clone(&entry.network));
            }
            if !wanted.is_empty() && entry.network.id.as_str().starts_with(wanted) {
                by_prefix.push(&entry.network);
            }
        }
        match by_prefix.as_slice() {
            [] => Err(NetError::NotFound(wanted.to_owned())),
            [only] => Ok(Arc::clone(only)),
            several => Err(NetError::Ambiguous(wanted.to_owned(), several.len())),
        }
    }

    /// Every network, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<_> = self.lock().networks.values().map(|entry| Arc::clone(&entry.network)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// A network with the use of its addresses. Those that wait in ready sandboxes count as free.
    pub fn info(&self, id: &HexId) -> Result<NetworkInfo, NetError> {
        let state = self.lock();
        let entry = state.networks.get(id).ok_or_else(|| NetError::NotFound(id.to_string()))?;
        let usage = entry.allocators.iter().map(|allocator| {
            let (used, free) = allocator.usage();
            let waiting = entry.ready.iter().flat_map(|ready| ready.given.addresses());
            let waiting = waiting.filter(|address| allocator.subnet().contains(address)).count() as u64;
            SubnetUsage {
                net: allocator.subnet(),
                in_use: used.saturating_sub(waiting),
                available: free.saturating_add(waiting),
            }
        });
        Ok(NetworkInfo { network: Network::clone(&entry.network), usage: usage.collect() })
    }

    /// Gives addresses of a network: certain ones where they are wished for, the next ones otherwise. All or none.
    pub fn allocate(&self, id: &HexId, wish: &Wish) -> Result<Given, NetError> {
        let mut state = self.lock();
        let entry = state.networks.get_mut(id).ok_or_else(|| NetError::NotFound(id.to_string()))?;
        let mut given = Given::default();
        let certain = wish.ipv4.map(IpAddr::V4).into_iter().chain(wish.ipv6.map(IpAddr::V6));
        let take = || {
            for address in certain {
                entry.take(address)?;
                given.set(address);
            }
            entry.complete(&wish.preferred, &mut given)
        };
        let outcome = take();
        if let Err(error) = outcome {
            given.addresses().for_each(|address| entry.give_back(address));
            return Err(error);
        }
        Ok(given)
    }

    /// Has an address wait for a container. The first who asks is noted; nobody is refused.
    pub fn reserve(&self, id: &HexId, address: IpAddr, container: ContainerId) -> Result<(), NetError> {
        let mut state = self.lock();
        let entry = state.networks.get_mut(id).ok_or_else(|| NetError::NotFound(id.to_string()))?;
        entry.reserve(address, true);
        entry.reserved.entry(address).or_insert(container);
        Ok(())
    }

    /// Ends the reservations of a container, on one network or on all.
    pub fn release(&self, container: &ContainerId, only: Option<&HexId>) {
        for (_, entry) in self.lock().networks.iter_mut().filter(|(id, _)| only.is_none_or(|only| only == *id)) {
            let own = |(address, owner): (&IpAddr, &ContainerId)| (owner == container).then_some(*address);
            let addresses: Vec<_> = entry.reserved.iter().filter_map(own).collect();
            for address in addresses {
                entry.reserved.remove(&address);
                entry.reserve(address, false);
            }
        }
    }

    /// Notes addresses that a record holds.
    pub fn note(&self, id: &HexId, addresses: impl Iterator<Item = IpAddr>) {
        let mut state = self.lock();
        let Some(entry) = state.networks.get_mut(id) else { return };
        for address in addresses {
            let own = entry.allocators.iter_mut().filter(|allocator| allocator.subnet().contains(&address));
            own.for_each(|allocator| allocator.note(address));
        }
    }

    /// Takes addresses back.
    pub fn give_back(&self, id: &HexId, addresses: impl Iterator<Item = IpAddr>) {
        if let Some(entry) = self.lock().networks.get_mut(id) {
            addresses.for_each(|address| entry.give_back(address));
        }
    }

    /// The oldest ready sandbox that fits.
    pub fn take_ready(&self, id: &HexId, fits: impl Fn(&Ready) -> bool) -> Option<Ready> {
        let mut state = self.lock();
        let ready = &mut state.networks.get_mut(id)?.ready;
        ready.iter().position(fits).and_then(|at| ready.remove(at))
    }

    /// Every ready sandbox of a network.
    pub fn drain_ready(&self, id: &HexId) -> Vec<Ready> {
        self.lock().networks.get_mut(id).map(|entry| entry.ready.drain(..).collect()).unwrap_or_default()
    }

    /// Puts a sandbox where the next container finds it. Gives it back if the network is gone.
    pub fn put_ready(&self, id: &HexId, ready: Ready) -> Option<Ready> {
        match self.lock().networks.get_mut(id) {
            Some(entry) => {
                entry.ready.push_back(ready);
                None
            }
            None => Some(ready),
        }
    }

    /// Whether one of these addresses is in a sandbox that waits.
    pub fn has_ready_with(&self, id: &HexId, mut addresses: impl Iterator<Item = IpAddr>) -> bool {
        let state = self.lock();
        let Some(entry) = state.networks.get(id) else { return false };
        addresses.any(|address| entry.ready.iter().any(|ready| ready.given.addresses().any(|one| one == address)))
    }

    /// How many sandboxes of a network wait; `None` if the network is gone.
    pub fn count_ready(&self, id: &HexId) -> Option<usize> {
        self.lock().networks.get(id).map(|entry| entry.ready.len())
    }

    /// The devices of all ready sandboxes.
    pub fn ready_devices(&self) -> Vec<String> {
        let state = self.lock();
        state.networks.values().flat_map(|entry| entry.ready.iter().map(|ready| ready.device.clone())).collect()
    }

    /// A ready namespace without a network.
    pub fn take_isolated(&self) -> Option<OwnedFd> {
        self.lock().isolated.pop()
    }

    /// Keeps a namespace without a network for the next container that wants one.
    pub fn put_isolated(&self, netns: OwnedFd) {
        self.lock().isolated.push(netns);
    }

    /// Closes every namespace without a network that waits.
    pub fn drain_isolated(&self) {
        let waiting = std::mem::take(&mut self.lock().isolated);
        // Closed after the lock was released.
        drop(waiting);
    }

    /// How many namespaces without a network wait.
    pub fn count_isolated(&self) -> usize {
        self.lock().isolated.len()
    }

    /// Remembers a namespace that a container has and cannot change. The one remembered longest may be forgotten for it.
    pub fn lend(&self, container: ContainerId, netns: OwnedFd) {
        // What an earlier run of the container had is no longer its.
        drop(self.recall(&container));
        let mut state = self.lock();
        state.lent.push_back((container, netns));
        let forgotten = if state.lent.len() > LENT { state.lent.pop_front() } else { None };
        drop(state);
        // Closed after the lock was released.
        drop(forgotten);
    }

    /// The namespace that was lent to a container, and no longer is.
    pub fn recall(&self, container: &ContainerId) -> Option<OwnedFd> {
        let lent = &mut self.lock().lent;
        let at = lent.iter().position(|(owner, _)| owner == container)?;
        lent.remove(at).map(|(_, netns)| netns)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single step on a collection, so a thread that panicked left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
