//! More containers on a network than a bridge has ports.
//!
//! A bridge of the kernel has 1,023 ports, and not all can be used. When one is full, the network is extended: another bridge
//! without an address, joined to the one before by a veth pair, so that they form a row. Frames find their way by themselves; gateway
//! and rules stay with the first bridge, which all traffic to other networks passes. Where containers are kept apart
//! (icc off), the pair is kept apart from the other ports at the bridge before, so that the way through it leads to the
//! gateway only.

use super::make::refused;
use super::{Bridge, Segment, Worker};
use crate::bridge::ignore_announcements;
use crate::error::NetError;
use crate::netlink::route::{self, Link};
use crate::netlink::{Batch, NetlinkError};
use crate::network::Network;

/// A bridge with less room than this is passed over when ports are counted: counting costs milliseconds.
const WORTHWHILE: usize = 50;
/// How many extensions are looked for: enough for some 20,000 containers.
const EXTENSIONS: usize = 50;

/// How many neighbours the kernel should remember when a network has more containers than a bridge has ports.
const NEIGHBOURS: u32 = 65_536;

/// What an extension is called: the bridge, the trunk's end at the first bridge, and its end here.
struct Names {
    bridge: String,
    near: String,
    far: String,
}

impl Names {
    fn of(network: &Network, number: usize) -> Names {
        let id = &network.id.as_str()[..8];
        let name = |letter| format!("b{letter}{id}-{number}");
        Names { bridge: name('x'), near: name('t'), far: name('u') }
    }
}

/// The names of the first so many bridges that a network is extended by.
pub(super) fn extensions(network: &Network, count: usize) -> Vec<String> {
    (1..=count).map(|number| Names::of(network, number).bridge).collect()
}

impl Bridge {
    /// Notes that a port was added where there was room.
    pub(super) fn note_port(&mut self, most: usize) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.ports < most) {
            segment.ports += 1;
        }
    }
}

impl Worker {
    /// The number of a bridge of the network that has a port to spare.
    pub(super) fn segment_with_room(&mut self, network: &Network) -> Result<u32, NetError> {
        self.bridge(network)?;
        if let Some(index) = self.counted_room(network, 1) {
            return Ok(index);
        }
        self.count_ports(network)?;
        if let Some(index) = self.counted_room(network, self.worthwhile()) {
            return Ok(index);
        }
        self.extend(network)
    }

    /// A bridge that has so much room as far as we know; the first has to be the one that [`Bridge::note_port`] means.
    fn counted_room(&self, network: &Network, room: usize) -> Option<u32> {
        let segments = &self.bridges.get(&network.id)?.segments;
        segments.iter().find(|segment| segment.ports + room <= self.config.bridge_ports).map(|segment| segment.index)
    }

    fn worthwhile(&self) -> usize {
        WORTHWHILE.min(self.config.bridge_ports / 2)
    }

    fn count_ports(&mut self, network: &Network) -> Result<(), NetError> {
        let (most, worthwhile) = (self.config.bridge_ports, self.worthwhile());
        let Some(bridge) = self.bridges.get_mut(&network.id) else { return Ok(()) };
        for segment in &mut bridge.segments {
            let ports = route::ports_of(&mut self.route, segment.index)?.len();
            // What is not worth while counts as full, so that the next port is looked for elsewhere at once.
            segment.ports = if ports + worthwhile > most { most } else { ports };
        }
        Ok(())
    }

    /// Adds a bridge to a network.
    fn extend(&mut self, network: &Network) -> Result<u32, NetError> {
        let main = self.bridge(network)?;
        let segments = self.bridges.get(&network.id).map(|bridge| bridge.segments.as_slice()).unwrap_or_default();
        let (number, before) = (segments.len(), segments.last().map_or(main, |segment| segment.index));
        let names = Names::of(network, number);
        make_room_for_neighbours();
        let outcome = self.build(network, before, &names);
        if outcome.is_err() {
            // The refusal is what matters; what was made of it is found when the network is removed.
            let _ = self.delete_device(&names.near).and_then(|()| self.delete_device(&names.bridge));
        }
        let index = outcome?;
        if let Some(bridge) = self.bridges.get_mut(&network.id) {
            bridge.segments.push(Segment { index, ports: 1 });
            bridge.rules.extensions.push(names.bridge);
        }
        // Before anything passes it: what is bridged there must not be taken for traffic that leaves the network.
        self.enforce()?;
        Ok(index)
    }

    fn build(&mut self, network: &Network, before: u32, names: &Names) -> Result<u32, NetError> {
        let refused = |source| refused(network, source);
        let mut batch = Batch::new();
        let random = crate::mac::MacAddress::local(crate::random());
        route::add_bridge(&mut batch, &names.bridge, random, network.mtu());
        route::add_trunk(&mut batch, &names.near, before, &names.far, network.mtu());
        self.route.run(batch).map_err(refused)?;
        ignore_announcements(&names.bridge)?;
        let find = |worker: &mut Worker, name: &str| {
            let missing = || NetlinkError::Refused {
                step: "looking for a new bridge",
                detail: None,
                source: rustix::io::Errno::NODEV.into(),
            };
            let found = route::link_by_name(&mut worker.route, name).and_then(|link| link.ok_or_else(missing));
            found.map(|link| link.index).map_err(refused)
        };
        let (bridge, near, far) = (find(self, &names.bridge)?, find(self, &names.near)?, find(self, &names.far)?);
        let mut batch = Batch::new();
        route::set_master(&mut batch, far, bridge);
        if !network.connects_containers() {
            route::set_isolated(&mut batch, near);
        }
        self.route.run(batch).map_err(refused)?;
        Ok(bridge)
    }

    /// The bridges of a network that are there: the first, and those that an earlier engine extended it by.
    pub(super) fn find_segments(&mut self, network: &Network, main: u32) -> Result<Vec<Segment>, NetError> {
        let mut segments = vec![Segment { index: main, ports: route::ports_of(&mut self.route, main)?.len() }];
        for number in 1..=EXTENSIONS {
            let names = Names::of(network, number);
            let Some(link) = route::link_by_name(&mut self.route, &names.bridge)? else { break };
            let before = segments.last().map_or(main, |segment: &Segment| segment.index);
            // Without its trunk, as after somebody deleted the first bridge, it is joined again.
            if route::link_by_name(&mut self.route, &names.near)?.is_none_or(|near| near.master != Some(before)) {
                self.delete_device(&names.near)?;
                self.rejoin(network, before, &names, link.index).map_err(|source| refused(network, source))?;
            }
            segments.push(Segment { index: link.index, ports: route::ports_of(&mut self.route, link.index)?.len() });
        }
        Ok(segments)
    }

    fn rejoin(&mut self, network: &Network, main: u32, names: &Names, bridge: u32) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        route::add_trunk(&mut batch, &names.near, main, &names.far, network.mtu());
        self.route.run(batch)?;
        let mut batch = Batch::new();
        if let Some(far) = route::link_by_name(&mut self.route, &names.far)? {
            route::set_master(&mut batch, far.index, bridge);
        }
        if let Some(near) =
            route::link_by_name(&mut self.route, &names.near)?.filter(|_| !network.connects_containers())
        {
            route::set_isolated(&mut batch, near.index);
        }
        self.route.run(batch)
    }

    /// The ports of all bridges of a network.
    pub(super) fn ports_of(&mut self, network: &Network) -> Result<Vec<Link>, NetError> {
        let names = (1..=EXTENSIONS).map(|number| Names::of(network, number).bridge);
        let mut ports = Vec::new();
        for (number, name) in [network.bridge_name()].into_iter().chain(names).enumerate() {
            match route::link_by_name(&mut self.route, &name)? {
                Some(bridge) => ports.extend(route::ports_of(&mut self.route, bridge.index)?),
                // The first may have been deleted by somebody, its extensions not.
                None if number == 0 => {}
                None => break,
            }
        }
        Ok(ports)
    }

    /// Deletes the extensions of a network.
    pub(super) fn delete_segments(&mut self, network: &Network) -> Result<(), NetError> {
        for number in 1..=EXTENSIONS {
            let names = Names::of(network, number);
            if route::link_by_name(&mut self.route, &names.bridge)?.is_none() {
                break;
            }
            self.delete_device(&names.near)?;
            self.delete_device(&names.bridge)?;
        }
        Ok(())
    }
}

/// Lets the kernel remember as many neighbours as there will be: it keeps 1,024 of a family for all namespaces together, and containers
/// that talk to many others would no longer find them. Only ever raised, and only there in the host's own namespace.
fn make_room_for_neighbours() {
    for (setting, wanted) in [("gc_thresh3", NEIGHBOURS), ("gc_thresh2", NEIGHBOURS / 2)] {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/default/{setting}");
            let now = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
            if now.is_some_and(|now| now < wanted) {
                // A host on which this is read-only works all the same, until it is busy.
                let _ = crate::sandbox::write_setting(&path, &wanted.to_string());
            }
        }
    }
}
