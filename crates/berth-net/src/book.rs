//! What the engine remembers of its networks between two system calls: the records, the addresses, the ready sandboxes.
//!
//! Callers' threads and the worker share one [`Book`]; its lock is held for look-ups only, never during a system call
//! or a write to the store.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::{ContainerId, HexId};

use crate::error::NetError;
use crate::ipam::{Allocator, Refusal};
use crate::mac::MacAddress;
use crate::network::{Network, NetworkInfo, SubnetUsage};

/// How many namespaces without a network wait ready.
pub(crate) const PREPARED_ISOLATED: usize = 2;

/// A sandbox with an endpoint in it that nobody has yet.
///
/// Only its descriptor keeps the namespace alive: when the process dies, the kernel takes everything back.
#[derive(Debug)]
pub(crate) struct Ready {
    pub netns: OwnedFd,
    pub device: String,
    pub interface: String,
    pub address: Ipv4Addr,
    pub mac: MacAddress,
}

#[derive(Debug)]
struct Entry {
    network: Arc<Network>,
    allocator: Option<Allocator>,
    ready: VecDeque<Ready>,
    /// Addresses that wait for a certain container; held in the allocator too.
    reserved: BTreeMap<Ipv4Addr, ContainerId>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<HexId, Entry>,
    isolated: Vec<OwnedFd>,
}

impl Entry {
    fn take(&mut self, address: Ipv4Addr) -> Result<(), NetError> {
        let allocator = self.allocator.as_mut().ok_or_else(|| NetError::NoEndpoints(self.network.name.clone()))?;
        allocator.take(address).map_err(|refusal| match refusal {
            Refusal::Taken => NetError::AddressTaken,
            Refusal::Outside => NetError::AddressOutside(address.into()),
        })
    }

    fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(allocator) = self.allocator.as_mut().filter(|_| !self.reserved.contains_key(&address)) {
            allocator.give_back(address);
        }
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
        let allocator = network.subnets.first().map(|subnet| {
            let aside = subnet.auxiliary.values().copied().chain([subnet.gateway]);
            Allocator::new(subnet.net, subnet.range, aside)
        });
        let entry = Entry { network: Arc::new(network), allocator, ready: VecDeque::new(), reserved: BTreeMap::new() };
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
        let usage = entry.allocator.iter().map(|allocator| {
            let (used, free) = allocator.usage();
            let waiting = entry.ready.len() as u64;
            SubnetUsage { net: allocator.subnet(), in_use: used - waiting, available: free + waiting }
        });
        Ok(NetworkInfo { network: Network::clone(&entry.network), usage: usage.collect() })
    }

    /// Gives the next address of a network, or a certain one to a container: one that is reserved only to its owner.
    pub fn allocate(&self, id: &HexId, wanted: Option<(Ipv4Addr, &ContainerId)>) -> Result<Ipv4Addr, NetError> {
        let mut state = self.lock();
        let entry = state.networks.get_mut(id).ok_or_else(|| NetError::NotFound(id.to_string()))?;
        let Some((address, container)) = wanted else {
            let (allocator, name) = (entry.allocator.as_mut(), &entry.network.name);
            let allocator = allocator.ok_or_else(|| NetError::NoEndpoints(name.clone()))?;
            return allocator.take_next().ok_or_else(|| NetError::NoFreeAddress { name: name.clone(), id: id.clone() });
        };
        if entry.reserved.get(&address) != Some(container) {
            entry.take(address)?;
        }
        Ok(address)
    }

    /// Keeps an address for a container.
    pub fn reserve(&self, id: &HexId, address: Ipv4Addr, container: ContainerId) -> Result<(), NetError> {
        let mut state = self.lock();
        let entry = state.networks.get_mut(id).ok_or_else(|| NetError::NotFound(id.to_string()))?;
        if entry.reserved.get(&address) != Some(&container) {
            entry.take(address)?;
            entry.reserved.insert(address, container);
        }
        Ok(())
    }

    /// Ends the reservations of a container.
    pub fn release(&self, container: &ContainerId) {
        for entry in self.lock().networks.values_mut() {
            let own = |(address, owner): (&Ipv4Addr, &ContainerId)| (owner == container).then_some(*address);
            let addresses: Vec<_> = entry.reserved.iter().filter_map(own).collect();
            for address in addresses {
                entry.reserved.remove(&address);
                entry.give_back(address);
            }
        }
    }

    /// Notes an address that a record holds.
    pub fn note(&self, id: &HexId, address: Ipv4Addr) {
        if let Some(allocator) = self.lock().networks.get_mut(id).and_then(|entry| entry.allocator.as_mut()) {
            allocator.note(address);
        }
    }

    /// Takes an address back; one that is reserved stays so.
    pub fn give_back(&self, id: &HexId, address: Ipv4Addr) {
        if let Some(entry) = self.lock().networks.get_mut(id) {
            entry.give_back(address);
        }
    }

    /// A ready sandbox: the oldest, or the one with a certain address.
    pub fn take_ready(&self, id: &HexId, address: Option<Ipv4Addr>) -> Option<Ready> {
        let mut state = self.lock();
        let ready = &mut state.networks.get_mut(id)?.ready;
        match address {
            None => ready.pop_front(),
            Some(address) => ready.iter().position(|one| one.address == address).and_then(|at| ready.remove(at)),
        }
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single step on a collection, so a thread that panicked left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
