//! Devices on top of other devices: macvlan, ipvlan and VLANs; and dummies for those that have none below. See ip-link(8).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Batch, CREATE, EXCLUSIVE, Message};
use super::route::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
    IFLA_NET_NS_FD, NEW_LINK, link_header,
};
use crate::mac::MacAddress;

/// `IFLA_MACVLAN_MODE`, `IFLA_IPVLAN_MODE`, `IFLA_VLAN_ID`: each the first attribute of its kind.
const FIRST: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// How the devices of one parent exchange frames. See `MACVLAN_MODE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Not at all.
    Private = 1,
    /// By the switch that the parent is connected to.
    Vepa = 2,
    /// Directly.
    Bridge = 4,
    /// There is only one device, which takes the parent over.
    Passthru = 8,
}

/// What an ipvlan device does with packets. See `IPVLAN_MODE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// It switches.
    L2 = 0,
    /// It routes.
    L3 = 1,
    /// It routes, and the host's netfilter sees it.
    L3s = 2,
}

/// How the ipvlan devices of one parent exchange packets. See `IPVLAN_F_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Directly.
    Bridge = 0,
    /// Not at all.
    Private = 1,
    /// By the switch that the parent is connected to.
    Vepa = 2,
}

/// What is made on a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device with a hardware address of its own.
    Macvlan(MacvlanMode),
    /// A device with the parent's hardware address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// A device in a container, on top of one of the host's.
#[derive(Clone, Copy, Debug)]
pub struct Sublink<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number of the host's device.
    pub parent: u32,
    /// Where it is born.
    pub namespace: BorrowedFd<'a>,
    /// Its kind and mode.
    pub kind: Kind,
    /// The longest packet, in bytes; the parent's if absent.
    pub mtu: Option<u32>,
    /// Its hardware address, where it can have one.
    pub mac: Option<MacAddress>,
}

/// Adds: make a device on top of one of the host's, switched off, in its namespace.
pub fn add_sublink(batch: &mut Batch, sublink: &Sublink<'_>) {
    let label = match sublink.kind {
        Kind::Macvlan(_) => "making the macvlan device",
        Kind::Ipvlan(..) => "making the ipvlan device",
    };
    batch.push(label, NEW_LINK, CREATE | EXCLUSIVE, |message| {
        message.header(&link_header(0, 0, 0)).text(IFLA_IFNAME, sublink.name).number(IFLA_LINK, sublink.parent);
        if let Some(mtu) = sublink.mtu {
            message.number(IFLA_MTU, mtu);
        }
        if let Some(mac) = sublink.mac {
            message.attribute(IFLA_ADDRESS, &mac.octets());
        }
        message.attribute(IFLA_NET_NS_FD, &sublink.namespace.as_raw_fd().to_ne_bytes());
        match sublink.kind {
            Kind::Macvlan(mode) => info(message, "macvlan", |data| _ = data.number(FIRST, mode as u32)),
            Kind::Ipvlan(mode, flag) => info(message, "ipvlan", |data| {
                data.attribute(FIRST, &(mode as u16).to_ne_bytes());
                data.attribute(IFLA_IPVLAN_FLAGS, &(flag as u16).to_ne_bytes());
            }),
        }
    });
}

/// Adds: make a VLAN of a device, switched on.
pub fn add_vlan(batch: &mut Batch, name: &str, parent: u32, id: u16) {
    batch.push("making the VLAN device", NEW_LINK, CREATE | EXCLUSIVE, |message| {
        message.header(&link_header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name).number(IFLA_LINK, parent);
        info(message, "vlan", |data| _ = data.attribute(FIRST, &id.to_ne_bytes()));
    });
}

/// Adds: make a device that leads nowhere, switched on.
pub fn add_dummy(batch: &mut Batch, name: &str) {
    batch.push("making the dummy device", NEW_LINK, CREATE | EXCLUSIVE, |message| {
        message.header(&link_header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name);
        message.nest(IFLA_LINKINFO, |info| _ = info.text(IFLA_INFO_KIND, "dummy"));
    });
}

fn info(message: &mut Message<'_>, kind: &str, data: impl FnOnce(&mut Message<'_>)) {
    message.nest(IFLA_LINKINFO, |info| _ = info.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, data));
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkInfo};
    use std::os::fd::AsFd;

    /// What an independent decoder makes of our message: its attributes, as text.
    fn decoded(fill: impl FnOnce(&mut Batch)) -> String {
        let mut batch = Batch::new();
        fill(&mut batch);
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(batch.sealed(1, 0)).unwrap();
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload else {
            panic!("not a link")
        };
        let infos = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let data = infos.unwrap().iter().filter(|info| !matches!(info, LinkInfo::Kind(_)));
        format!("{:?} {:?} {:?}", infos.unwrap()[0], data.collect::<Vec<_>>(), link.attributes)
    }

    #[test]
    fn others_read_our_devices_as_we_mean_them() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let on = |kind| {
            let sublink =
                Sublink { name: "eth0", parent: 7, namespace: null.as_fd(), kind, mtu: Some(1400), mac: None };
            decoded(|batch| add_sublink(batch, &sublink))
        };
        let macvlan = on(Kind::Macvlan(MacvlanMode::Bridge));
        assert!(macvlan.starts_with("Kind(MacVlan) [Data(MacVlan([Mode(Bridge)]))]"), "{macvlan}");
        assert!(macvlan.contains("Link(7)") && macvlan.contains("Mtu(1400)"), "{macvlan}");
        let ipvlan = on(Kind::Ipvlan(IpvlanMode::L3s, IpvlanFlag::Private));
        assert!(ipvlan.starts_with("Kind(IpVlan) [Data(IpVlan([Mode(L3S), Flags("), "{ipvlan}");
        let vlan = decoded(|batch| add_vlan(batch, "eth0.10", 3, 10));
        assert!(vlan.contains("Id(10)") && vlan.contains("Link(3)"), "{vlan}");
        let dummy = decoded(|batch| add_dummy(batch, "dm-1"));
        assert!(dummy.starts_with("Kind(Dummy) []"), "{dummy}");
    }
}
