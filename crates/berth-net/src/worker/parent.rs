//! The host's device under a macvlan or ipvlan network: one that is there, a VLAN of one, or a dummy that leads nowhere.

use super::Worker;
use super::make::refused;
use crate::error::NetError;
use crate::netlink::sublink::{self, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::netlink::{Batch, NetlinkError, route};
use crate::network::{Driver, Network};
use crate::options::{OPTION_IPVLAN_FLAG, OPTION_IPVLAN_MODE, OPTION_MACVLAN_MODE, OPTION_PARENT};

/// The highest number of a VLAN (IEEE 802.1Q); 4095 is set aside.
const LAST_VLAN: u16 = 4094;

/// The device under a network.
pub(super) struct Parent {
    pub index: u32,
    /// What is made on top of it.
    pub kind: Kind,
    /// Whether it was made just now.
    pub made: bool,
}

impl Worker {
    /// Finds the parent of a network, or makes it where it is ours to make.
    pub(super) fn parent(&mut self, network: &Network) -> Result<Parent, NetError> {
        let (name, kind) = (parent_name(network), kind_of(network));
        let found = route::link_by_name(&mut self.route, &name)?;
        if let Some(link) = found {
            return Ok(Parent { index: link.index, kind, made: false });
        }
        let mut batch = Batch::new();
        if network.options.contains_key(OPTION_PARENT) {
            let (below, id) = vlan_of(&name).ok_or_else(|| NetError::NoParent(name.clone()))?;
            let below =
                route::link_by_name(&mut self.route, below)?.ok_or_else(|| NetError::NoParent(below.to_owned()))?;
            sublink::add_vlan(&mut batch, &name, below.index, id);
        } else {
            sublink::add_dummy(&mut batch, &name);
        }
        self.route.run(batch).map_err(|source| unsupported(network, source))?;
        let link = route::link_by_name(&mut self.route, &name)?.ok_or(NetError::NoParent(name))?;
        Ok(Parent { index: link.index, kind, made: true })
    }
}

/// The name of the device under a network.
pub(crate) fn parent_name(network: &Network) -> String {
    network.options.get(OPTION_PARENT).cloned().unwrap_or_else(|| format!("dm-{}", network.id.short()))
}

/// `eth0.10` is VLAN 10 of eth0.
fn vlan_of(name: &str) -> Option<(&str, u16)> {
    let (below, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=LAST_VLAN).contains(id))?;
    (!below.is_empty()).then_some((below, id))
}

fn kind_of(network: &Network) -> Kind {
    let word = |option: &str| network.options.get(option).map(String::as_str);
    if network.driver == Driver::Macvlan {
        return Kind::Macvlan(match word(OPTION_MACVLAN_MODE) {
            Some("private") => MacvlanMode::Private,
            Some("vepa") => MacvlanMode::Vepa,
            Some("passthru") => MacvlanMode::Passthru,
            _ => MacvlanMode::Bridge,
        });
    }
    let mode = match word(OPTION_IPVLAN_MODE) {
        Some("l3") => IpvlanMode::L3,
        Some("l3s") => IpvlanMode::L3s,
        _ => IpvlanMode::L2,
    };
    let flag = match word(OPTION_IPVLAN_FLAG) {
        Some("private") => IpvlanFlag::Private,
        Some("vepa") => IpvlanFlag::Vepa,
        _ => IpvlanFlag::Bridge,
    };
    Kind::Ipvlan(mode, flag)
}

/// A refusal of the kernel, told as what it lacks where that is the reason.
pub(super) fn unsupported(network: &Network, source: NetlinkError) -> NetError {
    let NetlinkError::Refused { step, .. } = &source else { return refused(network, source) };
    let module = match *step {
        "making the VLAN device" => "8021q",
        "making the dummy device" => "dummy",
        "making the macvlan device" => "macvlan",
        "making the ipvlan device" => "ipvlan",
        "making the veth pair" => "veth",
        "making the bridge" => "bridge",
        _ => return refused(network, source),
    };
    if source.errno() == Some(rustix::io::Errno::OPNOTSUPP) {
        return NetError::Unsupported { step, network: network.name.clone(), module };
    }
    refused(network, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_is_named_by_its_parent_and_number() {
        assert_eq!(vlan_of("eth0.10"), Some(("eth0", 10)));
        assert_eq!(vlan_of("bond0.5.4094"), Some(("bond0.5", 4094)));
        for no in ["eth0", "eth0.", ".10", "eth0.0", "eth0.4095", "eth0.x"] {
            assert_eq!(vlan_of(no), None, "{no}");
        }
    }
}
