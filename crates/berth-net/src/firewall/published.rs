//! Published ports as the kernel knows them: maps from a port of the host to an address and port of a container.
//!
//! Every packet to an address of this host, from outside or from the host itself, goes once through the chain `published`: three
//! look-ups for each family, whatever the number of ports. A range whose ports keep their numbers is one element.

use std::net::IpAddr;

use super::{Closed, FIRST, NFPROTO_IPV4, NFPROTO_IPV6, limited};
use crate::netlink::nf_tables::{
    BaseChain, Element, Expression, Family, Field, Hook, IPV4_ADDRESS, IPV6_ADDRESS, Map, Meta, PORT, Payload,
    Register, Set, TRANSPORT, TYPE_LOCAL, Transaction, Verdict,
};
use crate::ports::{PublishedPort, Way};

/// The chain that translates.
pub(super) const CHAIN: &str = "published";
/// Where destinations are changed, in the order of chains.
const PRIORITY: i32 = -100;

const EXACT4: Map =
    Map { name: "ports4", key: &[TRANSPORT, IPV4_ADDRESS, PORT], value: &[IPV4_ADDRESS, PORT], ranges: false };
const ANY4: Map = Map { name: "ports4any", key: &[TRANSPORT, PORT], value: &[IPV4_ADDRESS, PORT], ranges: false };
const RANGES4: Map =
    Map { name: "ranges4", key: &[TRANSPORT, IPV4_ADDRESS, PORT], value: &[IPV4_ADDRESS], ranges: true };
const EXACT6: Map =
    Map { name: "ports6", key: &[TRANSPORT, IPV6_ADDRESS, PORT], value: &[IPV6_ADDRESS, PORT], ranges: false };
const ANY6: Map = Map { name: "ports6any", key: &[TRANSPORT, PORT], value: &[IPV6_ADDRESS, PORT], ranges: false };
const RANGES6: Map =
    Map { name: "ranges6", key: &[TRANSPORT, IPV6_ADDRESS, PORT], value: &[IPV6_ADDRESS], ranges: true };

/// Ports that the host's own rules keep closed to others: by protocol and number, for each family.
const CLOSED4: Set = Set { name: "closed4", key: &[TRANSPORT, PORT] };
const CLOSED6: Set = Set { name: "closed6", key: &[TRANSPORT, PORT] };

/// Ports that are open at the containers' own addresses: those of networks that are routed.
const EXPOSED4: Set = Set { name: "exposed4", key: &[TRANSPORT, IPV4_ADDRESS, PORT] };
const EXPOSED6: Set = Set { name: "exposed6", key: &[TRANSPORT, IPV6_ADDRESS, PORT] };

/// Every map, in the order of look-ups.
const MAPS: [&Map; 6] = [&EXACT4, &ANY4, &RANGES4, &EXACT6, &ANY6, &RANGES6];

/// Where a value is loaded, behind the longest key.
const VALUE: Register = Register::new(8);

/// Adds maps, chains and elements to a table that is being made. `first_id` tells the maps from the table's other sets.
pub(super) fn add(
    transaction: &mut Transaction,
    table: &str,
    ports: &[PublishedPort],
    closed: &[Closed],
    first_id: u32,
) {
    for (id, map) in (first_id..).zip(MAPS) {
        transaction.add_map(Family::Inet, table, map, id);
    }
    for (id, (set, ipv6)) in (first_id + 6..).zip([(&CLOSED4, false), (&CLOSED6, true)]) {
        transaction.add_set(Family::Inet, table, set, id);
        transaction.add_elements(Family::Inet, table, set.name, &shut_keys(closed, ipv6));
    }
    for (id, set) in (first_id + 8..).zip([&EXPOSED4, &EXPOSED6]) {
        transaction.add_set(Family::Inet, table, set, id);
    }
    let open: Vec<_> = ports.iter().flat_map(|port| without(port, closed)).collect();
    add_elements(transaction, table, &open);
    transaction.add_chain(Family::Inet, table, CHAIN, None);
    for map in MAPS {
        transaction.add_rule(Family::Inet, table, CHAIN, "published ports", &look_up(map));
    }
}

fn shut_keys(closed: &[Closed], ipv6: bool) -> Vec<Vec<u8>> {
    let own = closed.iter().filter(|one| one.ipv6 == ipv6 && limited::is_shut(one));
    own.map(|one| limited::key(one.transport, one.port)).collect()
}

/// Adds ports that the host keeps shut.
pub(super) fn shut(transaction: &mut Transaction, table: &str, closed: &[Closed]) {
    for (set, ipv6) in [(&CLOSED4, false), (&CLOSED6, true)] {
        transaction.add_elements(Family::Inet, table, set.name, &shut_keys(closed, ipv6));
    }
}

/// Forgets ports that the host kept shut.
pub(super) fn forget(transaction: &mut Transaction, table: &str, closed: &[Closed]) {
    for (set, ipv6) in [(&CLOSED4, false), (&CLOSED6, true)] {
        let own = closed.iter().filter(|one| one.ipv6 == ipv6 && limited::is_shut(one));
        let element = |one: &Closed| {
            let key = Field::new().and(&[one.transport.number()]).and(&one.port.to_be_bytes());
            Element { key, last: None, value: Field::new() }
        };
        transaction.delete_mappings(Family::Inet, table, set.name, own.map(element));
    }
}

/// Adds the elements of more ports.
pub(super) fn add_elements(transaction: &mut Transaction, table: &str, ports: &[PublishedPort]) {
    for (map, port) in translated(ports) {
        transaction.add_mappings(Family::Inet, table, map.name, elements(map, port));
    }
    for (set, port) in opened(ports) {
        transaction.add_mappings(Family::Inet, table, set.name, keys(port));
    }
}

/// Deletes the elements of ports.
pub(super) fn delete_elements(transaction: &mut Transaction, table: &str, ports: &[PublishedPort]) {
    for (map, port) in translated(ports) {
        transaction.delete_mappings(Family::Inet, table, map.name, elements(map, port));
    }
    for (set, port) in opened(ports) {
        transaction.delete_mappings(Family::Inet, table, set.name, keys(port));
    }
}

/// Goes on if a packet is for a port that is open at a container's own address.
pub(super) fn exposed(ipv6: bool) -> Vec<Expression> {
    let (set, address, behind) =
        if ipv6 { (&EXPOSED6, Payload::Ipv6Destination, 5) } else { (&EXPOSED4, Payload::Ipv4Destination, 2) };
    vec![
        Expression::Meta(Meta::Transport, FIRST),
        Expression::Payload(address, Register::new(1)),
        Expression::Payload(Payload::DestinationPort, Register::new(behind)),
        Expression::InSet(FIRST, set.name),
    ]
}

/// The two places where packets to this host come by. Where the host's rules are asked, maps say what they leave open to some.
pub(super) fn add_entries(transaction: &mut Transaction, table: &str, asked: bool) {
    let to_us = [
        Expression::DestinationType(FIRST),
        Expression::Equal(FIRST, TYPE_LOCAL.to_ne_bytes().to_vec()),
        Expression::Verdict(Verdict::Jump(CHAIN)),
    ];
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let base = BaseChain { kind: "nat", hook, priority: PRIORITY };
        transaction.add_chain(Family::Inet, table, name, Some(base));
        if hook == Hook::Prerouting {
            // Loopback addresses are the host's own. What comes for them from outside is a trick (CVE-2020-8558 and its
            // like): not translated, the kernel drops it.
            let from_outside = [
                Expression::Meta(Meta::Protocol, FIRST),
                Expression::Equal(FIRST, vec![NFPROTO_IPV4]),
                Expression::Payload(Payload::Ipv4Destination, FIRST),
                Expression::Mask(FIRST, vec![255, 0, 0, 0]),
                Expression::Equal(FIRST, vec![127, 0, 0, 0]),
                Expression::Verdict(Verdict::Return),
            ];
            transaction.add_rule(Family::Inet, table, name, "loopback is reached from this host only", &from_outside);
            for (set, protocol) in [(&CLOSED4, NFPROTO_IPV4), (&CLOSED6, NFPROTO_IPV6)] {
                let not_open = [
                    Expression::Meta(Meta::Protocol, FIRST),
                    Expression::Equal(FIRST, vec![protocol]),
                    Expression::Meta(Meta::Transport, FIRST),
                    Expression::Payload(Payload::DestinationPort, Register::new(1)),
                    Expression::InSet(FIRST, set.name),
                    Expression::Verdict(Verdict::Return),
                ];
                transaction.add_rule(Family::Inet, table, name, "left to the host's own rules", &not_open);
            }
            if asked {
                limited::add_questions(transaction, table, name);
            }
        }
        if hook == Hook::Output {
            let loopback = [
                Expression::Meta(Meta::Protocol, FIRST),
                Expression::Equal(FIRST, vec![NFPROTO_IPV6]),
                Expression::Payload(Payload::Ipv6Destination, FIRST),
                Expression::Equal(FIRST, std::net::Ipv6Addr::LOCALHOST.octets().to_vec()),
                Expression::Verdict(Verdict::Return),
            ];
            transaction.add_rule(
                Family::Inet,
                table,
                name,
                "carried by a process: no answer comes back to it",
                &loopback,
            );
        }
        transaction.add_rule(Family::Inet, table, name, "to an address of this host", &to_us);
    }
}

/// The rule that looks a packet up in a map and sends it where the map says.
fn look_up(map: &Map) -> Vec<Expression> {
    let ipv4 = is_ipv4(map);
    let (family, protocol, address, words) = match ipv4 {
        true => (Family::Ip, NFPROTO_IPV4, Payload::Ipv4Destination, 1),
        false => (Family::Ip6, NFPROTO_IPV6, Payload::Ipv6Destination, 4),
    };
    let mut rule = vec![
        Expression::Meta(Meta::Protocol, FIRST),
        Expression::Equal(FIRST, vec![protocol]),
        Expression::Meta(Meta::Transport, FIRST),
    ];
    let behind = if map.key.len() == 3 {
        rule.push(Expression::Payload(address, Register::new(1)));
        1 + words
    } else {
        1
    };
    rule.push(Expression::Payload(Payload::DestinationPort, Register::new(behind)));
    rule.push(Expression::InMap(FIRST, map.name, VALUE));
    let port = (!map.ranges).then(|| Register::new(8 + words));
    rule.push(Expression::Redirect(family, VALUE, port));
    rule
}

/// The ports that rules lead to containers, and the map that each belongs in.
fn translated(ports: &[PublishedPort]) -> impl Iterator<Item = (&'static Map, &PublishedPort)> {
    ports.iter().filter(|port| port.way == Way::Translated).map(|port| (map_of(port), port))
}

/// The ports that are open at their containers' own addresses, and the set that each belongs in.
fn opened(ports: &[PublishedPort]) -> impl Iterator<Item = (&'static Set, &PublishedPort)> {
    let set = |port: &PublishedPort| if port.target.is_ipv6() { &EXPOSED6 } else { &EXPOSED4 };
    ports.iter().filter(|port| port.way == Way::Routed).map(move |port| (set(port), port))
}

fn keys(port: &PublishedPort) -> impl Iterator<Item = Element> + '_ {
    (port.first..=port.last).map(|number| Element { key: key(port, number), last: None, value: Field::new() })
}

/// A port of a container at its own address, as sets have it.
pub(super) fn key(port: &PublishedPort, number: u16) -> Field {
    let key = with_address(Field::new().and(&[port.transport.number()]), port.target);
    key.and(&number.to_be_bytes())
}

/// What is left of a range that is open at its container's address, without the ports that the host's own rules keep closed.
fn without(port: &PublishedPort, closed: &[Closed]) -> Vec<PublishedPort> {
    let is_closed = |number: u16| {
        closed
            .iter()
            .any(|one| one.ipv6 == port.target.is_ipv6() && one.transport == port.transport && one.port == number)
    };
    if port.way != Way::Routed || !(port.first..=port.last).any(is_closed) {
        return vec![port.clone()];
    }
    let one = |number| PublishedPort { first: number, last: number, target_first: number, ..port.clone() };
    (port.first..=port.last).filter(|number| !is_closed(*number)).map(one).collect()
}

fn map_of(port: &PublishedPort) -> &'static Map {
    let range = port.first < port.last && port.first == port.target_first;
    match (port.address.is_ipv4(), range, port.address.is_unspecified()) {
        (true, true, _) => &RANGES4,
        (true, false, true) => &ANY4,
        (true, false, false) => &EXACT4,
        (false, true, _) => &RANGES6,
        (false, false, true) => &ANY6,
        (false, false, false) => &EXACT6,
    }
}

fn elements<'a>(map: &'static Map, port: &'a PublishedPort) -> Box<dyn Iterator<Item = Element> + 'a> {
    let transport = [port.transport.number()];
    if map.ranges {
        let (from, to) = match port.address {
            any if any.is_unspecified() && any.is_ipv4() => (any, IpAddr::from([255; 4])),
            any if any.is_unspecified() => (any, IpAddr::from([255; 16])),
            one => (one, one),
        };
        let key = |address: IpAddr, number: u16| {
            with_address(Field::new().and(&transport), address).and(&number.to_be_bytes())
        };
        let (key, last) = (key(from, port.first), key(to, port.last));
        let value = with_address(Field::new(), port.target);
        return Box::new(std::iter::once(Element { key, last: Some(last), value }));
    }
    let elements = port.pairs().map(move |(inside, outside)| {
        let key = Field::new().and(&transport);
        let key = if map.key.len() == 3 { with_address(key, port.address) } else { key };
        let value = with_address(Field::new(), port.target).and(&inside.to_be_bytes());
        Element { key: key.and(&outside.to_be_bytes()), last: None, value }
    });
    Box::new(elements)
}

fn with_address(field: Field, address: IpAddr) -> Field {
    match address {
        IpAddr::V4(address) => field.and(&address.octets()),
        IpAddr::V6(address) => field.and(&address.octets()),
    }
}

fn is_ipv4(map: &Map) -> bool {
    map.value.first() == Some(&IPV4_ADDRESS)
}
