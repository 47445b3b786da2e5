//! Who is called what: the names of all containers, by network.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::message::Kind;
use crate::protocol::{Member, Membership};

/// What containers call the host. Docker Desktop's names; here they work everywhere.
const HOST_NAMES: [&[u8]; 2] = [b"host.docker.internal", b"gateway.docker.internal"];

/// The names of all containers.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    networks: HashMap<String, Network>,
    /// Counts look-ups, so that several containers of one name take turns.
    turn: usize,
}

/// The names on one network.
#[derive(Debug, Default)]
struct Network {
    /// In lower case.
    names: HashMap<Vec<u8>, Vec<Place>>,
    addresses: HashMap<IpAddr, Vec<(u32, String)>>,
}

/// A container's addresses on a network.
#[derive(Clone, Debug)]
struct Place {
    member: u32,
    addresses: Vec<IpAddr>,
}

impl Directory {
    /// Enters a container's names.
    pub(crate) fn enter(&mut self, number: u32, member: &Member) {
        for membership in &member.networks {
            let network = self.networks.entry(membership.network.clone()).or_default();
            for name in distinct(membership) {
                let place = Place { member: number, addresses: membership.addresses.clone() };
                network.names.entry(name).or_default().push(place);
            }
            let Some(first) = membership.names.first() else { continue };
            for address in &membership.addresses {
                let full = format!("{first}.{}", membership.network_name);
                network.addresses.entry(*address).or_default().push((number, full));
            }
        }
    }

    /// Strikes out a container's names.
    pub(crate) fn strike(&mut self, number: u32, member: &Member) {
        for membership in &member.networks {
            let Some(network) = self.networks.get_mut(&membership.network) else { continue };
            for name in distinct(membership) {
                let Some(places) = network.names.get_mut(&name) else { continue };
                places.retain(|place| place.member != number);
                if places.is_empty() {
                    network.names.remove(&name);
                }
            }
            for address in &membership.addresses {
                if let Some(names) = network.addresses.get_mut(address) {
                    names.retain(|(whose, _)| *whose != number);
                    if names.is_empty() {
                        network.addresses.remove(address);
                    }
                }
            }
            if network.names.is_empty() && network.addresses.is_empty() {
                self.networks.remove(&membership.network);
            }
        }
    }

    /// The addresses that a name has for a container; `None` if it is no name of ours.
    ///
    /// As with Docker, `a.b.c` is looked for whole, then as `a.b` on the network `c`, then as `a` on the network `b.c`.
    pub(crate) fn addresses(&mut self, asking: &Member, name: &[u8], kind: Kind) -> Option<Vec<IpAddr>> {
        if let Some(found) = asking.networks.iter().find_map(|on| self.on_network(on, name)) {
            return Some(self.chosen(found, kind));
        }
        let dots = name.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.').map(|(place, _)| place);
        for dot in dots {
            let (name, network) = (&name[..dot], &name[dot + 1..]);
            let called = |on: &&Membership| on.network_name.as_bytes().eq_ignore_ascii_case(network);
            if let Some(found) = asking.networks.iter().filter(called).find_map(|on| self.on_network(on, name)) {
                return Some(self.chosen(found, kind));
            }
        }
        if HOST_NAMES.contains(&name) {
            let on = asking.networks.iter().find(|on| !on.host.is_empty())?;
            return Some(on.host.iter().copied().filter(|address| wanted(*address, kind)).collect());
        }
        None
    }

    /// The full names of an address that a container may know of.
    pub(crate) fn names(&self, asking: &Member, address: IpAddr) -> Option<Vec<String>> {
        let known = asking.networks.iter().filter_map(|on| self.networks.get(&on.network)?.addresses.get(&address));
        let names: Vec<_> = known.flatten().map(|(_, name)| name.clone()).collect();
        (!names.is_empty()).then_some(names)
    }

    fn on_network(&self, on: &Membership, name: &[u8]) -> Option<Vec<IpAddr>> {
        let network = self.networks.get(&on.network)?;
        let linked = on.links.iter().filter(|link| link.alias.as_bytes().eq_ignore_ascii_case(name));
        let mut places = linked.filter_map(|link| network.names.get(link.target.to_ascii_lowercase().as_bytes()));
        let places = places.next().or_else(|| network.names.get(name))?;
        Some(places.iter().flat_map(|place| place.addresses.iter().copied()).collect())
    }

    /// Those of the wanted kind, beginning each time with another.
    fn chosen(&mut self, mut addresses: Vec<IpAddr>, kind: Kind) -> Vec<IpAddr> {
        addresses.retain(|address| wanted(*address, kind));
        if addresses.len() > 1 {
            self.turn = self.turn.wrapping_add(1);
            let first = self.turn % addresses.len();
            addresses.rotate_left(first);
        }
        addresses
    }
}

/// A container's names on a network in lower case, each once.
fn distinct(membership: &Membership) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = membership.names.iter().map(|name| name.to_ascii_lowercase().into_bytes()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn wanted(address: IpAddr, kind: Kind) -> bool {
    match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        Kind::Any => true,
        Kind::Ptr | Kind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Link, Upstream};

    fn member(networks: &[(&str, &[&str], &str)]) -> Member {
        let one = |(network, names, addresses): &(&str, &[&str], &str)| Membership {
            network: format!("id-{network}"),
            network_name: (*network).to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.split(' ').map(|address| address.parse().unwrap()).collect(),
            host: vec!["10.9.0.1".parse().unwrap()],
            links: Vec::new(),
        };
        let networks = networks.iter().map(one).collect();
        Member { id: String::new(), networks, upstream: Upstream::Host, keeps_single_labels: false }
    }

    #[track_caller]
    fn check(directory: &mut Directory, asking: &Member, name: &str, kind: Kind, expected: Option<&[&str]>) {
        let found = directory.addresses(asking, name.as_bytes(), kind);
        let mut found = found.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        if let Some(list) = &mut found {
            list.sort();
        }
        let expected = expected.map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn names_belong_to_their_network() {
        let mut directory = Directory::default();
        let web = member(&[("front", &["web", "WWW"], "10.0.0.2 fd00::2")]);
        let db = member(&[("back.end", &["db.main"], "10.1.0.2"), ("front", &["db"], "10.0.0.3")]);
        let stranger = member(&[("other", &["x"], "10.2.0.2")]);
        for (number, member) in (1..).zip([&web, &db, &stranger]) {
            directory.enter(number, member);
        }
        check(&mut directory, &db, "web", Kind::A, Some(&["10.0.0.2"]));
        check(&mut directory, &db, "www", Kind::Aaaa, Some(&["fd00::2"]));
        check(&mut directory, &db, "web.front", Kind::Any, Some(&["10.0.0.2", "fd00::2"]));
        check(&mut directory, &db, "db.main.back.end", Kind::A, Some(&["10.1.0.2"]));
        check(&mut directory, &web, "db.main", Kind::A, None);
        check(&mut directory, &web, "db", Kind::Aaaa, Some(&[]));
        check(&mut directory, &web, "db", Kind::Other, Some(&[]));
        check(&mut directory, &stranger, "web", Kind::A, None);
        check(&mut directory, &stranger, "web.front", Kind::A, None);
        check(&mut directory, &stranger, "host.docker.internal", Kind::A, Some(&["10.9.0.1"]));
        assert_eq!(directory.names(&web, "10.0.0.3".parse().unwrap()), Some(vec!["db.front".to_owned()]));
        assert_eq!(directory.names(&stranger, "10.0.0.3".parse().unwrap()), None);
        directory.strike(2, &db);
        check(&mut directory, &web, "db", Kind::A, None);
        assert_eq!(directory.names(&web, "10.0.0.3".parse().unwrap()), None);
        directory.strike(1, &web);
        directory.strike(3, &stranger);
        assert!(directory.networks.is_empty());
    }

    #[test]
    fn several_of_one_name_take_turns() {
        let mut directory = Directory::default();
        let members: Vec<_> = (2..5).map(|n| member(&[("front", &["web"], &format!("10.0.0.{n}"))])).collect();
        for (number, member) in (1..).zip(&members) {
            directory.enter(number, member);
        }
        let mut first = || directory.addresses(&members[0], b"web", Kind::A).unwrap()[0];
        let firsts: std::collections::BTreeSet<_> = (0..3).map(|_| first()).collect();
        assert_eq!(firsts.len(), 3);
        let mut twice = Directory::default();
        twice.enter(1, &member(&[("front", &["web", "Web"], "10.0.0.2")]));
        check(&mut twice, &members[0], "web", Kind::A, Some(&["10.0.0.2"]));
    }

    #[test]
    fn a_link_is_one_container_s_own_name() {
        let mut directory = Directory::default();
        let db = member(&[("front", &["postgres"], "10.0.0.2")]);
        let mut web = member(&[("front", &["web"], "10.0.0.3")]);
        web.networks[0].links = vec![Link { alias: "DB".into(), target: "Postgres".into() }];
        directory.enter(1, &db);
        directory.enter(2, &web);
        check(&mut directory, &web, "db", Kind::A, Some(&["10.0.0.2"]));
        check(&mut directory, &db, "db", Kind::A, None);
    }
}
