//! Cleaning up after containers: devices that should be gone, addresses to be had again, networks that are removed.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use berth_model::HexId;

use super::make::is_ours;
use super::parent::parent_name;
use super::{Departed, Departure, Worker};
use crate::error::NetError;
use crate::netlink::{Batch, route};
use crate::network::{Driver, Network};
use crate::sandbox::Sandbox;

/// How often devices of ended containers are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// The group of devices that are to be deleted together.
const DOOMED_GROUP: u32 = 0x6265_7274;

impl Worker {
    pub(super) fn expect_departure(&mut self, what: Departure) {
        if what.device.is_empty() {
            // Nothing on the host shows when it goes; it is on its way with its namespace.
            return self.book.give_back(&what.network, what.given.addresses());
        }
        if self.departed.is_empty() {
            self.next_sweep = Instant::now() + SWEEP_INTERVAL;
        }
        self.departed.push(Departed { what, since: Instant::now() });
    }

    /// Frees the addresses whose devices are gone, and deletes the devices that outstayed `grace`.
    pub(super) fn sweep(&mut self, grace: Duration) {
        let mut overdue = Batch::new();
        let mut staying = Vec::new();
        for one in std::mem::take(&mut self.departed) {
            match route::link_by_name(&mut self.route, &one.what.device) {
                Ok(None) => self.book.give_back(&one.what.network, one.what.given.addresses()),
                Ok(Some(link)) => {
                    if one.since.elapsed() >= grace {
                        route::set_group(&mut overdue, link.index, DOOMED_GROUP);
                    }
                    staying.push(one);
                }
                Err(_) => staying.push(one),
            }
        }
        self.departed = staying;
        self.next_sweep = Instant::now() + SWEEP_INTERVAL;
        if !overdue.is_empty() {
            // Those that vanish between the two messages are no loss; the next sweep sees what is left.
            let _ = self.route.run(overdue);
            let _ = self.delete_doomed();
            if grace.is_zero() {
                return self.sweep_gone();
            }
        }
        self.settle();
    }

    /// Frees the addresses whose devices are gone, and nothing else.
    fn sweep_gone(&mut self) {
        let (book, route) = (&self.book, &mut self.route);
        self.departed.retain(|one| {
            let gone = matches!(route::link_by_name(route, &one.what.device), Ok(None));
            if gone {
                book.give_back(&one.what.network, one.what.given.addresses());
            }
            !gone
        });
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        if self.departed.is_empty() {
            for answer in self.waiting_to_settle.drain(..) {
                let _ = answer.send(());
            }
        }
    }

    fn delete_doomed(&mut self) -> Result<(), NetError> {
        let mut batch = Batch::new();
        route::delete_group(&mut batch, DOOMED_GROUP);
        match self.route.run(batch) {
            // An empty group: all of them went by themselves.
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    pub(super) fn delete_device(&mut self, name: &str) -> Result<(), NetError> {
        let Some(link) = route::link_by_name(&mut self.route, name)? else { return Ok(()) };
        let mut batch = Batch::new();
        route::delete_link(&mut batch, link.index);
        match self.route.run(batch) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    pub(super) fn unplug(&mut self, what: &Departure, netns: OwnedFd) -> Result<(), NetError> {
        if what.device.is_empty() {
            Sandbox::open(&self.traveller, netns)?.unplug(&what.interface)?;
        } else {
            self.delete_device(&what.device)?;
        }
        self.book.give_back(&what.network, what.given.addresses());
        Ok(())
    }

    /// After a start: bridges and rules of networks with living containers, and nothing of ours that nobody has.
    pub(super) fn restore(&mut self, networks: &[HexId], devices: &HashSet<String>) -> Result<usize, NetError> {
        for id in networks {
            let network = self.book.network(id)?;
            self.ensure(&network)?;
        }
        let ready: HashSet<_> = self.book.ready_devices().into_iter().collect();
        let mut strays = Batch::new();
        let departing: HashSet<_> = self.departed.iter().map(|one| one.what.device.clone()).collect();
        for network in self.book.all().iter().filter(|network| network.driver == Driver::Bridge) {
            for port in self.ports_of(network)? {
                let known = [devices, &ready, &departing].into_iter().any(|set| set.contains(&port.name));
                if is_ours(&port.name) && !known {
                    route::set_group(&mut strays, port.index, DOOMED_GROUP);
                }
            }
        }
        let count = strays.len();
        if count > 0 {
            // One that vanished meanwhile is refused alone; the others are marked all the same.
            let _ = self.route.run(strays);
            self.delete_doomed()?;
        }
        Ok(count)
    }

    pub(super) fn retire(&mut self, network: &Network) -> Result<(), NetError> {
        self.refills.remove(&network.id);
        drop(self.book.drain_ready(&network.id));
        self.departed.retain(|one| one.what.network != network.id);
        self.settle();
        if self.bridges.remove(&network.id).is_some() {
            self.enforce()?;
        }
        match network.driver {
            Driver::Bridge => {
                self.delete_segments(network)?;
                self.delete_device(&network.bridge_name())
            }
            Driver::Macvlan | Driver::Ipvlan if network.owns_parent => self.delete_device(&parent_name(network)),
            _ => Ok(()),
        }
    }
}
