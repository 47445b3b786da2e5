//! The firewall rules of our networks: one nf_tables table that is nobody else's, replaced as a whole.
//!
//! The table is a function of the bridges in use ([`Rules`]), so whatever happened to it, applying the rules again
//! makes it right. An accept in our table does not overrule a drop in somebody else's: [`admit`] finds forward chains
//! that drop by policy and asks for passage in the place that is made for it.

use ipnet::Ipv4Net;

use crate::netlink::nf_tables::{
    self, BaseChain, Ct, DESTINATION_TRANSLATED, DEVICE_NAME, ESTABLISHED_OR_RELATED, Expression, Family, Hook,
    ListedChain, Meta, Payload, Policy, Register, Set, Transaction, Verdict,
};
use crate::netlink::{NetlinkError, Socket};

/// The mark of our rules in other people's chains.
const COMMENT: &str = "berth: containers";
/// The number of the forward hook in lists.
const FORWARD: u32 = Hook::Forward as u32;
/// IPv4 in `meta nfproto`.
const NFPROTO_IPV4: u8 = 2;

const FIRST: Register = Register::new(0);

/// The bridges whose traffic the table is about.
const BRIDGES: Set = Set { name: "bridges", key: &[DEVICE_NAME] };
/// Pairs of devices between which packets pass freely: each bridge and itself.
const WITHIN: Set = Set { name: "within", key: &[DEVICE_NAME, DEVICE_NAME] };
/// Bridges of networks without a way out.
const INTERNAL: Set = Set { name: "internal", key: &[DEVICE_NAME] };

/// A bridge, as far as rules are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// The device.
    pub name: String,
    /// Its containers' addresses.
    pub subnet: Ipv4Net,
    /// Whether outbound traffic takes the host's address.
    pub masquerade: bool,
    /// Whether its containers reach each other.
    pub between_containers: bool,
    /// Whether it has no way out.
    pub internal: bool,
}

/// Everything the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules<'a> {
    /// The name of the table.
    pub table: &'a str,
    /// The bridges in use.
    pub bridges: &'a [Bridge],
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
        ];
        for (id, (set, elements)) in (1..).zip(sets) {
            transaction.add_set(Family::Inet, self.table, &set, id);
            transaction.add_elements(Family::Inet, self.table, set.name, &elements);
        }
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
        add("answers", with(to_us(), [bits(Ct::State, ESTABLISHED_OR_RELATED), vec![accept.clone()]].concat()));
        add("published ports", with(to_us(), [bits(Ct::Status, DESTINATION_TRANSLATED), vec![accept]].concat()));
        add("whatever was not published", with(to_us(), [Expression::Counter, drop]));
    }

    fn add_postrouting(&self, transaction: &mut Transaction) {
        let base = BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 };
        transaction.add_chain(Family::Inet, self.table, "postrouting", Some(base));
        for bridge in self.bridges.iter().filter(|bridge| bridge.masquerade) {
            let rule = [
                Expression::Meta(Meta::Protocol, FIRST),
                Expression::Equal(FIRST, vec![NFPROTO_IPV4]),
                Expression::Payload(Payload::Ipv4Source, FIRST),
                Expression::Mask(FIRST, bridge.subnet.netmask().octets()),
                Expression::Equal(FIRST, bridge.subnet.network().octets().to_vec()),
                Expression::Meta(Meta::OutputName, FIRST),
                Expression::Differs(FIRST, device_name(&bridge.name)),
                Expression::Counter,
                Expression::Masquerade,
            ];
            transaction.add_rule(Family::Inet, self.table, "postrouting", "outbound traffic", &rule);
        }
    }
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
    let iptables = obstacle.family == Family::Ip && obstacle.table == "filter" && obstacle.name == "FORWARD";
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
        Expression::Mask(FIRST, bits.to_ne_bytes()),
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
