//! The firewall rules of our networks: one nf_tables table that is nobody else's, replaced as a whole.
//!
//! The table is a function of the bridges in use ([`Rules`]), so whatever happened to it, applying the rules again
//! makes it right. An accept in our table does not overrule a drop in somebody else's: [`admit`] finds forward chains
//! that drop by policy and asks for passage in the place that is made for it.

mod host_policy;
mod packet;
mod published;

pub(crate) use host_policy::HostPolicy;
pub use host_policy::Verdict as PortVerdict;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::netlink::nf_tables::{
    self, BaseChain, Ct, DESTINATION_TRANSLATED, DEVICE_NAME, ESTABLISHED_OR_RELATED, Expression, Family, Hook,
    ListedChain, Meta, Payload, Policy, Register, Set, TYPE_LOCAL, Transaction, Verdict,
};
use crate::netlink::{NetlinkError, Socket};
use crate::ports::PublishedPort;

/// The mark of our rules in other people's chains.
const COMMENT: &str = "berth: containers";
/// The number of the forward hook in lists.
const FORWARD: u32 = Hook::Forward as u32;
/// IPv4 and IPv6 in `meta nfproto`.
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const FIRST: Register = Register::new(0);

/// The bridges whose traffic the table is about.
const BRIDGES: Set = Set { name: "bridges", key: &[DEVICE_NAME] };
/// Pairs of devices between which packets pass freely: each bridge and itself.
const WITHIN: Set = Set { name: "within", key: &[DEVICE_NAME, DEVICE_NAME] };
/// Bridges of networks without a way out.
const INTERNAL: Set = Set { name: "internal", key: &[DEVICE_NAME] };

/// Bridges of networks whose containers every port of can be reached by those who route to them.
const OPEN: Set = Set { name: "open", key: &[DEVICE_NAME] };

/// A bridge, as far as rules are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// The device.
    pub name: String,
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
    /// Whether those who route to its containers may reach what is not published.
    pub open: bool,
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

/// A port that stays closed to other hosts, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub ipv6: bool,
    pub transport: berth_ports::Transport,
    pub port: u16,
    pub verdict: PortVerdict,
}

/// Everything the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules<'a> {
    /// The name of the table.
    pub table: &'a str,
    /// The bridges in use.
    pub bridges: &'a [Bridge],
    /// The ports that lead to containers.
    pub ports: &'a [PublishedPort],
    /// Those of them that the host's own input rules do not open.
    pub closed: &'a [Closed],
}

impl Rules<'_> {
    /// Puts the rules in force, in place of whatever the table held.
    pub fn apply(&self, socket: &mut Socket) -> Result<(), NetlinkError> {
        let mut transaction = Transaction::new();
        // Made first, so that there is something to delete; all of it is one transaction.
        transaction.add_table(Family::Inet, self.table);
        transaction.delete_table(Family::Inet, self.table);
        transaction.add_table(Family::Inet, self.table);
        self.add_sets(&mut transaction);
        published::add(&mut transaction, self.table, self.ports, self.closed, 5);
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
        let sets = [
            (BRIDGES, names(&|_| true, 1)),
            (WITHIN, names(&|bridge| bridge.between_containers, 2)),
            (INTERNAL, names(&|bridge| bridge.internal, 1)),
            (OPEN, names(&|bridge| bridge.open, 1)),
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
        let to_open = [Expression::Meta(Meta::OutputName, FIRST), lookup(&OPEN)];
        let within = vec![
            Expression::Meta(Meta::InputName, FIRST),
            // The second field of the key, 16 bytes on.
            Expression::Meta(Meta::OutputName, Register::new(4)),
            lookup(&WITHIN),
        ];
        add("containers of one network reach each other", with(within, [accept.clone()]));
        add("an internal network has no way out", with(from_internal.to_vec(), [drop.clone()]));
        add("nor in", with(to_internal.to_vec(), [drop.clone()]));
        add("answers", with(to_us(), [bits(Ct::State, ESTABLISHED_OR_RELATED), vec![accept.clone()]].concat()));
        add(
            "published ports",
            with(to_us(), [bits(Ct::Status, DESTINATION_TRANSLATED), vec![accept.clone()]].concat()),
        );
        add("networks that are open to those who route to them", with(to_open.to_vec(), [accept]));
        add("whatever was not published", with(to_us(), [Expression::Counter, drop]));
    }

    fn add_postrouting(&self, transaction: &mut Transaction) {
        let base = BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 };
        transaction.add_chain(Family::Inet, self.table, "postrouting", Some(base));
        self.add_returning(transaction);
        for (bridge, subnet) in
            self.bridges.iter().filter(|bridge| bridge.masquerade).filter_map(|b| Some((b, b.subnet?)))
        {
            let rule = [
                Expression::Meta(Meta::Protocol, FIRST),
                Expression::Equal(FIRST, vec![NFPROTO_IPV4]),
                Expression::Payload(Payload::Ipv4Source, FIRST),
                Expression::Mask(FIRST, subnet.netmask().octets().to_vec()),
                Expression::Equal(FIRST, subnet.network().octets().to_vec()),
                Expression::Meta(Meta::OutputName, FIRST),
                Expression::Differs(FIRST, device_name(&bridge.name)),
                Expression::Counter,
                Expression::Masquerade,
            ];
            transaction.add_rule(Family::Inet, self.table, "postrouting", "outbound traffic", &rule);
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

/// Leads more ports to containers.
///
/// # Errors
/// The kernel refuses: the table is not as it was.
pub(crate) fn publish(socket: &mut Socket, table: &str, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    published::add_elements(&mut transaction, table, ports);
    transaction.commit(socket)
}

/// Ends what leads to containers.
///
/// # Errors
/// The kernel refuses: the table is not as it was.
pub(crate) fn withdraw(socket: &mut Socket, table: &str, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    published::delete_elements(&mut transaction, table, ports);
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

/// A chain of somebody else's that drops forwarded packets unless a rule of its own lets them pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The family of the table, in nft's words.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The chain in which passage was asked for; `None` if there is no place for it.
    pub admitted_in: Option<String>,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Obstacle { family, table, chain, .. } = self;
        write!(f, "chain {chain} of table {family} {table} drops forwarded packets by policy")?;
        match &self.admitted_in {
            Some(place) => write!(f, "; rules that let containers pass were added to {place}"),
            None => {
                write!(f, ": containers reach nothing outside unless it accepts what comes from and goes to ")?;
                write!(f, "their bridges (nft insert rule {family} {table} {chain} iifname BRIDGE accept, and oifname)")
            }
        }
    }
}

/// Finds what would drop our packets after our own table let them pass, and asks for passage where Docker does: in
/// `DOCKER-USER`, else in `FORWARD`, of the tables that iptables(8) keeps. Other tables are only reported.
pub(crate) fn admit(socket: &mut Socket, own: &str, bridges: &[Bridge]) -> Result<Vec<Obstacle>, NetlinkError> {
    let chains = nf_tables::chains(socket)?;
    let blocking = |chain: &&ListedChain| chain.base == Some((FORWARD, Policy::Drop)) && chain.table != own;
    let mut obstacles = Vec::new();
    for chain in chains.iter().filter(blocking) {
        let admitted_in = passage(&chains, chain);
        if let Some(place) = admitted_in {
            ask_passage(socket, chain.family, &chain.table, place, bridges)?;
        }
        obstacles.push(Obstacle {
            family: chain.family.word(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
            admitted_in: admitted_in.map(str::to_owned),
        });
    }
    Ok(obstacles)
}

/// The chain of iptables' filter table that is made for rules of others.
fn passage(chains: &[ListedChain], obstacle: &ListedChain) -> Option<&'static str> {
    let iptables = obstacle.family != Family::Inet && obstacle.table == "filter" && obstacle.name == "FORWARD";
    let for_users = |chain: &ListedChain| {
        chain.family == obstacle.family && chain.table == obstacle.table && chain.name == "DOCKER-USER"
    };
    iptables.then(|| if chains.iter().any(for_users) { "DOCKER-USER" } else { "FORWARD" })
}

/// Puts our rules, and no older ones of ours, at the front of a chain. Only matches that iptables(8) can list are used.
fn ask_passage(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: &'static str,
    bridges: &[Bridge],
) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    for old in nf_tables::rules(socket, family, table, chain)? {
        if old.comment.as_deref() == Some(COMMENT) {
            transaction.delete_rule(family, table, chain, old.handle);
        }
    }
    for bridge in bridges {
        for direction in [Meta::InputName, Meta::OutputName] {
            let rule = [
                Expression::Meta(direction, FIRST),
                Expression::Equal(FIRST, device_name(&bridge.name)),
                Expression::Counter,
                Expression::Verdict(Verdict::Accept),
            ];
            transaction.insert_rule(family, table, chain, COMMENT, &rule);
        }
    }
    transaction.commit(socket)
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
