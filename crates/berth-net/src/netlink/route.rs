//! Links, addresses and routes: the requests of rtnetlink(7) that the engine makes, and what it reads of the answers.
//!
//! The functions that change something add a message to a [`Batch`]; whoever sends the batch decides what goes together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;

use super::message::{Answer, Attributes, Batch, CREATE, EXCLUSIVE, Message, REPLACE, u32_at};
use super::socket::{NetlinkError, Socket};
use crate::mac::MacAddress;

pub(super) const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

/// `struct ifinfomsg`, `struct ifaddrmsg`, `struct rtmsg`: the fixed headers.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
/// Leaves the counters out of a list of links: most of its bytes.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// The address is used at once: addresses come from records, so nobody on the link can have it.
const IFA_F_NODAD: u32 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// A route that needs no gateway: everybody is a neighbour.
const RT_SCOPE_LINK: u8 = 253;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;
pub(super) const IFF_UP: u32 = 1;

/// A network device as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is, such as `bridge` or `veth`; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// The longest packet, in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// The group it was put into; 0 if into none.
    pub group: u32,
    /// The number of the device it lies on top of, where that one is in another namespace.
    pub below_elsewhere: Option<u32>,
}

/// What a device has carried since it was made, as it sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received: packets, bytes, errors, dropped.
    pub received: [u64; 4],
    /// Sent: packets, bytes, errors, dropped.
    pub sent: [u64; 4],
}

/// A pair of devices joined like the ends of a cable. See veth(4).
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// The name of the end that stays here.
    pub name: &'a str,
    /// The bridge that this end becomes a port of.
    pub bridge: u32,
    /// The name of the other end.
    pub peer: &'a str,
    /// Where the other end is born.
    pub namespace: BorrowedFd<'a>,
    /// The longest packet on both ends, in bytes.
    pub mtu: u32,
}

/// Adds: make a bridge and switch it on.
pub fn add_bridge(batch: &mut Batch, name: &str, mac: MacAddress, mtu: u32) {
    batch.push("making the bridge", NEW_LINK, CREATE | EXCLUSIVE, |message| {
        // With an address of its own a bridge does not take over that of its lowest port, which would change as
        // containers come and go and leave everybody's neighbour tables wrong.
        message.header(&link_header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name).number(IFLA_MTU, mtu);
        message.attribute(IFLA_ADDRESS, &mac.octets());
        message.nest(IFLA_LINKINFO, |info| _ = info.text(IFLA_INFO_KIND, "bridge"));
    });
}

/// Adds: make a veth pair, this end switched on and in its bridge, the other in its namespace, switched off.
pub fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    batch.push("making the veth pair", NEW_LINK, CREATE | EXCLUSIVE, |message| {
        message.header(&link_header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, veth.name);
        message.number(IFLA_MTU, veth.mtu).number(IFLA_MASTER, veth.bridge);
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.header(&link_header(0, 0, 0)).text(IFLA_IFNAME, veth.peer).number(IFLA_MTU, veth.mtu);
                    peer.attribute(IFLA_NET_NS_FD, &veth.namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
    });
}

/// Adds: make a veth pair of which both ends stay here, this one as a port of a bridge and switched on, the other free.
pub fn add_trunk(batch: &mut Batch, name: &str, bridge: u32, peer_name: &str, mtu: u32) {
    batch.push("joining two bridges", NEW_LINK, CREATE | EXCLUSIVE, |message| {
        message.header(&link_header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name);
        message.number(IFLA_MTU, mtu).number(IFLA_MASTER, bridge);
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.header(&link_header(0, 0, 0)).text(IFLA_IFNAME, peer_name).number(IFLA_MTU, mtu);
                });
            });
        });
    });
}

/// Adds: make a device a port of a bridge.
pub fn set_master(batch: &mut Batch, index: u32, bridge: u32) {
    batch.push("joining a device to the bridge", SET_LINK, 0, |message| {
        message.header(&link_header(index, IFF_UP, IFF_UP)).number(IFLA_MASTER, bridge);
    });
}

/// Adds: switch a device on.
pub fn set_up(batch: &mut Batch, label: &'static str, index: u32) {
    batch.push(label, SET_LINK, 0, |message| _ = message.header(&link_header(index, IFF_UP, IFF_UP)));
}

/// Adds: give a device a hardware address.
pub fn set_mac(batch: &mut Batch, index: u32, mac: MacAddress) {
    batch.push("setting the hardware address", SET_LINK, 0, |message| {
        message.header(&link_header(index, 0, 0)).attribute(IFLA_ADDRESS, &mac.octets());
    });
}

/// Adds: let a bridge port exchange frames with the bridge itself only, not with other isolated ports.
pub fn set_isolated(batch: &mut Batch, index: u32) {
    batch.push("isolating the bridge port", SET_LINK, 0, |message| {
        let mut header = link_header(index, 0, 0);
        header[0] = AF_BRIDGE;
        message.header(&header).nest(IFLA_PROTINFO, |port| _ = port.attribute(IFLA_BRPORT_ISOLATED, &[1]));
    });
}

/// Lets a bridge send a frame back by the port it came from.
pub fn set_hairpin(batch: &mut Batch, index: u32) {
    batch.push("letting a bridge port send back", SET_LINK, 0, |message| {
        let mut header = link_header(index, 0, 0);
        header[0] = AF_BRIDGE;
        message.header(&header).nest(IFLA_PROTINFO, |port| _ = port.attribute(IFLA_BRPORT_MODE, &[1]));
    });
}

/// Adds: put a device into a group, so that it can be deleted with all of that group.
pub fn set_group(batch: &mut Batch, index: u32, group: u32) {
    batch.push("marking a device for deletion", SET_LINK, 0, |message| {
        message.header(&link_header(index, 0, 0)).number(IFLA_GROUP, group);
    });
}

/// Adds: delete a device.
pub fn delete_link(batch: &mut Batch, index: u32) {
    batch.push("deleting a device", DELETE_LINK, 0, |message| _ = message.header(&link_header(index, 0, 0)));
}

/// Adds: delete every device of a group: one grace period for all, where each alone would wait for its own.
pub fn delete_group(batch: &mut Batch, group: u32) {
    batch.push("deleting devices", DELETE_LINK, 0, |message| {
        message.header(&link_header(0, 0, 0)).number(IFLA_GROUP, group);
    });
}

/// Adds: give a device an address.
pub fn add_address(batch: &mut Batch, index: u32, address: IpNet) {
    batch.push("adding the address", NEW_ADDRESS, CREATE | REPLACE, |message| {
        write_address(message, index, address);
        match address {
            IpNet::V4(address) => _ = message.attribute(IFA_BROADCAST, &address.broadcast().octets()),
            IpNet::V6(_) => _ = message.number(IFA_FLAGS, IFA_F_NODAD),
        }
    });
}

/// Adds: take an address from a device.
pub fn delete_address(batch: &mut Batch, index: u32, address: IpNet) {
    batch.push("removing the address", DELETE_ADDRESS, 0, |message| write_address(message, index, address));
}

fn write_address(message: &mut Message<'_>, index: u32, address: IpNet) {
    let mut header = [family_of(address.addr()), address.prefix_len(), 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    message.header(&header);
    match address.addr() {
        IpAddr::V4(own) => _ = message.attribute(IFA_LOCAL, &own.octets()).attribute(IFA_ADDRESS, &own.octets()),
        IpAddr::V6(own) => _ = message.attribute(IFA_LOCAL, &own.octets()).attribute(IFA_ADDRESS, &own.octets()),
    }
}

/// Where everything without a better route goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To a gateway.
    Gateway(IpAddr),
    /// Out of the device, to whoever is there: IPv4, or IPv6.
    Link {
        /// Whether it is the route for IPv6.
        ipv6: bool,
    },
}

impl Hop {
    /// Whether it is the way for IPv6.
    pub fn is_ipv6(self) -> bool {
        match self {
            Hop::Gateway(gateway) => gateway.is_ipv6(),
            Hop::Link { ipv6 } => ipv6,
        }
    }
}

/// Adds: send everything without a better route this way.
pub fn add_default_route(batch: &mut Batch, index: u32, hop: Hop) {
    batch.push("adding the default route", NEW_ROUTE, CREATE | EXCLUSIVE, |message| write_route(message, index, hop));
}

/// Adds: send everything without a better route this way, in place of what is sent another way.
pub fn replace_default_route(batch: &mut Batch, index: u32, hop: Hop) {
    batch.push("replacing the default route", NEW_ROUTE, CREATE | REPLACE, |message| write_route(message, index, hop));
}

/// Adds: no longer send everything without a better route this way.
pub fn delete_default_route(batch: &mut Batch, index: u32, hop: Hop) {
    batch.push("removing the default route", DELETE_ROUTE, 0, |message| write_route(message, index, hop));
}

fn write_route(message: &mut Message<'_>, index: u32, hop: Hop) {
    let (family, scope) = match hop {
        Hop::Gateway(gateway) => (family_of(gateway), 0),
        Hop::Link { ipv6: true } => (AF_INET6, 0),
        Hop::Link { ipv6: false } => (AF_INET, RT_SCOPE_LINK),
    };
    message.header(&[family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0]);
    match hop {
        Hop::Gateway(IpAddr::V4(gateway)) => _ = message.attribute(RTA_GATEWAY, &gateway.octets()),
        Hop::Gateway(IpAddr::V6(gateway)) => _ = message.attribute(RTA_GATEWAY, &gateway.octets()),
        Hop::Link { .. } => {}
    }
    message.number(RTA_OIF, index);
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// The device of a name; `None` if there is none.
pub fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&link_header(0, 0, 0)).text(IFLA_IFNAME, name).number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    };
    match socket.ask("looking for a device", GET_LINK, request, link) {
        Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(None),
        answer => answer,
    }
}

/// The counters of a device; `None` if there is no such device.
pub fn counters(socket: &mut Socket, name: &str) -> Result<Option<Counters>, NetlinkError> {
    let request = |message: &mut Message<'_>| _ = message.header(&link_header(0, 0, 0)).text(IFLA_IFNAME, name);
    let parse = |answer: &Answer<'_>| stats(Attributes::after(LINK_HEADER, answer.body).get(IFLA_STATS64)?);
    match socket.ask("reading the counters of a device", GET_LINK, request, parse) {
        Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(None),
        answer => answer,
    }
}

/// Every device.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&link_header(0, 0, 0)).number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    };
    socket.dump("listing devices", GET_LINK, request, link)
}

/// The ports of a bridge.
pub fn ports_of(socket: &mut Socket, bridge: u32) -> Result<Vec<Link>, NetlinkError> {
    let request = |message: &mut Message<'_>| {
        message.header(&link_header(0, 0, 0)).number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        message.number(IFLA_MASTER, bridge);
    };
    // Old kernels ignore the filter and list everything.
    socket.dump("listing the ports of the bridge", GET_LINK, request, |answer| {
        link(answer).filter(|link| link.master == Some(bridge))
    })
}

/// The addresses of all devices, with the number of the device; IPv4 first.
pub fn addresses(socket: &mut Socket) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = |message: &mut Message<'_>| _ = message.header(&[family, 0, 0, 0, 0, 0, 0, 0]);
        all.extend(socket.dump("listing addresses", GET_ADDRESS, request, address)?);
    }
    Ok(all)
}

/// The networks that the host has routes to, with the number of the device; default routes are not among them.
pub fn routed_networks(socket: &mut Socket) -> Result<Vec<(Option<u32>, IpNet)>, NetlinkError> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = |message: &mut Message<'_>| {
            let mut header = [0; ROUTE_HEADER];
            header[0] = family;
            message.header(&header);
        };
        all.extend(socket.dump("listing routes", GET_ROUTE, request, route)?);
    }
    Ok(all)
}

pub(super) fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn link(answer: &Answer<'_>) -> Option<Link> {
    if answer.kind != NEW_LINK {
        return None;
    }
    let attributes = Attributes::after(LINK_HEADER, answer.body);
    Some(Link {
        index: u32_at(answer.body, 4)?,
        up: u32_at(answer.body, 8)? & IFF_UP != 0,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        kind: attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND).map(str::to_owned),
        master: attributes.number(IFLA_MASTER),
        mac: attributes.get(IFLA_ADDRESS).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(MacAddress::new),
        mtu: attributes.number(IFLA_MTU).unwrap_or_default(),
        group: attributes.number(IFLA_GROUP).unwrap_or_default(),
        below_elsewhere: attributes.get(IFLA_LINK_NETNSID).and_then(|_| attributes.number(IFLA_LINK)),
    })
}

/// Reads an answer to any question.
#[cfg(feature = "fuzz")]
pub fn read_in_every_way(answer: &Answer<'_>) {
    let _ = (link(answer), address(answer), route(answer), stats(answer.body));
}

/// Reads `struct rtnl_link_stats64`: each kind of count first for what was received, then for what was sent.
fn stats(bytes: &[u8]) -> Option<Counters> {
    let mut counters = Counters::default();
    for (kind, pair) in bytes.chunks_exact(16).take(4).enumerate() {
        counters.received[kind] = u64::from_ne_bytes(*pair.first_chunk()?);
        counters.sent[kind] = u64::from_ne_bytes(*pair.last_chunk()?);
    }
    (bytes.len() >= 64).then_some(counters)
}

fn address(answer: &Answer<'_>) -> Option<(u32, IpNet)> {
    if answer.kind != NEW_ADDRESS || !matches!(answer.body.first(), Some(&(AF_INET | AF_INET6))) {
        return None;
    }
    let attributes = Attributes::after(ADDRESS_HEADER, answer.body);
    let local = attributes.address(IFA_LOCAL).or_else(|| attributes.address(IFA_ADDRESS));
    Some((u32_at(answer.body, 4)?, IpNet::new(local?, *answer.body.get(1)?).ok()?))
}

fn route(answer: &Answer<'_>) -> Option<(Option<u32>, IpNet)> {
    // The table is in the header when its number fits there; of the local table the addresses' own networks are
    // known by the main one.
    let [family @ (AF_INET | AF_INET6), prefix, _, _, table, _, _, kind, ..] = *answer.body else { return None };
    let attributes = Attributes::after(ROUTE_HEADER, answer.body);
    let table = attributes.number(RTA_TABLE).unwrap_or(u32::from(table));
    if answer.kind != NEW_ROUTE || kind != RTN_UNICAST || table == RT_TABLE_LOCAL || prefix == 0 {
        return None;
    }
    let nowhere = if family == AF_INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let destination = attributes.address(RTA_DST).unwrap_or(nowhere);
    Some((attributes.number(RTA_OIF), IpNet::new(destination, prefix).ok()?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::Messages;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo};
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    /// What an independent decoder makes of our first message.
    fn decoded(mut batch: Batch) -> RouteNetlinkMessage {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(batch.sealed(1, 0)).unwrap();
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => inner,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn others_read_our_veth_message_as_we_mean_it() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut batch = Batch::new();
        let veth = Veth { name: "veth1", bridge: 7, peer: "eth0", namespace: null.as_fd(), mtu: 1400 };
        add_veth(&mut batch, &veth);
        let RouteNetlinkMessage::NewLink(link) = decoded(batch) else { panic!("not a link") };
        assert_eq!(link.header.flags, LinkFlags::Up);
        assert!(link.attributes.contains(&LinkAttribute::IfName("veth1".into())));
        assert!(link.attributes.contains(&LinkAttribute::Controller(7)));
        let infos = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let infos = infos.unwrap();
        assert!(infos.contains(&LinkInfo::Kind(InfoKind::Veth)));
        let Some(LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))) = infos.get(1) else { panic!("{infos:?}") };
        assert!(peer.attributes.contains(&LinkAttribute::IfName("eth0".into())));
        assert!(peer.attributes.contains(&LinkAttribute::NetNsFd(null.as_raw_fd())));
    }

    #[test]
    fn others_read_our_address_and_route_as_we_mean_them() {
        let mut batch = Batch::new();
        add_address(&mut batch, 3, "10.1.2.3/24".parse().unwrap());
        let RouteNetlinkMessage::NewAddress(address) = decoded(batch) else { panic!("not an address") };
        assert_eq!((address.header.index, address.header.prefix_len), (3, 24));
        let text = format!("{:?}", address.attributes);
        assert!(text.contains("Local(10.1.2.3)") && text.contains("Broadcast(10.1.2.255)"), "{text}");

        let mut batch = Batch::new();
        add_default_route(&mut batch, 3, Hop::Gateway("10.1.2.1".parse().unwrap()));
        let RouteNetlinkMessage::NewRoute(route) = decoded(batch) else { panic!("not a route") };
        assert_eq!(route.header.destination_prefix_length, 0);
        let text = format!("{:?}", route.attributes);
        assert!(text.contains("10.1.2.1") && text.contains("Oif(3)"), "{text}");
    }

    #[test]
    fn our_reader_understands_our_writer() {
        let mut batch = Batch::new();
        add_bridge(&mut batch, "br9", MacAddress::new([2, 0, 0, 0, 0, 9]), 1400);
        let bytes = batch.sealed(1, 0).to_vec();
        let found = link(&Messages::of(&bytes).next().unwrap()).unwrap();
        assert_eq!(
            (found.name.as_str(), found.kind.as_deref(), found.mtu, found.up),
            ("br9", Some("bridge"), 1400, true)
        );
        assert_eq!(found.mac, Some(MacAddress::new([2, 0, 0, 0, 0, 9])));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(kind in 0u16..40, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = Answer { kind, flags: 0, sequence: 1, port: 0, body: &body };
            let _ = (link(&answer), address(&answer), route(&answer), stats(&body));
        }
    }
}
