//! Cleaning up after containers: devices that should be gone, addresses to be had again, networks that are removed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use berth_model::HexId;

use super::make::is_ours;
use super::{Departed, Departure, Worker};
use crate::error::NetError;
use crate::netlink::{Batch, route};
use crate::network::Network;

/// How often devices of ended containers are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// The group of devices that are to be deleted together.
const DOOMED_GROUP: u32 = 0x6265_7274;

impl Worker {
    pub(super) fn expect_departure(&mut self, what: Departure) {
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
                Ok(None) => self.book.give_back(&one.what.network, one.what.address),
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
                book.give_back(&one.what.network, one.what.address);
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

    pub(super) fn unplug(&mut self, what: &Departure) -> Result<(), NetError> {
        self.delete_device(&what.device)?;
        self.book.give_back(&what.network, what.address);
        Ok(())
    }

    /// After a start: bridges and rules of networks with living containers, and nothing of ours that nobody has.
    pub(super) fn restore(&mut self, networks: &[HexId], devices: &HashSet<String>) -> Result<usize, NetError> {
        for id in networks {
            let network = self.book.network(id)?;
            self.bridge(&network)?;
        }
        let ready: HashSet<_> = self.book.ready_devices().into_iter().collect();
        let mut strays = Batch::new();
        for network in self.book.all() {
            let Some(bridge) = route::link_by_name(&mut self.route, &network.bridge_name())? else { continue };
            for port in route::ports_of(&mut self.route, bridge.index)? {
                let departing = self.departed.iter().any(|one| one.what.device == port.name);
                if is_ours(&port.name) && !devices.contains(&port.name) && !ready.contains(&port.name) && !departing {
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
        self.delete_device(&network.bridge_name())
    }
}
