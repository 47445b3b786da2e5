//! The firewall rules of our networks: one nf_tables table that is nobody else's, replaced as a whole.
//!
//! The table is a function of the bridges in use ([`Rules`]), so whatever happened to it, applying the rules again
//! makes it right.

mod conditions;
mod host_policy;
mod limited;
mod obstacles;
mod packet;
mod published;
mod residue;

pub(crate) use host_policy::HostPolicy;
pub use host_policy::{Direction, Limited, Verdict as PortVerdict};
pub use obstacles::Obstacle;
pub(crate) use obstacles::{admit, barriers};

use std::collections::BTreeMap;

use berth_ports::Transport;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::netlink::nf_tables::{
    self, BaseChain, Ct, DESTINATION_TRANSLATED, DEVICE_NAME, ESTABLISHED_OR_RELATED, Expression, Family, Hook, Meta,
    Payload, Register, Set, TYPE_LOCAL, Transaction, Verdict,
};
use crate::netlink::{NetlinkError, Socket};
use crate::network::GatewayMode;
use crate::ports::{PublishedPort, Way};

/// IPv4 and IPv6 in `meta nfproto`.
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// The protocols of pings, and of what tells a sender that a packet is too long.
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

const FIRST: Register = Register::new(0);

/// The bridges whose traffic the table is about.
const BRIDGES: Set = Set { name: "bridges", key: &[DEVICE_NAME] };
/// Pairs of devices between which packets pass freely: each bridge and itself.
const WITHIN: Set = Set { name: "within", key: &[DEVICE_NAME, DEVICE_NAME] };
/// Bridges of networks without a way out.
const INTERNAL: Set = Set { name: "internal", key: &[DEVICE_NAME] };

/// Bridges of networks whose containers every port of can be reached by those who route to them, for each family.
const OPEN4: Set = Set { name: "open4", key: &[DEVICE_NAME] };
const OPEN6: Set = Set { name: "open6", key: &[DEVICE_NAME] };
/// Bridges of networks whose containers are reached at their own addresses, as far as ports are published.
const ROUTED4: Set = Set { name: "routed4", key: &[DEVICE_NAME] };
const ROUTED6: Set = Set { name: "routed6", key: &[DEVICE_NAME] };

/// A bridge, as far as rules are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// The device.
    pub name: String,
    /// The bridges that its network is extended by. Nothing is routed by them; where the kernel shows bridged frames to the firewall
    /// (br_netfilter) it shows those of these bridges too.
    pub extensions: Vec<String>,
    /// Its containers' IPv4 addresses.
    pub subnet: Option<Ipv4Net>,
    /// Its containers' IPv6 addresses.
    pub subnet_v6: Option<Ipv6Net>,
    /// Whether outbound IPv4 traffic takes the host's address.
    pub masquerade: bool,
    /// Whether outbound IPv6 traffic takes the host's address.
    pub masquerade_v6: bool,
    /// Whether its containers reach each other.
    pub between_containers: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// How its containers are reached by IPv4.
    pub mode: GatewayMode,
    /// How its containers are reached by IPv6.
    pub mode_v6: GatewayMode,
}

/// A bridge's addresses of one family, as rules compare them.
struct Side {
    protocol: u8,
    source: Payload,
    mask: Vec<u8>,
    network: Vec<u8>,
}

impl Bridge {
    fn families(&self) -> Vec<Side> {
        let ipv4 = self.subnet.map(|subnet| Side {
            protocol: NFPROTO_IPV4,
            source: Payload::Ipv4Source,
            mask: subnet.netmask().octets().to_vec(),
            network: subnet.network().octets().to_vec(),
        });
        let ipv6 = self.subnet_v6.map(|subnet| Side {
            protocol: NFPROTO_IPV6,
            source: Payload::Ipv6Source,
            mask: subnet.netmask().octets().to_vec(),
            network: subnet.network().octets().to_vec(),
        });
        ipv4.into_iter().chain(ipv6).collect()
    }

    /// The bridge and those that its network is extended by.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.extensions).map(String::as_str)
    }

    /// Whether outbound traffic of a family takes the host's address.
    fn hides(&self, protocol: u8) -> bool {
        if protocol == NFPROTO_IPV4 { self.masquerade } else { self.masquerade_v6 }
    }
}

impl Side {
    /// Goes on if a packet comes from the subnet.
    fn comes_from_subnet(self) -> Vec<Expression> {
        vec![
            Expression::Meta(Meta::Protocol, FIRST),
            Expression::Equal(FIRST, vec![self.protocol]),
            Expression::Payload(self.source, FIRST),
            Expression::Mask(FIRST, self.mask),
            Expression::Equal(FIRST, self.network),
        ]
    }
}

/// A port that is not open to every other host, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub ipv6: bool,
    pub transport: Transport,
    pub port: u16,
    pub verdict: PortVerdict,
}

impl Closed {
    /// Keeps a port that is open to some closed to all.
    pub fn shut(&mut self) {
        if let PortVerdict::Limited(rules) = &self.verdict {
            self.verdict = PortVerdict::Depends(format!("{rules}, which the kernel does not let us ask,"));
        }
    }

    /// Whether it says something of one of these ports.
    pub fn is_of(&self, range: &PublishedPort) -> bool {
        is_asked(range)
            && self.ipv6 == range.address.is_ipv6()
            && self.transport == range.transport
            && (range.first..=range.last).contains(&self.port)
    }

    /// Whether the other says something of the same port.
    pub fn is_for_the_port_of(&self, other: &Closed) -> bool {
        (self.ipv6, self.transport, self.port) == (other.ipv6, other.transport, other.port)
    }
}

/// Whether others reach a range in a way that the host's input rules do not see.
fn is_asked(range: &PublishedPort) -> bool {
    range.way != Way::Relayed && !range.address.is_loopback()
}

/// The ports that the host's own input rules do not open to everybody.
pub(crate) fn closed(policy: &HostPolicy, ports: &[PublishedPort]) -> Vec<Closed> {
    let mut closed: BTreeMap<(bool, Transport, u16), PortVerdict> = BTreeMap::new();
    for range in ports.iter().filter(|range| is_asked(range)) {
        let ipv6 = range.address.is_ipv6();
        for port in range.first..=range.last {
            closed.entry((ipv6, range.transport, port)).or_insert_with(|| policy.verdict(ipv6, range.transport, port));
        }
    }
    let not_open = closed.into_iter().filter(|(_, verdict)| *verdict != PortVerdict::Open);
    not_open.map(|((ipv6, transport, port), verdict)| Closed { ipv6, transport, port, verdict }).collect()
}

/// Everything the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules<'a> {
    /// The name of the table.
    pub table: &'a str,
    /// The bridges in use.
    pub bridges: &'a [Bridge],
    /// Whether they are about IPv6 too. If not, only networks without a way out are kept apart.
    pub ipv6: bool,
    /// The ports that lead to containers.
    pub ports: &'a [PublishedPort],
    /// Those of them that the host's own input rules do not open to everybody.
    pub closed: &'a [Closed],
    /// These rules, and the number of the ruleset that they are of; it must still be that. `None` where they are not asked.
    pub host: Option<(u32, &'a HostPolicy)>,
}

impl Rules<'_> {
    /// Puts the rules in force, in place of whatever the table held.
    pub fn apply(&self, socket: &mut Socket) -> Result<(), NetlinkError> {
        let mut transaction = self.host.map_or_else(Transaction::new, |(number, _)| Transaction::only_at(number));
        // Made first, so that there is something to delete; all of it is one transaction.
        transaction.add_table(Family::Inet, self.table);
        transaction.delete_table(Family::Inet, self.table);
        transaction.add_table(Family::Inet, self.table);
        self.add_sets(&mut transaction);
        published::add(&mut transaction, self.table, self.ports, self.closed, 8);
        if let Some((_, host)) = self.host {
            // Behind whatever else has a number.
            limited::add(&mut transaction, self.table, (self.closed, host), (self.ports, published::CHAIN), 100);
        }
        published::add_entries(&mut transaction, self.table, self.host.is_some());
        self.add_guard(&mut transaction);
        self.add_forward(&mut transaction);
        self.add_postrouting(&mut transaction);
        transaction.commit(socket)
    }

    fn add_sets(&self, transaction: &mut Transaction) {
        let names = |keep: &dyn Fn(&Bridge) -> bool, times: usize| -> Vec<Vec<u8>> {
            let chosen = self.bridges.iter().filter(|bridge| keep(bridge));
            chosen.map(|bridge| device_name(&bridge.name).repeat(times)).collect()
        };
        let extensions = self.bridges.iter().flat_map(|bridge| &bridge.extensions);
        let mut within = names(&|bridge| bridge.between_containers, 2);
        // Containers that are kept apart are so by the ports of these bridges; what passes is on its way to the gateway, or back.
        within.extend(extensions.map(|name| device_name(name).repeat(2)));
        let sets = [
            (BRIDGES, names(&|_| true, 1)),
            (WITHIN, within),
            (INTERNAL, names(&|bridge| bridge.internal, 1)),
            (OPEN4, names(&|bridge| bridge.mode == GatewayMode::NatUnprotected, 1)),
            (OPEN6, names(&|bridge| bridge.mode_v6 == GatewayMode::NatUnprotected, 1)),
            (ROUTED4, names(&|bridge| bridge.mode == GatewayMode::Routed, 1)),
            (ROUTED6, names(&|bridge| bridge.mode_v6 == GatewayMode::Routed, 1)),
        ];
        for (id, (set, elements)) in (1..).zip(sets) {
            transaction.add_set(Family::Inet, self.table, &set, id);
            transaction.add_elements(Family::Inet, self.table, set.name, &elements);
        }
    }

    /// Containers must not reach the host's loopback addresses. The kernel sees to that, unless ports are published there: then it has
    /// to let their answers in.
    fn add_guard(&self, transaction: &mut Transaction) {
        let base = BaseChain { kind: "filter", hook: Hook::Prerouting, priority: -300 };
        transaction.add_chain(Family::Inet, self.table, "guard", Some(base));
        let mut rule = vec![Expression::Meta(Meta::InputName, FIRST), lookup(&BRIDGES)];
        rule.extend(loopback(Payload::Ipv4Destination));
        rule.extend([Expression::Counter, Expression::Verdict(Verdict::Drop)]);
        transaction.add_rule(Family::Inet, self.table, "guard", "loopback addresses are the host's own", &rule);
    }

    fn add_forward(&self, transaction: &mut Transaction) {
        let base = BaseChain { kind: "filter", hook: Hook::Forward, priority: 0 };
        transaction.add_chain(Family::Inet, self.table, "forward", Some(base));
        let mut add = |comment, rule: Vec<Expression>| {
            transaction.add_rule(Family::Inet, self.table, "forward", comment, &rule);
        };
        let accept = Expression::Verdict(Verdict::Accept);
        let drop = Expression::Verdict(Verdict::Drop);
        let to_us = || vec![Expression::Meta(Meta::OutputName, FIRST), lookup(&BRIDGES)];
        let from_internal = [Expression::Meta(Meta::InputName, FIRST), lookup(&INTERNAL)];
        let to_internal = [Expression::Meta(Meta::OutputName, FIRST), lookup(&INTERNAL)];
        let within = vec![
            Expression::Meta(Meta::InputName, FIRST),
            // The second field of the key, 16 bytes on.
            Expression::Meta(Meta::OutputName, Register::new(4)),
            lookup(&WITHIN),
        ];
        add("containers of one network reach each other", with(within, [accept.clone()]));
        add("an internal network has no way out", with(from_internal.to_vec(), [drop.clone()]));
        add("nor in", with(to_internal.to_vec(), [drop.clone()]));
        if !self.ipv6 {
            let ipv6 = [Expression::Meta(Meta::Protocol, FIRST), Expression::Equal(FIRST, vec![NFPROTO_IPV6])];
            add("IPv6 is left to others", with(ipv6.to_vec(), [accept.clone()]));
        }
        add("answers", with(to_us(), [bits(Ct::State, ESTABLISHED_OR_RELATED), vec![accept.clone()]].concat()));
        add(
            "published ports",
            with(to_us(), [bits(Ct::Status, DESTINATION_TRANSLATED), vec![accept.clone()]].concat()),
        );
        for (protocol, ping, open, routed) in
            [(NFPROTO_IPV4, ICMP, &OPEN4, &ROUTED4), (NFPROTO_IPV6, ICMP_V6, &OPEN6, &ROUTED6)]
        {
            let to = |set: &Set| {
                let family = [Expression::Meta(Meta::Protocol, FIRST), Expression::Equal(FIRST, vec![protocol])];
                with(family.to_vec(), [Expression::Meta(Meta::OutputName, FIRST), lookup(set)])
            };
            add("networks that are open to those who route to them", with(to(open), [accept.clone()]));
            let ping = [Expression::Meta(Meta::Transport, FIRST), Expression::Equal(FIRST, vec![ping])];
            add(
                "containers with addresses of their own answer pings",
                [to(routed), ping.to_vec(), vec![accept.clone()]].concat(),
            );
            let exposed = published::exposed(protocol == NFPROTO_IPV6);
            add("and published ports", [to(routed), exposed, vec![accept.clone()]].concat());
            if self.host.is_some() {
                let some = limited::exposed_to_some(protocol == NFPROTO_IPV6);
                add("those too that are open to some", with(to(routed), some));
            }
        }
        add("whatever was not published", with(to_us(), [Expression::Counter, drop]));
    }

    fn add_postrouting(&self, transaction: &mut Transaction) {
        let base = BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 };
        transaction.add_chain(Family::Inet, self.table, "postrouting", Some(base));
        self.add_returning(transaction);
        for bridge in self.bridges {
            for family in bridge.families().into_iter().filter(|family| bridge.hides(family.protocol)) {
                let mut rule = with(family.comes_from_subnet(), [Expression::Meta(Meta::OutputName, FIRST)]);
                rule.extend(bridge.names().map(|name| Expression::Differs(FIRST, device_name(name))));
                rule.extend([Expression::Counter, Expression::Masquerade]);
                transaction.add_rule(Family::Inet, self.table, "postrouting", "outbound traffic", &rule);
            }
        }
    }
}

impl Rules<'_> {
    /// What was led to a container must come back the same way. A client on the container's own network would get an
    /// answer from somebody it never asked, and a loopback address would be the container's own: these two are given the bridge's
    /// address. Everybody else keeps his own.
    fn add_returning(&self, transaction: &mut Transaction) {
        let mut add = |comment, rule: Vec<Expression>| {
            transaction.add_rule(Family::Inet, self.table, "postrouting", comment, &rule);
        };
        let translated = bits(Ct::Status, DESTINATION_TRANSLATED);
        for bridge in self.bridges {
            for family in bridge.families() {
                let mut rule = family.comes_from_subnet();
                rule.extend([Expression::Meta(Meta::OutputName, FIRST)]);
                rule.extend([Expression::Equal(FIRST, device_name(&bridge.name))]);
                rule.extend(translated.clone());
                rule.push(Expression::Masquerade);
                add("published ports, from their own network", rule);
            }
        }
        let to_us = vec![Expression::Meta(Meta::OutputName, FIRST), lookup(&BRIDGES)];
        let mut from_loopback = loopback(Payload::Ipv4Source);
        from_loopback.extend(to_us.clone());
        from_loopback.push(Expression::Masquerade);
        add("published ports, from loopback", from_loopback);
        let keep = [translated, vec![Expression::Verdict(Verdict::Accept)]].concat();
        add("published ports show who asks", with(to_us, keep));
    }
}

/// Whether every chain of our table is there.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn is_whole(socket: &mut Socket, table: &str) -> Result<bool, NetlinkError> {
    let chains = nf_tables::chains(socket)?;
    let ours = |name: &str| {
        chains.iter().any(|chain| chain.family == Family::Inet && chain.table == table && chain.name == name)
    };
    Ok(["published", "prerouting", "output", "guard", "forward", "postrouting"].into_iter().all(ours))
}

/// Takes our table away, if it is there.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn remove(socket: &mut Socket, table: &str) -> Result<(), NetlinkError> {
    if !nf_tables::chains(socket)?.iter().any(|chain| chain.family == Family::Inet && chain.table == table) {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    transaction.delete_table(Family::Inet, table);
    transaction.commit(socket)
}

/// Leads more ports to containers. Some of them may be shut by the host's rules, as these are in the ruleset of that number.
///
/// # Errors
/// The kernel refuses: the table is not as it was, or the ruleset is another one.
pub(crate) fn publish(
    socket: &mut Socket,
    table: &str,
    ports: &[PublishedPort],
    shut: Option<(u32, &[Closed])>,
) -> Result<(), NetlinkError> {
    let mut transaction = shut.map_or_else(Transaction::new, |(number, _)| Transaction::only_at(number));
    published::add_elements(&mut transaction, table, ports);
    published::shut(&mut transaction, table, shut.map(|(_, shut)| shut).unwrap_or_default());
    transaction.commit(socket)
}

/// Ends what leads to containers.
///
/// # Errors
/// The kernel refuses: the table is not as it was.
pub(crate) fn withdraw(
    socket: &mut Socket,
    table: &str,
    ports: &[PublishedPort],
    no_longer_shut: &[Closed],
) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    published::delete_elements(&mut transaction, table, ports);
    published::forget(&mut transaction, table, no_longer_shut);
    transaction.commit(socket)
}

/// Goes on if an IPv4 packet's address is one of the host's own that no other host can have.
fn loopback(address: Payload) -> Vec<Expression> {
    vec![
        Expression::Meta(Meta::Protocol, FIRST),
        Expression::Equal(FIRST, vec![NFPROTO_IPV4]),
        Expression::Payload(address, FIRST),
        Expression::Mask(FIRST, vec![255, 0, 0, 0]),
        Expression::Equal(FIRST, vec![127, 0, 0, 0]),
    ]
}

fn lookup(set: &Set) -> Expression {
    Expression::InSet(FIRST, set.name)
}

/// Goes on if connection tracking has one of these bits.
fn bits(what: Ct, bits: u32) -> Vec<Expression> {
    vec![
        Expression::Ct(what, FIRST),
        Expression::Mask(FIRST, bits.to_ne_bytes().to_vec()),
        Expression::Differs(FIRST, vec![0; 4]),
    ]
}

fn with(mut rule: Vec<Expression>, rest: impl IntoIterator<Item = Expression>) -> Vec<Expression> {
    rule.extend(rest);
    rule
}

/// The name of a device as the kernel compares it: 16 bytes, filled with zeros.
fn device_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
